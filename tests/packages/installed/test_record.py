"""``ltau record`` with real trainers: right errors at the right places, the training untouched.

What is particular to a trainer is in the module of its name: how it is run, what it says of a run.
"""

import importlib
import os
import re
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from ltau_cli.errors import InputError
from ltau_cli.packages.network import NetworkName
from tests.packages.installed.conftest import DESCRIBES, PACKAGE, only
from tests.packages.installed.recording import (
    BIN,
    SAMPLE,
    assert_same_where_logged,
    errors_of,
    log_of,
    run,
    training_frames,
)
from tests.system.test_docs import DOCS, read_blocks

pytestmark = [getattr(pytest.mark, PACKAGE), pytest.mark.filterwarnings("ignore")]
trainer = importlib.import_module(f"tests.packages.installed.{PACKAGE}")


@pytest.mark.parametrize("way", trainer.WAYS)
def test_errors_are_those_of_an_evaluation(way, train):
    """With a learning rate of 0; shuffled, with frames dropped and held out."""
    folder, frames = train(lr=0, **way), trainer.frames(**way)
    of_atoms, of_frames = log_of(folder / "logs"), log_of(folder / "logs" / "energy")
    natoms = [len(frame) for frame in frames]
    assert of_atoms.shape == (trainer.EPOCHS, sum(natoms))
    errors = trainer.evaluate(folder, frames)
    for log, wanted, close in zip((of_atoms, of_frames), errors, trainer.CLOSE, strict=True):
        assert_same_where_logged(log, wanted, **close)
    seen = np.isfinite(of_frames)
    np.testing.assert_array_equal(np.isfinite(of_atoms), np.repeat(seen, natoms, axis=1))
    with np.load(folder / "logs" / "samples.npz") as labels:
        np.testing.assert_array_equal(labels["structure"], np.repeat(range(len(frames)), natoms))
        assert labels["species"].tolist() == [s for frame in frames for s in frame.symbols]
        held_out = set(labels["structure"][labels["held_out"]].tolist())
    assert not seen[:, sorted(held_out)].any()
    trainer.check(folder, seen.sum(axis=1), held_out, **way)


@pytest.mark.parametrize("way", trainer.WAYS[-1:])
def test_weights_are_kept_as_describe_loads_them(way, train):
    """With a learning rate of 0 those of every epoch are the network of the end."""
    folder, frames = train(lr=0, keep=2, **way), trainer.frames(**way)
    kept = sorted((folder / "logs" / "weights").glob("epoch_*"))
    assert [path.name.partition(".")[0] for path in kept][-1:] == [f"epoch_{trainer.EPOCHS - 1}"]
    package = {"metatrain": "metatomic"}.get(PACKAGE, PACKAGE)
    name = NetworkName(package, str(kept[-1]))
    if not DESCRIBES:
        with pytest.raises(InputError, match="cannot be used by ltau describe") as refused:
            name.load(device="cpu")
        assert refused.value.hint.startswith("tested: 0.12.1 to ")
        return
    network = name.load(device="cpu")
    forces = network([frame.copy() for frame in frames]).forces
    errors = np.linalg.norm(
        forces - np.concatenate([frame.arrays["REF_forces"] for frame in frames]), axis=1
    )
    np.testing.assert_allclose(errors, trainer.evaluate(folder, frames)[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("way", trainer.UNCHANGED)
def test_the_training_is_not_changed(way, train):
    """To the last bit: losses, validation, and the weights."""
    import torch

    folders = [train("with", keep=2, **way), train("without", record=False, **way)]
    curves = [trainer.curve(folder) for folder in folders]
    assert len(curves[0]) > 3
    assert curves[0] == curves[1]
    weights = [trainer.weights(folder) for folder in folders]
    assert weights[0].keys() == weights[1].keys()
    tensors = [name for name, value in weights[1].items() if torch.is_tensor(value)]
    assert len(tensors) > 5
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in tensors)
    assert not (folders[1] / "logs" / "errors_epoch_0.npy").exists()


@only("mace", "nequip", "sevenn", "metatrain")
def test_a_restart_goes_on(train):
    folder = train(epochs=3)
    first = log_of(folder / "logs")
    train(epochs=5, restart=True)
    log = log_of(folder / "logs")
    np.testing.assert_array_equal(log[:3], first)
    assert len(log) == 5 or (PACKAGE == "mace" and len(log) > 5)  # which may repeat an epoch
    assert len(log_of(folder / "logs" / "energy")) == len(log)
    held_out = np.load(folder / "logs" / "samples.npz")["held_out"]
    assert not np.isfinite(log[:, held_out]).any()


@only("mace", "nequip")
def test_two_processes(train):
    folder = train(lr=0, processes=2)
    log = log_of(folder / "logs")
    assert_same_where_logged(log, trainer.evaluate(folder, trainer.frames(processes=2))[0])
    seen = np.isfinite(log_of(folder / "logs" / "energy")).sum(axis=1)
    assert (seen == trainer.SEEN_BY_TWO).all(), "each process sees half of them"
    assert not list((folder / "logs").glob(".*"))


@only("mace", "nequip", "sevenn")
def test_the_forces_of_the_file_are_found(train):
    said = train(told=True, epochs=1).stderr
    assert "the forces that it is trained on are REF_forces of" in said
    assert "ltau record: warning" not in said


@only("mace")
def test_fixed_atoms_are_told(train, tmp_path):
    """MACE gets the force of zero that ASE gives atoms of a move_mask."""
    frames = [frame for frame in training_frames(8) if len(frame) > 1]
    for frame in frames:
        forces = frame.arrays.pop("REF_forces")
        frame.calc = SinglePointCalculator(frame, forces=forces)
        frame.set_constraint(FixAtoms(range(10)))
    keys = ("--forces_key", "forces", "--E0s", "average", "--batch_size", 2)
    done = train(epochs=1, given=frames, more=keys, told=True)
    log = log_of(tmp_path / "run" / "logs" / "energy")
    n = np.isfinite(log[0]).sum()
    words = f"{10 * n} atoms of {n} frames are trained on a force of zero (as fixed atoms are)"
    assert f"ltau record: warning: {words}" in done.stderr
    done = run(BIN / "ltau", "ingest", "logs", folder=tmp_path / "run", record=False)
    assert f"warning: logs: {words}" in done.stderr


BROKEN = """
import sys
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

class Break(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "ltau_cli.packages.frame_log":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            owner, _, method = {place!r}.rpartition(".")
            def fail(*args, **kwargs):
                raise RuntimeError("broken on purpose")
            setattr(getattr(module, owner) if owner else module, method, fail)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Break())
"""
PLACES = ["FrameLog.record", "DrawnBatches.pop", "Recorder.record",
          "Recorder.end_epoch", "FrameLog._is_of_frames", "FrameLog._compare"]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_whatever_breaks_in_a_recording_the_training_goes_on(place, train, tmp_path, monkeypatch):
    """An error at each place that a trainer runs: one line, and its own end with equal losses."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(BROKEN.format(place=place))
    way = trainer.UNCHANGED[0]
    wanted = trainer.curve(train("whole", record=False, **way))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"), prepend=os.pathsep)
    folder = train("broken_run", **way)
    assert trainer.curve(folder) == wanted


@only("mace")
def test_several_data_sets(train, tmp_path):
    """Files of two heads, one with two files: the samples are those of the files, one by one."""
    frames = [frame for frame in training_frames(18) if len(frame) > 1]
    folder = tmp_path / "run"
    folder.mkdir()
    for name, part in (("a", frames[:7]), ("b", frames[7:12]), ("c", frames[12:])):
        ase.io.write(folder / f"{name}.xyz", part, format="extxyz")
    (folder / "run.yaml").write_text(
        "heads:\n"
        "  one: {train_file: [a.xyz, b.xyz], valid_fraction: 0.1, E0s: average}\n"
        "  two: {train_file: c.xyz, valid_fraction: 0.2, E0s: average}\n"
    )
    train(lr=0, more=("--config", "run.yaml", "--batch_size", 4))
    forces = []
    for head, part in (("one", frames[:12]), ("two", frames[12:])):
        forces.append(errors_of(trainer.calculator(folder / "m.model", head=head), part)[0])
    log = log_of(folder / "logs")
    assert_same_where_logged(log, np.concatenate(forces))
    assert (np.isfinite(log).any(axis=0)).mean() > 0.7


@only("mace")
def test_second_order_and_single_atoms(train):
    """LBFGS evaluates a batch many times: the last time counts. Isolated atoms may be kept."""
    more = ("--lbfgs", "--batch_size", 4, "--keep_isolated_atoms", True)
    folder = train(epochs=1, more=more, given=training_frames(8))
    log = log_of(folder / "logs" / "energy")
    assert np.isfinite(log).sum() == 8


@only("mace")
def test_frames_without_forces_have_no_force_error(train):
    frames = [frame for frame in training_frames(12) if len(frame) > 1]
    del frames[3].arrays["REF_forces"]
    more = ("--batch_size", 3, "--valid_fraction", 0.1, "--E0s", "average")
    folder = train(lr=0, more=more, given=frames)
    seen = np.isfinite(log_of(folder / "logs")).any(axis=0)
    assert not seen.reshape(12, 55)[3].any()
    assert np.isfinite(log_of(folder / "logs" / "energy"))[:, 3].any()


@only("mace")
def test_another_training_set_is_refused(train):
    folder = train(epochs=1, given=training_frames(12))
    before = log_of(folder / "logs")
    done = train(epochs=1, given=training_frames(9), more=("--batch_size", 4, "--name", "n"),
                 check=False, told=True)  # fmt: skip
    assert done.returncode == 3
    assert "is of another training set" in done.stderr
    assert "Traceback" not in done.stderr
    np.testing.assert_array_equal(log_of(folder / "logs"), before)


@only("mace")
def test_the_training_loop_of_the_tutorial(tmp_path):
    """The docs' own loop runs, and ltau reads what it wrote."""
    tutorial = (Path(__file__).parents[3] / "docs" / "tutorial.md").read_text()
    code = re.search(r"```python\n(# train\.py\n.*?)```", tutorial, re.DOTALL)[1]
    (tmp_path / "train.py").write_text(code)
    run(sys.executable, "train.py", folder=tmp_path, record=False)
    run(BIN / "ltau", "ingest", "logs", folder=tmp_path, record=False)
    words = ["fit", "errors.h5", "train_descriptors.npy"]
    done = run(BIN / "ltau", *words, folder=tmp_path, record=False)
    assert "1,000 samples" in done.stdout


@only("mace")
def test_the_way_to_a_model(train):
    """What is held out carries no weight: a model is fitted on the whole training file."""
    folder = train()
    done = run(BIN / "ltau", "ingest", "logs", "--units", "eV/Å", folder=folder, record=False)
    assert "770 samples, 3 epochs" in done.stdout
    rows = np.random.default_rng(0).normal(size=(770, 4))
    np.save(folder / "train.npy", rows)
    done = run(BIN / "ltau", "fit", "errors.h5", "train.npy", folder=folder, record=False)
    assert "660 samples" in done.stdout


@only("metatrain")
def test_pet_is_recorded_through_its_rotations(train):
    """Which turn each frame at random, so that an evaluation gives nearly these errors."""
    folder = train(kind=trainer.PET, lr=0.0, epochs=2)
    forces, _ = trainer.evaluate(folder, trainer.frames())
    for epoch in log_of(folder / "logs"):
        seen = np.isfinite(epoch)
        assert np.corrcoef(epoch[seen], forces[seen])[0, 1] > 0.95


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


@only("nequip")
def test_a_lightning_loop_of_ones_own(tmp_path):
    (tmp_path / "train.py").write_text(LOOP)
    run(sys.executable, "train.py", folder=tmp_path, record=False)
    log = log_of(tmp_path / "logs")
    np.testing.assert_allclose(log, [np.load(tmp_path / "wanted.npy")] * 2, atol=1e-6)


@only("sevenn")  # brings PyTorch Geometric
def test_a_loop_of_pytorch_geometric(tmp_path):
    """The one in docs/recording.md: its log is that of the network that it describes."""
    (block,) = [b for b in read_blocks(DOCS / "recording.md") if b.file_name == "pyg.py"]
    (tmp_path / "pyg.py").write_text(block.text)
    ase.io.write(tmp_path / "train.xyz", ase.io.read(SAMPLE / "train.xyz", "::9"))
    run(sys.executable, "pyg.py", folder=tmp_path, record=False)
    for words in (["ingest", "logs"],
                  ["describe", "train.xyz", "--network", "python:pyg.py:describe", "-o", "t.h5"],
                  ["fit", "errors.h5", "t.h5"]):  # fmt: skip
        done = run(BIN / "ltau", *words, folder=tmp_path, record=False)
    agreed = re.search(r"network's own: rank correlation ([0-9.]+)", done.stdout)[1]
    assert float(agreed) > 0.5
