"""The log of a force field's training, without a trainer: which error goes where."""

import atexit
import os
import types

import numpy as np
import pytest

from ltau_cli.errors import InputError
from ltau_cli.packages import hooks
from ltau_cli.packages.frame_log import DrawnBatches, FrameFile, FrameLog, number_samples
from tests.helpers import names, same


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(hooks, "folder", str(tmp_path / "logs"))
    monkeypatch.setattr(atexit, "register", lambda function: None)
    return tmp_path / "logs"


FILES = [
    FrameFile("a.xyz", [2, 1], ["H", "O", "H"], ["bulk", ""]),
    FrameFile("b.xyz", [3], ["H", "H", "C"], []),
]


def test_errors_go_to_their_atoms_and_frames(logs, capsys):
    """Two files; the trainer's set holds the last frame, then the first."""
    log = FrameLog("Trainer 1", FILES, [2, 0])
    log.record(log.trained[[1]], np.array([0.1, 0.2]), np.array([0.5]))
    log.record(log.trained[[0]], np.array([0.3, 0.4, 0.5]), np.array([0.6]))
    log.end_epoch()
    log.record(log.trained[[0, 1]], np.array([1.0, 2, 3, 4, 5]), np.array([6.0, 7]))
    log.end_epoch()
    same(np.load(logs / "errors_epoch_0.npy"), np.float32([0.1, 0.2, np.nan, 0.3, 0.4, 0.5]))
    same(np.load(logs / "errors_epoch_1.npy"), np.float32([4, 5, np.nan, 1, 2, 3]))
    same(np.load(logs / "energy" / "errors_epoch_1.npy"), np.float32([7, np.nan, 6]))
    with np.load(logs / "samples.npz") as labels:
        assert labels["structure"].tolist() == [0, 0, 1, 2, 2, 2]
        assert labels["species"].tolist() == ["H", "O", "H", "H", "H", "C"]
        assert labels["config_type"].tolist() == ["bulk", "bulk", "", "", "", ""]
        assert labels["held_out"].tolist() == [False, False, True, False, False, False]
    said = capsys.readouterr().err
    assert "Trainer 1, 3 frames of a.xyz, b.xyz, 1 of them held out, 6 atoms" in said


def test_energies_alone(logs, ltau):
    log = FrameLog("Trainer 1", FILES[:1], [0, 1], forces=False)
    log.record(log.trained, None, np.array([0.5, 0.25]))
    log.end_epoch()
    same(np.load(logs / "energy" / "errors_epoch_0.npy"), np.float32([0.5, 0.25]))
    assert names(logs) == ["energy", "samples.npz"]
    with pytest.raises(InputError, match="neither forces nor energies"):
        FrameLog("Trainer 1", FILES, [0], forces=False, energies=False)


def test_a_full_disk_costs_the_epoch_not_the_training(logs, monkeypatch, capsys):
    log = FrameLog("Trainer 1", FILES[:1], [0, 1])

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        log.record(log.trained, np.array([9.0, 9, 9]), np.array([9.0, 9]))
        log.end_epoch()
    assert "this epoch is not recorded: cannot write" in capsys.readouterr().err
    log.record(log.trained[[0]], np.array([1.0, 2]), np.array([3.0]))
    log.end_epoch()
    assert names(logs) == ["energy", "errors_epoch_1.npy", "samples.npz"]
    assert names(logs / "energy") == ["errors_epoch_1.npy", "samples.npz"]
    same(np.load(logs / "errors_epoch_1.npy"), np.float32([1, 2, np.nan]))


def test_subsets_and_joined_sets_are_numbered():
    """A subset of two sets joined, as PyTorch has them."""

    def describe(dataset):
        return FrameFile("file", [1] * len(dataset))

    joined = types.SimpleNamespace(datasets=[[0, 0, 0], [0, 0]])
    inner = types.SimpleNamespace(dataset=joined, indices=[4, 1, 2])
    files, numbers = number_samples(types.SimpleNamespace(dataset=inner, indices=[2, 0]), describe)
    assert numbers == [2, 4]
    assert [len(file.natoms) for file in files] == [3, 2]


class Loader:
    """A loader that draws ahead, as those with workers do."""

    def __init__(self, batches, ahead):
        self.batch_sampler = batches
        self.ahead = ahead

    def __iter__(self):
        waiting = []
        for numbers in self.batch_sampler:
            waiting.append(numbers)
            if len(waiting) > self.ahead:
                yield waiting.pop(0)
        yield from waiting


@pytest.mark.parametrize("ahead", [0, 2])
def test_batches_are_known_in_their_order(ahead):
    loader = Loader([[3, 1], [0, 2], [4]], ahead)
    drawn = DrawnBatches(loader)
    for _ in range(2):
        assert all(drawn.pop() == batch for batch in loader)
    next(iter(loader))  # a pass that is given up leaves nothing behind
    assert all(drawn.pop() == batch for batch in loader)


def test_a_loader_without_batches_is_refused():
    with pytest.raises(InputError, match="samples of a list cannot be told apart"):
        DrawnBatches([])
