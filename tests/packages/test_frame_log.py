"""The log of a force field's training, without a trainer: which error goes where."""

import atexit
import os
import subprocess
import sys
import types

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from ltau_cli.errors import InputError
from ltau_cli.packages import hooks
from ltau_cli.packages.frame_log import DrawnBatches, FrameFile, FrameLog, number_samples
from tests.helpers import names, same


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(hooks, "folder", str(tmp_path / "logs"))
    monkeypatch.setattr(atexit, "register", lambda *function: None)
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


def slabs(path, key="forces", n=4):
    """Frames of six atoms, the first two fixed, after an isolated atom; their forces (n, 6, 3)."""
    rng = np.random.default_rng(0)
    forces = rng.normal(size=(n, 6, 3))
    frames = [Atoms("Cu", info={"config_type": "IsolatedAtom"})]
    for own in forces:
        atoms = Atoms("Cu6", rng.normal(size=(6, 3)), pbc=True, cell=[9, 9, 9])
        atoms.set_constraint(FixAtoms([0, 1]))
        if key == "forces":
            atoms.calc = SinglePointCalculator(atoms, forces=own)
        else:
            atoms.arrays[key] = own
        atoms.arrays["velo"] = rng.normal(size=(6, 3))
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")
    return forces


def train_once(path, given, n=4):
    """Record an epoch of a trainer that was given some forces, in two batches out of order."""
    file = FrameFile.of_paths("", [path])
    file.natoms = [6] * n
    log = FrameLog("Trainer 1", [file], range(n))
    for frames in ([3, 0], [2, 1]):
        reference = torch_like(given[frames].reshape(-1, 3).astype(np.float32))
        log.record(log.trained[frames], np.ones(12), np.ones(2), reference)
    log.end_epoch()
    return log


def torch_like(values):
    return types.SimpleNamespace(detach=lambda: types.SimpleNamespace(cpu=lambda: values))


@pytest.mark.parametrize("key", ["forces", "REF_forces"])
@pytest.mark.parametrize(("change", "marked", "words"), [
    ("none", [], None),
    ("fixed", [6, 7, 12, 13, 18, 19], "6 atoms of 3 frames are trained on a force of zero"),
    ("another", [9], "1 atoms of 1 frames are trained on other forces than the file has"),
    ("unknown", [], None),
])  # fmt: skip
def test_forces_that_are_not_those_of_the_file_are_told(
    key, change, marked, words, logs, tmp_path, capfd, ltau
):
    given = slabs(tmp_path / "train.xyz", key)
    if change == "fixed":
        given[1:, :2] = 0
    elif change == "another":
        given[1, 3, 2] *= 1.01
    elif change == "unknown":
        given[1, 3:] = np.nan
    train_once(tmp_path / "train.xyz", given)
    said = capfd.readouterr().err
    assert f"the forces that it is trained on are {key} of {tmp_path / 'train.xyz'}" in said
    done = ltau.ok("ingest", logs, "-o", tmp_path / "errors.h5")
    with np.load(logs / "samples.npz") as labels:
        if words is None:
            assert "other_reference" not in labels
            assert "warning" not in said + done.err
            return
        assert np.flatnonzero(labels["other_reference"]).tolist() == marked
    first = f"the first is atom {marked[0] % 6} of frame 1"
    assert f"warning: {words}" in said
    assert f"warning: {logs}: {words}" in done.err
    assert first in said
    assert first in done.err


@pytest.mark.parametrize("what", ["units", "order", "frames", "text"])
def test_a_file_that_cannot_be_compared_is_one_line(what, logs, tmp_path, capsys):
    path = tmp_path / "train.xyz"
    given = slabs(path, n=3 if what == "frames" else 4) * (1 / 0.529 if what == "units" else 1)
    if what == "order":
        given = given[::-1]
    elif what == "frames":
        given = np.concatenate([given, given[:1]])
    elif what == "text":
        path.write_text("two\nmore lines\n")
    train_once(path, given)
    said = capsys.readouterr().err.splitlines()
    told = "cannot be compared" if what == "text" else "are not found in"
    assert sum(told in line for line in said) == 1
    assert len(said) == 2
    assert names(logs) == ["energy", "errors_epoch_0.npy", "samples.npz"]
    assert "other_reference" not in np.load(logs / "samples.npz")


def test_forces_are_compared_once(logs, tmp_path, capsys):
    log = train_once(tmp_path / "train.xyz", slabs(tmp_path / "train.xyz"))
    (tmp_path / "train.xyz").unlink()
    log.record(log.trained[[0]], np.ones(6), np.ones(1), None)
    log.end_epoch()
    assert "cannot be compared" not in capsys.readouterr().err


RANK = """
import sys, types, time
rank, kill = int(sys.argv[1]), sys.argv[2] == "kill"
module = types.ModuleType("torch.distributed")
module.is_available = module.is_initialized = lambda: True
module.get_rank, module.get_world_size = lambda: rank, lambda: 2
sys.modules["torch.distributed"] = module
import numpy as np
from ltau_cli.packages import frame_log, hooks
frame_log.PATIENCE = 0.3
hooks.folder = "logs"
log = frame_log.FrameLog("Trainer 1", [frame_log.FrameFile("train.xyz", [1, 1])], [0, 1])
for epoch in range(3):
    if kill and epoch == 2:
        import os
        os._exit(9)
    log.record(np.array([rank]), np.array([1.0 + epoch]), np.array([0.5]))
    log.end_epoch()
"""


@pytest.mark.parametrize(("other", "written"), [(None, 0), ("kill", 2), ("run", 3)])
def test_processes_that_never_came_are_named(other, written, tmp_path):
    """Of two, one without the hook, one that is killed in its third epoch, or both to the end."""

    def start(rank, way):
        return subprocess.Popen([sys.executable, "-c", RANK, str(rank), way], cwd=tmp_path,
                                stderr=subprocess.PIPE, text=True)  # fmt: skip

    if other:
        assert start(1, other).communicate(timeout=60) is not None
    told = start(0, "run").communicate(timeout=60)[1]
    assert len(list((tmp_path / "logs").glob("errors_epoch_*.npy"))) == written
    parts = list((tmp_path / "logs").glob(".errors_epoch_*.npy.0_of_2"))
    assert len(parts) == 3 - written
    said = f"processes 1 of 2 recorded nothing, {3 - written} epochs are left in parts"
    assert (said in told) == (written < 3)
    assert (f"{written} epochs in logs; next: ltau ingest logs" in told) == (written > 0)


def test_epochs_that_could_not_be_written_are_counted(logs, monkeypatch, capsys):
    log = FrameLog("Trainer 1", FILES[:1], [0, 1])
    for full in (False, True, True, False):
        with monkeypatch.context() as patch:
            if full:
                patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
            log.record(log.trained, np.array([9.0, 9, 9]), np.array([9.0, 9]))
            log.end_epoch()
    capsys.readouterr()
    log._summarize()
    told = capsys.readouterr().err
    assert "2 of 4 epochs could not be written" in told
    assert f"2 epochs in {logs}; next:" in told


@pytest.mark.parametrize(("numbers", "n", "said"), [
    ([1, 29, 8], 3, "what was drawn for frames 0, 1 has Cu where they have O"),
    ([1, 8, 8, 1], 4, "has 4 atoms, these frames have 3"),
    (None, 2, "has 2 atoms, these frames have 3"),
])  # fmt: skip
def test_what_was_drawn_is_compared_with_the_frames(numbers, n, said, logs, capsys):
    file = FrameFile("a.xyz")
    file.add(["H"])
    file.add(["O", "O"])
    log = FrameLog("Trainer 1", [file], [0, 1])
    for _ in range(2):
        drawn = None if numbers is None else np.array(numbers)
        log.record(log.trained, np.ones(n), np.zeros(2), numbers=drawn)
        log.end_epoch()
    log._summarize()
    told = capsys.readouterr().err
    assert told.count("recording stops, the training goes on") == 1
    assert said in told
    assert "next: ltau ingest" not in told
    assert names(logs) == ["energy", "samples.npz"]


def test_a_log_that_was_checked_says_so(logs, capfd, ltau, tmp_path):
    file = FrameFile("a.xyz")
    file.add(["H"])
    file.add(["O", "O"])
    log = FrameLog("Trainer 1", [file], [0, 1])
    for _ in range(2):
        log.record(log.trained[::-1], np.ones(3), np.zeros(2), numbers=np.array([8, 8, 1]))
        log.end_epoch()
    assert capfd.readouterr().err.count("checked: species of what was drawn") == 1
    assert np.load(logs / "samples.npz")["checked"].tolist() == ["species"]
    assert ltau("ingest", logs, "-o", tmp_path / "e.h5").code == 0
