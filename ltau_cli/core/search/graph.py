"""NN-descent: build and search its graph, and find the effort that reaches a recall."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Integers, Singles
from ltau_cli.core.kernels import search as kernels
from ltau_cli.core.search.cells import slack
from ltau_cli.core.search.trials import Trials
from ltau_cli.core.threads import share_rows

GRAPH_NEIGHBORS = 30
# Search efforts to try, least first: leaves of the search tree to start from, and how far beyond
# the k-th distance to follow the graph. From one leaf alone, about 1 % of the rows far from a
# clustered training set end in a wrong part of the graph and miss most of their neighbors.
EFFORTS = (
    (1, 0.1), (1, 0.15), (1, 0.2), (1, 0.25), (1, 0.3), (2, 0.3), (4, 0.2), (4, 0.3), (8, 0.2),
    (8, 0.3), (16, 0.2), (16, 0.3), (32, 0.2), (32, 0.4), (64, 0.5), (128, 0.8),
)  # fmt: skip


GRAPH_ARRAYS = (
    "graph_indptr", "graph_indices", "tree_hyperplanes", "tree_offsets", "tree_children",
    "tree_indices", "vertex_order",
)  # fmt: skip

# A step along the graph, to a point somewhere in memory, takes as long as comparing 10 to 20 in
# their order. So a walk gives up beyond this share of the points, and a few more: it has then taken
# about half the time of an exact search.
SHARE = 32
FREE_STEPS = 1_000


class GraphSearcher:
    """A graph of NN-descent over points (n_points, d), with the arrays of :func:`build_graph`.

    Dong, Moses, Li 2011, doi 10.1145/1963405.1963487. The walk starts from ``leaves`` leaves of
    the search tree and follows the graph as far as ``epsilon`` (a share of it) beyond the last
    squared distance. Far from the training set a graph leads to ever more points before it can
    stop. A row that was compared with too many of them is compared with the others too, which is
    an exact search, counted in ``n_exact``. So no row is compared with more points than there are.
    """

    spare = 1  # to see whether a tie goes on beyond the k-th place

    def __init__(
        self, points: Singles, arrays: Mapping[str, Array], *, leaves: int, epsilon: float
    ) -> None:
        self._vertex = arrays["vertex_order"].astype(np.int64)
        self._points = points[self._vertex]
        self._arrays: Any = [arrays[name] for name in GRAPH_ARRAYS[:-1]]
        self._leaves = leaves
        self._stretch = np.float32(1 + epsilon)
        self._slack = np.float32(slack(points.shape[1]))
        self._limit = min(len(points) // SHARE + FREE_STEPS, len(points))
        self.n_exact = 0

    def candidates(self, rows: Singles, width: int, *, threads: int = 1) -> Integers:
        """Return about the ``width`` nearest points of each row, exactly where it got stuck."""
        order = self._by_leaf(rows, threads)
        rows = rows[order]
        found = np.empty((len(rows), width), dtype=np.int64)
        n_compared = np.empty(len(rows), dtype=np.int64)

        def work(start: int, stop: int) -> None:
            part = slice(start, stop)
            kernels.search_graph(
                rows[part], self._leaves, self._stretch, self._limit, self._slack,
                found[part], n_compared[part], self._points, self._vertex, *self._arrays,
            )  # fmt: skip

        share_rows(work, len(rows), threads)
        self.n_exact += int((n_compared == len(self._points)).sum())
        in_order = np.empty_like(found)
        in_order[order] = found
        return in_order

    def _by_leaf(self, rows: Singles, threads: int) -> Integers:
        """Order rows so that those after one another visit the same points.

        The points are then still in the processor's cache: 1.4 to 1.5 times as fast, and no answer
        depends on the order.
        """
        leaf = np.empty(len(rows), dtype=np.int64)

        def walk(start: int, stop: int) -> None:
            kernels.find_leaves(rows[start:stop], leaf[start:stop], *self._arrays[2:5])

        share_rows(walk, len(rows), threads)
        return np.argsort(leaf, kind="stable")


def build_graph(
    points: Singles, *, seed: int, n_neighbors: int = GRAPH_NEIGHBORS
) -> dict[str, Array]:
    """Build the graph over distinct points (n_points, d), with up to ``n_neighbors`` edges of each.

    On one thread: with more it would depend on their number. Gives ``graph_indptr`` (n_points +
    1,) int64 and ``graph_indices`` (n_edges,) int32, the edges of every vertex; ``vertex_order``
    (n_points,) int32, the point of each; and a tree: ``tree_hyperplanes`` (n_nodes, d),
    ``tree_offsets`` (n_nodes,), ``tree_children`` (n_nodes, 2) int32, ``tree_indices`` (n_points,)
    int32.
    """
    import pynndescent

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba's and the library's own advice
        index = pynndescent.NNDescent(
            points, n_neighbors=min(n_neighbors, len(points) - 1), random_state=seed, n_jobs=1
        )
        index.prepare()
    state = index.__getstate__()
    hyperplanes, offsets, children, leaf_points, _ = state["_search_forest"][0]
    return {
        "graph_indptr": state["_search_graph"].indptr.astype(np.int64),
        "graph_indices": state["_search_graph"].indices.astype(np.int32),
        "tree_hyperplanes": np.ascontiguousarray(hyperplanes),
        "tree_offsets": offsets,
        "tree_children": np.ascontiguousarray(children),
        "tree_indices": leaf_points,
        "vertex_order": state["_vertex_order"],
    }


LOST = 0.002  # share of the trials that may miss half of their neighbors


def choose_effort(
    points: Singles, arrays: Mapping[str, Array], trials: Trials, target: float, *, threads: int = 1
) -> tuple[GraphSearcher, dict[str, Any]]:
    """Raise the effort until the recall in domain reaches the target, in (0, 1].

    Returns the searcher of that effort, or of the highest where none reaches the target; and its
    ``leaves`` and ``epsilon``.
    """
    for leaves, epsilon in EFFORTS:
        searcher = GraphSearcher(points, arrays, leaves=leaves, epsilon=epsilon)
        found = trials.near.measure(searcher, threads=threads)
        if found.recall >= target and found.lost <= LOST:
            break
    return searcher, {"leaves": leaves, "epsilon": epsilon}
