"""The scorecard's measures by hand, and all of it on tiny data, without torch."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest

from tests.helpers import SAMPLE

BENCHMARKS = SAMPLE.parent / "benchmarks"
WAYS = [
    "ltau", "ltau, trajectory", "ltau, no structures", "ltau, method scale", "ltau, last epoch",
    "ltau, committee of two", "published LTAU", "ensemble of two", "ensemble of four",
    "last layer (LLPR)", "Gaussian mixture", "latent distance", "latent distance, MAPIE",
    "quantile boosting", "constant", "mean of the species",
]  # fmt: skip
LLPR = "LLPR (metatrain)"


@pytest.fixture
def scorecard(monkeypatch):
    """Its modules, by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    import scorecard.cases
    import scorecard.judge
    import scorecard.measures
    import scorecard.packages
    import scorecard.page
    import scorecard.ways

    yield scorecard
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("scorecard", "make_sample_data") or "calibration" in name:
            del sys.modules[name]


def test_measures_by_hand(scorecard):
    error = np.array([1.0, 2.0, 3.0, 4.0])
    ways, measures = scorecard.ways, scorecard.measures
    bounds = np.array([[1, 2, 2], [1, 2, 2], [1, 2, 4], [1, 4, 4]], dtype=float)
    bars = ways.Bars(np.array([1.0, 1.0, 2.0, 4.0]), np.full((4, 100), 2.0), bounds)
    truth = measures.Truth(
        error, distance=np.array([4.0, 3.0, 2.0, 1.0]), species=np.array(["C", "H", "H", "H"]),
        large=error > 2.5, noise=np.array([4.0, 3.0, 2.0, 1.0]),
    )  # fmt: skip
    found = measures.measure(bars, truth)
    assert found["coverage_50"] == 0.25
    assert found["coverage_90"] == 0.75  # the third is above its bound of 2
    assert found["coverage_95"] == 1
    assert found["worst_slab_90"] == 0  # ten slabs of four atoms: one each
    assert found["width_90"] == 2.5
    assert found["predicted_over_true"] == 8 / 10
    assert found["auroc"] == 1  # both large ones are above both others
    assert found["rank"] == pytest.approx(np.sqrt(0.9))  # ranks 1.5 1.5 3 4 and 1 2 3 4
    assert found["rank_within_species"] == 1  # of H; C is a single atom
    assert (found["least_noisy_90"], found["most_noisy_90"]) == (1, 1)  # a row each
    assert found["rank_of_noise"] == pytest.approx(-np.sqrt(0.9))
    # a distribution that is all at 2 scores the mean distance from it
    assert found["crps"] == pytest.approx((1 + 0 + 1 + 2) / 4)


def test_worst_slab_by_hand(scorecard):
    covered = np.array([True, True, False, True, False, False])
    slabs = [np.array([0, 1]), np.array([2, 3]), np.array([3, 4, 5])]
    assert scorecard.measures.worst_slab(covered, slabs) == pytest.approx(1 / 3)


def test_auroc_by_hand(scorecard):
    auroc = scorecard.measures.auroc
    score = np.array([0.1, 0.4, 0.4, 0.8])
    # pairs (large, small): 0.4 > 0.1, 0.4 = 0.4 counts half, 0.8 > both
    assert auroc(score, np.array([False, False, True, True])) == (1 + 0.5 + 1 + 1) / 4
    assert auroc(-score, np.array([False, False, True, True])) == 0.5 / 4
    assert np.isnan(auroc(score, np.ones(4, dtype=bool)))


def make_case(scorecard, error, structure):
    cases, n = scorecard.cases, len(error)
    near = cases.Judged(
        np.zeros((n, 1)), np.full(n, "C"), np.array(structure), np.array(structure), np.array(error)
    )
    return cases.Case(None, "s", "0", np.zeros((2, 1)), np.full(2, "C"), np.ones(2), 1, 1.0,
                      {"near": near})  # fmt: skip


def test_a_score_is_scaled_conformally(scorecard):
    ratio = np.arange(1.0, 20.0)  # of 19 frames of an atom each
    score = np.linspace(1.0, 2.0, 19)
    case = make_case(scorecard, ratio * score, np.arange(19))
    bars = scorecard.ways.calibrate_score({"near": score}, case, np.ones(19, bool), 0)["near"]
    # the ceil(20 p)-th smallest ratio
    np.testing.assert_allclose(bars.bounds, score[:, None] * [10, 18, 19])
    np.testing.assert_allclose(bars.mean, score * 10)


def test_mapie_takes_every_atom_for_a_draw(scorecard):
    ratio = np.arange(1.0, 20.0)
    score = np.linspace(1.0, 2.0, 19)
    case = make_case(scorecard, ratio * score, np.arange(19) // 10)  # two frames
    ways = scorecard.ways
    bars = ways.calibrate_mapie({"near": score, "far": 3 * score}, case, np.ones(19, bool), 0)
    # the ceil(20 p)-th smallest ratio; frames that each hold an atom give the same
    np.testing.assert_allclose(bars["near"].bounds, score[:, None] * [10, 18, 19])
    np.testing.assert_allclose(bars["far"].bounds, 3 * bars["near"].bounds)
    alone = make_case(scorecard, ratio * score, np.arange(19))
    own = ways.calibrate_score({"near": score}, alone, np.ones(19, bool), 0)["near"]
    np.testing.assert_allclose(bars["near"].bounds, own.bounds)
    assert (np.diff(bars["near"].quantiles, axis=1) >= 0).all()


def test_every_frame_weighs_the_same(scorecard):
    case = make_case(scorecard, [1.0, 2.0, 3.0], [0, 0, 1])
    weight, frames = scorecard.ways.frame_weight(case, np.ones(3, bool))
    assert frames == 2
    np.testing.assert_array_equal(weight, [0.25, 0.25, 0.5])


def test_spread_of_a_committee_by_hand(scorecard):
    forces = [np.array([[0.0, 0, 0]]), np.array([[2.0, 0, 4]]), np.array([[9.0, 9, 9]])]
    judged = scorecard.cases.Judged(*[np.zeros(1)] * 5, forces)
    # variances of two values: 2, 0 and 8
    assert scorecard.ways.committee_spread(judged, 2) == pytest.approx(np.sqrt(10))


def test_last_layer_by_hand(scorecard):
    case = make_case(scorecard, [1.0], [0])
    train = np.array([[1.0], [-1.0]])  # with a constant: the covariance is the identity
    far = scorecard.cases.Judged(np.array([[0.0], [3.0]]), *[np.zeros(2)] * 4)
    case = scorecard.cases.Case(
        None, "s", "0", train, case.train_species, case.last_error, 1, 1.0, {"far": far}
    )
    score = scorecard.ways.score_last_layer(case)["far"]
    np.testing.assert_allclose(score, [1.0, np.sqrt(10)], rtol=1e-5)


def test_trajectories_are_not_split(scorecard):
    n = 60
    structure = np.arange(n) // 2
    judged = scorecard.cases.Judged(
        np.zeros((n, 1)), np.full(n, "C"), structure, structure // 3, np.ones(n)
    )
    for chosen in scorecard.cases.splits(judged, 4):
        assert len(np.unique(structure[chosen])) == 15  # half of the frames
        assert not set(judged.draw[chosen]) & set(judged.draw[~chosen])


def write_networks(folder, seeds):
    """Tiny networks of some seeds, with the sets near and far."""
    rng = np.random.default_rng(0)
    for seed in range(seeds):
        model = folder / f"seed_{seed}"
        (model / "logs").mkdir(parents=True)
        write_set(model, "train", 12, 1.0, rng)
        for epoch in range(3):
            np.save(model / "logs" / f"epoch_{epoch}.npy", rng.random(72) / (epoch + 1))
        for name, size in (("near", 1.0), ("far", 3.0)):
            write_set(model, f"test_{name}", 30, size, np.random.default_rng(int(size)), seed)


@pytest.mark.slow
def test_tiny_networks_of_four_seeds(tmp_path):
    write_networks(tmp_path / "tiny", 4)
    cache = tmp_path / "out"
    words = ("--data", tmp_path / "tiny", "near", "far", "--cache", cache, "--splits", 2)
    done = subprocess.run(
        [sys.executable, "-m", "scorecard", *map(str, words), "--processes", "1"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(BENCHMARKS), str(SAMPLE)])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (cache / "scorecard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 2 * len(WAYS)
    assert {(row["network"], row["seed"]) for row in rows} == {("yours", s) for s in "0123"}
    assert list(dict.fromkeys(row["way"] for row in rows)) == WAYS
    assert all(0 <= float(row["coverage_90"]) <= 1 for row in rows)
    assert {row["reference_calculations"] for row in rows} == {str(12 + 16)}  # 8 trajectories
    assert "### Far: best possible rank correlation" in done.stdout
    assert all(f"| {way} |" in done.stdout for way in WAYS[2:])
    figure = (cache / "scorecard.svg").read_text()
    assert all(way in figure for way in WAYS)


def write_set(folder, name, frames, size, rng, seed=0):
    """Frames of six atoms; errors grow with the size of the descriptors."""
    n = 6 * frames
    descriptors = size * rng.normal(size=(n, 3))
    true = rng.normal(size=(n, 3))
    off = 0.1 * np.abs(descriptors) * np.random.default_rng(seed).normal(size=(n, 3))
    arrays = {
        "descriptors": descriptors.astype(np.float32),
        "natoms": np.full(frames, 6),
        "species": np.tile(["C", "H"], n // 2),
        "draws": np.arange(frames) // 2,
        "forces_true": true,
        "forces_pred": true + off,
        "trajectory": np.linalg.norm(off, axis=1) * np.random.default_rng(9).lognormal(size=n),
    }
    for key, values in arrays.items():
        np.save(folder / f"{name}_{key}.npy", values)


@pytest.mark.slow
def test_a_tiny_table(scorecard, tmp_path, monkeypatch):
    """Rows are independent, with a law of their own; ways of atoms are left out."""
    from scorecard import tables

    monkeypatch.setattr(tables, "EPOCHS", 4)
    monkeypatch.setattr(tables, "KEPT", (1, 2))
    monkeypatch.setattr(tables, "SIZES", dict.fromkeys(tables.RANGE, 120))
    (table,) = (t for t in tables.TABLES if t.name.startswith("friedman 1"))
    monkeypatch.setattr(tables, "SEEDS", (0, 1))
    folders = [tables.make_table(table.name, tmp_path) for _ in range(2)][1]
    judge, page = scorecard.judge, scorecard.page
    sets = list(tables.SETS)
    found = [judge.judge(judge.Task(f, table.name, page.TABLES, sets, 1)) for f in folders]
    records, about = ([one for of in part for one in of] for part in zip(*found, strict=True))
    ways = list(dict.fromkeys(r["way"] for r in records))
    others = {*scorecard.ways.OF_ATOMS, "ensemble of four"}
    assert {*ways} == {*WAYS, "learned errors, MAPIE"} - others
    assert {r["reference_calculations"] for r in records} == {120 + 60}
    assert all(0 <= r["most_noisy_90"] <= 1 for r in records)
    assert {r["nominal_90"] for r in records if r["way"] == "ltau"} <= {0, 1}
    path = tmp_path / "page.md"
    for _ in range(2):
        page.write_rows(records, about, path)
    text = path.read_text()
    assert text.count("### Tables: by noise (in-domain / farther / far)") == 1
    assert "| tables | friedman 1, noise grows | 120 (120) |" in text
    names = [[t.name for t in which] for which in (tables.DEVELOPMENT, tables.TABLES)]
    assert not {*names[0]} & {*names[1]}


# Networks of packages ----------------------------------------------------------------------------

MODEL = """
import numpy as np

def describe(frames, weights=None):
    forces = np.concatenate([frame.arrays["REF_forces"] for frame in frames])
    descriptors = np.abs(np.concatenate([frame.positions for frame in frames]))
    off = 0.1 if weights is None else float(weights.read_text())
    return {"descriptors": descriptors, "forces": forces + off * np.sin(descriptors)}
"""
SETS = ("in-domain", "hotter", "much hotter", "other kind")


def train_tiny(work, seed):
    (work.folder / "model.py").write_text(MODEL)
    frames = ase.io.read(work.folder / "train.xyz", ":")
    code = "import os; import numpy as np; os.makedirs('logs/energy')\n" + "".join(
        f"np.save('logs/errors_epoch_{i}.npy', np.full({sum(map(len, frames))}, {2 - i}.0))\n"
        for i in range(2)
    )
    work.run("python", "-c", code)
    (work.folder / "logs" / "weights_epoch_0.txt").write_text("0.3")


@pytest.fixture
def packaged(scorecard, tmp_path, monkeypatch):
    """A package without torch, its environment, and frames in a cache; and the cache."""
    packages, stand_in = scorecard.packages, tmp_path / "stand_in"
    stand_in.mkdir()
    shutil.copy(Path(__file__).with_name("sample_stand_in.py"), stand_in / "make_sample_data.py")
    monkeypatch.syspath_prepend(str(stand_in))
    programs = tmp_path / "environments" / "none" / "bin"
    programs.mkdir(parents=True)
    for name in ("ltau", "python"):
        program = Path(sys.executable).with_name(name)
        (programs / name).write_text(f'#!/bin/sh\nexec "{program}" "$@"\n')
        (programs / name).chmod(0o755)

    def spread(work, path):
        return np.concatenate([frame.positions[:, 0] for frame in ase.io.iread(path, ":")])

    tiny = packages.Package("tiny", "none", train_tiny, "python:model.py:describe", "logs", spread)
    monkeypatch.setattr(packages, "PACKAGES", (tiny,))
    monkeypatch.setattr(packages, "SYSTEMS", ("acetylacetone",))
    monkeypatch.setattr(packages, "SEEDS", (0,))
    monkeypatch.setattr(packages, "ENVIRONMENTS", tmp_path / "environments")
    cache = tmp_path / "cache"
    (cache / "acetylacetone").mkdir(parents=True)
    frames = ase.io.read(SAMPLE / "train.xyz", "::6")
    for number, name in enumerate(("train", *SETS)):
        path = cache / "acetylacetone" / f"{name.replace(' ', '_')}.xyz"
        ase.io.write(path, frames[number : number + 3 + number], format="extxyz")
    return packages, cache


def test_a_network_of_a_package(scorecard, packaged):
    packages, cache = packaged
    folder = packages.make_packaged(("acetylacetone", "tiny", 0, cache))
    assert folder == cache / "acetylacetone" / "tiny" / "seed_0"
    assert not list(cache.glob("**/*.part"))
    case = scorecard.cases.read_case(folder, "acetylacetone", list(SETS))
    assert case.train_frames == 3
    assert 0 < case.training_seconds < 20
    np.testing.assert_array_equal(case.last_error, np.ones(3 * 55))  # of the last of two epochs
    for number, name in enumerate(SETS, start=1):
        frames = ase.io.read(cache / "acetylacetone" / f"{name.replace(' ', '_')}.xyz", ":")
        assert len(frames) == 3 + number
        judged, positions = case.sets[name], np.concatenate([f.positions for f in frames])
        np.testing.assert_allclose(judged.descriptors, np.abs(positions), atol=1e-5)
        off = np.linalg.norm(0.1 * np.sin(np.abs(positions)), axis=1)
        np.testing.assert_allclose(judged.error, off, atol=1e-6)
        np.testing.assert_allclose(judged.trajectory, 2 * off, atol=1e-6)
        np.testing.assert_allclose(judged.llpr, positions[:, 0], atol=1e-7)
        starts = np.repeat([frame.info["start"] for frame in frames], 55)
        np.testing.assert_array_equal(judged.draw, starts)
        assert judged.species.tolist() == [s for frame in frames for s in frame.symbols]
    made = folder.stat().st_mtime_ns
    assert packages.make_packaged(("acetylacetone", "tiny", 0, cache)).stat().st_mtime_ns == made


def test_a_package_that_fails_says_why(packaged, monkeypatch):
    packages, cache = packaged

    def fail(work, seed):
        work.run("python", "-c", "raise SystemExit('no such option')")

    monkeypatch.setattr(
        packages, "PACKAGES", (packages.Package("tiny", "none", fail, "python:model.py:describe"),)
    )
    with pytest.raises(RuntimeError, match="no such option"):
        packages.make_packaged(("acetylacetone", "tiny", 0, cache))
    assert not (cache / "acetylacetone" / "tiny" / "seed_0").exists()


def test_packages_without_an_environment_are_left_out(packaged, capsys):
    from scorecard.__main__ import packaged as tasks_of

    _, cache = packaged
    assert not list(tasks_of(None, cache, 1, None))  # no file says that it is ready
    assert capsys.readouterr().out == "tiny: left out; make scorecard MODELS=none trains it\n"
    assert not list(tasks_of(None, cache, 1, []))

    class Here:
        map = staticmethod(map)

    (task,) = tasks_of(Here, cache, 4, ["none"])
    assert task[1:] == ("acetylacetone", "tiny", list(SETS), 4)


@pytest.mark.slow
def test_networks_of_packages_have_tables_of_their_own(scorecard, tmp_path):
    """They change nothing in the means of the first network."""
    write_networks(tmp_path / "net", 1)
    write_networks(tmp_path / "other", 2)
    for path in tmp_path.glob("other/*/test_*_descriptors.npy"):
        of_set = str(path).removesuffix("descriptors.npy")
        np.save(f"{of_set}llpr.npy", np.linalg.norm(np.load(path), axis=1))
    judged = [
        scorecard.judge.judge(scorecard.judge.Task(folder, "s", model, ["near", "far"], 1))
        for model, folder in (
            ("net", tmp_path / "net" / "seed_0"),
            *(("other", tmp_path / "other" / f"seed_{seed}") for seed in range(2)),
        )
    ]
    records, about = ([record for one in judged for record in one[i]] for i in range(2))
    page = scorecard.page
    page.write_page(records, about, tmp_path / "both.md")
    page.write_page(*judged[0], tmp_path / "net.md")
    page.write_csv(records, about, tmp_path / "both.csv")
    page.draw(records, tmp_path / "both.svg")
    both, net = ((tmp_path / name).read_text() for name in ("both.md", "net.md"))
    main, _, own = both.partition("### Other (near / far)")
    head, _, tables = net.partition("### Near")
    assert tables.partition(page.END)[0].strip() in main
    assert "| net | s | 12 (72) | – |" in head
    assert ", two together" in both
    assert f"| {LLPR} |" in own
    assert "| ensemble of two |" in own
    assert "ensemble of four" not in own
    assert LLPR not in main
    with (tmp_path / "both.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {(row["network"], row["seed"]) for row in rows}
    assert found == {("net", "0"), ("other", "0"), ("other", "1")}
    of_way = [row for row in rows if row["way"] == LLPR and row["set"] == "far"]
    mean = np.mean([float(row["coverage_90"]) for row in of_way])
    line = next(line for line in own.splitlines() if line.startswith(f"| {LLPR} |"))
    assert line.split("|")[2].split("/")[1].strip() == f"{100 * mean:.0f}"
    assert LLPR not in (tmp_path / "both.svg").read_text()
