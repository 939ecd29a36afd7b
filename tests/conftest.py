"""Fixtures: the command line in this process and in a new one, and artifacts of the sample data."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from ltau_cli.cli.main import run

os.environ["SOURCE_DATE_EPOCH"] = "1700000000"  # the same date in every artifact

SAMPLE = Path(__file__).parent.parent / "sample_data"

settings.register_profile("ltau", deadline=None, max_examples=60)
settings.load_profile("ltau")


@dataclass
class Result:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def ltau(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run ``ltau ARGUMENTS`` in this process."""

    def call(*arguments: object) -> Result:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return call


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    """Start ``ltau ARGUMENTS`` in a new process."""
    return subprocess.Popen(
        [sys.executable, "-m", "ltau_cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def finish(process: subprocess.Popen[str]) -> Result:
    """Wait for a process."""
    out, err = process.communicate(timeout=300)
    return Result(process.returncode, out, err)


@dataclass
class Pipeline:
    """Artifacts made from the sample data."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / f"{name}.h5"

    descriptors = SAMPLE / "test_300K_descriptors.npy"
    true_errors = SAMPLE / "test_300K_force_errors.npy"
    hot_descriptors = SAMPLE / "test_900K_descriptors.npy"
    hot_true_errors = SAMPLE / "test_900K_force_errors.npy"
    natoms = SAMPLE / "test_300K_natoms.npy"
    train = SAMPLE / "train_descriptors.npy"
    logs = SAMPLE / "logs"


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """errors, model, scores, calibration and calibrated (scores) of the sample data."""
    made = Pipeline(tmp_path_factory.mktemp("pipeline"))
    steps = [
        ["ingest", made.logs, "-o", made.errors, "--units", "eV/Å"],
        ["fit", made.errors, made.train, "-o", made.model, "-k", 10, "--scale", "none"],
        ["score", made.descriptors, "-m", made.model, "--natoms", made.natoms, "-o", made.scores],
        ["calibrate", made.scores, made.true_errors, "-o", made.calibration],
        ["score", made.descriptors, "-m", made.model, "--natoms", made.natoms, "--calibration",
         made.calibration, "-o", made.calibrated, "--cdf"],
    ]  # fmt: skip
    for step in steps:
        assert run([str(word) for word in [*step, "-q"]]) == 0, step
    return made


@pytest.fixture(scope="session")
def train() -> np.ndarray:
    """Training descriptors of the sample data."""
    return np.load(SAMPLE / "train_descriptors.npy")


@pytest.fixture(scope="session")
def log() -> np.ndarray:
    """The raw error log of the sample data, (n_epochs, n_samples), in the order of the epochs."""
    names = sorted((SAMPLE / "logs").iterdir(), key=lambda p: int(p.stem.rpartition("_")[2]))
    return np.stack([np.load(name) for name in names])


@pytest.fixture(autouse=True)
def _fixed_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No option comes from the environment."""
    for name in list(os.environ):
        if name.startswith(("LTAU_", "SLURM_")):
            monkeypatch.delenv(name)
