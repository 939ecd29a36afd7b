"""The walk along a graph, on small graphs made by hand; no row is compared twice."""

import itertools

import numpy as np
import pytest

from ltau_cli.core.kernels import search as kernels
from ltau_cli.core.search import graph
from tests import oracles
from tests.core.search.test_cells import nearest


def test_leaves_are_those_of_a_walk_by_hand():
    hyperplanes = np.array([[1, 0], [0, 1], [0, 0], [0, 0], [0, 0]], np.float32)
    offsets = np.array([-1, 2, 0, 0, 0], np.float32)
    children = np.array([[1, 2], [3, 4], [0, -3], [-3, -6], [-6, -9]], np.int32)
    queries = np.array([[2, 0], [2, -3], [0, 5], [1, 0]], np.float32)
    leaf = np.empty(4, np.int64)
    kernels.find_leaves(queries, leaf, hyperplanes, offsets, children)
    assert leaf.tolist() == [3, 4, 2, 2]
    children[3] = [1, 0]  # damaged: round in circles
    kernels.find_leaves(queries, leaf, hyperplanes, offsets, children)
    children[3] = [99, 99]  # damaged: out of the tree
    kernels.find_leaves(queries, leaf, hyperplanes, offsets, children)
    assert leaf.tolist() == [3, 4, 2, 2]


def make_graph(n, n_edges, rng):
    """Points, a random graph of them and a tree of two splits."""
    points = rng.normal(size=(n, 3)).astype(np.float32)
    edges = [rng.choice(n, n_edges, replace=False).tolist() for _ in range(n)]
    hyperplanes = rng.normal(size=(2, 3)).astype(np.float32)
    offsets = rng.normal(size=2).astype(np.float32)
    cuts, leaf_rows = sorted(rng.integers(1, n, 2)), rng.permutation(n)
    parts = [part.tolist() for part in np.split(leaf_rows, cuts)]
    tree = [(hyperplanes[0], offsets[0], 1, 2), (hyperplanes[1], offsets[1], 3, 4), *parts]
    starts = [0, *cuts, n]
    children = [[1, 2], [3, 4], *([-a, -b] for a, b in itertools.pairwise(starts))]
    arrays = {
        "graph_indptr": np.arange(n + 1) * n_edges,
        "graph_indices": np.array(edges, np.int32).ravel(),
        "tree_hyperplanes": np.concatenate([hyperplanes, np.zeros((3, 3), np.float32)]),
        "tree_offsets": np.concatenate([offsets, np.zeros(3, np.float32)]),
        "tree_children": np.array(children, np.int32),
        "tree_indices": leaf_rows.astype(np.int32),
        "vertex_order": np.arange(n, dtype=np.int32),
    }
    return points, edges, tree, arrays


def walk(points, arrays, queries, *, width, n_leaves=1, epsilon=0.1, limit):
    """What the kernel finds, and how many rows it says it compared."""
    found = np.empty((len(queries), width), np.int64)
    n_compared = np.empty(len(queries), np.int64)
    vertex = arrays["vertex_order"]
    kernels.search_graph(
        queries, n_leaves, np.float32(1 + epsilon), limit, np.float32(1e-5), found, n_compared,
        points[vertex], vertex, *(arrays[name] for name in graph.GRAPH_ARRAYS[:-1]),
    )  # fmt: skip
    return found, n_compared


@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_the_search_is_the_slow_walk_or_exact(epsilon):
    rng = np.random.default_rng(1)
    gave_up = []
    for n_leaves, limit, _ in itertools.product((1, 2, 3), (30, 60), range(10)):
        points, edges, tree, arrays = make_graph(60, 3, rng)
        queries = rng.normal(size=(11, 3)).astype(np.float32) * 2
        found, n_compared = walk(points, arrays, queries, width=4, n_leaves=n_leaves,
                                 epsilon=epsilon, limit=limit)  # fmt: skip
        exact = nearest(points, queries, 4)
        for query, rows, n, true in zip(queries, found, n_compared, exact, strict=True):
            wanted = oracles.walk_graph(query, points, edges, tree, width=4, n_leaves=n_leaves,
                                        stretch=1 + epsilon, limit=limit)  # fmt: skip
            if wanted is None or wanted[1] == 60:
                wanted = true.tolist(), 60
            assert (rows.tolist(), n) == wanted
            gave_up.append(n == 60)
    assert 0.1 < np.mean(gave_up) < 0.9


def far(rng, points):
    return 30 * rng.normal(size=(6, 3))


def duplicates(rng, points):
    points[:] = points[rng.integers(5, size=len(points))]
    return points[:6] + 0.1 * np.arange(1, 7)[:, None]


def crystal(rng, points):
    """Few environments, told apart by rounding noise."""
    points[:] = points[rng.integers(3, size=len(points))]
    points += rng.normal(scale=1e-7, size=points.shape)
    return np.concatenate([points[:3], 10 * rng.normal(size=(3, 3))])


def not_connected(rng, points):
    return 3 * rng.normal(size=(6, 3))


@pytest.mark.parametrize("make", [far, duplicates, crystal, not_connected])
@pytest.mark.parametrize("limit", [10, 40, 300])
def test_no_row_is_compared_with_more_points_than_there_are(monkeypatch, make, limit):
    """Counted call by call, in the kernels run as plain Python: no point is ever compared twice."""
    rng = np.random.default_rng(limit)
    points, _, _, arrays = make_graph(300, 6, rng)
    queries = make(rng, points).astype(np.float32)
    if make is not_connected:  # each row to itself; and from one leaf too few are found
        arrays["graph_indices"] = np.repeat(np.arange(300, dtype=np.int32), 6)
    arrays["vertex_order"] = rng.permutation(300).astype(np.int32)
    width = 12 if make is not not_connected else 290
    wanted = walk(points, arrays, queries, width=width, limit=limit)
    counted, compare = [], kernels._compare_point

    def count(query, rows, i):
        counted.append((query.tobytes(), int(i)))
        return compare(query, rows, i)

    monkeypatch.setattr(kernels, "_compare_point", count)
    for name in ("_compare_points", "_walk_graph", "search_graph"):
        monkeypatch.setattr(kernels, name, getattr(kernels, name).py_func)
    found, n_compared = walk(points, arrays, queries, width=width, limit=limit)
    assert len(counted) == len(set(counted)) == n_compared.sum()
    assert n_compared.max() <= 300
    assert (n_compared == 300).any() or limit == 300
    np.testing.assert_array_equal(found, wanted[0])
    np.testing.assert_array_equal(n_compared, wanted[1])
    exact = n_compared == 300
    np.testing.assert_array_equal(found[exact], nearest(points, queries[exact], width))


def test_a_row_of_results_does_not_depend_on_those_beside_it():
    rng = np.random.default_rng(5)
    points, _, _, arrays = make_graph(2_000, 6, rng)
    queries = (3 * rng.normal(size=(50, 3))).astype(np.float32)
    found, n_compared = walk(points, arrays, queries, width=20, limit=1_200)
    assert 0 < (n_compared == 2_000).sum() < 50
    for start in range(0, 50, 7):
        part = walk(points, arrays, queries[start : start + 7], width=20, limit=1_200)
        np.testing.assert_array_equal(part[0], found[start : start + 7])
        np.testing.assert_array_equal(part[1], n_compared[start : start + 7])
