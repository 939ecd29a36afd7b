"""Nearest samples, duplicates and ties, against exhaustive search over all samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.core import points as points_module
from ltau_cli.core.neighbors import ExactSearcher, find_neighbors
from ltau_cli.core.points import find_points
from ltau_cli.core.scoring import loo_distances
from tests import oracles


def as_sample_weights(neighbors, points):
    """Spread the weights of points over their samples, (n_queries, n_samples)."""
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
    np.testing.assert_allclose(found.weight.sum(axis=1), k)


@given(tables, st.data())
def test_leave_one_out_is_that_of_exhaustive_search(table, data):
    samples = np.array(table[0] + table[1], np.float32)
    k = data.draw(st.integers(1, len(samples) - 1))
    points = find_points(samples, np.ones(len(samples), int))
    unique = samples[points.first]
    got = loo_distances(ExactSearcher(unique), unique, points.multiplicity, k, threads=1, block=3)
    weights = oracles.neighbor_weights(samples, samples, k, left_out=np.arange(len(samples)))
    distance = np.linalg.norm(samples[:, None].astype(float) - samples[None], axis=2)
    np.testing.assert_allclose(
        got[points.of_sample], (weights * distance).sum(axis=1) / k, rtol=1e-6, atol=1e-6
    )


def test_duplicates_at_the_last_place_share_it():
    samples = np.repeat(np.array([[0, 1], [0, -1], [3, 0]], np.float32), [5, 11, 2], axis=0)
    found, points, _ = search(samples, np.zeros((1, 2), np.float32), 4)
    assert points.multiplicity.tolist() == [5, 11, 2]
    np.testing.assert_allclose(as_sample_weights(found, points), [[4 / 16] * 16 + [0, 0]])


def test_forty_equidistant_points_share_three_places():
    samples = np.concatenate([np.eye(20), -np.eye(20)]).astype(np.float32)
    found, points, _ = search(samples, np.zeros((2, 20), np.float32), 3)
    np.testing.assert_allclose(as_sample_weights(found, points), np.full((2, 40), 3 / 40))


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_do_not_depend_on_their_block(train, threads):
    queries = train[:500] + np.float32(0.01)
    whole, _, _ = search(train, queries, 10, threads=threads)
    parts = [search(train, queries[i : i + 77], 10)[0] for i in range(0, 500, 77)]
    for name in ("point", "weight", "distance"):
        np.testing.assert_array_equal(
            getattr(whole, name), np.concatenate([getattr(part, name) for part in parts])
        )


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
