"""Whatever is damaged in an artifact, it is refused in one line, or it is still a good one."""

import itertools
import os
import shutil
import warnings

import h5py
import pytest

from ltau_cli.artifacts.views import open_artifact
from ltau_cli.cli.main import run
from ltau_cli.core.search import graph
from ltau_cli.errors import ArtifactError
from tests.artifacts.mutations import mutations, read_all
from tests.helpers import ARTIFACT, graph_by_hand

MADE = ("errors", "model", "graph", "sharded", "scores", "calibration", "calibrated")
SHARE = 1 if os.environ.get("EVERY_MUTATION") else 6  # of so many mutations, one is tried
EXPECTED = (0, 2, 3, ARTIFACT, 6, 7)
OUT = ("-o", "out.h5", "--force", "-q")
SCORE = ("score", "x.npy", "-m", "model.h5", *OUT)
USES: dict[str, tuple[tuple[str, ...], ...]] = {  # commands that read an artifact of a kind
    "errors": (
        ("fit", "BAD", "x.npy", "-k", "5", *OUT),
        ("fit", "BAD", "x.npy", "-k", "5", "--loo", "structure", "--epochs", "2:", *OUT),
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
        ("score", "x.npy", "-m", "model.h5", "--resume", "-o", "BAD"),
        ("plot", "overview", "BAD", "--true", "truth.npy", "-o", "out.png", "--force", "-q"),
    ),
    "calibration": (
        (*SCORE, "--natoms", "natoms.npy", "--group", "group.npy", "--calibration", "BAD"),
        ("plot", "overview", "BAD", "-o", "out.png", "--force", "-q"),
    ),
}


@pytest.fixture(scope="module")
def files(good_files, tmp_path_factory):
    """The good files, and two models with another index."""
    folder = tmp_path_factory.mktemp("index")
    for file in good_files.iterdir():
        (folder / file.name).symlink_to(file)
    words = ("fit", str(folder / "errors.h5"), str(folder / "x.npy"), "-k", "5", "-q", "-o")
    assert run([*words, str(folder / "sharded.h5"), "--shards", "2"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "build_graph", graph_by_hand)  # NN-descent compiles for long
        options = ("--index", "nndescent", "--recall", "0.5")
        assert run([*words, str(folder / "graph.h5"), *options]) == 0
    return folder


def is_refused(path):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as every command does
            read_all(path)
    except ArtifactError:
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_every_mutation_is_refused_or_harmless(name, files, tmp_path, monkeypatch, capfd):
    """What must be seen is; the rest ends every command in one line, or well."""
    for file in files.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    good, bad = files / f"{name}.h5", tmp_path / "bad.h5"
    with open_artifact(good) as artifact:
        uses = itertools.cycle([("info", "BAD"), *USES[artifact.kind]])
    start = MADE.index(name) % SHARE
    wrong = []
    for number, mutation in enumerate(itertools.islice(mutations(good), start, None, SHARE)):
        shutil.copy(good, bad)
        with h5py.File(bad, "r+") as file:
            mutation.edit(file)
        refused = is_refused(bad)
        if mutation.refused and not refused:
            wrong.append(f"{mutation.name}: accepted")
        if refused and number % 10:
            continue  # by the one check that all commands make
        words = [word.replace("BAD", "bad.h5") for word in next(uses)]
        if (
            words[:2] == ["plot", "overview"]
            and mutation.name.startswith("summary ")
            and ("quantiles" not in mutation.name)
        ):
            words[1] = "coverage"  # the one panel that shows more of the summary
        code = run(words)
        lines = capfd.readouterr().err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        # a command need not refuse what it does not read; values may not fit what else is given
        if len(errors) != (code != 0) or code not in ((0, 2, ARTIFACT) if refused else EXPECTED):
            wrong.append(f"{mutation.name}, {words[0]}: {code}, {lines[-1:]}")
    assert wrong == []
