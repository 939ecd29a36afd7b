"""The scorecard's measures by hand, and all of it on tiny data, without torch."""

from __future__ import annotations

import csv
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import SAMPLE

BENCHMARKS = SAMPLE.parent / "benchmarks"
WAYS = [
    "ltau", "ltau, no structures", "ltau, method scale", "ltau, last epoch",
    "ltau, committee of two", "published LTAU", "ensemble of two", "ensemble of four",
    "last layer (LLPR)", "Gaussian mixture", "latent distance", "quantile boosting", "constant",
    "mean of the species",
]  # fmt: skip


@pytest.fixture
def scorecard(monkeypatch):
    """Its modules, by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    import scorecard.cases
    import scorecard.measures
    import scorecard.ways

    yield scorecard
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("scorecard", "calibration"):
            del sys.modules[name]


def test_measures_by_hand(scorecard):
    error = np.array([1.0, 2.0, 3.0, 4.0])
    ways, measures = scorecard.ways, scorecard.measures
    bounds = np.array([[1, 2, 2], [1, 2, 2], [1, 2, 4], [1, 4, 4]], dtype=float)
    bars = ways.Bars(np.array([1.0, 1.0, 2.0, 4.0]), np.full((4, 100), 2.0), bounds)
    truth = measures.Truth(
        error, distance=np.array([4.0, 3.0, 2.0, 1.0]), species=np.array(["C", "H", "H", "H"]),
        large=error > 2.5,
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
        assert not set(judged.cluster[chosen]) & set(judged.cluster[~chosen])


@pytest.mark.slow
def test_tiny_models_of_four_seeds(tmp_path):
    rng = np.random.default_rng(0)
    for seed in range(4):
        folder = tmp_path / "tiny" / f"seed_{seed}"
        (folder / "logs").mkdir(parents=True)
        write_set(folder, "train", 12, 1.0, rng)
        for epoch in range(3):
            np.save(folder / "logs" / f"epoch_{epoch}.npy", rng.random(72) / (epoch + 1))
        for name, size in (("near", 1.0), ("far", 3.0)):
            write_set(folder, f"test_{name}", 30, size, np.random.default_rng(int(size)), seed)
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
    assert list(dict.fromkeys(row["way"] for row in rows)) == WAYS
    assert all(0 <= float(row["coverage_90"]) <= 1 for row in rows)
    assert {row["reference_calculations"] for row in rows} == {str(12 + 16)}  # 8 trajectories
    assert "### Far: best possible rank correlation" in done.stdout
    assert all(f"| {way} |" in done.stdout for way in WAYS[1:])
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
        "clusters": np.arange(frames) // 2,
        "forces_true": true,
        "forces_pred": true + off,
    }
    for key, values in arrays.items():
        np.save(folder / f"{name}_{key}.npy", values)
