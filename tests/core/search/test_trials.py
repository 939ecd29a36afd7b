"""Queries made to see how well a search does."""

import numpy as np

from ltau_cli.core.search.cells import ExactSearcher
from ltau_cli.core.search.trials import TrialSet, make_trials, recall
from ltau_cli.results import SearchTrials


def test_recall_by_hand():
    exact = np.array([[1, 2], [3, 4]])
    assert recall(np.array([[2, 1], [3, 9]]), exact).tolist() == [1.0, 0.5]


def test_what_is_lost_and_too_long_by_hand():
    points = np.array([[0.0], [1.0], [4.0], [9.0]], np.float32)
    queries = np.zeros((2, 1), np.float32)
    trials = TrialSet(points, queries, np.array([[0, 1], [0, 1]]))

    class Poor:
        def candidates(self, queries, width, *, threads=1):
            return np.array([[0, 1], [2, 3]])

    found = trials.measure(Poor())
    assert found == SearchTrials(recall=0.5, lost=0.5, too_long=(4 + 9) / 1 - 1)


def test_trials_are_no_training_points_and_the_same_for_the_same_seed(train):
    exact = ExactSearcher(train)
    one, other = (make_trials(train, exact, 10, seed=0, n=200) for _ in range(2))
    for a, b in ((one.near, other.near), (one.far, other.far)):
        assert a.rows.shape == (200, 16)
        distance = np.linalg.norm(a.rows[:, None] - train[None], axis=2)
        assert (distance > 0).all()
        np.testing.assert_array_equal(a.nearest[:, 0], distance.argmin(axis=1))
        np.testing.assert_array_equal(a.rows, b.rows)
    near, far = (t.rows[:, None] - train[t.nearest] for t in (one.near, one.far))
    assert np.linalg.norm(far, axis=2).mean() > 2 * np.linalg.norm(near, axis=2).mean()


def test_an_exact_search_misses_nothing(train):
    trials = make_trials(train, ExactSearcher(train), 10, seed=1, n=100)
    for found in trials.measure(ExactSearcher(train)):
        assert found == SearchTrials(recall=1.0, lost=0.0, too_long=0.0)
