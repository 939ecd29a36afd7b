"""The choice of the knobs by cross-validation, against a slow loop."""

import numpy as np
import pytest

from ltau_cli.core.calibration.fit import cross_validate
from ltau_cli.core.calibration.maps import Rows
from ltau_cli.core.tuning import NEIGHBORS, ComparedRows, tune


def slow_trial(train, mean, compared, truth, structure, k):
    """What one choice gives, pair by pair."""

    def nearest(x, points, errors):
        distance = np.linalg.norm(points - x, axis=1)
        order = np.argsort(distance)[:k]
        return distance[order].mean(), errors[order].mean(), order

    own = np.array([
        nearest(x, np.delete(train, i, 0), np.delete(mean, i))[0] for i, x in enumerate(train)
    ])  # fmt: skip
    found = [nearest(x, train, mean) for x in compared]
    distance = np.array([d for d, _, _ in found])
    relative = distance / np.array([own[order].mean() for _, _, order in found])
    logs = np.log(relative)
    whole = np.exp([logs[structure == s].mean() for s in structure])
    rows = Rows(np.array([m for _, m, _ in found]), relative, distance, whole, structure)
    return cross_validate("distance", rows, truth)[2].mean()


def test_trials_are_those_of_a_slow_loop():
    rng = np.random.default_rng(1)
    train, compared = (rng.normal(size=(n, 3)).astype(np.float32) for n in (80, 60))
    mean = rng.gamma(4.0, 0.25, 80) * (1 + np.abs(train[:, 0]))
    truth, structure = rng.gamma(4.0, 0.25, 60), np.repeat(np.arange(12), 5)
    trials = tune(
        train, np.arange(80), {0: mean}, ComparedRows(compared, truth, structure),
        metric="euclidean", scales=["none"],
    )  # fmt: skip
    assert [t.crps for t in trials] == sorted(t.crps for t in trials)
    assert {t.choice.k for t in trials} == set(NEIGHBORS)
    for k in (5, 10):
        (own,) = [t for t in trials if t.choice.k == k and t.choice.weighting == "uniform"]
        slow = slow_trial(train.astype(float), mean, compared, truth, structure, k)
        assert own.crps == pytest.approx(slow, rel=1e-5)


def test_without_held_out_rows_a_structure_does_not_see_itself():
    """Each structure's atoms coincide; only with themselves in sight is their error known."""
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(30), 6)
    train = (rng.normal(size=(30, 2))[group] + 1e-3 * rng.normal(size=(180, 2))).astype(np.float32)
    error = rng.permutation(np.geomspace(0.01, 10, 30))[group]

    def best(groups):
        compared = ComparedRows(None, error, group)
        return tune(train, groups, {0: error}, compared, metric="euclidean", scales=["none"])[0]

    assert best(np.arange(180)).rank_correlation > 0.9
    assert best(group).rank_correlation < 0.5
