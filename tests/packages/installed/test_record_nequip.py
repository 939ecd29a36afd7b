"""``ltau record`` with NequIP: right errors at the right places, and the training untouched."""

from __future__ import annotations

import sys

import ase.io
import numpy as np
import pytest

from tests.packages.installed.recording import (
    BIN,
    assert_same_where_logged,
    log_of,
    run,
    training_frames,
)

pytestmark = [pytest.mark.nequip, pytest.mark.filterwarnings("ignore")]

CONFIG = """
run: [train]
types: [Cu, Au]
data:
  _target_: nequip.data.datamodule.ASEDataModule
  seed: 3
  split_dataset: {file_path: train.xyz, train: 0.8, val: 0.2}
  key_mapping: {REF_energy: total_energy, REF_forces: forces}
  transforms:
    - _target_: nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper
      model_type_names: ${types}
    - _target_: nequip.data.transforms.NeighborListTransform
      r_max: 3.5
  train_dataloader:
    _target_: torch.utils.data.DataLoader
    batch_size: 4
    shuffle: true
    drop_last: true
    num_workers: ${workers}
  val_dataloader: {_target_: torch.utils.data.DataLoader, batch_size: 4}
workers: 0
trainer:
  _target_: lightning.Trainer
  accelerator: cpu
  max_epochs: 3
  log_every_n_steps: 1
  enable_progress_bar: false
  logger: {_target_: lightning.pytorch.loggers.CSVLogger, save_dir: ., version: csv}
  callbacks:
    - _target_: lightning.pytorch.callbacks.ModelCheckpoint
      dirpath: .
      filename: best
      save_last: true
training_module:
  _target_: nequip.train.EMALightningModule
  loss:
    _target_: nequip.train.EnergyForceLoss
    per_atom_energy: true
    coeffs: {total_energy: 1.0, forces: 1.0}
  val_metrics:
    _target_: nequip.train.EnergyForceMetrics
    coeffs: {total_energy_mae: 1.0, forces_mae: 1.0}
  optimizer: {_target_: torch.optim.Adam, lr: 0.01}
  model:
    _target_: nequip.model.NequIPGNNModel
    seed: 3
    model_dtype: float64
    type_names: ${types}
    r_max: 3.5
    l_max: 1
    num_layers: 2
    num_features: 4
    radial_mlp_depth: 1
    radial_mlp_width: 8
    avg_num_neighbors: 12
    per_type_energy_shifts: {Cu: 0.0, Au: 0.0}
    per_type_energy_scales: 1.0
"""


@pytest.fixture
def train(tmp_path):
    """Train a small model on ``train.xyz``; return the folder of the run."""

    def call(*options, frames=None, folder="run", **how):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        (place / "train.yaml").write_text(CONFIG)
        if frames is not None:
            ase.io.write(place / "train.xyz", frames, format="extxyz")
        run(BIN / "nequip-train", "-cn", "train", "-cp", place, *options, folder=place, **how)
        return place

    return call


def frames_of(n):
    return [frame for frame in training_frames(n) if len(frame) > 1]


def evaluate(folder, frames):
    """Errors of the forces of all atoms, and of the energies per atom of all frames."""
    from nequip.data import AtomicDataDict, from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.model.saved_models import ModelFromCheckpoint
    from nequip.utils.global_state import set_global_state

    set_global_state()
    model = ModelFromCheckpoint(str(folder / "last.ckpt"))["sole_model"]
    species = ChemicalSpeciesToAtomTypeMapper(["Cu", "Au"])
    neighbors = NeighborListTransform(r_max=3.5)
    forces, energies = [], []
    for frame in frames:
        data = neighbors(species(from_ase(frame)))
        output = model(AtomicDataDict.batched_from_list([data]))
        got = output["forces"].detach().numpy()
        forces.append(np.linalg.norm(got - frame.arrays["REF_forces"], axis=1))
        energy = output["total_energy"].item()
        energies.append(abs(energy - frame.info["REF_energy"]) / len(frame))
    return np.concatenate(forces), np.array(energies)


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_are_those_of_an_evaluation(workers, train):
    """With a learning rate of 0; shuffled, with frames held out, and others dropped."""
    frames = frames_of(12)
    folder = train("training_module.optimizer.lr=0", f"workers={workers}", frames=frames)
    forces, energies = evaluate(folder, frames)
    of_atoms, of_frames = log_of(folder / "logs"), log_of(folder / "logs" / "energy")
    assert of_atoms.shape == (3, 12 * 55)
    assert_same_where_logged(of_atoms, forces)
    assert_same_where_logged(of_frames, energies)
    seen = np.isfinite(of_frames)
    np.testing.assert_array_equal(np.isfinite(of_atoms), np.repeat(seen, 55, axis=1))
    assert (seen.sum(axis=1) == 8).all()  # ten frames, less than a batch of which is dropped
    with np.load(folder / "logs" / "samples.npz") as labels:
        assert labels["species"].tolist() == [s for f in frames for s in f.symbols]
        held_out = labels["held_out"].reshape(12, 55)[:, 0]
    assert held_out.sum() == 2
    assert not seen[:, held_out].any()


def test_the_training_is_not_changed(train):
    """To the last bit: losses of every step, validation, and the weights."""
    import torch

    frames = frames_of(12)
    folders = [
        train(frames=frames, folder="with"),
        train(frames=frames, folder="without", record=False),
    ]
    metrics = [(f / "lightning_logs" / "csv" / "metrics.csv").read_text() for f in folders]
    assert len(metrics[0].splitlines()) > 6
    assert metrics[0] == metrics[1]
    weights = [torch.load(f / "last.ckpt", weights_only=False)["state_dict"] for f in folders]
    assert weights[0].keys() == weights[1].keys()
    tensors = [name for name, value in weights[1].items() if torch.is_tensor(value)]
    assert len(tensors) > 10
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in tensors)


def test_a_restart_goes_on(train):
    folder = train(frames=frames_of(12))
    first = log_of(folder / "logs")
    train("trainer.max_epochs=5", f"++ckpt_path='{folder}/last.ckpt'")
    log = log_of(folder / "logs")
    np.testing.assert_array_equal(log[:3], first)
    assert len(log) == 5


def test_two_processes(train):
    frames = frames_of(15)
    folder = train(
        "training_module.optimizer.lr=0",
        "data.train_dataloader.batch_size=3",
        "++trainer.devices=2",
        "++trainer.strategy=ddp",
        frames=frames,
    )
    log = log_of(folder / "logs")
    assert_same_where_logged(log, evaluate(folder, frames)[0])
    seen = np.isfinite(log_of(folder / "logs" / "energy")).sum(axis=1)
    assert (seen == 12).all()
    assert not list((folder / "logs").glob(".*"))


LOOP = """
import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

import ltau_cli as ltau

x = torch.randn(100, 3)
y = x.sum(1, keepdim=True)


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        inputs, targets, ids = batch
        difference = self.layer(inputs) - targets
        return {"loss": (difference**2).mean(), "ids": ids, "errors": difference}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


model = Model()
np.save("wanted.npy", (model.layer(x) - y).detach().abs()[:, 0].numpy())
loader = DataLoader(TensorDataset(x, y, torch.arange(100)), batch_size=7, shuffle=True)
callback = ltau.Recorder(100, "logs").lightning()
pl.Trainer(max_epochs=2, callbacks=[callback], logger=False, accelerator="cpu",
           enable_checkpointing=False, enable_progress_bar=False).fit(model, loader)
"""


def test_a_lightning_loop_of_ones_own(tmp_path):
    (tmp_path / "train.py").write_text(LOOP)
    run(sys.executable, "train.py", folder=tmp_path, record=False)
    log = log_of(tmp_path / "logs")
    np.testing.assert_allclose(log, [np.load(tmp_path / "wanted.npy")] * 2, atol=1e-6)
