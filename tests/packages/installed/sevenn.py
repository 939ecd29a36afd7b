"""Small trainings of SevenNet: seven frames of two files, and two to validate."""

import ase.io
import numpy as np

from tests.packages.installed.recording import BIN, errors_of, run, training_frames

TITLE = "SevenNet"  # of its section in docs/models.md
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

WAYS = [{"kind": "graph"}, {"kind": "atoms"}]
UNCHANGED = [{}]
EPOCHS = 3
CLOSE = ({"rtol": 1e-7, "atol": 2e-5}, {"rtol": 1e-3})


def all_frames():
    return [frame for frame in training_frames(9) if len(frame) > 1]


def frames(**_):
    return all_frames()[:7]


def train(place, lr=0.01, epochs=3, kind="graph", restart=False, **how):
    for name, part in zip("abc", np.split(np.arange(9), [4, 7]), strict=True):
        ase.io.write(place / f"{name}.xyz", [all_frames()[i] for i in part], format="extxyz")
    more = "  continue: {checkpoint: checkpoint_3.pth}" * restart
    text = INPUT.format(lr=lr, epochs=epochs, kind=kind, more=more)
    (place / "input.yaml").write_text(text)
    return run(BIN / "sevenn", "train", "input.yaml", "-s", folder=place, **how)


def calculator(file):
    from sevenn.calculator import SevenNetCalculator

    return SevenNetCalculator(str(file), device="cpu")


def evaluate(folder, frames):
    return errors_of(calculator(folder / "checkpoint_3.pth"), frames)


def check(folder, n_seen, held_out, kind):
    assert not held_out
    assert (n_seen == 7).all()


def curve(folder):
    return (folder / "lc.csv").read_text().splitlines()


def weights(folder):
    import torch

    path = folder / "checkpoint_3.pth"
    return torch.load(path, weights_only=False)["model_state_dict"]
