"""Fixtures: the command line in this process and in a new one, and artifacts of the sample data."""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from ltau_cli.cli.main import run
from tests.helpers import INPUT, SAMPLE, Pipeline, Result, check, contents, save, tiny_blocks
from tests.system.ground import make_artifacts, make_files

# Threads that spin while they wait for a core make two processes on two cores 35 times slower.
os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ["SOURCE_DATE_EPOCH"] = "1700000000"  # the same date in every artifact
settings.register_profile("ltau", deadline=None, max_examples=60)
settings.load_profile("ltau")
# `nohup make test &` starts with these ignored, and so would the commands whose end is tested.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no process is left alone with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def ltau(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run ``ltau ARGUMENTS`` in this process; ``ltau.ok`` when it has to end well."""

    def call(*arguments: object) -> Result:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Result(code, out, err)

    def ok(*arguments: object) -> Result:
        result = call(*arguments)
        assert result.code == 0, result.err
        return result

    call.ok = ok  # type: ignore[attr-defined]
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


@pytest.fixture(autouse=True, scope="session")
def _no_wait_for_the_disk() -> Iterator[None]:
    """No test cuts the power, so that nothing needs to be on the disk at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _fixed_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No option comes from the environment."""
    for name in list(os.environ):
        if name.startswith(("LTAU_", "SLURM_", "DASK_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def small_files(tmp_path_factory):
    """See :func:`small`; made once."""
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(0)
    log = save(folder / "log.npy", rng.random((6, 20)))
    x = save(folder / "x.npy", rng.random((20, 3)))
    errors, model, scores = (folder / f"{name}.h5" for name in ("errors", "model", "scores"))
    for step in (
        ["ingest", log, "-o", errors],
        ["fit", errors, x, "-o", model],
        ["score", x, "-m", model, "-o", scores],
    ):
        assert run([str(word) for word in [*step, "-q"]]) == 0, step
    return folder


@pytest.fixture
def small(small_files, tmp_path):
    """A log of 20 samples with its artifacts, as paths, in a folder of one's own."""
    return {path.stem: Path(shutil.copy(path, tmp_path)) for path in small_files.iterdir()}


@pytest.fixture(scope="session")
def good_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small good files of every kind, see :mod:`tests.system.ground`."""
    folder = tmp_path_factory.mktemp("good")
    make_files(folder)
    here = Path.cwd()
    os.chdir(folder)
    make_artifacts(lambda words: run([*words, "-q"]))
    os.chdir(here)
    return folder


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
        check(result, code, *said, hint=hint)
        assert list(out.parent.iterdir()) == []

    return call


@pytest.fixture(params=["in memory", "in tiny blocks"], scope="module")
def memory(request):
    """Run a test twice: as small logs are read, and as logs that do not fit in memory are."""
    with tiny_blocks() if request.param == "in tiny blocks" else contextlib.nullcontext():
        yield
