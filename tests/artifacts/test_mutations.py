"""Whatever is damaged in an artifact, it is refused in one line, or it is still a good one."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import pytest

from ltau_cli.artifacts.views import open_artifact
from ltau_cli.cli.main import run
from ltau_cli.errors import ArtifactError
from tests.artifacts.mutations import mutations
from tests.helpers import ARTIFACT
from tests.system.bad_inputs import make_good

MADE = ("errors", "model", "graph", "sharded", "scores", "calibration", "calibrated", "part0")
OUT = ("-o", "out.h5", "--force", "-q")
SCORE = ("score", "x.npy", "-m", "model.h5", *OUT)
USES: dict[str, tuple[tuple[str, ...], ...]] = {  # commands that read an artifact of a kind
    "errors": (
        ("fit", "BAD", "x.npy", "-k", "5", *OUT),
        ("fit", "BAD", "x.npy", "-k", "5", "--loo", "structure", "--burn-in", "2", *OUT),
        ("ingest", "log.npy", "--append", "-o", "BAD", "-q"),
        ("plot", "trajectories", "BAD", "-o", "out.png", "--force", "-q"),
    ),
    "model": (
        ("score", "x.npy", "-m", "BAD", *OUT),
        ("weights", "BAD", "-o", "out.npy", "--force", "-q"),
        ("plot", "cdf", "BAD", "-o", "out.png", "--force", "-q"),
    ),
    "scores": (
        ("evaluate", "BAD", "truth.npy", "-q"),
        ("export", "BAD", "-o", "out.csv", "--force", "-q"),
        ("export", "BAD", "--frames", "frames.xyz", "-o", "out.xyz", "--force", "-q"),
        ("select", "BAD", "-n", "3", "-o", "out.txt", "--force", "-q"),
        ("calibrate", "BAD", "truth.npy", "--level", "0.5", *OUT),
        ("merge", "BAD", "part1.h5", *OUT),
        ("score", "x.npy", "-m", "model.h5", "--resume", "-o", "BAD"),
        ("plot", "overview", "BAD", "--true", "truth.npy", "-o", "out.png", "--force", "-q"),
    ),
    "calibration": (
        (*SCORE, "--natoms", "natoms.npy", "--group", "group.npy", "--calibration", "BAD"),
        ("plot", "overview", "BAD", "-o", "out.png", "--force", "-q"),
    ),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    here = Path.cwd()
    os.chdir(folder)
    make_good(folder, lambda words: run([str(word) for word in words]))
    os.chdir(here)
    return folder


def read_all(path):
    """Read all that any command reads."""
    with open_artifact(path) as artifact:
        for spec in artifact.present():
            artifact.read(spec.name)
        if hasattr(artifact, "load"):
            artifact.load()
        if hasattr(artifact, "calibration"):
            artifact.calibration()
        return artifact.kind


@pytest.mark.parametrize("name", MADE)
def test_every_mutation_is_refused_or_harmless(name, good, tmp_path, monkeypatch, capfd):
    """Mutations that must be seen are; the others end every command in one line, or well."""
    for file in good.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    bad = tmp_path / "bad.h5"
    wrong = []
    with open_artifact(good / f"{name}.h5") as artifact:
        uses = itertools.cycle([("info", "BAD"), *USES[artifact.kind]])
    for mutation in mutations(good / f"{name}.h5"):
        shutil.copy(good / f"{name}.h5", bad)
        mutation.apply(bad)
        try:
            read_all(bad)
            refused = False
        except ArtifactError as error:
            refused = "\n" not in str(error)
        if mutation.refused and not refused:
            wrong.append(f"{mutation.name}: accepted")
            continue
        words = [word.replace("BAD", "bad.h5") for word in next(uses)]
        code = run(words)
        err = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
        # what a command does not read, it need not refuse; what is read so far may fit no option
        if len(err) != (code != 0) or (code != 0 and not refused and code not in (2, 3, 4, 6, 7)):
            wrong.append(f"{mutation.name}, {words[0]}: {code}, {err}")
        if refused and code not in (0, 2, ARTIFACT):
            wrong.append(f"{mutation.name}, {words[0]}: {code}, not {ARTIFACT}: {err}")
    assert wrong == []
