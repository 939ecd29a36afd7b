"""Fixtures: the command line in this process and in a new one, and artifacts of the sample data."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings

from ltau_cli.cli.main import run
from tests.helpers import INPUT, SAMPLE, Pipeline, Result, check, contents, save, tiny_blocks

os.environ["SOURCE_DATE_EPOCH"] = "1700000000"  # the same date in every artifact
settings.register_profile("ltau", deadline=None, max_examples=60)
settings.load_profile("ltau")


@pytest.fixture
def ltau(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run ``ltau ARGUMENTS`` in this process."""

    def call(*arguments: object) -> Result:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return call


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


@pytest.fixture
def small(tmp_path, ltau):
    """A log of 20 samples with its artifacts, as paths."""
    rng = np.random.default_rng(0)
    log = save(tmp_path / "log.npy", rng.random((6, 20)))
    x = save(tmp_path / "x.npy", rng.random((20, 3)))
    errors, model, scores = (tmp_path / f"{name}.h5" for name in ("errors", "model", "scores"))
    assert ltau("ingest", log, "-o", errors).code == 0
    assert ltau("fit", errors, x, "-o", model).code == 0
    assert ltau("score", x, "-m", model, "-o", scores).code == 0
    return {"log": log, "x": x, "errors": errors, "model": model, "scores": scores}


@pytest.fixture
def ingest(ltau, tmp_path):
    """Ingest and return what was stored."""

    def call(*words):
        out = tmp_path / "out" / "errors.h5"
        out.parent.mkdir(exist_ok=True)
        result = ltau("ingest", *words, "-o", out, "--force")
        assert result.code == 0, result.err
        return contents(out)

    return call


@pytest.fixture
def refused(ltau, tmp_path):
    """Ingest and check the refusal; nothing is left behind."""

    def call(words, said, code=INPUT, hint=True):
        out = tmp_path / "refused" / "errors.h5"
        out.parent.mkdir(exist_ok=True)
        said = [said] if isinstance(said, str) else said
        result = ltau("ingest", *words, "-o", out)
        hint = "hint: " in result.err if hint is None else hint
        check(result, code, *said, hint=hint)
        assert list(out.parent.iterdir()) == []

    return call


@pytest.fixture(params=["in memory", "in tiny blocks"], scope="module")
def memory(request):
    """Run a test twice: as small logs are read, and as logs that do not fit in memory are."""
    with tiny_blocks() if request.param == "in tiny blocks" else contextlib.nullcontext():
        yield
