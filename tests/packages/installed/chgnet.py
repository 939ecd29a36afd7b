"""Small trainings of CHGNet, shuffled by the data set, by the split, by the loader."""

from tests.packages.installed.recording import check, evaluate, frames, train_by_script  # noqa: F401

TITLE = "CHGNet"  # of its section in docs/models.md
# The twelve frames get a cell; their forces are those of the vacuum, which the test does not mind.
SCRIPT = """
import json
import random
import sys

import ase.io
import numpy as np
import torch
from chgnet.data.dataset import StructureData, get_train_val_test_loader
from chgnet.model import CHGNet
from chgnet.trainer import Trainer
from pymatgen.io.ase import AseAtomsAdaptor

lr = float(sys.argv[1])
random.seed(1)
torch.manual_seed(1)
frames = ase.io.read({file!r}, "::6")
for frame in frames:
    frame.set_cell([14, 14, 14])
    frame.set_pbc(True)
    frame.calc = None
data = StructureData(
    structures=[AseAtomsAdaptor.get_structure(frame) for frame in frames],
    energies=[frame.info["REF_energy"] / len(frame) for frame in frames],
    forces=[frame.arrays["REF_forces"] for frame in frames],
    shuffle=True,
)
train, val, _ = get_train_val_test_loader(data, batch_size=3, train_ratio=0.7, val_ratio=0.3)
model = CHGNet(atom_fea_dim=8, bond_fea_dim=8, angle_fea_dim=8, n_conv=2, num_radial=5,
               num_angular=5, atom_conv_hidden_dim=8, bond_conv_hidden_dim=8, mlp_hidden_dims=(8,),
               atom_graph_cutoff=4, bond_graph_cutoff=3)
trainer = Trainer(model=model, targets="ef", epochs=2, learning_rate=lr, use_device="cpu")
trainer.train(train, val, save_dir="saved")
torch.save(model.state_dict(), "weights.pt")
json.dump(trainer.training_history, open("history.json", "w"))

energies, forces = [], []
for frame, structure in zip(frames, data.structures):
    got = model.predict_structure(structure, task="ef")
    energies.append(got["e"] - frame.info["REF_energy"] / len(frame))
    forces.append(np.linalg.norm(got["f"] - frame.arrays["REF_forces"], axis=1))
np.savez("evaluated.npz", energies=energies, forces=np.concatenate(forces))
"""

WAYS = UNCHANGED = [{}]
EPOCHS = 2
CLOSE = ({"rtol": 1e-7, "atol": 2e-5},) * 2


def train(place, lr=0.01, **how):
    return train_by_script(SCRIPT, place, lr, **how)


def calculator(file):
    from chgnet.model import CHGNet, CHGNetCalculator

    return CHGNetCalculator(CHGNet.from_file(file), use_device="cpu")


def curve(folder):
    return (folder / "history.json").read_text().split(",")


def weights(folder):
    import torch

    return torch.load(folder / "weights.pt")
