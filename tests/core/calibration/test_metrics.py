"""Metrics against slow versions, closed forms and other libraries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ltau_cli.core.calibration import metrics
from ltau_cli.core.calibration import predicted as predicted_module
from ltau_cli.core.calibration.metrics import measure
from ltau_cli.core.calibration.predicted import Predicted

LEVELS = (np.arange(100) + 0.5) / 100


def make_predicted(n, *, seed=0, n_strata=2):
    """Predicted distributions of n rows in two strata, and true errors."""
    rng = np.random.default_rng(seed)
    quantiles = np.sort(rng.gamma(2.0, 0.5, (n_strata, 100)), axis=1)
    predicted = Predicted(
        mean=rng.lognormal(size=n), spread=np.zeros(n), stratum=rng.integers(0, n_strata, n),
        ratio_quantiles=quantiles,
        ratio_levels=LEVELS, bound_ratio=quantiles[:, [49, 79, 89]],
        levels=np.array([0.5, 0.8, 0.9]),
    )  # fmt: skip
    return predicted, predicted.mean * rng.gamma(2.0, 0.5, n)


def test_crps_of_gaussian_quantiles_is_the_closed_form():
    from uncertainty_toolbox.metrics_scoring_rule import crps_gaussian

    rng = np.random.default_rng(0)
    mean, sigma, truth = rng.normal(size=30), rng.uniform(0.5, 2, 30), rng.normal(size=30)
    levels = (np.arange(20_000) + 0.5) / 20_000
    quantiles = mean[:, None] + sigma[:, None] * stats.norm.ppf(levels)
    z = (truth - mean) / sigma
    closed = sigma * (
        z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi)
    )  # Gneiting & Raftery 2007, doi 10.1198/016214506000001437, section 4.2
    got = metrics.crps(truth, quantiles, levels)
    np.testing.assert_allclose(got, closed, rtol=1e-3)
    assert got.mean() == pytest.approx(crps_gaussian(mean, sigma, truth), rel=1e-4)


def test_crps_of_a_point_is_the_absolute_error():
    quantiles = np.full((2, 100), 3.0)
    np.testing.assert_allclose(metrics.crps(np.array([1.0, 7.0]), quantiles, LEVELS), [2, 4])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_miscalibration_area_is_that_of_uncertainty_toolbox(observed):
    from uncertainty_toolbox.metrics_calibration import miscalibration_area_from_proportions

    shares = np.sort(observed)
    levels = (np.arange(len(shares)) + 0.5) / len(shares)
    expected = miscalibration_area_from_proportions(np.r_[0, levels, 1], np.r_[0, shares, 1])
    assert metrics.miscalibration_area(levels, shares) == pytest.approx(expected, abs=1e-9)


def test_miscalibration_area_by_hand():
    assert metrics.miscalibration_area(LEVELS, LEVELS) == 0
    half = np.array([0.5])
    assert metrics.miscalibration_area(half, np.array([0.7])) == pytest.approx(0.1)
    at = np.array([0.25, 0.75])  # crosses the diagonal in the middle: four triangles
    assert metrics.miscalibration_area(at, np.array([0.45, 0.55])) == pytest.approx(0.1)


def test_ence_by_hand():
    truth = np.array([3.0, 1.0])
    assert metrics.ence(truth, np.array([4.0, 1.0])) == pytest.approx(0.25)  # |2 - 3| / 2 and 0
    rng = np.random.default_rng(0)
    square, truth = rng.random(95) + 0.1, rng.random(95)
    order = np.argsort(square)
    wanted, start = [], 0
    for size in [10] * 5 + [9] * 5:
        own = order[start : start + size]
        rmv, rmse = np.sqrt(square[own].mean()), np.sqrt((truth[own] ** 2).mean())
        wanted.append(abs(rmv - rmse) / rmv)
        start += size
    assert metrics.ence(truth, square) == pytest.approx(np.mean(wanted))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=30))
def test_ause_is_that_of_the_plain_definition(pairs):
    truth, ranked_by = np.array(pairs, float).T
    ranked_by = ranked_by + np.arange(len(ranked_by)) / 1e3  # no ties
    n = len(truth)

    def curve(by):
        kept = [sorted(range(n), key=lambda i: by[i])[: n - removed] for removed in range(n)]
        return [sum(truth[i] for i in rows) / len(rows) for rows in kept]

    gap = np.mean(np.subtract(curve(ranked_by), curve(truth)))
    wanted = gap / truth.mean() if truth.any() else 0
    assert metrics.ause(truth, ranked_by) == pytest.approx(wanted, abs=1e-12)
    assert metrics.ause(truth, truth) == 0


def test_rank_correlation_is_none_where_it_is_not_defined():
    assert metrics.rank_correlation(np.ones(5), np.arange(5.0)) is None
    assert metrics.rank_correlation(np.arange(5.0), np.ones(5)) is None
    assert metrics.rank_correlation(np.ones(1), np.ones(1)) is None
    assert metrics.rank_interval(np.ones(5), np.arange(5.0), None) is None
    assert metrics.rank_interval(np.arange(5.0), np.arange(5.0), np.zeros(5, int)) is None
    assert metrics.rank_correlation(np.arange(5.0), np.arange(5.0) ** 3) == pytest.approx(1)


def test_rank_correlation_within_groups_by_hand():
    a = np.array([1.0, 2, 3, 11, 12, 13, 5])
    b = np.array([1.0, 2, 3, 33, 32, 31, 5])
    group = np.array(["C"] * 3 + ["H"] * 3 + ["O"])  # 1, -1, and one row alone
    assert metrics.rank_within(a, b, group) == pytest.approx(0)
    keep = np.array([0, 1, 2, 3, 4, 6])  # 3 rows of 1, 2 rows of -1
    assert metrics.rank_within(a[keep], b[keep], group[keep]) == pytest.approx((3 - 2) / 5)
    assert metrics.rank_within(a, np.ones(7), group) is None


def correlated(n, rng, rho=0.6):
    x = rng.normal(size=n)
    return x, rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n)


def test_bootstrap_interval_of_the_rank_correlation_covers():
    rng = np.random.default_rng(0)
    true = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman's of a bivariate normal
    inside = 0
    for _ in range(60):
        low, high = metrics.rank_interval(*correlated(150, rng), None)
        inside += low <= true <= high
    assert inside >= 52


def test_bootstrap_draws_structures_and_is_the_same_each_time():
    rng = np.random.default_rng(1)
    x, y = correlated(20, rng)
    tenfold = np.repeat(np.arange(20), 10)
    alone = metrics.rank_interval(x, y, None)
    together = metrics.rank_interval(x[tenfold], y[tenfold], tenfold)
    width = np.ptp(metrics.rank_interval(x[tenfold], y[tenfold], None))
    assert np.ptp(together) == pytest.approx(np.ptp(alone), rel=0.15)
    assert width < np.ptp(together) / 2
    assert metrics.rank_interval(x, y, None) == alone
    assert metrics.rank_interval(x, y, None, seed=1) != alone


def test_measure_by_the_plain_definitions():
    predicted, truth = make_predicted(500)
    structure = np.arange(500) // 10
    group = np.random.default_rng(2).integers(0, 3, 500)
    got = measure(truth, predicted, draw=structure, group=group)
    quantiles = predicted.mean[:, None] * predicted.ratio_quantiles[predicted.stratum]
    bounds = predicted.mean[:, None] * predicted.bound_ratio[predicted.stratum]
    assert got.n_rows == 500
    assert got.mean_true_error == pytest.approx(truth.mean())
    assert got.error_ratio == pytest.approx(predicted.mean.mean() / truth.mean())
    assert got.rank_correlation == pytest.approx(stats.spearmanr(predicted.mean, truth)[0])
    low, high = got.rank_correlation_interval
    assert low < got.rank_correlation < high
    for j, level in enumerate(("0.5", "0.8", "0.9")):
        assert got.coverage[level] == pytest.approx((truth <= bounds[:, j]).mean())
        assert got.mean_width[level] == pytest.approx(bounds[:, j].mean())
    wanted = np.abs(quantiles[:, :, None] - quantiles[:, None]).mean(axis=(1, 2)) / 2
    wanted = np.abs(quantiles - truth[:, None]).mean(axis=1) - wanted  # E|X - y| - E|X - X'| / 2
    assert got.crps == pytest.approx(wanted.mean(), rel=1e-9)
    observed = (truth[:, None] <= quantiles).mean(axis=0)
    assert got.miscalibration_area == metrics.miscalibration_area(LEVELS, observed)
    assert got.ence == pytest.approx(metrics.ence(truth, (quantiles**2).mean(axis=1)))
    assert got.rank_correlation_within_groups == metrics.rank_within(predicted.mean, truth, group)


@given(st.integers(100, 5000))
def test_blocks_do_not_change_the_metrics(size):
    predicted, truth = make_predicted(40)
    whole = measure(truth, predicted, draw=None, group=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predicted_module, "_BLOCK", size)
        parts = measure(truth, predicted, draw=None, group=None)
    assert parts == whole


def test_some_rows_are_measured_as_if_they_were_alone():
    predicted, truth = make_predicted(300)
    chosen = np.random.default_rng(3).random(300) < 0.4
    alone = Predicted(
        predicted.mean[chosen], predicted.spread[chosen], predicted.stratum[chosen],
        predicted.ratio_quantiles, LEVELS, predicted.bound_ratio, predicted.levels,
    )  # fmt: skip
    structure = np.arange(300) // 5
    wanted = measure(truth[chosen], alone, draw=structure[chosen], group=None)
    assert measure(truth, predicted, draw=structure, group=None, rows=chosen) == wanted


def test_one_row():
    predicted, truth = make_predicted(1)
    got = measure(truth, predicted, draw=np.zeros(1, int), group=np.array(["C"]))
    assert got.rank_correlation is None
    assert got.rank_correlation_within_groups is None
    assert got.rank_correlation_interval is None
    assert got.crps > 0
    zero = measure(np.zeros(1), predicted, draw=None, group=None)
    assert zero.ause == 0
    assert zero.coverage["0.9"] == 1


def test_reliability_by_hand():
    predicted = np.array([0.1] * 5 + [0.9] * 5)
    curve = metrics.reliability(predicted, np.array([0] * 4 + [1] + [1] * 5, bool))
    assert curve.n.tolist() == [1] * 10
    np.testing.assert_allclose(curve.error, (4 * 0.1 + 0.9 + 5 * 0.1) / 10)


@pytest.mark.parametrize("spread", [0.2, 0.5, 1.0])
def test_the_ceiling_is_what_a_perfect_predictor_of_gaussian_errors_reaches(spread):
    rng = np.random.default_rng(0)
    size = rng.lognormal(0, spread, 50_000)
    error = size * np.linalg.norm(rng.normal(size=(50_000, 3)), axis=1)
    assert metrics.rank_ceiling(error) == pytest.approx(
        metrics.rank_correlation(size, error), abs=0.04
    )


def test_no_ceiling_without_variation():
    assert metrics.rank_ceiling(np.zeros(5)) is None
    assert metrics.rank_ceiling(np.ones(5)) is None
    rng = np.random.default_rng(0)
    noise = np.linalg.norm(rng.normal(size=(100_000, 3)), axis=1)
    assert metrics.rank_ceiling(noise) < 0.1  # all of it is chance
