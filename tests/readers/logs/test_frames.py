"""Logs in evaluated frames."""

import re
import sys

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms

from tests.helpers import INPUT, check, evaluated, frames_of, norm_of, same

KNOWN_FORCES = [
    (("MACE_forces", "REF_forces"), ()),
    (("MACE_forces", "forces"), ("forces",)),
    (("forces", "original_dataset_forces"), ("forces",)),
]


@pytest.mark.parametrize(("keys", "calculator"), KNOWN_FORCES, ids=str)
def test_forces_of_frames(keys, calculator, tmp_path, ingest):
    log = evaluated(tmp_path / "eval", keys, calculator=calculator)
    got = ingest(tmp_path / "eval")
    np.testing.assert_allclose(got["errors"], log, rtol=1e-6)
    assert got["epoch"].tolist() == [0, 10, 20]
    frames = frames_of()
    same(got["structure"], [0] * 3 + [1] + [2] * 4)
    assert got["species"].tolist() == [s for f in frames for s in f.get_chemical_symbols()]
    assert got["config_type"].tolist() == ["bulk"] * 3 + ["slab"] + ["bulk"] * 4


def test_values_of_frames_are_those_in_the_file(tmp_path, ingest):
    """The oracle parses the text itself."""
    evaluated(tmp_path / "eval", ("MACE_forces", "REF_forces"))
    log = []
    for epoch in (0, 10, 20):
        lines = (tmp_path / f"eval/eval_epoch_{epoch}.xyz").read_text().splitlines()
        row = []
        for line in lines:
            words = line.split()
            if len(words) == 10 and "=" not in line:  # species, positions, then six components
                at = [float(word) for word in words[4:]]
                row.append(norm_of(a - b for a, b in zip(at[:3], at[3:], strict=True)))
        log.append(row)
    same(ingest(tmp_path / "eval")["errors"], np.array(log, dtype=np.float32))


def test_own_keys(tmp_path, ingest, refused):
    log = evaluated(tmp_path / "eval", ("f_model", "f_dft"))
    refused([tmp_path / "eval"], ["no predicted and reference forces", "f_dft", "f_model"])
    words = ("--prediction-key", "f_model", "--reference-key", "f_dft")
    np.testing.assert_allclose(ingest(tmp_path / "eval", *words)["errors"], log, rtol=1e-6)
    refused([tmp_path / "eval", *words[:3], "f_qmc"], "no predicted and reference")
    log = evaluated(tmp_path / "one", ("f_model", "REF_forces"))
    got = ingest(tmp_path / "one", "--prediction-key", "f_model")
    np.testing.assert_allclose(got["errors"], log, rtol=1e-6)


@pytest.mark.parametrize(("keys", "calculator"), [
    (("MACE_energy", "REF_energy"), ()),
    (("MACE_energy", "energy"), ("energy",)),
    (("energy", "original_dataset_energy"), ("energy",)),
], ids=str)  # fmt: skip
def test_energies_of_frames_are_per_atom(keys, calculator, tmp_path, ingest):
    log = evaluated(tmp_path / "eval", keys, energies=True, calculator=calculator)
    got = ingest(tmp_path / "eval", "--quantity", "energy")
    left = np.abs(log - log.mean(axis=1, keepdims=True))  # few frames have one offset for all
    np.testing.assert_allclose(got["errors"], left, rtol=1e-4)
    assert "structure" not in got
    assert all(re.fullmatch(r"([A-Z][a-z]?\d+)+", formula) for formula in got["formula"])
    assert got["config_type"].tolist() == ["bulk", "slab", "bulk"]


def test_single_frame_files_keep_their_epoch(tmp_path, ingest):
    evaluated(tmp_path / "eval", ("MACE_forces", "REF_forces"))
    assert ingest(tmp_path / "eval/eval_epoch_10.xyz")["epoch"].tolist() == [10]


def test_files_of_frames_are_epochs_and_folders_are_runs(tmp_path, ingest):
    first = evaluated(tmp_path / "a", ("MACE_forces", "REF_forces"))
    second = evaluated(tmp_path / "b", ("MACE_forces", "REF_forces"), seed=7)
    got = ingest(*(tmp_path / "a").iterdir())
    np.testing.assert_allclose(got["errors"], first, rtol=1e-6)
    assert got["run"].tolist() == [0] * 3
    got = ingest(tmp_path / "a", tmp_path / "b")
    np.testing.assert_allclose(got["errors"], np.r_[first, second], rtol=1e-6)
    assert got["run"].tolist() == [0] * 3 + [1] * 3


def test_ase_is_not_installed(tmp_path, ltau, monkeypatch):
    evaluated(tmp_path / "eval", ("MACE_forces", "REF_forces"))
    monkeypatch.setitem(sys.modules, "ase", None)
    monkeypatch.setitem(sys.modules, "ase.io", None)
    result = ltau("ingest", tmp_path / "eval", "-o", tmp_path / "o.h5")
    check(result, INPUT, "eval_epoch_0.xyz", "ASE", "not installed")
    assert "pip install 'ltau[ase]'" in result.err


def change_frames(path, change):
    frames = ase.io.read(path, ":")
    change(frames)
    ase.io.write(path, frames, format="extxyz")


def swap(frames):
    frames[0], frames[1] = frames[1], frames[0]


@pytest.mark.parametrize(("change", "said"), [
    (swap, "other atoms"),
    (lambda frames: frames.pop(), "other atoms"),
    (lambda frames: frames[1].arrays.pop("MACE_forces"), "frame 1"),
    (lambda frames: frames.clear(), "empty"),
])  # fmt: skip
def test_frames_that_do_not_fit(change, said, tmp_path, refused):
    evaluated(tmp_path / "eval", ("MACE_forces", "REF_forces"))
    path = tmp_path / "eval/eval_epoch_10.xyz"
    if said == "empty":
        path.write_text("")
    else:
        change_frames(path, change)
    refused([tmp_path / "eval"], [path, said], hint=said == "other atoms")


def test_the_frames_of_another_epoch_may_not_be_the_same(tmp_path, ltau):
    evaluated(tmp_path / "eval", ("MACE_forces", "REF_forces"))
    words = ("ingest", tmp_path / "eval", "-o", tmp_path / "e.h5", "--force")
    assert "positions" not in ltau.ok(*words).err
    path = tmp_path / "eval" / "eval_epoch_20.xyz"
    frames = ase.io.read(path, ":")
    frames[1].positions += 0.1
    ase.io.write(path, frames)
    told = ltau.ok(*words).err
    assert f"warning: {path} has atoms at other positions than" in told
    with h5py.File(tmp_path / "e.h5") as file:
        assert "fingerprint" not in file


def test_same_atoms_in_other_frames(tmp_path, refused):
    """Seven atoms in frames of 3 and 4 are not the samples of frames of 4 and 3."""
    folder = tmp_path / "eval"
    folder.mkdir()
    for epoch, natoms in enumerate([(3, 4), (4, 3)]):
        frames = [Atoms("H" * n, np.arange(3.0 * n).reshape(n, 3)) for n in natoms]
        for frame in frames:
            frame.arrays["MACE_forces"] = np.ones((len(frame), 3))
            frame.arrays["REF_forces"] = np.zeros((len(frame), 3))
        ase.io.write(folder / f"epoch_{epoch}.xyz", frames, format="extxyz")
    refused([folder], "epoch_1.xyz", hint=None)


def test_frames_that_are_cut_short(tmp_path, refused):
    evaluated(tmp_path / "eval", ("MACE_forces", "REF_forces"))
    path = tmp_path / "eval/eval_epoch_20.xyz"
    path.write_text(path.read_text()[:-150])
    refused([tmp_path / "eval"], [path, "frame 2"])
