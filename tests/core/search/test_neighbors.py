"""Nearest samples, duplicates and ties, against exhaustive search over all samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.core.search import points as points_module
from ltau_cli.core.search.cells import ExactSearcher
from ltau_cli.core.search.loo import leave_one_out
from ltau_cli.core.search.neighbors import Neighbors, find_neighbors
from ltau_cli.core.search.points import find_points
from ltau_cli.core.search.scaling import SHRINKAGE, fit_scaling
from ltau_cli.core.search.shards import OneShard
from ltau_cli.errors import ComputeError
from tests import oracles


def as_sample_weights(neighbors, points):
    """Spread the weights of points over their samples, (n_rows, n_samples)."""
    result = np.zeros((len(neighbors.point), len(points.of_sample)))
    for i, (found, weight) in enumerate(zip(neighbors.point, neighbors.weight, strict=True)):
        for p, w in zip(found, weight, strict=True):
            if w > 0:
                result[i, points.of_sample == p] = w / points.multiplicity[p]
    return result


def search(samples, queries, k, **options):
    points = find_points(samples, np.ones(len(samples), int))
    unique = samples[points.first]
    found = find_neighbors(
        ExactSearcher(unique), queries, unique, points.multiplicity, k, **options
    )
    return found, points, unique


# Small integers make many duplicates and ties.

coordinates = st.integers(-3, 3)
tables = st.integers(1, 3).flatmap(
    lambda d: st.tuples(
        st.lists(st.tuples(*[coordinates] * d), min_size=1, max_size=25),
        st.lists(st.tuples(*[coordinates] * d), min_size=1, max_size=8),
    )
)


@given(tables, st.data())
def test_neighbors_are_those_of_exhaustive_search(table, data):
    samples, queries = (np.array(rows, np.float32) for rows in table)
    k = data.draw(st.integers(1, len(samples)))
    found, points, _ = search(samples, queries, k)
    np.testing.assert_allclose(
        as_sample_weights(found, points), oracles.neighbor_weights(queries, samples, k), atol=1e-12
    )
    if len(points.first) == len(samples):
        assert (found.weight.sum(axis=1) >= k / 2).all()


@given(tables, st.data(), st.booleans())
def test_leave_one_out_is_that_of_exhaustive_search(table, data, by_structure):
    samples = np.array(table[0] + table[1], np.float32)
    n = len(samples)
    group = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    group = group if by_structure else np.arange(n)
    errors = np.random.default_rng(n).random(n)
    left = n - np.bincount(group).max()
    k = data.draw(st.integers(1, max(left, 1)))
    points = find_points(samples, np.ones(n, int))
    unique = samples[points.first]

    def run():
        return leave_one_out(
            OneShard(unique, ExactSearcher(unique)), points, errors,
            group if by_structure else None, k, block=3,
        )  # fmt: skip

    if k > left:
        with pytest.raises(ComputeError, match="samples are left"):
            run()
        return
    got = run()
    weights = oracles.neighbor_weights(samples, samples, k, left_out=group[:, None] == group)
    distance = np.linalg.norm(samples[:, None].astype(float) - samples[None], axis=2)
    used = weights.sum(axis=1)
    np.testing.assert_allclose(got.distance, (weights * distance).sum(axis=1) / used, 1e-6, 1e-6)
    np.testing.assert_allclose(got.expected_error, weights @ errors / used, rtol=1e-5)


def test_duplicates_at_the_last_place_share_it():
    samples = np.repeat(np.array([[0, 1], [0, -1], [3, 0]], np.float32), [5, 11, 2], axis=0)
    found, points, _ = search(samples, np.zeros((1, 2), np.float32), 4)
    assert points.multiplicity.tolist() == [5, 11, 2]
    np.testing.assert_allclose(as_sample_weights(found, points), [[2 / 16] * 16 + [1, 1]])


def test_no_point_fills_more_than_half_of_the_places():
    samples = np.repeat(np.arange(8, dtype=np.float32)[:, None], [64, *[1] * 7], axis=0)
    found, points, _ = search(samples, np.zeros((1, 1), np.float32), 6)
    wanted = [[3 / 64] * 64 + [1] * 3 + [0] * 4]
    np.testing.assert_allclose(as_sample_weights(found, points), wanted)


def test_forty_equidistant_points_share_two_of_three_places():
    samples = np.concatenate([np.eye(20), -np.eye(20)]).astype(np.float32)
    found, points, _ = search(samples, np.zeros((2, 20), np.float32), 3)
    np.testing.assert_allclose(as_sample_weights(found, points), np.full((2, 40), 2 / 40))


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_do_not_depend_on_their_block(train, threads):
    queries = train[:500] + np.float32(0.01)
    whole, _, _ = search(train, queries, 10, threads=threads)
    parts = [search(train, queries[i : i + 77], 10)[0] for i in range(0, 500, 77)]
    for name in ("point", "weight", "distance"):
        wanted = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(getattr(whole, name), wanted)


def test_constant_descriptors_are_one_point():
    found, points, unique = search(np.ones((50, 4), np.float32), np.zeros((3, 4), np.float32), 50)
    assert len(unique) == 1
    assert points.multiplicity.tolist() == [50]
    np.testing.assert_allclose(found.mean_distance(), 2.0)


@given(st.lists(st.tuples(coordinates, coordinates, st.integers(1, 2)), min_size=1, max_size=30))
def test_points_group_equal_rows_in_order_of_appearance(rows):
    table = np.array(rows)
    samples = table[:, :2].astype(np.float32)
    samples[samples == 0] *= -1  # -0.0 is 0.0
    points = find_points(samples, table[:, 2])
    keys = [tuple(row) for row in rows]
    firsts = sorted({key: keys.index(key) for key in keys}.values())
    assert points.first.tolist() == firsts
    assert [keys[points.first[p]] for p in points.of_sample] == keys
    assert points.multiplicity.tolist() == [keys.count(keys[i]) for i in firsts]


def test_equal_hashes_of_different_rows_are_told_apart(monkeypatch):
    monkeypatch.setattr(points_module, "_hash_rows", lambda words: np.zeros(len(words), np.uint64))
    samples = np.array([[1, 2], [2, 1], [1, 2], [0, 3]], np.float32)
    points = find_points(samples, np.ones(4, int))
    assert points.of_sample.tolist() == [0, 1, 0, 2]


def test_merging_within_a_tolerance_pools_near_duplicates():
    rng = np.random.default_rng(0)
    centers = rng.integers(-9, 9, (40, 3)) + 0.5
    which = rng.integers(0, 40, 2000)
    samples = (centers[which] + rng.uniform(-0.2, 0.2, (2000, 3))).astype(np.float32)
    points = find_points(samples, np.ones(2000, int), merge_within=1.0)
    assert len(points.first) == len(np.unique(centers[which], axis=0))
    assert points.multiplicity.sum() == 2000


@pytest.mark.parametrize("scale", ["none", "standard", "whiten"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_scaled_descriptors_are_those_of_the_definition(train, scale, metric):
    x = train.astype(np.float64)
    scaling = fit_scaling(lambda: np.array_split(train, 3), 16, scale=scale, metric=metric)
    got = scaling.apply(train[:300], threads=2)
    if scale == "standard":
        x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    elif scale == "whiten":
        mapped = scaling.apply(train) if metric == "euclidean" else None
        if mapped is not None:
            variance = np.linalg.eigvalsh(np.cov(x.T, bias=True))
            shrunk = (variance / (variance + SHRINKAGE * variance.mean()))[-mapped.shape[1] :]
            np.testing.assert_allclose(np.cov(mapped.T, bias=True), np.diag(shrunk), atol=1e-4)
        x = (x - x.mean(0)) @ scaling.transform
    if metric == "cosine":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(got, x[:300], rtol=1e-3, atol=1e-4)
    parts = np.concatenate([scaling.apply(part) for part in np.array_split(train[:300], 7)])
    np.testing.assert_array_equal(got, parts)


def test_whitening_leaves_out_directions_without_variance():
    x = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    x = np.concatenate([x, x[:, :1] + x[:, 1:2], np.ones((100, 1), np.float32)], axis=1)
    whitened = fit_scaling(lambda: [x], 5, scale="whiten", metric="euclidean")
    assert whitened.apply(x).shape == (100, 3)
    constant = np.ones((5, 2), np.float32)
    for scale in ("standard", "whiten"):
        scaling = fit_scaling(lambda: [constant], 2, scale=scale, metric="euclidean")
        np.testing.assert_array_equal(scaling.apply(constant), 0)


def test_weights_by_inverse_distance_by_hand():
    found = Neighbors(
        np.array([[4, 2, 7, -1]]), np.array([[1.0, 2.0, 1.0, 0.0]]),
        np.array([[1.0, 2.0, 4.0, np.inf]]),
    )  # fmt: skip
    assert found.weigh("uniform") is found
    got = found.weigh("inverse-distance").weight
    np.testing.assert_allclose(got, 4 * np.array([[1, 1, 0.25, 0]]) / 2.25)


def test_a_neighbor_at_distance_zero_takes_all_the_weight():
    found = Neighbors(np.array([[0, 1]]), np.ones((1, 2)), np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(found.weigh("inverse-distance").weight, [[2, 0]], atol=1e-30)
