"""``ltau record`` with real trainers: right errors at the right places, the training untouched.

What is particular to a trainer is in the module of its name: how it is run, what it says of a run.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from tests.packages.installed.conftest import PACKAGE, only
from tests.packages.installed.recording import assert_same_where_logged, log_of

pytestmark = [getattr(pytest.mark, PACKAGE), pytest.mark.filterwarnings("ignore")]
trainer = importlib.import_module(f"tests.packages.installed.{PACKAGE}")


@pytest.mark.parametrize("way", trainer.WAYS)
def test_errors_are_those_of_an_evaluation(way, train):
    """With a learning rate of 0; shuffled, with frames dropped and held out."""
    folder, frames = train(lr=0, **way), trainer.frames(**way)
    of_atoms, of_frames = log_of(folder / "logs"), log_of(folder / "logs" / "energy")
    natoms = [len(frame) for frame in frames]
    assert of_atoms.shape == (trainer.EPOCHS, sum(natoms))
    errors = trainer.evaluate(folder, frames)
    for log, wanted, close in zip((of_atoms, of_frames), errors, trainer.CLOSE, strict=True):
        assert_same_where_logged(log, wanted, **close)
    seen = np.isfinite(of_frames)
    np.testing.assert_array_equal(np.isfinite(of_atoms), np.repeat(seen, natoms, axis=1))
    with np.load(folder / "logs" / "samples.npz") as labels:
        np.testing.assert_array_equal(labels["structure"], np.repeat(range(len(frames)), natoms))
        assert labels["species"].tolist() == [s for frame in frames for s in frame.symbols]
        held_out = set(labels["structure"][labels["held_out"]].tolist())
    assert not seen[:, sorted(held_out)].any()
    trainer.check(folder, seen.sum(axis=1), held_out, **way)


@pytest.mark.parametrize("way", trainer.UNCHANGED)
def test_the_training_is_not_changed(way, train):
    """To the last bit: losses, validation, and the weights."""
    import torch

    folders = [train("with", **way), train("without", record=False, **way)]
    curves = [trainer.curve(folder) for folder in folders]
    assert len(curves[0]) > 3
    assert curves[0] == curves[1]
    weights = [trainer.weights(folder) for folder in folders]
    assert weights[0].keys() == weights[1].keys()
    tensors = [name for name, value in weights[1].items() if torch.is_tensor(value)]
    assert len(tensors) > 5
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in tensors)
    assert not (folders[1] / "logs" / "errors_epoch_0.npy").exists()


@only("mace", "nequip", "sevenn", "metatrain")
def test_a_restart_goes_on(train):
    folder = train(epochs=3)
    first = log_of(folder / "logs")
    train(epochs=5, restart=True)
    log = log_of(folder / "logs")
    np.testing.assert_array_equal(log[:3], first)
    assert len(log) == 5 or (PACKAGE == "mace" and len(log) > 5)  # which may repeat an epoch
    assert len(log_of(folder / "logs" / "energy")) == len(log)
    held_out = np.load(folder / "logs" / "samples.npz")["held_out"]
    assert not np.isfinite(log[:, held_out]).any()


@only("mace", "nequip")
def test_two_processes(train):
    folder = train(lr=0, processes=2)
    log = log_of(folder / "logs")
    assert_same_where_logged(log, trainer.evaluate(folder, trainer.frames(processes=2))[0])
    seen = np.isfinite(log_of(folder / "logs" / "energy")).sum(axis=1)
    assert (seen == trainer.SEEN_BY_TWO).all(), "each process sees half of them"
    assert not list((folder / "logs").glob(".*"))
