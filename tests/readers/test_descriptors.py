"""Descriptors from files, and those that cannot be meant."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from tests.helpers import INPUT, check, save


def test_missing_descriptors(small, tmp_path, ltau):
    result = ltau("fit", small["errors"], tmp_path / "none.npy", "-o", tmp_path / "o.h5")
    check(result, INPUT, "none.npy: no such file", hint=False)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("stage", ["fit", "score"])
def test_descriptors_that_are_not_finite(value, stage, small, tmp_path, ltau):
    x = np.ones((20, 3))
    x[[4, 9]] = value
    path = save(tmp_path / "bad.npy", x)
    words = (
        ("fit", small["errors"], path) if stage == "fit" else ("score", path, "-m", small["model"])
    )
    result = ltau(
        *words, "-o", tmp_path / "o.h5", *(["--block-rows", 6] if stage == "score" else [])
    )
    check(result, INPUT, path, "2 of 20 rows", "first is row 4")
    assert not (tmp_path / "o.h5").exists()


@pytest.mark.parametrize("shape", [(20,), (20, 3, 3), (0, 3), (20, 0)])
def test_descriptors_of_impossible_shape(shape, small, tmp_path, ltau):
    path = save(tmp_path / "odd.npy", np.ones(shape))
    result = ltau("fit", small["errors"], path, "-o", tmp_path / "o.h5")
    check(result, INPUT, path, str(shape), hint=False)


def test_file_with_several_arrays(small, tmp_path, ltau):
    path = tmp_path / "two.npz"
    np.savez(path, a=np.ones((20, 3)), b=np.ones((20, 3)))
    result = ltau("fit", small["errors"], path, "-o", tmp_path / "o.h5")
    check(result, INPUT, path, "which one", "a, b")
    assert ltau("fit", small["errors"], f"{path}:b", "-o", tmp_path / "o.h5").code == 0
    check(ltau("score", f"{path}:c", "-m", small["model"], "-o", tmp_path / "s.h5"), INPUT, "c")


def test_hdf5_places(small, tmp_path, ltau):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["layer/3"] = np.load(small["x"])
        file["other"] = np.ones((4, 4))
    place = f"{tmp_path / 'x.h5'}:/layer/3"
    assert ltau("fit", small["errors"], place, "-o", tmp_path / "m.h5").code == 0
    result = ltau("fit", small["errors"], tmp_path / "x.h5", "-o", tmp_path / "o.h5")
    check(result, INPUT, "2 arrays", "layer/3")


def test_unknown_ending(small, tmp_path, ltau):
    path = tmp_path / "x.pt"
    path.write_bytes(b"zip")
    check(ltau("fit", small["errors"], path, "-o", tmp_path / "o.h5"), INPUT, path, ".npy")
