"""Features of the user's own, from arrays and extxyz columns."""

from __future__ import annotations

import ase.io
import h5py
import numpy as np
import pytest

from ltau_cli.errors import InputError
from ltau_cli.readers.features import read_feature
from ltau_cli.readers.place import Place
from tests.helpers import frames_of, same, save

VALUES = np.array([0.5, 0, 2, 3, 4, 5, 6, 7])  # of the atoms of three frames


@pytest.fixture
def files(tmp_path):
    """The same feature in every form, and the rows it belongs to."""
    np.savez(tmp_path / "rows.npz", descriptors=np.ones((8, 2)), spread=VALUES)
    save(tmp_path / "a.npy", VALUES[:, None])
    np.savez(tmp_path / "a.npz", spread=VALUES, other=VALUES + 1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/spread"] = VALUES.astype(int) * 1.0 + (VALUES % 1)
    np.savetxt(tmp_path / "a.txt", VALUES)
    frames = frames_of()
    for frame, part in zip(frames, np.split(VALUES, [3, 4]), strict=True):
        frame.arrays["spread"], frame.arrays["std"] = part, part
    ase.io.write(tmp_path / "a.xyz", frames, format="extxyz")
    return tmp_path


@pytest.mark.parametrize(
    "name", ["a.npy", "a.npz", "a.npz:spread", "a.h5:/deep/spread", "a.txt", "a.xyz", "a.xyz:std"]
)
def test_every_form_is_read(name, files):
    rows = Place(files / "rows.npz")
    same(read_feature("spread", Place.parse(files / name), rows, 8), VALUES.astype(np.float32))
    same(read_feature("spread", None, rows, 8), VALUES.astype(np.float32))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (VALUES[1:], "7 rows"),
        (-VALUES, "7 values are negative or not finite, the first is row 0"),
        (np.where(VALUES == 3, np.nan, VALUES), "the first is row 3"),
        (VALUES * 1e300, "the first is row 0"),
        (np.ones((8, 3)), "shape"),
    ],
)
def test_what_is_no_feature(values, said, files):
    place = Place(save(files / "bad.npy", values))
    with pytest.raises(InputError, match=said):
        read_feature("spread", place, Place(files / "rows.npz"), 8)


def test_what_is_not_there(files):
    with pytest.raises(InputError, match="has no array std"):
        read_feature("std", None, Place(files / "rows.npz"), 8)
    with pytest.raises(InputError, match="frame 0: it has no column gap"):
        read_feature("spread", Place(files / "a.xyz", "gap"), Place(files / "rows.npz"), 8)
