"""Out of domain: p-values and relative distances, by hand."""

from __future__ import annotations

import numpy as np

from ltau_cli.core.domain import distance_floor, ood_pvalue, relative_distance


def test_pvalue_by_hand():
    reference = np.array([1.0, 1.0, 2.0, 3.0], np.float32)
    got = ood_pvalue(np.array([0.5, 1.0, 1.5, 3.0, 4.0]), reference)
    np.testing.assert_allclose(got, np.array([5, 5, 3, 2, 1]) / 5)


def test_relative_distance_of_coincident_points_is_finite():
    points = np.full((4, 3), 2.0, np.float32)
    floor = distance_floor([(points, np.array([1, 1, 3, 1]))])
    got = relative_distance(np.array([0.0, 1.0]), np.array([0.0, 0.0]), floor)
    assert got[0] == 1
    assert np.isfinite(got[1])
    assert got[1] > 1e5
    assert distance_floor([(np.zeros((2, 2), np.float32), np.array([1, 1]))]) > 0
