"""Small trainings of MatGL, shuffled by the split and by the loader."""

from tests.packages.installed.recording import check, evaluate, frames, train_by_script  # noqa: F401

TITLE = "MatGL"  # of its section in docs/models.md
SCRIPT = """
import sys

import ase.io
import lightning as pl
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger
from matgl.ext.ase import PESCalculator
from matgl.ext.pymatgen import Structure2Graph
from matgl.graph.data import MGLDataLoader, MGLDataset, split_dataset
from matgl.models import TensorNet
from matgl.utils.training import PotentialLightningModule
from pymatgen.io.ase import AseAtomsAdaptor

pl.seed_everything(1)
frames = ase.io.read({file!r}, "::6")
for frame in frames:
    frame.set_cell([20, 20, 20])
    frame.set_pbc(True)
    frame.calc = None
types = ("Cu", "Au")
data = MGLDataset(
    structures=[AseAtomsAdaptor.get_structure(frame) for frame in frames],
    converter=Structure2Graph(types, 4.0),
    labels={
        "energies": [frame.info["REF_energy"] for frame in frames],
        "forces": [frame.arrays["REF_forces"].tolist() for frame in frames],
        "stresses": [np.zeros((3, 3)).tolist() for frame in frames],
    },
    save_cache=False,
)
train, val, _ = split_dataset(data, [0.7, 0.3, 0.0], shuffle=True, random_state=1)
train_loader, val_loader = MGLDataLoader(train, val, batch_size=3, num_workers=0)[:2]
model = TensorNet(element_types=types, units=8, nblocks=1, num_rbf=8, cutoff=4.0,
                  is_intensive=False)
module = PotentialLightningModule(model, lr=float(sys.argv[1]), include_line_graph=False,
                                  stress_weight=0.0)
pl.Trainer(max_epochs=2, accelerator="cpu", logger=CSVLogger(".", version="csv"),
           log_every_n_steps=1, enable_progress_bar=False).fit(module, train_loader, val_loader)
torch.save(module.model.state_dict(), "weights.pt")

energies, forces = [], []
for frame in frames:
    frame.calc = PESCalculator(potential=module.model)
    energies.append((frame.get_potential_energy() - frame.info["REF_energy"]) / len(frame))
    forces.append(np.linalg.norm(frame.get_forces() - frame.arrays["REF_forces"], axis=1))
np.savez("evaluated.npz", energies=energies, forces=np.concatenate(forces))
"""

WAYS = UNCHANGED = [{}]
EPOCHS = 2
CLOSE = ({"rtol": 1e-4, "atol": 2e-5},) * 2


def train(place, lr=0.01, **how):
    return train_by_script(SCRIPT, place, lr, **how)


def calculator(file):
    import matgl
    from matgl.ext.ase import PESCalculator

    return PESCalculator(matgl.load_model(file), stress_unit="eV/A3")


def curve(folder):
    return (folder / "lightning_logs" / "csv" / "metrics.csv").read_text().splitlines()


def weights(folder):
    import torch

    return torch.load(folder / "weights.pt", weights_only=False)
