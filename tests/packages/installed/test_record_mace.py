"""``ltau record`` with what is particular to MACE, and the loops of the docs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest

from tests.packages.installed.mace import calculator
from tests.packages.installed.recording import (
    BIN,
    assert_same_where_logged,
    errors_of,
    log_of,
    run,
    training_frames,
)

pytestmark = [pytest.mark.mace, pytest.mark.filterwarnings("ignore")]


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
        forces.append(errors_of(calculator(folder / "m.model", head=head), part)[0])
    log = log_of(folder / "logs")
    assert_same_where_logged(log, np.concatenate(forces))
    assert (np.isfinite(log).any(axis=0)).mean() > 0.7


def test_second_order_and_single_atoms(train):
    """LBFGS evaluates a batch many times: the last time counts. Isolated atoms may be kept."""
    more = ("--lbfgs", "--batch_size", 4, "--keep_isolated_atoms", True)
    folder = train(epochs=1, more=more, given=training_frames(8))
    log = log_of(folder / "logs" / "energy")
    assert np.isfinite(log).sum() == 8


def test_frames_without_forces_have_no_force_error(train):
    frames = [frame for frame in training_frames(12) if len(frame) > 1]
    del frames[3].arrays["REF_forces"]
    more = ("--batch_size", 3, "--valid_fraction", 0.1, "--E0s", "average")
    folder = train(lr=0, more=more, given=frames)
    seen = np.isfinite(log_of(folder / "logs")).any(axis=0)
    assert not seen.reshape(12, 55)[3].any()
    assert np.isfinite(log_of(folder / "logs" / "energy"))[:, 3].any()


def test_another_training_set_is_refused(train):
    folder = train(epochs=1, given=training_frames(12))
    before = log_of(folder / "logs")
    done = train(epochs=1, given=training_frames(9), more=("--batch_size", 4, "--name", "n"),
                 check=False, told=True)  # fmt: skip
    assert done.returncode == 3
    assert "is of another training set" in done.stderr
    assert "Traceback" not in done.stderr
    np.testing.assert_array_equal(log_of(folder / "logs"), before)


def test_the_training_loop_of_the_tutorial(tmp_path):
    """The docs' own loop runs, and ltau reads what it wrote."""
    tutorial = (Path(__file__).parents[3] / "docs" / "tutorial.md").read_text()
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
    folder = train()
    done = run(BIN / "ltau", "ingest", "logs", "--units", "eV/Å", folder=folder, record=False)
    assert "770 samples, 3 epochs" in done.stdout
    rows = np.random.default_rng(0).normal(size=(770, 4))
    np.save(folder / "train.npy", rows)
    done = run(BIN / "ltau", "fit", "errors.h5", "train.npy", folder=folder, record=False)
    assert "660 samples" in done.stdout
