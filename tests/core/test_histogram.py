"""Counts, exact statistics and grids; totals of structures; what stays hard, and burn-in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ltau_cli.core.dynamics import count_burn_in, stay_hard, summarize_dynamics
from ltau_cli.core.histogram import default_range, last_errors, make_edges, summarize_samples
from ltau_cli.core.structures import StructureTotals
from ltau_cli.errors import UsageError
from tests import oracles

NAN = float("nan")
HUGE = float(np.float32(3e38))
errors_in = st.one_of(
    st.floats(0, 1e3, width=32), st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, 2.0, NAN, HUGE])
)
blocks = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=errors_in
)
grids = st.builds(
    lambda values: np.unique(np.array(values)),
    st.lists(st.floats(0, 2e3) | st.sampled_from([0.25, 0.5, 1.0]), min_size=1, max_size=8),
)
float32s = st.floats(0, 1e3, width=32)


def test_hand_computed_table():
    # bins: <= 1 | (1, 2] | (2, 4] | > 4
    log = np.array([[1.0, 0.0, 5.0], [1.5, NAN, 5.0], [2.0, 0.0, 4.0], [9.0, NAN, 4.5]], np.float32)
    got = summarize_samples(log, np.array([1.0, 2.0, 4.0]), np.array([2.0, 4.0]))
    assert got.counts.tolist() == [[1, 2, 0, 1], [2, 0, 0, 0], [0, 0, 1, 3]]
    assert got.n_logged.tolist() == [4, 2, 4]
    assert got.mean_error.tolist() == [3.375, 0.0, 4.625]
    assert got.max_error.tolist() == [9.0, 0.0, 5.0]
    assert got.uncertainty.tolist() == [[0.25, 0.25], [0.0, 0.0], [1.0, 0.75]]


@given(blocks, grids, st.lists(st.floats(0, 10), min_size=1, max_size=3), st.integers(1, 3))
def test_kernel_agrees_with_the_oracle(log, edges, thresholds, threads):
    edges = np.union1d(edges, thresholds)
    got = summarize_samples(log, edges, np.array(thresholds), threads=threads)
    counts, logged, mean, largest, above = oracles.statistics(log, edges, thresholds)
    np.testing.assert_array_equal(got.counts, counts)
    np.testing.assert_array_equal(got.n_logged, logged)
    np.testing.assert_allclose(got.mean_error, mean, rtol=1e-12)
    np.testing.assert_array_equal(got.max_error, largest.astype(np.float32))
    np.testing.assert_array_equal(got.uncertainty, above)


@given(blocks, grids)
def test_every_logged_error_is_counted_once(log, edges):
    got = summarize_samples(log, edges, edges[:1])
    np.testing.assert_array_equal(got.counts.sum(axis=1), np.count_nonzero(~np.isnan(log), axis=0))


def test_threads_and_layout_change_nothing():
    rng = np.random.default_rng(0)
    log = rng.lognormal(size=(40, 700)).astype(np.float32)
    edges = np.geomspace(0.01, 10, 50)
    limits = edges[[10, 30]]
    one = summarize_samples(log, edges, limits)
    for other in (
        summarize_samples(log, edges, limits, threads=4),
        summarize_samples(np.asfortranarray(log), edges, limits),
    ):
        np.testing.assert_array_equal(one.counts, other.counts)
        np.testing.assert_array_equal(one.mean_error, other.mean_error)
        np.testing.assert_array_equal(one.uncertainty, other.uncertainty)
    np.testing.assert_allclose(one.uncertainty[:, 1], (log > limits[1]).mean(axis=0), rtol=1e-12)


def test_threshold_is_an_edge_and_the_cdf_exact_there():
    log = np.random.default_rng(1).random((50, 20)).astype(np.float32)
    edges = make_edges(bins=7, low=0.01, high=1, grid="log", thresholds=[0.3, 0.7])
    assert {0.3, 0.7} <= set(edges)
    assert (edges[0], edges[-1]) == (0.01, 1.0)
    got = summarize_samples(log, edges, np.array([0.3]))
    b = int(np.flatnonzero(edges == 0.3)[0])
    share_above = 1 - got.counts[:, : b + 1].sum(axis=1) / 50
    np.testing.assert_allclose(share_above, got.uncertainty[:, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("low", "high", "grid"), [(1, 1, "log"), (2, 1, "linear"), (0, 1, "log"), (-1, 1, "linear")]
)
def test_impossible_ranges_are_refused(low, high, grid):
    with pytest.raises(UsageError):
        make_edges(bins=3, low=low, high=high, grid=grid)


@given(float32s, float32s, st.floats(0, 1e3), st.sampled_from(["log", "linear"]))
def test_default_range_always_makes_a_grid(smallest, largest, threshold, grid):
    low, high = default_range(
        smallest=smallest or 1e-6, largest=largest, threshold=threshold, grid=grid
    )
    edges = make_edges(bins=10, low=low, high=high, grid=grid)
    assert (np.diff(edges) > 0).all()
    assert edges[-1] >= largest


def test_a_logged_threshold_does_not_exceed_itself():
    log = np.array([[0.1], [0.1], [0.3]], np.float32)  # float32(0.1) > 0.1 in double precision
    got = summarize_samples(log, np.array([0.1, 0.3]), np.array([0.1, 0.3]))
    assert got.uncertainty.tolist() == [[1 / 3, 0.0]]
    assert got.counts.tolist() == [[2, 1, 0]]


def test_last_errors_by_hand():
    """Run 0 has epochs 0, 2 and 4, run 1 epochs 1 and 3; a missing value is the one before."""
    log = np.array([[1, 1], [2, NAN], [3, 7], [4, 6], [5, NAN]], np.float32)
    log = np.pad(log, ((0, 0), (0, 1)), constant_values=NAN)
    runs = [np.array([0, 2, 4]), np.array([1, 3])]
    np.testing.assert_array_equal(last_errors(log, runs), [4.5, 6.5, 0])


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


def test_planted_label_noise_stays_hard(log):
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(log.shape[1], 40, replace=False))
    directions = rng.normal(size=(len(log), 40, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    errors = directions * log[:, chosen, None]
    errors[:, :, 0] += 0.3  # a wrong label: the same shift at each epoch
    noisy = log.copy()
    noisy[:, chosen] = np.linalg.norm(errors, axis=2)
    noisy[:, 0] = np.nan
    found = np.flatnonzero(stay_hard(summarize_dynamics(noisy, float(log[-1].mean()))))
    assert np.isin(chosen, found).all()
    assert len(found) < 100


def test_burn_in_of_odd_logs():
    assert count_burn_in(np.array([8.0, 4.0, 2.0, 2.1, 1.0])) == 4
    assert count_burn_in(np.array([8.0, np.nan, 1.5, np.nan, 1.0, np.nan])) == 1
    assert count_burn_in(np.array([1.0, 1.0])) == 0
    assert count_burn_in(np.array([np.nan])) == 0
