"""``ltau record`` with MatGL: right errors at the right places, and the training untouched."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.packages.installed.recording import SAMPLE, log_of, run

pytestmark = [pytest.mark.matgl, pytest.mark.filterwarnings("ignore")]

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
    energies.append(abs(frame.get_potential_energy() - frame.info["REF_energy"]) / len(frame))
    forces.append(np.linalg.norm(frame.get_forces() - frame.arrays["REF_forces"], axis=1))
np.savez("evaluated.npz", energies=energies, forces=np.concatenate(forces))
"""


@pytest.fixture
def train(tmp_path):
    def call(lr, folder="run", **how):
        place = tmp_path / folder
        place.mkdir()
        (place / "train.py").write_text(SCRIPT.replace("{file!r}", repr(str(SAMPLE / "train.xyz"))))
        run(sys.executable, "train.py", lr, folder=place, **how)
        return place

    return call


def test_errors_are_those_of_an_evaluation(train):
    """With a learning rate of 0, and shuffled: by the split and by the loader."""
    folder = train(0)
    of_atoms, of_frames = log_of(folder / "logs"), log_of(folder / "logs" / "energy")
    wanted = np.load(folder / "evaluated.npz")
    assert of_atoms.shape == (2, 12 * 55)
    seen = np.isfinite(of_frames)
    assert (seen.sum(axis=1) == 8).all()
    np.testing.assert_array_equal(np.isfinite(of_atoms), np.repeat(seen, 55, axis=1))
    for log, errors in ((of_atoms, wanted["forces"]), (of_frames, wanted["energies"])):
        logged = np.isfinite(log)
        errors = np.broadcast_to(errors, log.shape)
        np.testing.assert_allclose(log[logged], errors[logged], rtol=1e-4, atol=2e-5)


def test_the_training_is_not_changed(train):
    import torch

    folders = [train(0.01, folder="with"), train(0.01, folder="without", record=False)]
    metrics = [(f / "lightning_logs" / "csv" / "metrics.csv").read_text() for f in folders]
    assert len(metrics[0].splitlines()) > 3
    assert metrics[0] == metrics[1]
    weights = [torch.load(folder / "weights.pt", weights_only=False) for folder in folders]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
