"""``ltau record`` with MACE: right errors at the right places, and the training untouched."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

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

pytestmark = [pytest.mark.mace, pytest.mark.filterwarnings("ignore")]

SMALL = [
    "--num_channels", 4, "--max_L", 0, "--r_max", 3.5, "--correlation", 2, "--num_interactions", 2,
    "--MLP_irreps", "4x0e", "--energy_key", "REF_energy", "--forces_key", "REF_forces",
    "--seed", 3, "--default_dtype", "float64", "--device", "cpu", "--valid_batch_size", 4,
]  # fmt: skip


@pytest.fixture
def train(tmp_path):
    """Train a small model on a file; return the folder of the run."""

    def call(*options, frames=None, folder="run", file="train.xyz", program=None, **how):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        if frames is not None:
            ase.io.write(place / file, frames, format="extxyz")
        name = [] if "--name" in options else ["--name", "m"]
        given = [] if "--config" in options else ["--train_file", file]
        run(*(program or [BIN / "mace_run_train"]), *SMALL, *name, *given, *options,
            folder=place, **how)  # fmt: skip
        return place

    return call


def evaluate(model, frames):
    """Errors of the forces of all atoms, and of the energies per atom of all frames."""
    from mace.calculators import MACECalculator

    calculator = MACECalculator(model_paths=str(model), device="cpu", default_dtype="float64")
    return errors_of(calculator, frames)


def frames_of_atoms(frames):
    return np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])


@pytest.mark.parametrize(
    "more", [["--batch_size", 5], ["--batch_size", 3, "--num_workers", 2, "--ema"]]
)
def test_errors_are_those_of_an_evaluation(train, more):
    """With a learning rate of 0; shuffled, with frames dropped, held out, and of single atoms."""
    frames = training_frames(14)
    folder = train("--lr", 0, "--max_num_epochs", 4, "--valid_fraction", 0.2, *more, frames=frames)
    frames = [frame for frame in frames if len(frame) > 1]  # MACE leaves out isolated atoms
    forces, energies = evaluate(folder / "m.model", frames)
    of_atoms, of_frames = log_of(folder / "logs"), log_of(folder / "logs" / "energy")
    assert of_atoms.shape == (4, sum(map(len, frames)))
    assert_same_where_logged(of_atoms, forces)
    assert_same_where_logged(of_frames, energies)
    np.testing.assert_array_equal(
        np.isfinite(of_atoms), np.isfinite(of_frames)[:, frames_of_atoms(frames)]
    )

    said = (folder / "logs" / "m_run-3.log").read_text()  # MACE's own, in a folder of that name
    indices = re.search(r"following indices: \[(.*?)\]", said)[1]
    held_out = {int(i) for i in indices.split(",")}
    with np.load(folder / "logs" / "samples.npz") as labels:
        np.testing.assert_array_equal(labels["structure"], frames_of_atoms(frames))
        assert set(labels["structure"][labels["held_out"]]) == held_out
        assert labels["species"].tolist() == [s for f in frames for s in f.symbols]
    seen = np.isfinite(of_frames)
    batch = more[1]
    assert (seen.sum(axis=1) == (14 - len(held_out)) // batch * batch).all()
    assert not seen[:, sorted(held_out)].any()


def losses(folder):
    """Every number that MACE logs, without the times."""
    lines = (folder / "results" / "m_run-3_train.txt").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


def test_the_training_is_not_changed(train):
    """To the last bit: losses of every step, validation, and the weights."""
    import torch

    options = ("--batch_size", 5, "--max_num_epochs", 3, "--valid_fraction", 0.2, "--ema", "--swa",
               "--start_swa", 2)  # fmt: skip
    frames = training_frames(12)
    with_record = train(*options, frames=frames, folder="with")
    without = train(*options, frames=frames, folder="without", record=False)
    assert len(losses(without)) > 8
    assert losses(with_record) == losses(without)
    weights = [
        torch.load(folder / "m.model", weights_only=False).state_dict()
        for folder in (with_record, without)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert not (without / "logs" / "errors_epoch_0.npy").exists()


def test_a_restart_goes_on(train):
    frames = training_frames(12)
    options = ("--batch_size", 4, "--valid_fraction", 0.2)
    folder = train(*options, "--max_num_epochs", 2, frames=frames)
    first = log_of(folder / "logs")
    train(*options, "--max_num_epochs", 4, "--restart_latest")
    log = log_of(folder / "logs")
    np.testing.assert_array_equal(log[:2], first)
    assert len(log) >= 4
    assert len(log_of(folder / "logs" / "energy")) == len(log)


def test_several_data_sets(train):
    """Files of two heads, one with two files: the samples are those of the files, one by one."""
    frames = training_frames(18)
    frames = [frame for frame in frames if len(frame) > 1]
    folder = train("--help", frames=frames[:7], file="a.xyz")
    ase.io.write(folder / "b.xyz", frames[7:12], format="extxyz")
    ase.io.write(folder / "c.xyz", frames[12:], format="extxyz")
    (folder / "run.yaml").write_text(
        "heads:\n"
        "  one: {train_file: [a.xyz, b.xyz], valid_fraction: 0.1, E0s: average}\n"
        "  two: {train_file: c.xyz, valid_fraction: 0.2, E0s: average}\n"
    )
    train("--config", "run.yaml", "--lr", 0, "--max_num_epochs", 3, "--batch_size", 4)
    from mace.calculators import MACECalculator

    forces = []
    for number, frame in enumerate(frames):
        head = "one" if number < 12 else "two"
        atoms = frame.copy()
        atoms.calc = MACECalculator(model_paths=str(folder / "m.model"), device="cpu", head=head)
        forces.append(np.linalg.norm(atoms.get_forces() - frame.arrays["REF_forces"], axis=1))
    log = log_of(folder / "logs")
    assert_same_where_logged(log, np.concatenate(forces))
    assert (np.isfinite(log).any(axis=0)).mean() > 0.7


ON_CPUS = """
import torch
from mace.cli import run_train
from torch.nn.parallel import DistributedDataParallel
torch.distributed.init_process_group("gloo")
run_train.DDP = lambda model, device_ids: DistributedDataParallel(model)  # MACE's knows GPUs only
run_train.main()
"""


def test_two_processes(train, tmp_path):
    (tmp_path / "on_cpus.py").write_text(ON_CPUS)
    frames = training_frames(12)
    program = [BIN / "torchrun", "--nproc_per_node", 2, "--standalone", tmp_path / "on_cpus.py"]
    folder = train("--distributed", "--launcher", "torchrun", "--lr", 0, "--batch_size", 2,
                   "--max_num_epochs", 3, "--valid_fraction", 0.2, frames=frames,
                   program=program)  # fmt: skip
    forces, _ = evaluate(folder / "m.model", [f for f in frames if len(f) > 1])
    log = log_of(folder / "logs")
    assert_same_where_logged(log, forces)
    seen = np.isfinite(log_of(folder / "logs" / "energy")).sum(axis=1)
    assert (seen == 10).all(), "each process sees half of the ten"
    assert not list((folder / "logs").glob(".*"))


def test_second_order_and_single_atoms(train):
    """LBFGS evaluates a batch many times: the last time counts. Isolated atoms may be kept."""
    frames = training_frames(8)
    folder = train("--lbfgs", "--max_num_epochs", 1, "--batch_size", 4, "--valid_fraction", 0.2,
                   "--keep_isolated_atoms", True, frames=frames)  # fmt: skip
    log = log_of(folder / "logs" / "energy")
    assert np.isfinite(log).sum() == 8


def test_frames_without_forces_have_no_force_error(train):
    frames = [frame for frame in training_frames(12) if len(frame) > 1]
    del frames[3].arrays["REF_forces"]
    folder = train("--lr", 0, "--max_num_epochs", 3, "--batch_size", 3, "--valid_fraction", 0.1,
                   "--E0s", "average", frames=frames)  # fmt: skip
    seen = np.isfinite(log_of(folder / "logs")).any(axis=0)
    assert not seen[frames_of_atoms(frames) == 3].any()
    assert np.isfinite(log_of(folder / "logs" / "energy"))[:, 3].any()


def test_another_training_set_is_refused(train):
    options = ("--batch_size", 4, "--valid_fraction", 0.2, "--max_num_epochs", 1)
    folder = train(*options, frames=training_frames(12))
    before = log_of(folder / "logs")
    ase.io.write(folder / "train.xyz", training_frames(9), format="extxyz")
    done = run(BIN / "mace_run_train", *SMALL, "--name", "n", "--train_file", "train.xyz", *options,
               folder=folder, check=False)  # fmt: skip
    assert done.returncode == 3
    assert "is of another training set" in done.stderr
    assert "Traceback" not in done.stderr
    np.testing.assert_array_equal(log_of(folder / "logs"), before)


def test_the_training_loop_of_the_tutorial(tmp_path):
    """The docs' own loop runs, and ltau reads what it wrote."""
    tutorial = (Path(__file__).parent.parent.parent.parent / "docs" / "tutorial.md").read_text()
    code = re.search(r"```python\n(# train\.py\n.*?)```", tutorial, re.DOTALL)[1]
    (tmp_path / "train.py").write_text(code)
    run(sys.executable, "train.py", folder=tmp_path, record=False)
    run(BIN / "ltau", "ingest", "logs", folder=tmp_path, record=False)
    done = run(
        BIN / "ltau", "fit", "errors.h5", "train_descriptors.npy", folder=tmp_path, record=False
    )
    assert "1,000 samples" in done.stdout


def test_the_way_to_a_model(train):
    """What is held out carries no weight: a model is fitted on the whole training file."""
    frames = training_frames(14)
    folder = train("--batch_size", 5, "--max_num_epochs", 3, "--valid_fraction", 0.2, frames=frames)
    done = run(BIN / "ltau", "ingest", "logs", "--units", "eV/Å", folder=folder, record=False)
    assert "770 samples, 3 epochs" in done.stdout
    rows = np.random.default_rng(0).normal(size=(770, 4))
    np.save(folder / "train.npy", rows)
    done = run(BIN / "ltau", "fit", "errors.h5", "train.npy", folder=folder, record=False)
    assert "660 samples" in done.stdout
