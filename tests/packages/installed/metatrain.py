"""Small trainings of metatrain, on frames of one file or two."""

import csv
from importlib.metadata import version
from pathlib import Path

import ase.io
import numpy as np

from tests.packages.installed.recording import BIN, errors_of, run, training_frames

TITLE = "Metatrain"  # of its section in docs/models.md
SOAP = """
seed: 1
base_precision: 64
architecture:
  name: soap_bpnn
  model:
    soap: {{max_angular: 2, max_radial: 2, cutoff: {{radius: 3.5}}}}
    bpnn: {{num_hidden_layers: 1, num_neurons_per_layer: 6}}
"""
PET = """
seed: 1
architecture:
  name: pet
  model: {{cutoff: 3.5, d_pet: 8, d_node: 8, d_head: 8, d_feedforward: 8, num_heads: 2,
          num_gnn_layers: 1, num_attention_layers: 1}}
"""
TRAINING = """
  training: {{batch_size: 3, num_epochs: {epochs}, learning_rate: {lr}, warmup_fraction: 0.0,
             log_interval: 1, checkpoint_interval: 1, num_workers: {workers}{more}}}
training_set:
{sets}
validation_set: 0.2
test_set: 0.1
"""
SET = """
  - systems: {{read_from: {file}.xyz, length_unit: angstrom}}
    targets:
      energy: {{key: REF_energy, unit: eV, forces: {{key: REF_forces}}}}
"""

MOST_ATOMS = ", max_atoms_per_batch: 120" * (version("metatrain") != "2026.3")
WAYS = [
    {"files": "a"},
    {"files": "ab", "workers": 2, "more": ", per_structure_targets: [energy]"},
    {"files": "a", "more": MOST_ATOMS + ", scale_targets: false"},
]
UNCHANGED = [{"kind": SOAP}, {"kind": PET}]
EPOCHS = 3
CLOSE = ({}, {"rtol": 1e-4})


def frames(files="a", **_):
    found = [frame for frame in training_frames(18) if len(frame) > 1]
    return found[: 10 if files == "a" else 18]


def train(place, lr=0.01, epochs=3, files="a", kind=SOAP, workers=0, more="", restart=False,
          **how):  # fmt: skip
    found = frames("ab")
    for file, part in zip("ab", (found[:10], found[10:]), strict=True):
        ase.io.write(place / f"{file}.xyz", part, format="extxyz")
    sets = "".join(SET.format(file=file) for file in files)
    text = (kind + TRAINING).format(lr=lr, epochs=epochs, sets=sets, workers=workers, more=more)
    (place / "options.yaml").write_text(text)
    options = ("--restart", "auto") if restart else ()
    return run(BIN / "mtt", "train", "options.yaml", *options, folder=place, **how)


def calculator(file):
    import sphericart.torch  # noqa: F401  (else PyTorch leaves its gradients out)
    from metatomic_ase import MetatomicCalculator

    extensions = Path(file).with_name("extensions")
    return MetatomicCalculator(file, device="cpu", extensions_directory=extensions)


def evaluate(folder, frames):
    return errors_of(calculator(folder / "model.pt"), frames)


def check(folder, n_seen, held_out, files, **_):
    outputs = next((folder / "outputs").glob("*/*"))
    wanted = set()
    for kind in ("validation", "test"):
        for number in range(len(files)):
            name = f"{kind}_{number}.txt" if len(files) > 1 else f"{kind}.txt"
            indices = np.loadtxt(outputs / "indices" / name, dtype=int, ndmin=1)
            wanted |= set((indices + 10 * number).tolist())
    assert held_out == wanted
    assert (n_seen > len(frames(files)) - len(held_out) - 3 * len(files)).all()


def curve(folder):
    """Every number that metatrain logs, of all trainings of a folder."""
    logs = sorted((folder / "outputs").glob("*/*/train.csv"))
    return [row for log in logs for row in csv.reader(log.read_text().splitlines())]


def weights(folder):
    """Not those of whole numbers, which hold memory that was never set."""
    import metatomic.torch  # noqa: F401  (what the checkpoint holds)
    import torch

    found = torch.load(folder / "model.ckpt", weights_only=False)["model_state_dict"]
    return {
        name: value
        for name, value in found.items()
        if torch.is_tensor(value) and value.is_floating_point()
    }
