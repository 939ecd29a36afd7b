"""Small trainings of NequIP."""

from importlib.metadata import version

import ase.io
import numpy as np

from tests.packages.installed.recording import BIN, run, training_frames

TITLE = "NequIP"  # of its section in docs/models.md
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

VERSION = tuple(map(int, version("nequip").split(".")[:2]))
DESCRIBES = VERSION >= (0, 12)


def adapt(text):
    """What older versions want in a configuration."""
    if VERSION < (0, 16):
        text = text.replace("model_type_names", "chemical_symbols")
    if VERSION < (0, 14):
        text += "global_options: {allow_tf32: false}\n"
    if VERSION < (0, 12):
        text = text.replace("{Cu: 0.0, Au: 0.0}", "[0.0, 0.0]")
    return text


WAYS = [{"workers": 0}, {"workers": 2}]
UNCHANGED = [{}]
EPOCHS = 3
CLOSE = ({}, {})
SEEN_BY_TWO = 12


def frames(processes=1, **_):
    return [frame for frame in training_frames(12 if processes == 1 else 15) if len(frame) > 1]


def train(place, lr=0.01, epochs=3, workers=0, restart=False, processes=1, **how):
    (place / "train.yaml").write_text(adapt(CONFIG))
    ase.io.write(place / "train.xyz", frames(processes), format="extxyz")
    options = [f"training_module.optimizer.lr={lr}", f"trainer.max_epochs={epochs}"]
    options += [f"workers={workers}"]
    options += [f"++ckpt_path='{place}/last.ckpt'"] * restart
    if processes == 2:
        options += ["data.train_dataloader.batch_size=3", "++trainer.devices=2"]
        options += ["++trainer.strategy=ddp"]
    return run(BIN / "nequip-train", "-cn", "train", "-cp", place, *options, folder=place, **how)


def calculator(file):
    if VERSION < (0, 16):
        from nequip.ase import NequIPCalculator

        load = getattr(NequIPCalculator, "_from_saved_model", None)
        return (load or NequIPCalculator._from_checkpoint_model)(str(file), device="cpu")
    from nequip.integrations.ase import NequIPCalculator

    return NequIPCalculator._from_saved_model(
        file, device="cpu", chemical_species_to_atom_type_map=True
    )


def evaluate(folder, frames):
    from nequip.data import AtomicDataDict, from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform

    if VERSION < (0, 12):
        from nequip.model import ModelFromCheckpoint
    else:
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
        energies.append((energy - frame.info["REF_energy"]) / len(frame))
    return np.concatenate(forces), np.array(energies)


def check(folder, n_seen, held_out, workers):
    assert len(held_out) == 2
    assert (n_seen == 8).all()  # ten frames, less than a batch of which is dropped


def curve(folder):
    return (folder / "lightning_logs" / "csv" / "metrics.csv").read_text().splitlines()


def weights(folder):
    import torch

    return torch.load(folder / "last.ckpt", weights_only=False)["state_dict"]
