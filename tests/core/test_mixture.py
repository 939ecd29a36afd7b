"""The mixed CDF, against a slow version and by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.core.histogram import summarize_samples
from ltau_cli.core.mixture import average_cdfs, average_values
from ltau_cli.core.search.neighbors import Neighbors
from tests import oracles


def mix(weights, log, edges, levels, thresholds, **options):
    """Mix with every sample as its own point; zero weights are padding."""
    statistics = summarize_samples(log, edges, edges[:1])
    n = weights.shape[1]
    neighbors = Neighbors(
        np.broadcast_to(np.arange(n), weights.shape).copy(), weights, np.zeros(weights.shape)
    )
    result = average_cdfs(
        neighbors, statistics.counts, statistics.max_error, edges,
        levels=np.array(levels), thresholds=np.array(thresholds), with_cdf=True, **options,
    )  # fmt: skip
    return result, statistics, neighbors


def test_by_hand():
    # Two samples: errors 1, 1, 3, 3 and 2, 2, 2, 8 on edges 1, 2, 4.
    log = np.array([[1, 2], [1, 2], [3, 2], [3, 8]], np.float32)
    got, statistics, neighbors = mix(
        np.array([[1.0, 1.0]]), log, np.array([1.0, 2.0, 4.0]), [0.25, 0.5, 0.875, 0.95], [2.0, 3.0]
    )
    np.testing.assert_allclose(got.cdf, [[0.25, 0.625, 0.875]])
    # 0.25 is reached at 1; 0.5 two thirds into (1, 2]; 0.875 at 4; 0.95 at 0.6 of (4, 8].
    np.testing.assert_allclose(got.quantiles, [[1.0, 1 + 0.25 / 0.375, 4.0, 4 + 4 * 0.6]])
    np.testing.assert_allclose(got.above, [[0.375, 0.25]])
    mean = average_values(neighbors, statistics.mean_error[:, None].astype(np.float32))
    np.testing.assert_allclose(mean, [[(2 + 3.5) / 2]])


def test_zero_errors_are_legal_and_certain():
    got, _, _ = mix(
        np.ones((1, 2)), np.zeros((5, 2), np.float32), np.array([0.1, 1]), [0.9], [0.05]
    )
    assert got.quantiles.tolist() == [[0.0]]
    assert got.above.tolist() == [[0.0]]
    assert got.cdf.tolist() == [[1.0, 1.0]]


def test_errors_off_the_grid_never_look_certain():
    log = np.full((4, 1), 50.0, np.float32)
    got, _, _ = mix(np.ones((1, 1)), log, np.array([0.1, 1.0]), [0.5, 1 - 1e-9], [1.0, 20.0])
    assert got.above[0, 0] == 1.0
    assert got.quantiles[0, 1] > 49.9
    assert (got.cdf == 0).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 3))
def test_kernel_agrees_with_the_oracle(seed, n_samples, threads):
    rng = np.random.default_rng(seed)
    log = np.round(rng.lognormal(size=(rng.integers(1, 9), n_samples)), 2).astype(np.float32)
    log[rng.random(log.shape) < 0.1] = 0
    edges = np.unique(np.round(rng.random(rng.integers(1, 7)) * 3, 1))
    weights = rng.integers(0, 3, (3, n_samples)) + np.eye(3, n_samples)
    weights[:, 0] += 1
    levels, thresholds = [0.1, 0.5, 0.9], [0.0, 0.5, float(edges[0]), 2.0]
    got, statistics, _ = mix(weights, log, edges, levels, thresholds, threads=threads)
    quantiles, above, cdf = oracles.mixture(
        weights, statistics.counts, statistics.max_error.astype(float), edges, levels, thresholds
    )
    np.testing.assert_allclose(got.quantiles, quantiles, atol=1e-9)
    np.testing.assert_allclose(got.above, above, atol=1e-9)
    np.testing.assert_allclose(got.cdf, cdf, atol=1e-9)
    assert (np.diff(got.cdf, axis=1) >= 0).all()
    assert ((got.cdf >= 0) & (got.cdf <= 1)).all()
    assert (np.diff(got.quantiles, axis=1) >= 0).all()
    assert (got.quantiles <= log.max() + 1e-6).all()
