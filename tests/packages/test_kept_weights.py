"""Weights that are kept while a network is trained."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.errors import OutputError
from ltau_cli.packages.frame_log import FrameFile, FrameLog
from ltau_cli.packages.weights import KeptWeights


def epochs_in(folder):
    return sorted(int(path.name[6:].partition(".")[0]) for path in (folder / "weights").iterdir())


@given(n_epochs=st.integers(1, 150), number=st.integers(1, 9))
def test_wherever_a_training_ends_so_many_are_spread_over_its_last_two_thirds(
    n_epochs, number, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("log")
    kept = KeptWeights(folder, number)
    for epoch in range(n_epochs):
        kept.keep(epoch, lambda path, epoch=epoch: path.write_text(str(epoch)), ".pt")
        assert len(epochs_in(folder)) <= 3 * number
    assert kept.finish(n_epochs) == len(epochs_in(folder))
    left = epochs_in(folder)
    if n_epochs > 2 * number + 3:
        assert len(left) == number
        assert 3 * left[0] >= n_epochs
        assert np.diff(left).max(initial=0) <= 2 * n_epochs / number + 1
    for path in (folder / "weights").iterdir():
        assert path.read_text() == path.name[6:].partition(".")[0]


def test_folders_are_weights_too_and_a_failure_leaves_nothing(tmp_path):
    kept = KeptWeights(tmp_path, 1)

    def save(path):
        path.mkdir()
        (path / "state.pt").write_text("weights")

    for epoch in range(9):
        kept.keep(epoch, save, "")
    assert kept.finish(9) == 1

    def fail(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        KeptWeights(tmp_path / "full", 1).keep(0, fail, ".pt")
    assert list((tmp_path / "full" / "weights").iterdir()) == []


def test_a_log_keeps_them_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LTAU_RECORD_KEEP", "2")
    monkeypatch.setattr("ltau_cli.packages.hooks.folder", str(tmp_path / "logs"))
    log = FrameLog("Trainer 1", [FrameFile("train.xyz", [1, 2])], [0, 1])
    for epoch in range(9):
        log.record(log.trained, np.ones(3), np.zeros(2))
        log.end_epoch(lambda path, epoch=epoch: path.write_text(str(epoch)), ".pt")
    log._summarize()
    assert len(epochs_in(tmp_path / "logs")) == 2
    told = capsys.readouterr().err
    assert f"weights of 2 epochs in {tmp_path / 'logs' / 'weights'}" in told
