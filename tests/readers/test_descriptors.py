"""Descriptors from files, and those that cannot be meant."""

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms

from ltau_cli.readers.descriptors import open_descriptors
from ltau_cli.readers.place import Place
from tests.helpers import INPUT, check, contents, save


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


@pytest.mark.parametrize("shape", [(20,), (20, 3, 3, 1), (0, 3), (20, 0), (0, 4, 3)])
def test_descriptors_of_impossible_shape(shape, small, tmp_path, ltau):
    path = save(tmp_path / "odd.npy", np.ones(shape))
    result = ltau("fit", small["errors"], path, "-o", tmp_path / "o.h5")
    check(result, INPUT, path, str(shape), hint=False)


def test_file_with_several_arrays(small, tmp_path, ltau):
    path = tmp_path / "two.npz"
    np.savez(path, a=np.ones((20, 3)), b=np.ones((20, 3)))
    result = ltau("fit", small["errors"], path, "-o", tmp_path / "o.h5")
    check(result, INPUT, path, "which one", "a, b")
    ltau.ok("fit", small["errors"], f"{path}:b", "-o", tmp_path / "o.h5")
    check(ltau("score", f"{path}:c", "-m", small["model"], "-o", tmp_path / "s.h5"), INPUT, "c")


def test_hdf5_places(small, tmp_path, ltau):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["layer/3"] = np.load(small["x"])
        file["other"] = np.ones((4, 4))
    place = f"{tmp_path / 'x.h5'}:/layer/3"
    ltau.ok("fit", small["errors"], place, "-o", tmp_path / "m.h5")
    result = ltau("fit", small["errors"], tmp_path / "x.h5", "-o", tmp_path / "o.h5")
    check(result, INPUT, "2 arrays", "layer/3")


def test_unknown_ending(small, tmp_path, ltau):
    path = tmp_path / "x.pt"
    path.write_bytes(b"zip")
    check(ltau("fit", small["errors"], path, "-o", tmp_path / "o.h5"), INPUT, path, ".npy")


def scored(path, small, tmp_path, ltau, descriptors="x"):
    """Score a file that holds the descriptors in another way; compare with the plain array."""
    out = tmp_path / "s.h5"
    ltau.ok("score", path, "-m", small["model"], "-o", out, "--force")
    found, plain = contents(out), contents(small["scores"])
    np.testing.assert_array_equal(found["expected_error"], plain["expected_error"])
    return found


def test_frames_of_equal_size(small, tmp_path, ltau):
    path = save(tmp_path / "frames.npy", np.load(small["x"]).reshape(5, 4, 3))
    found = scored(path, small, tmp_path, ltau)
    assert found["structure"].tolist() == np.repeat(np.arange(5), 4).tolist()
    words = ("fit", small["errors"], path, "-o", tmp_path / "m.h5", "--loo", "structure", "-k", 5)
    ltau.ok(*words)


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_groups_of_systems(rows, small, tmp_path, ltau):
    path, x = tmp_path / "embedding.hdf5", np.load(small["x"])
    with h5py.File(path, "w") as file:
        file["a/atomic_feature"] = x[:12].reshape(3, 4, 3)
        file["a/descriptor"] = np.ones((3, 4, 9))
        file["a/structural_feature"] = np.ones((3, 3))
        file["b/atomic_feature"] = x[12:].reshape(4, 2, 3)
        file["b/descriptor"] = np.ones((4, 2, 9))
    found = scored(path, small, tmp_path, ltau)
    assert found["structure"].tolist() == np.repeat(np.arange(7), [4] * 3 + [2] * 4).tolist()
    with open_descriptors(Place(path)) as source:
        blocks = [block for _, block in source.blocks(rows)]
    assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
    np.testing.assert_array_equal(np.concatenate(blocks), x.astype(np.float32))


@pytest.mark.parametrize("column", ["MACE_descriptors", "node_features", "mine"])
def test_columns_of_frames(column, small, tmp_path, ltau):
    path, x = tmp_path / "evaluated.xyz", np.load(small["x"])
    frames = [Atoms("Cu3", x[:3]), Atoms("CuO", x[3:5]), Atoms("Au15", x[5:])]
    for frame, start in zip(frames, (0, 3, 5), strict=True):
        frame.arrays[column] = x[start : start + len(frame)]
    ase.io.write(path, frames, columns=["symbols", "positions", column])
    place = f"{path}:{column}" if column == "mine" else path
    out = tmp_path / "s.h5"
    ltau.ok("score", place, "-m", small["model"], "-o", out)
    found = contents(out)
    np.testing.assert_allclose(
        found["expected_error"], contents(small["scores"])["expected_error"], rtol=1e-4
    )
    assert found["structure"].tolist() == [0] * 3 + [1] * 2 + [2] * 15
    assert found["group"].tolist() == ["Cu"] * 4 + ["O"] + ["Au"] * 15
    if column == "mine":
        result = ltau("score", path, "-m", small["model"], "-o", out, "--force")
        check(result, INPUT, "frame 0: it has no column of descriptors; it has: mine, numbers, ")


def test_descriptors_of_gpumd(small, tmp_path, ltau):
    np.savetxt(tmp_path / "descriptor.out", np.load(small["x"]), fmt="%.17g")
    scored(tmp_path / "descriptor.out", small, tmp_path, ltau)
