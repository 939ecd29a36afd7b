"""Each script of benchmarks/ runs, on tiny data; what it measures is not looked at."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest

from ltau_cli.core.search import graph
from tests.helpers import SAMPLE, graph_by_hand

SCRIPTS = SAMPLE.parent / "benchmarks"
ALL = sorted({path.stem for path in SCRIPTS.glob("*.py")} - {"relaxation_report"})
# torch; what the first two make is tested beside, live in tests/packages/installed
NEED_A_NETWORK = {"calibration_data", "make_descriptors", "recording", "live"}
TAKE_LONG_TO_IMPORT = ("ase", "matplotlib", "numba", "scipy", "sklearn", "torch")

QUERIES = ("train", "query_in", "query_ood")

pytestmark = pytest.mark.slow


def run(*words, scripts=SCRIPTS):
    """Run a script, or code that imports it; return what it prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(scripts), str(SAMPLE.parent)])}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


HELP = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({TAKE_LONG_TO_IMPORT}))  # their imports fail
name, sys.argv[1:] = sys.argv[1], ["-h"]
runpy.run_path(name, run_name="__main__")
"""


@pytest.mark.parametrize("name", [*(f"{name}.py" for name in ALL), "scorecard/__main__.py"])
def test_help_comes_at_once(name):
    assert "usage: " in run("-c", HELP, SCRIPTS / name)


def test_every_script_is_run():
    tests = Path(__file__).read_text()
    assert {name for name in ALL if not re.search(rf'"{name}\.py["\s]', tests)} == NEED_A_NETWORK


def test_calibration(tmp_path):
    for name in ("logs", "train_descriptors.npy", "train_natoms.npy"):
        (tmp_path / name).symlink_to(SAMPLE / name)
    for name in ("300K", "900K"):
        for what in ("descriptors", "natoms", "species"):
            (tmp_path / f"test_{name}_{what}.npy").symlink_to(SAMPLE / f"test_{name}_{what}.npy")
        frames = ase.io.read(SAMPLE / f"test_{name}.xyz", ":")
        true = np.concatenate([frame.arrays["REF_forces"] for frame in frames])
        off = np.load(SAMPLE / f"test_{name}_force_errors.npy")[:, None] * [0, 0.6, 0.8]
        np.save(tmp_path / f"test_{name}_forces_true.npy", true)
        np.save(tmp_path / f"test_{name}_forces_pred.npy", true + off)
    figure = tmp_path / "c.svg"
    out = run(SCRIPTS / "calibration.py", tmp_path, "--splits", 1, "--plot", figure)
    assert "\n900K" in out
    assert "90 % bound covers" in out
    assert "calibration structures" in figure.read_text()


def test_calibration_described(tmp_path):
    described = SAMPLE.parent / "tests" / "data" / "described-1.h5"
    folder = tmp_path / "out"
    run(SCRIPTS / "calibration_described.py", folder, SAMPLE / "logs", described, f"A={described}")
    with h5py.File(described) as file:
        for name, key in (("forces_pred", "forces"), ("forces_true", "reference_forces")):
            np.testing.assert_array_equal(np.load(folder / f"test_A_{name}.npy"), file[key][:])
        np.testing.assert_array_equal(
            np.load(folder / "train_descriptors.npy"), file["descriptors"][:]
        )
    assert (folder / "logs").resolve() == (SAMPLE / "logs").resolve()


@pytest.mark.filterwarnings("ignore")
def test_search(tmp_path, monkeypatch, capfd):
    rng = np.random.default_rng(0)
    rows = {"train": 3000, "query_in": 100, "query_ood": 100}
    arrays = {name: rng.normal(size=(n, 4)).astype(np.float32) for name, n in rows.items()}
    np.savez(tmp_path / "d.npz", **arrays)
    words = f"search.py {tmp_path}/d.npz --threads 1 --scale whiten -k 10".split()
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(graph, "build_graph", graph_by_hand)  # NN-descent compiles for long
    runpy.run_path(str(SCRIPTS / words[0]), run_name="__main__")
    out = capfd.readouterr().out
    assert "FAISS" in out
    assert "lost" in out


def test_ingest(tmp_path):
    words = ("--gigabytes", 0.0004, "--runs", 1, "--folder", tmp_path)
    assert "throughput over the plain copy's" in run(SCRIPTS / "ingest.py", *words)
    assert list(tmp_path.iterdir()) == []


def test_scale():
    words = ("--samples", 2000, "--epochs", 5, "--threads", 1)
    assert "times faster" in run(SCRIPTS / "scale.py", *words)


def test_scaling(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(1500, 32)).astype(np.float32) for name in QUERIES}
    np.savez(tmp_path / "d.npz", **arrays)
    figure = tmp_path / "s.svg"
    words = ("--sizes", 500, 1000, "--epochs", 5, "--plot", figure)
    out = run(SCRIPTS / "scaling.py", tmp_path / "d.npz", *words)
    assert "1,000" in out
    assert "training samples" in figure.read_text()


def test_scaling_with_workers(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", train=rng.normal(size=(900, 8)).astype(np.float32))
    words = ("--workers", 1, "--epochs", 2, "--rows", 500, "--shards", 2)
    out = run(SCRIPTS / "scaling.py", tmp_path / "d.npz", *words)
    lines = [line.split() for line in out.splitlines()[2:]]
    steps = [" ".join(line[:-4]) for line in lines[::2]]
    assert steps == ["ingest", "fit", "score", "score 100 rows"]
    assert all(float(line[-1]) > 0 for line in lines[1::2])


def test_suspects():
    out = run(SCRIPTS / "suspects.py", "--draws", 1)
    assert "| force of the next frame | lower quartile |" in out


@pytest.fixture
def without_torch(tmp_path):
    """The scripts beside a stand-in for the force field."""
    shutil.copytree(SCRIPTS, tmp_path / "benchmarks")
    (tmp_path / "sample_data").mkdir()
    stand_in = Path(__file__).with_name("sample_stand_in.py")
    shutil.copy(stand_in, tmp_path / "sample_data" / "make_sample_data.py")
    return tmp_path / "benchmarks"


@pytest.mark.parametrize(
    ("name", "said"),
    [("selection.py", "| random |"), ("reweighting.py", "| --emphasis easy --keep 0.85 |")],
)
def test_experiments(name, said, without_torch):
    words = ("--seeds", 2, "--processes", 1)
    assert said in run(without_torch / name, *words, scripts=without_torch)


WATCHED = """
import pathlib, sys
import numpy as np
from ase.optimize import LBFGS
import relaxation, relaxation_report as report, selection
from ltau_cli import Live, Watch
folder = pathlib.Path(sys.argv[1])
sample = selection.load_sample()
network = relaxation.Network(sample, sample.Model(0))
for stream, name in enumerate(relaxation.SETS):
    r = report.read(folder / report.file_name(name, 0), 0)
    values = report.watched()["ltau"](r)
    limit = float(np.quantile(values[report.PATIENCE - 1 :], 0.8))
    atoms = relaxation.random_start(sample, np.random.default_rng([0, 10 + stream, 0]), name)
    atoms.calc = Live(network, folder / "model.h5", folder / "calibration.h5", network.describe)
    with Watch(atoms, bound=limit, save=None) as watch:
        optimizer = LBFGS(atoms, logfile=None)
        optimizer.attach(watch)
        optimizer.run(fmax=relaxation.FMAX, steps=report.MOST_STEPS)
    print(watch.stopped is not None, watch.n_seen - 1, report.first_above(values, limit, r.last))
"""


def test_relaxation(without_torch, tmp_path):
    folder, figure = tmp_path / "study", tmp_path / "r.svg"
    script = without_torch / "relaxation.py"
    words = (folder, "--starts", 1, "--training", 4, "--validation", 4, "--plot", figure)
    out = run(script, *words, scripts=without_torch)
    assert "| all | 4 |" in out
    assert "| Watch, ltau |" in out
    assert "mean force error" in figure.read_text()

    told = run("-c", WATCHED, folder, scripts=without_torch).split()
    assert told[::3] == ["True"] * 4
    assert told[1::3] == told[2::3]  # Watch stops where the report says

    made = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = run(script, *words, scripts=without_torch)
    assert again.partition("How often")[2] == out.partition("How often")[2]
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == made
