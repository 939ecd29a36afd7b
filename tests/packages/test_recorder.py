"""The recorder of one's own training loop."""

import os
import subprocess
import sys
import types

import numpy as np
import pytest

import ltau_cli as ltau
from ltau_cli.errors import InputError, OutputError
from tests.helpers import contents, names, same


def epochs(folder):
    files = sorted(folder.glob("errors_epoch_*.npy"), key=lambda p: int(p.stem.split("_")[-1]))
    return [np.load(path) for path in files]


def test_errors_stand_at_their_ids_whatever_the_order(tmp_path):
    recorder = ltau.Recorder(4, tmp_path / "logs")
    recorder.record([2, 0], [0.25, 0.5])
    recorder.record(np.array([3]), np.array([[3.0, 0.0, 4.0]]))  # a vector: its norm
    assert recorder.end_epoch() == tmp_path / "logs" / "errors_epoch_0.npy"
    recorder.record(1, 0.125)
    recorder.record([1, 1], [7, 0.75])  # of a repeated id the last one counts
    recorder.end_epoch()
    first, second = epochs(tmp_path / "logs")
    assert first.dtype == np.float32
    same(first, np.float32([0.5, np.nan, 0.25, 5]))
    same(second, np.float32([np.nan, 0.75, np.nan, np.nan]))


def test_norms_are_taken_before_they_are_rounded(tmp_path):
    recorder = ltau.Recorder(1, tmp_path)
    vector = np.float64([[1e-30, 1e-30, 0]])
    recorder.record([0], vector)
    recorder.end_epoch()
    same(epochs(tmp_path)[0], np.float32([np.sqrt(2) * 1e-30]))


class Tensor:
    """As much of a tensor as is needed; numpy refuses one that requires gradients."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self.values


def test_tensors_are_taken(tmp_path):
    recorder = ltau.Recorder(2, tmp_path)
    recorder.record(Tensor([1, 0]), Tensor([0.5, 0.25]))
    recorder.end_epoch()
    same(epochs(tmp_path)[0], np.float32([0.25, 0.5]))


def test_ingest_reads_it_while_it_grows(tmp_path, ltau):
    from ltau_cli import Recorder

    recorder = Recorder(3, tmp_path / "logs")
    output = tmp_path / "errors.h5"
    for epoch in range(3):
        recorder.record([2, 1, 0], [0.1, 0.2, 0.3 + epoch])
        recorder.end_epoch()
        result = ltau.ok("ingest", tmp_path / "logs", "-o", output, "--force")
        assert f", {epoch + 1} epoch{'s' * (epoch > 0)} (read as" in result.out
    same(contents(output)["errors"][:, 0], np.float32([0.3, 1.3, 2.3]))


def test_a_restart_goes_on_and_overwrites_nothing(tmp_path):
    first = ltau.Recorder(1, tmp_path)
    for value in range(11):  # past 9: numbers count, not names
        first.record([0], [value])
        first.end_epoch()
    first.record([0], [99])  # killed within an epoch: nothing of it is left
    second = ltau.Recorder(1, tmp_path)
    second.record([0], [11])
    assert second.end_epoch().name == "errors_epoch_11.npy"
    assert [float(e[0]) for e in epochs(tmp_path)] == list(range(12))
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_two_trainings_in_one_folder_are_told(tmp_path):
    """The newest one of a process writes, as of a cell that is run again; of two, the first."""
    one, other = ltau.Recorder(1, tmp_path), ltau.Recorder(1, tmp_path)
    one.record([0], [1])
    with pytest.raises(OutputError, match="is written by another"):
        one.end_epoch()
    other.record([0], [2])
    other.end_epoch()
    assert epochs(tmp_path)[0] == 2
    code = f"import ltau_cli; ltau_cli.Recorder(1, {str(tmp_path)!r})"
    third = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert f"{tmp_path} is written by process {os.getpid()} on" in third.stderr
    assert "a folder of its own" in third.stderr
    assert epochs(tmp_path)[0] == 2


def test_a_process_that_was_killed_holds_nothing(tmp_path):
    code = (
        f"import ltau_cli, os; r = ltau_cli.Recorder(1, {str(tmp_path)!r}); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    ltau.Recorder(1, tmp_path).end_epoch()


def test_a_folder_of_other_samples_is_refused(tmp_path):
    recorder = ltau.Recorder(3, tmp_path)
    recorder.end_epoch()
    with pytest.raises(InputError, match="of another training set"):
        ltau.Recorder(4, tmp_path)
    labels = {"structure": np.array([0, 0, 1])}
    other = tmp_path / "other"
    ltau.Recorder(3, other, labels=labels).end_epoch()
    ltau.Recorder(3, other, labels=labels)
    with pytest.raises(InputError, match="other values of structure"):
        ltau.Recorder(3, other, labels={"structure": np.array([0, 1, 1])})


@pytest.mark.parametrize(("ids", "errors", "words"), [
    ([3], [0.1], "no sample 3 among 3"),
    ([-1], [0.1], "no sample -1 among 3"),
    ([0.0], [0.1], "whole numbers"),
    ([True], [0.1], "whole numbers"),
    ([0, 2], [0.1, -0.5], r"sample 2 is negative \(-0.5\)"),
    ([0, 1], [0.1], "do not fit"),
    ([[0, 1]], [[0.1, 0.2]], "do not fit"),
    ([0, 1], [[0.1, 0.2], [0.3, 0.4]], r"errors of shape \(2, 2\) do not fit"),
    ([0, 1, 2], np.array([[1.0], [2], [4]]) - [0.5, 1, 7], r"errors of shape \(3, 3\) do not"),
    ([0], [[0.1, 0.2, 0.3, 0.4]], r"errors of shape \(1, 4\) do not fit"),
    ([0, 1], np.ones((2, 3, 1)), "do not fit"),
    ([0, 1], ["0.1", "0.2"], "real numbers"),
    ([0, 1], [0.1, 0.2j], "real numbers"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(ids, errors, words, tmp_path):
    recorder = ltau.Recorder(3, tmp_path)
    with pytest.raises(InputError, match=words):
        recorder.record(ids, errors)
    recorder.end_epoch()
    assert np.isnan(epochs(tmp_path)[0]).all()


@pytest.mark.parametrize("n", [2, 3, 50])
def test_a_difference_that_was_broadcast_is_refused_with_the_reason(n, tmp_path):
    """(n, 1) - (n,) is (n, n): 50 errors of 1 would be 50 of 7.07."""
    predicted = np.random.default_rng(0).normal(size=(n, 1)).astype(np.float32)
    recorder = ltau.Recorder(n, tmp_path)
    with pytest.raises(InputError, match="do not fit") as error:
        recorder.record(np.arange(n), predicted - (predicted[:, 0] + 1))
    assert "reshape(-1)" in error.value.hint
    recorder.record(np.arange(n), predicted - (predicted + 1))
    recorder.end_epoch()
    np.testing.assert_allclose(epochs(tmp_path)[0], 1, rtol=1e-6)


def test_vectors_of_any_length_that_is_named(tmp_path):
    recorder = ltau.Recorder(3, tmp_path, width=5)
    recorder.record([0, 2], np.ones((2, 5)))
    with pytest.raises(InputError, match=r"\(1, 3\) do not fit") as error:
        recorder.record([1], [[1, 2, 2]])
    assert "width=3" in error.value.hint
    recorder.end_epoch()
    same(epochs(tmp_path)[0], np.float32([np.sqrt(5), np.nan, np.sqrt(5)]))


def test_three_force_errors_are_no_broadcast(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3, 3))
    recorder = ltau.Recorder(3, tmp_path)
    for values in (vectors, np.zeros((3, 3)), np.ones((3, 3))):
        recorder.record([0, 1, 2], values)
        recorder.end_epoch()
    np.testing.assert_allclose(epochs(tmp_path)[0], np.linalg.norm(vectors, axis=1), rtol=1e-6)


def test_a_script_sees_the_hint(tmp_path):
    code = "import ltau_cli; ltau_cli.Recorder(2, 'logs').record([0, 1], [0.5, -0.5])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "the error of sample 1 is negative (-0.5)" in done.stderr
    assert "record abs(predicted - reference)" in done.stderr


def test_structures_come_along_to_the_scores(tmp_path, ltau, monkeypatch):
    """A force field's loop of one's own tells natoms; ingest and fit know the structures."""
    from ltau_cli import Recorder

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    natoms = np.array([3, 5, 4] * 10)
    recorder = Recorder(120, "logs", natoms=natoms)
    for _ in range(4):
        recorder.record(np.arange(120), rng.normal(size=(120, 3)))
        recorder.end_epoch()
    np.save("x.npy", rng.normal(size=(120, 4)))
    for words in (["ingest", "logs"], ["fit", "errors.h5", "x.npy"]):
        ltau.ok(*words)
    assert contents("errors.h5")["structure"].tolist() == np.repeat(range(30), natoms).tolist()
    with pytest.raises(InputError, match="natoms add up to 12, the recorder was made for 11"):
        Recorder(11, "other", natoms=[3, 5, 4])
    for wrong in ([1.5, 9.5], [[11]], [0, 11]):
        with pytest.raises(InputError, match="natoms are whole numbers from 1"):
            Recorder(11, "other", natoms=wrong)


def test_no_samples(tmp_path):
    ltau.Recorder(3, tmp_path).record([], [])
    with pytest.raises(InputError, match="0 samples"):
        ltau.Recorder(0, tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        ltau.Recorder(3, tmp_path / "file" / "logs")


@pytest.fixture
def as_rank(monkeypatch):
    """Let torch.distributed say that this is one of several processes."""
    state = types.SimpleNamespace(rank=0, world=1)
    module = types.ModuleType("torch.distributed")
    module.is_available = module.is_initialized = lambda: True
    module.get_rank, module.get_world_size = lambda: state.rank, lambda: state.world
    monkeypatch.setitem(sys.modules, "torch.distributed", module)

    def become(rank, world):
        state.rank, state.world = rank, world

    return become


def test_processes_join_their_samples(tmp_path, as_rank):
    recorders = []
    for rank in range(3):
        as_rank(rank, 3)
        recorders.append(ltau.Recorder(4, tmp_path))
    for epoch in range(2):
        for rank in (1, 2, 0):
            as_rank(rank, 3)
            assert len(epochs(tmp_path)) == epoch, "it appears when all are done"
            recorders[rank].record([rank, 3], [rank + 1, rank + epoch])
            recorders[rank].end_epoch()
    same(epochs(tmp_path), np.float32([[1, 2, 3, 0], [1, 2, 3, 1]]))
    assert names(tmp_path) == ["errors_epoch_0.npy", "errors_epoch_1.npy"]


def test_what_a_killed_process_left_is_not_joined(tmp_path, as_rank):
    as_rank(1, 2)
    killed = ltau.Recorder(2, tmp_path)
    killed.record([1], [9])
    killed.end_epoch()  # the other process never did
    recorders = []
    for rank in range(2):
        as_rank(rank, 2)
        recorders.append(ltau.Recorder(2, tmp_path))
    as_rank(0, 2)
    recorders[0].record([0], [1])
    recorders[0].end_epoch()
    assert epochs(tmp_path) == []
    as_rank(1, 2)
    recorders[1].record([1], [2])
    recorders[1].end_epoch()
    same(epochs(tmp_path), np.float32([[1, 2]]))


def test_what_is_known_to_be_held_out_is_no_warning(tmp_path, ltau):
    from ltau_cli import Recorder

    recorder = Recorder(3, tmp_path / "logs", labels={"held_out": [False, False, True]})
    for epoch in range(2):
        recorder.record([0, 1], [1 + epoch, 2])
        recorder.end_epoch()
        result = ltau("ingest", tmp_path / "logs", "-o", tmp_path / "errors.h5", "--force")
        assert "1 sample never logged" in result.out
        assert "never logged" not in result.err


def test_labels_come_along(tmp_path, ingest):
    labels = {"structure": [0, 0, 1, 1], "species": ["H", "O", "H", "Cu"],
              "held_out": [False, False, True, True]}  # fmt: skip
    recorder = ltau.Recorder(4, tmp_path / "logs", labels=labels)
    recorder.record([0, 1], [0.1, 0.2])
    recorder.end_epoch()
    got = ingest(tmp_path / "logs")
    assert got["structure"].tolist() == [0, 0, 1, 1]
    assert got["species"].tolist() == ["H", "O", "H", "Cu"]
    assert got["n_logged"].tolist() == [1, 1, 0, 0]


def test_labels_of_another_length_are_refused(tmp_path, refused):
    with pytest.raises(InputError, match="structure has shape"):
        ltau.Recorder(4, tmp_path / "logs", labels={"structure": [0, 0]})
    with pytest.raises(InputError, match="colour is no label"):
        ltau.Recorder(2, tmp_path / "logs", labels={"colour": [0, 0]})
    recorder = ltau.Recorder(2, tmp_path / "logs", labels={"structure": [0, 0]})
    recorder.record([0, 1], [1, 1])
    recorder.end_epoch()
    for wrong in ({"structure": [0, 0, 1]}, {"natoms": [2, 2]}, {"species": ["H"]}):
        np.savez(tmp_path / "logs" / "samples.npz", **wrong)
        refused([tmp_path / "logs"], "samples.npz")


def test_labels_of_ones_own(tmp_path, ltau, capfd):
    """A samples.npz that was written by hand: names of structures, natoms, and what is unknown."""
    for epoch in range(2):
        (tmp_path / "logs").mkdir(exist_ok=True)
        np.save(tmp_path / "logs" / f"errors_epoch_{epoch}.npy", np.ones(4, "f4") + epoch)
    for given in ({"natoms": [1, 3]}, {"structure": ["b", "a", "a", "a"]}):
        np.savez(
            tmp_path / "logs" / "samples.npz", colour=[1, 2, 3, 4], magnitude=[0.5] * 4, **given
        )
        done = ltau.ok("ingest", tmp_path / "logs", "-o", tmp_path / "e.h5", "--force")
        assert "samples.npz holds colour, which is no label that ltau knows" in done.err
        assert contents(tmp_path / "e.h5")["structure"].tolist() == [0, 1, 1, 1]
        assert contents(tmp_path / "e.h5")["magnitude"].tolist() == [0.5] * 4


def test_a_sample_that_was_never_seen_is_a_mistake_unless_the_recorder_knows(tmp_path, refused):
    recorder = ltau.Recorder(3, tmp_path / "logs")
    recorder.record([0, 1], [1, 1])
    recorder.end_epoch()
    refused([tmp_path / "logs"], "1 of 3 samples were never logged")


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    recorder = ltau.Recorder(3, tmp_path)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        recorder.end_epoch()
    assert names(tmp_path) == []


def test_the_recorder_needs_numpy_only():
    code = (
        "import sys, ltau_cli; ltau_cli.Recorder;"
        "print({'torch', 'h5py', 'click', 'lightning'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
