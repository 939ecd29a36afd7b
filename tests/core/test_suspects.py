"""Suspects of wrong labels, against slow versions."""

import numpy as np
import pytest

from ltau_cli.core import suspects
from ltau_cli.core.search.cells import ExactSearcher
from ltau_cli.core.search.points import find_points
from ltau_cli.core.search.shards import OneShard


def test_robust_score_by_hand():
    own = np.exp([0.0, 1.0, 2.0, 3.0, 104.0])
    score = suspects.robust_score(own, np.ones(5))
    assert score[2] == 0
    np.testing.assert_allclose(score[[1, 3]], [-1 / 1.4826, 1 / 1.4826], rtol=1e-5)
    assert score[4] == pytest.approx(102 / 1.4826, rel=1e-5)
    assert suspects.robust_score(own, own).tolist() == [0] * 5
    assert suspects.robust_score(np.zeros(3), np.zeros(3)).tolist() == [0] * 3
    assert np.isfinite(suspects.robust_score(np.array([0.0, 1.0, 1.0]), np.zeros(3))).all()


@pytest.mark.parametrize("grouped", [False, True])
def test_nearest_training_samples_are_those_of_the_oracle(grouped):
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 6, (60, 2)).astype(np.float32)  # many coincide, many are tied
    group = np.arange(60) // 5 if grouped else None
    points = find_points(rows, np.ones(60, int))
    distinct = rows[points.first]
    shards = OneShard(distinct, ExactSearcher(distinct))
    wanted = np.arange(0, 60, 7)
    explained = suspects.explain(shards, points, group, wanted, 5)
    for suspect, got in zip(wanted, explained, strict=True):
        left = (np.arange(60) != suspect) if group is None else (group != group[suspect])
        distance = np.linalg.norm(rows - rows[suspect], axis=1)
        expected = np.sort(distance[left])[:5]
        np.testing.assert_allclose(got.distance, expected, rtol=1e-6)
        np.testing.assert_allclose(distance[got.sample], expected, rtol=1e-6)
        assert left[got.sample].all()
        assert len(set(got.sample.tolist())) == 5
