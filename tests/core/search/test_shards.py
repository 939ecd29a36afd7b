"""Search in a training set in shards: the same results as in one piece."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.core.mixture import gather_rows
from ltau_cli.core.search.cells import ExactSearcher
from ltau_cli.core.search.loo import leave_one_out
from ltau_cli.core.search.neighbors import Candidates, Neighbors, merge_candidates
from ltau_cli.core.search.points import Points, find_points
from ltau_cli.core.search.shards import OneShard, Shard, cut_evenly, find_in_shards
from tests import oracles


class InMemory:
    """Samples cut into shards, each pooled by itself."""

    rows = 4

    def __init__(self, samples, count):
        self.count, self.width = count, samples.shape[1]
        self.cuts = cut_evenly(len(samples), count)
        own = [samples[a:b] for a, b in zip(self.cuts[:-1], self.cuts[1:], strict=True)]
        points = [find_points(part, np.ones(len(part), int)) for part in own]
        self.unique = [part[p.first] for part, p in zip(own, points, strict=True)]
        self.first = np.concatenate([[0], np.cumsum([len(part) for part in self.unique])])
        of_sample = [p.of_sample + first for p, first in zip(points, self.first[:-1], strict=True)]
        self.points = Points(
            np.zeros(0, int),
            np.concatenate(of_sample),
            np.concatenate([p.multiplicity for p in points]),
        )

    def load(self, number):
        part = self.unique[number]
        return Shard(int(self.first[number]), part, ExactSearcher(part))

    def descriptors(self, start, stop):
        return np.concatenate(self.unique)[start:stop]


def sample_weights(shards, queries, k, block):
    """Weights of all samples for each query, (n_rows, n_samples)."""
    result = np.zeros((len(queries), len(shards.points.of_sample)))
    for part, found in find_in_shards(
        shards, queries, shards.points.multiplicity, k, block=block, threads=2
    ):
        for i, row in enumerate(range(part.start, part.stop)):
            for p, w in zip(found.point[i], found.weight[i], strict=True):
                if w > 0:
                    result[row, shards.points.of_sample == p] = w / shards.points.multiplicity[p]
    return result


coordinates = st.integers(-2, 2)  # many duplicates and ties, within shards and across them
tables = st.integers(1, 3).flatmap(
    lambda d: st.tuples(
        st.lists(st.tuples(*[coordinates] * d), min_size=3, max_size=25),
        st.lists(st.tuples(*[coordinates] * d), min_size=1, max_size=8),
    )
)


@given(tables, st.integers(1, 3), st.integers(1, 9), st.data())
def test_the_nearest_over_all_shards_are_those_of_exhaustive_search(table, count, block, data):
    samples, queries = (np.array(rows, np.float32) for rows in table)
    k = data.draw(st.integers(1, len(samples)))
    got = sample_weights(InMemory(samples, count), queries, k, block)
    np.testing.assert_allclose(got, oracles.neighbor_weights(queries, samples, k), atol=1e-12)


entries = st.tuples(st.integers(0, 5).map(float), st.integers(0, 3))


@given(st.lists(entries, max_size=7), st.lists(entries, min_size=1, max_size=7), st.integers(1, 9))
def test_merging_is_that_of_sorted_lists(one, other, k):
    numbers = iter(np.random.default_rng(k).permutation(20).tolist())
    lists = [sorted((d, next(numbers), m) for d, m in part) for part in (one, other)]

    def as_candidates(part):
        padded = part + [(np.inf, -1, 0)] * 2
        distance, point, offered = zip(*padded, strict=True)
        return Candidates(np.array([point]), np.array([offered]), np.array([distance]))

    got = merge_candidates(*map(as_candidates, lists), k)
    found = zip(got.distance[0], got.point[0], got.offered[0], strict=True)
    wanted = oracles.merged_candidates(lists, k)
    assert [entry for entry in found if entry[1] >= 0] == wanted


@given(tables, st.integers(2, 3), st.booleans(), st.integers(1, 9), st.data())
def test_leave_one_out_over_shards_is_that_of_one_piece(table, count, by_structure, block, data):
    samples = np.array(table[0] + table[1], np.float32)
    n = len(samples)
    group = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    left = n - np.bincount(group).max() if by_structure else n - 1
    if left == 0:
        return
    k = data.draw(st.integers(1, int(left)))
    errors = np.random.default_rng(n).random(n)
    groups = group if by_structure else None
    shards, one = InMemory(samples, count), InMemory(samples, 1)
    got = leave_one_out(shards, shards.points, errors, groups, k, block=block)
    whole = OneShard(one.unique[0], ExactSearcher(one.unique[0]))
    wanted = leave_one_out(whole, one.points, errors, groups, k)
    np.testing.assert_allclose(got.distance, wanted.distance, rtol=1e-6)
    np.testing.assert_allclose(got.expected_error, wanted.expected_error, rtol=1e-6)


def test_gathered_rows_are_those_of_the_neighbors():
    found = Neighbors(
        np.array([[7, 3, 9], [3, 5, -1]]), np.array([[2.0, 1, 0], [1, 2, 0]]), np.zeros((2, 3))
    )
    near, points, rows = gather_rows(found, lambda numbers: numbers * 10)
    assert points.tolist() == [3, 5, 7]  # 9 carries no weight
    assert rows[near.point[0, :2]].tolist() == [70, 30]
    assert rows[near.point[1, :2]].tolist() == [30, 50]
