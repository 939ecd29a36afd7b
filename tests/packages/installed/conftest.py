"""Tests of model packages: one environment per package, see ``make test-models``.

``LTAU_TEST_PACKAGE`` names the package that is installed; without it nothing here is collected. A
test of a package has its name as a marker, imports it inside, and may train small models, which are
kept in the folder of the environment.
"""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest

from tests.helpers import SAMPLE
from tests.system.test_docs import DOCS, read_blocks

PACKAGE = os.environ.get("LTAU_TEST_PACKAGE", "")
HERE = Path(__file__).parent
TRAINER = importlib.import_module(f"tests.packages.installed.{PACKAGE}") if PACKAGE else None
DESCRIBES = getattr(TRAINER, "DESCRIBES", True)  # in this version
# An error in every function takes a training each: only where it is asked for.
collect_ignore_glob = ["test_guard.py"] * ("LTAU_TEST_GUARD" not in os.environ)
collect_ignore_glob += ["test_record.py"] * (PACKAGE == "deepmd") if PACKAGE else ["test_*.py"]
collect_ignore_glob += ["test_describe.py", "test_live.py"] * (not DESCRIBES)


def only(*packages):
    """Collect a test for some of the packages."""
    return lambda test: test if PACKAGE in packages else None


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers."""
    for package in {path.stem for path in HERE.glob("[a-z]*.py")}:
        config.addinivalue_line("markers", f"{package}: needs the package, see make test-models")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Packages warn of what they please."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session")
def package():
    """The module of the package beside this file."""
    return TRAINER


@pytest.fixture
def train(package, tmp_path):
    """Train a small network in a folder; return the folder, or what the run told."""

    def call(folder="run", told=False, **given):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        done = package.train(place, **given)
        return done if told else place

    return call


@pytest.fixture(scope="session")
def packages_path() -> dict[str, str]:
    """Environment variables in which the commands of the package are found."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    kept = {name: v for name, v in os.environ.items() if not name.startswith("LTAU_")}
    return kept | {"PATH": path, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}


@pytest.fixture(scope="session")
def run_shell(packages_path):
    """Run lines of shell in a folder; each has to end well."""

    def run(folder: Path, lines: str) -> str:
        done = subprocess.run(
            ["sh", "-ec", lines], cwd=folder, env=packages_path, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{lines}\n{done.stdout[-4000:]}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def write_frames():
    """Write the frames of the sample data that small models are trained and tried on."""

    def write(folder: Path) -> None:
        for name, source, part in (
            ("train", "train", slice(None, None, 6)),
            ("val", "test_300K", slice(None)),
            ("pool", "test_900K", slice(None, 10)),
        ):
            frames = ase.io.read(SAMPLE / f"{source}.xyz", ":")[part]
            for frame in frames:  # the files hold predictions of another model
                for key in ("pred_forces", "pred_energy"):
                    frame.arrays.pop(key, None)
                    frame.info.pop(key, None)
            ase.io.write(folder / f"{name}.xyz", frames)

    return write


def commands(title: str, folder: Path) -> str:
    """The commands of the package's section; its files are written to ``folder``."""
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    common, section = text.split("\n## ", 1)[0], re.split(rf"^## {title}\n", text, flags=re.M)[1]
    lines = []
    for i, part in enumerate((section.split("\n## ")[0], common)):
        page = folder / f"page{i}.md"
        page.write_text(part, encoding="utf-8")
        for block in read_blocks(page):
            if block.file_name is not None:
                adapt = getattr(TRAINER, "adapt", str)  # to this version
                (folder / block.file_name).write_text(adapt(block.text), encoding="utf-8")
            elif block.language == "bash" and not block.text.startswith("pip install"):
                lines.append(block.text)
    return "\n".join(lines)


@pytest.fixture(scope="session")
def place(run_shell, write_frames, package):
    """The folder in which all commands of the page were run, once for an environment."""
    folder = Path(sys.prefix) / "page"
    done = folder / "commands.txt"
    fresh = folder.with_name("new-page")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    write_frames(fresh)
    lines = commands(package.TITLE, fresh)
    if not done.is_file() or done.read_text() != lines:
        run_shell(fresh, lines)
        (fresh / done.name).write_text(lines)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    return folder


@pytest.fixture(scope="session")
def network(place) -> str:
    """The network of the page, as ``PACKAGE:FILE``."""
    package, file = re.findall(r"^NETWORK=(\w+):(\S+)$", commands_of(place), re.M)[-1]
    return f"{package}:{place / file}" if (place / file).exists() else f"{package}:{file}"


def commands_of(place: Path) -> str:  # as they were run
    return (place / "commands.txt").read_text()
