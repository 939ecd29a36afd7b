"""``ltau record`` with CHGNet: right errors at the right places, and the training untouched."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.packages.installed.recording import log_of, run

pytestmark = [pytest.mark.chgnet, pytest.mark.filterwarnings("ignore")]

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

lr, shuffled = float(sys.argv[1]), sys.argv[2] == "shuffled"
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
    shuffle=shuffled,
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
    energies.append(abs(got["e"] - frame.info["REF_energy"] / len(frame)))
    forces.append(np.linalg.norm(got["f"] - frame.arrays["REF_forces"], axis=1))
np.savez("evaluated.npz", energies=energies, forces=np.concatenate(forces))
"""


@pytest.fixture
def train(tmp_path):
    from tests.packages.installed.recording import SAMPLE

    def call(lr, *options, folder="run", **how):
        place = tmp_path / folder
        place.mkdir()
        (place / "train.py").write_text(SCRIPT.replace("{file!r}", repr(str(SAMPLE / "train.xyz"))))
        run(sys.executable, "train.py", lr, *options, folder=place, **how)
        return place

    return call


def test_errors_are_those_of_an_evaluation(train):
    """With a learning rate of 0, and shuffled: by the data set, by the split, by the loader."""
    folder = train(0, "shuffled")
    of_atoms, of_frames = log_of(folder / "logs"), log_of(folder / "logs" / "energy")
    wanted = np.load(folder / "evaluated.npz")
    assert of_atoms.shape == (2, 12 * 55)
    seen = np.isfinite(of_frames)
    assert (seen.sum(axis=1) == 8).all()
    np.testing.assert_array_equal(np.isfinite(of_atoms), np.repeat(seen, 55, axis=1))
    for log, errors in ((of_atoms, wanted["forces"]), (of_frames, wanted["energies"])):
        logged = np.isfinite(log)
        errors = np.broadcast_to(errors, log.shape)
        np.testing.assert_allclose(log[logged], errors[logged], atol=2e-5)
    with np.load(folder / "logs" / "samples.npz") as labels:
        held_out = labels["held_out"].reshape(12, 55)[:, 0]
    np.testing.assert_array_equal(held_out, ~seen.any(axis=0))


def test_the_training_is_not_changed(train):
    import torch

    folders = [
        train(0.01, "shuffled", folder="with"),
        train(0.01, "shuffled", folder="without", record=False),
    ]
    assert len({(folder / "history.json").read_text() for folder in folders}) == 1
    weights = [torch.load(folder / "weights.pt") for folder in folders]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
