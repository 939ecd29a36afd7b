"""Calibration maps, by hand and in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.core import calibration as cal
from ltau_cli.core.domain import distance_floor, ood_pvalue, relative_distance
from ltau_cli.core.structures import StructureTotals
from ltau_cli.errors import ComputeError


def test_conformal_rank_by_hand():
    truth, expected = np.arange(1.0, 10.0), np.ones(9)
    assert cal.conformal_ratio(truth, expected, 0.9) == 9  # rank ceil(10 * 0.9) = 9
    assert cal.conformal_ratio(truth, expected, 0.5) == 5
    assert cal.conformal_ratio(truth, 2 * expected, 0.5) == 2.5
    with pytest.raises(ComputeError, match="at least 19"):
        cal.conformal_ratio(truth, expected, 0.95)


def test_bounds_cover_as_promised_on_new_rows():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        expected = rng.lognormal(size=150)
        truth = expected * rng.gamma(2.0, size=150)
        ratio = cal.conformal_ratio(truth[:50], expected[:50], 0.9)
        covered.append((truth[50:] <= ratio * expected[50:]).mean())
    assert 0.9 <= np.mean(covered) < 0.93


def test_threshold_scale_is_found():
    rng = np.random.default_rng(1)
    scale_of_row = rng.lognormal(size=20_000)
    uncertainty = np.exp(-1.0 / scale_of_row)  # P(error > 1) for exponential errors
    truth = 0.4 * rng.exponential(scale_of_row)  # true errors are 0.4 times those of the log
    assert cal.threshold_scale(truth, uncertainty, 1.0) == pytest.approx(0.4, rel=0.03)
    after = cal.reliability(uncertainty, truth > 0.4)
    assert after.error < 0.02 < cal.reliability(uncertainty, truth > 1).error


def test_reliability_by_hand():
    predicted = np.array([0.1] * 5 + [0.9] * 5)
    curve = cal.reliability(predicted, np.array([0] * 4 + [1] + [1] * 5, bool))
    assert curve.n.tolist() == [1] * 10
    np.testing.assert_allclose(curve.error, (4 * 0.1 + 0.9 + 5 * 0.1) / 10)


def test_error_scale_and_zero_expected_errors():
    assert cal.error_scale(np.array([1.0, 3.0]), np.array([2.0, 2.0])) == 1.0
    assert cal.safe_expected(np.zeros(1))[0] > 0
    assert np.isfinite(cal.conformal_ratio(np.zeros(5), np.zeros(5), 0.5))


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), st.floats(0.01, 0.99))
def test_structures_are_never_split(structure, fraction):
    groups = np.array(structure)
    if len(set(structure)) < 2:
        with pytest.raises(ComputeError):
            cal.split_rows(groups, len(groups), fit_fraction=fraction, seed=0)
        return
    fit = cal.split_rows(groups, len(groups), fit_fraction=fraction, seed=0)
    assert fit.any()
    assert not fit.all()
    assert set(groups[fit]).isdisjoint(groups[~fit])


def test_rank_correlation_is_none_where_it_is_not_defined():
    assert cal.rank_correlation(np.ones(5), np.arange(5.0)) is None
    assert cal.rank_correlation(np.arange(5.0), np.arange(5.0) ** 3) == pytest.approx(1)


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


@given(st.integers(1, 7))
def test_structure_totals_do_not_depend_on_the_blocks(block):
    rng = np.random.default_rng(0)
    structure, values = rng.integers(0, 4, 40), rng.random(40)
    whole = StructureTotals(4)
    whole.add(structure, values)
    parts = StructureTotals(4)
    for start in range(0, 40, block):
        parts.add(structure[start : start + block], values[start : start + block])
    for name in ("total", "largest"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    np.testing.assert_allclose(whole.total[2], values[structure == 2].sum())
