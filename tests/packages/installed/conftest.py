"""Tests of model packages: one environment per package, see ``make test-models``.

``LTAU_TEST_PACKAGE`` names the package that is installed; without it nothing here is collected. A
test of a package has its name as a marker, imports it inside, and may train small models, which are
kept in the folder of the environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest

from tests.helpers import SAMPLE

PACKAGE = os.environ.get("LTAU_TEST_PACKAGE", "")
PACKAGES = ("mace", "nequip", "sevenn", "chgnet", "matgl", "metatrain", "deepmd")
HERE = Path(__file__).parent
collect_ignore_glob = [] if PACKAGE else ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers."""
    for package in PACKAGES:
        config.addinivalue_line("markers", f"{package}: needs the package, see make test-models")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Packages warn of what they please."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings("default"))


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
