"""``ltau record`` with SevenNet: right errors at the right places, and the training untouched."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest

from tests.packages.installed.recording import (
    BIN,
    assert_same_where_logged,
    errors_of,
    log_of,
    run,
    training_frames,
)

pytestmark = [pytest.mark.sevenn, pytest.mark.filterwarnings("ignore")]

INPUT = """
model:
  chemical_species: Auto
  cutoff: 3.5
  channel: 4
  lmax: 1
  num_convolution_layer: 2
train:
  device: cpu
  random_seed: 1
  is_train_stress: false
  epoch: {epochs}
  per_epoch: 1
  train_shuffle: true
  optimizer: adam
  optim_param: {{lr: {lr}}}
  scheduler: exponentiallr
  scheduler_param: {{gamma: 0.99}}
  force_loss_weight: 0.1
  error_record: [[Energy, RMSE], [Force, RMSE], [TotalLoss, None]]
{more}
data:
  batch_size: 3
  shift: per_atom_energy_mean
  scale: force_rms
  dataset_type: {kind}
  data_format_args: {{energy_key: REF_energy, force_key: REF_forces}}
  load_trainset_path: [a.xyz, b.xyz]
  load_validset_path: [c.xyz]
"""


@pytest.fixture
def train(tmp_path):
    """Train a small model on seven frames of two files; return the folder of the run."""

    def call(folder="run", lr=0.01, epochs=3, kind="graph", more="", **how):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        for name, part in zip("abc", np.split(np.arange(9), [4, 7]), strict=True):
            frames = [frames_of()[i] for i in part]
            ase.io.write(place / f"{name}.xyz", frames, format="extxyz")
        text = INPUT.format(lr=lr, epochs=epochs, kind=kind, more=more)
        (place / "input.yaml").write_text(text)
        run(BIN / "sevenn", "train", "input.yaml", "-s", folder=place, **how)
        return place

    return call


def frames_of():
    return [frame for frame in training_frames(9) if len(frame) > 1]


def evaluate(folder):
    from sevenn.calculator import SevenNetCalculator

    calculator = SevenNetCalculator(str(folder / "checkpoint_3.pth"), device="cpu")
    return errors_of(calculator, frames_of()[:7])


@pytest.mark.parametrize("kind", ["graph", "atoms"])
def test_errors_are_those_of_an_evaluation(kind, train):
    """With a learning rate of 0, and shuffled."""
    folder = train(lr=0, kind=kind)
    forces, energies = evaluate(folder)
    of_atoms, of_frames = log_of(folder / "logs"), log_of(folder / "logs" / "energy")
    assert of_atoms.shape == (3, 7 * 55)
    assert np.isfinite(of_atoms).all()
    np.testing.assert_allclose(of_atoms, np.broadcast_to(forces, of_atoms.shape), atol=2e-5)
    assert_same_where_logged(of_frames, energies, rtol=1e-3)
    with np.load(folder / "logs" / "samples.npz") as labels:
        assert labels["species"].tolist() == [s for f in frames_of()[:7] for s in f.symbols]
        assert not labels["held_out"].any()


def test_the_training_is_not_changed(train):
    """To the last bit: the errors of every epoch, and the weights."""
    import torch

    folders = [train("with"), train("without", record=False)]
    curves = [(folder / "lc.csv").read_text() for folder in folders]
    assert len(curves[0].splitlines()) == 4
    assert curves[0] == curves[1]
    weights = [
        torch.load(folder / "checkpoint_3.pth", weights_only=False)["model_state_dict"]
        for folder in folders
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_a_restart_goes_on(train):
    folder = train()
    first = log_of(folder / "logs")
    train(epochs=5, more="  continue: {checkpoint: checkpoint_3.pth}")
    log = log_of(folder / "logs")
    np.testing.assert_array_equal(log[:3], first)
    assert len(log) == 5
