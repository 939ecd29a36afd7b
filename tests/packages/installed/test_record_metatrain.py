"""``ltau record`` with metatrain: right errors at the right places, and the training untouched."""

from __future__ import annotations

import csv

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

pytestmark = [pytest.mark.metatrain, pytest.mark.filterwarnings("ignore")]

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


@pytest.fixture
def train(tmp_path):
    """Train a small model on frames of one file or two; return the folder of the run."""

    def call(*options, folder="run", lr=0.01, epochs=3, files="a", kind=SOAP, workers=0, more="",
             **how):  # fmt: skip
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        for file, frames in zip("ab", (frames_of()[:10], frames_of()[10:]), strict=True):
            ase.io.write(place / f"{file}.xyz", frames, format="extxyz")
        sets = "".join(SET.format(file=file) for file in files)
        text = (kind + TRAINING).format(lr=lr, epochs=epochs, sets=sets, workers=workers, more=more)
        (place / "options.yaml").write_text(text)
        run(BIN / "mtt", "train", "options.yaml", *options, folder=place, **how)
        return place

    return call


def frames_of():
    return [frame for frame in training_frames(18) if len(frame) > 1]


def evaluate(folder, frames):
    import sphericart.torch  # noqa: F401  (else PyTorch leaves its gradients out)
    from metatomic_ase import MetatomicCalculator

    calculator = MetatomicCalculator(
        folder / "model.pt", device="cpu", extensions_directory=folder / "extensions"
    )
    return errors_of(calculator, frames)


@pytest.mark.parametrize(
    "how",
    [
        {"files": "a"},
        {"files": "ab", "workers": 2, "more": ", per_structure_targets: [energy]"},
        {"files": "a", "more": ", max_atoms_per_batch: 120, scale_targets: false"},
    ],
)
def test_errors_are_those_of_an_evaluation(how, train):
    """With a learning rate of 0; shuffled, scaled, with frames dropped and held out."""
    folder = train(lr=0.0, epochs=4, **how)
    frames = frames_of()[: 10 if how["files"] == "a" else 18]
    forces, energies = evaluate(folder, frames)
    of_atoms, of_frames = log_of(folder / "logs"), log_of(folder / "logs" / "energy")
    assert of_atoms.shape == (4, 55 * len(frames))
    assert_same_where_logged(of_atoms, forces)
    assert_same_where_logged(of_frames, energies, rtol=1e-4)
    np.testing.assert_array_equal(np.isfinite(of_atoms), np.repeat(np.isfinite(of_frames), 55, 1))

    outputs = next((folder / "outputs").glob("*/*"))
    held_out = set()
    for kind in ("validation", "test"):
        for number in range(len(how["files"])):
            name = f"{kind}_{number}.txt" if len(how["files"]) > 1 else f"{kind}.txt"
            indices = np.loadtxt(outputs / "indices" / name, dtype=int, ndmin=1)
            held_out |= set((indices + 10 * number).tolist())
    with np.load(folder / "logs" / "samples.npz") as labels:
        assert labels["species"].tolist() == [s for f in frames for s in f.symbols]
        assert set(labels["structure"][labels["held_out"]].tolist()) == held_out
    seen = np.isfinite(of_frames)
    assert not seen[:, sorted(held_out)].any()
    trained = len(frames) - len(held_out)
    assert (seen.sum(axis=1) > trained - 3 * len(how["files"])).all()


def curve(folder):
    """Every number that metatrain logs, of all trainings of a folder."""
    logs = sorted((folder / "outputs").glob("*/*/train.csv"))
    return [row for log in logs for row in csv.reader(log.read_text().splitlines())]


@pytest.mark.parametrize("kind", [SOAP, PET])
def test_the_training_is_not_changed(kind, train):
    """To the last bit: losses of every epoch, and the weights."""
    import metatomic.torch  # noqa: F401  (what the checkpoint holds)
    import torch

    folders = [train(folder="with", kind=kind), train(folder="without", record=False, kind=kind)]
    assert len(curve(folders[0])) == 5, "a line of names, one of units, three epochs"
    assert curve(folders[0]) == curve(folders[1])
    weights = [
        torch.load(folder / "model.ckpt", weights_only=False)["model_state_dict"]
        for folder in folders
    ]
    tensors = [  # not those of whole numbers, which hold memory that was never set
        name
        for name, value in weights[1].items()
        if torch.is_tensor(value) and value.is_floating_point()
    ]
    assert len(tensors) > 5
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in tensors)


def test_pet_is_recorded_through_its_rotations(train):
    """Which turn each frame at random, so that an evaluation gives nearly these errors."""
    folder = train(kind=PET, lr=0.0, epochs=2)
    forces, _ = evaluate(folder, frames_of()[:10])
    log = log_of(folder / "logs")
    for epoch in log:
        seen = np.isfinite(epoch)
        assert np.corrcoef(epoch[seen], forces[seen])[0, 1] > 0.95


def test_a_restart_goes_on(train):
    folder = train()
    first = log_of(folder / "logs")
    train("--restart", "auto", epochs=5)
    log = log_of(folder / "logs")
    np.testing.assert_array_equal(log[:3], first)
    assert len(log) == 5
    held_out = np.load(folder / "logs" / "samples.npz")["held_out"]
    assert not np.isfinite(log[:, held_out]).any()
