"""Nearest training points: exact search for small sets, NN-descent for large ones.

Both kinds only propose candidate points. Distances, order and the sharing of the k places are
then computed exactly for the candidates, so results do not depend on block size or threads.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from ltau_cli.core import kernels
from ltau_cli.core.threads import share_rows

Kind = Literal["exact", "nndescent"]
Weighting = Literal["uniform", "inverse-distance"]

# Exact search is quadratic; NN-descent compiles for about 30 s in the process that builds it. On
# two cores scikit-learn's brute force takes 4 s for the leave-one-out pass over 50,000 x 32 and
# 13 s over 50,000 x 128, so n^2 d up to this is done before NN-descent has begun.
EXACT_WORK = 6e11
GRAPH_NEIGHBORS = 30
# Search efforts to try, least first: leaves of the search tree to start from, and how far beyond
# the k-th distance to follow the graph. From one leaf alone, about 1 % of the queries far from a
# clustered training set end in a wrong part of the graph and miss most of their neighbors.
EFFORTS = (
    (1, 0.1), (1, 0.15), (1, 0.2), (1, 0.25), (1, 0.3), (2, 0.3), (4, 0.2), (4, 0.3), (8, 0.2),
    (8, 0.3), (16, 0.2), (16, 0.3), (32, 0.2), (32, 0.4), (64, 0.5), (128, 0.8),
)  # fmt: skip

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class Searcher(Protocol):
    """Proposes candidate points for queries; ``spare`` of them beyond k are asked for."""

    spare: int

    def candidates(self, queries: Floats, width: int) -> Integers:
        """Return (n, width) point numbers, all different within a row."""


class ExactSearcher:
    """Brute force by scikit-learn, chunked."""

    spare = 6  # so that rounding inside the search cannot change which k are nearest

    def __init__(self, points: Floats) -> None:
        from sklearn.neighbors import NearestNeighbors

        self._points = points
        self._search = NearestNeighbors(algorithm="brute", metric="euclidean").fit(points)

    def candidates(self, queries: Floats, width: int) -> Integers:
        """Return the ``width`` nearest points of each query."""
        found = self._search.kneighbors(queries, n_neighbors=width, return_distance=False)
        return np.ascontiguousarray(found, dtype=np.int64)


class GraphSearcher:
    """A prepared NN-descent index (Dong, Moses, Li 2011, doi 10.1145/1963405.1963487).

    Parameters
    ----------
    points : (n_points, d) float32
    index : pynndescent.NNDescent
    epsilon : float
        How far beyond the k-th distance to follow the graph.
    tree : mapping
        ``tree_hyperplanes``, ``tree_offsets`` and ``tree_children`` of :func:`graph_to_arrays`.
    """

    spare = 1  # to see whether a tie goes on beyond the k-th place

    def __init__(
        self, points: Floats, index: Any, epsilon: float, tree: Mapping[str, npt.NDArray[Any]]
    ) -> None:
        self._points = points
        self._index = index
        self._epsilon = epsilon
        self._tree = tree
        self._exact: ExactSearcher | None = None

    def candidates(self, queries: Floats, width: int) -> Integers:
        """Return about the ``width`` nearest points of each query, exactly where it got stuck."""
        order = self._by_leaf(queries)
        found = np.empty((len(queries), width), dtype=np.int64)
        distance = np.empty((len(queries), width), dtype=np.float32)
        found[order], distance[order] = self._index.query(
            queries[order], k=width, epsilon=self._epsilon
        )
        stuck = np.flatnonzero(np.isinf(distance).any(axis=1))
        if len(stuck):
            self._exact = self._exact or ExactSearcher(self._points)
            found[stuck] = self._exact.candidates(queries[stuck], width)
        return found

    def _by_leaf(self, queries: Floats) -> Integers:
        """Order queries so that those after one another visit the same points.

        The points are then still in the processor's cache: 1.4 to 1.5 times as fast, and no answer
        depends on the order.
        """
        import numba

        leaf = np.empty(len(queries), dtype=np.int64)
        names = ("tree_hyperplanes", "tree_offsets", "tree_children")
        hyperplanes, offsets, children = (self._tree[name] for name in names)

        def walk(start: int, stop: int) -> None:
            rows = slice(start, stop)
            kernels.find_leaves(queries[rows], hyperplanes, offsets, children, leaf[rows])

        share_rows(walk, len(queries), numba.get_num_threads())
        return np.argsort(leaf, kind="stable")


def exact_is_sooner(n_points: int, width: int) -> bool:
    """Whether exact search over all pairs would be done before NN-descent has compiled."""
    return float(n_points) ** 2 * max(width, 32) <= EXACT_WORK


def build_graph(points: Floats, *, seed: int, n_neighbors: int = GRAPH_NEIGHBORS) -> Any:
    """Build and prepare an NN-descent index over distinct points, (n_points, d) float32."""
    import pynndescent

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba's and the library's own advice
        index = pynndescent.NNDescent(
            points,
            n_neighbors=min(n_neighbors, len(points) - 1),
            random_state=seed,
            parallel_batch_queries=True,
        )
        index.prepare()
    return index


_PLAIN_STATE = (
    "dim", "n_neighbors", "n_trees", "n_iters", "tree_init", "low_memory", "delta",
    "max_rptree_depth", "prune_degree_multiplier",
    "diversify_prob",
)  # fmt: skip
GRAPH_ARRAYS = (
    "graph_indptr", "graph_indices", "tree_hyperplanes", "tree_offsets", "tree_children",
    "tree_indices", "vertex_order",
)  # fmt: skip
_FIXED_STATE: dict[str, Any] = {
    "metric": "euclidean",
    "metric_kwds": None,
    "_dist_args": (),
    "n_jobs": None,
    "compressed": False,
    "parallel_batch_queries": True,
    "quantization": None,
    "verbose": False,
    "bit_metric": False,
    "angular_trees": False,
    "_angular_trees": False,
    "_bit_trees": False,
    "_is_sparse": False,
    "_normalized_data": False,
    "_is_proxy_distance": False,
    "_distance_correction": None,
    "_compile_search": False,
    "_input_dtype": np.float32,
}


def graph_to_arrays(index: Any) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Flatten a prepared index to plain arrays and JSON-able scalars; no pickle."""
    state = index.__getstate__()
    (hyperplanes, offsets, children, indices, leaf_size) = state["_search_forest"][0]
    arrays = {
        "graph_indptr": state["_search_graph"].indptr.astype(np.int64),
        "graph_indices": state["_search_graph"].indices.astype(np.int32),
        "tree_hyperplanes": hyperplanes,
        "tree_offsets": offsets,
        "tree_children": children,
        "tree_indices": indices,
        "vertex_order": state["_vertex_order"],
    }
    scalars = {name: state[name] for name in _PLAIN_STATE if name in state}
    scalars |= {"leaf_size": int(leaf_size), "min_distance": float(state["_min_distance"])}
    return arrays, scalars


def graph_from_arrays(
    points: Floats,
    arrays: Mapping[str, npt.NDArray[Any]],
    scalars: Mapping[str, Any],
    *,
    leaves: int,
) -> Any:
    """Rebuild the index that :func:`graph_to_arrays` flattened; ``points`` as it was built on."""
    import pynndescent
    from scipy.sparse import csr_array

    n = len(points)
    order = arrays["vertex_order"]
    edges = arrays["graph_indices"]
    state = dict(scalars) | _FIXED_STATE
    leaf_size = state.pop("leaf_size")
    state |= {
        "search_tree_leaf_budget": leaves,
        "_raw_data": np.ascontiguousarray(points[order]),
        "_vertex_order": order,
        "_min_distance": np.float32(state.pop("min_distance")),
        "_visited": np.zeros(n // 8 + 1, dtype=np.uint8),
        # With an all-zero state the generator stays at zero, so no answer depends on which
        # queries came before it or on the thread that ran it.
        "search_rng_state": np.zeros(3, dtype=np.int64),
        "rng_state": np.zeros(3, dtype=np.int64),
    }
    state["_search_graph"] = csr_array(
        (np.ones(len(edges), dtype=np.uint8), edges, arrays["graph_indptr"]), shape=(n, n)
    )
    state["_search_forest"] = (
        (
            arrays["tree_hyperplanes"],
            arrays["tree_offsets"],
            arrays["tree_children"],
            arrays["tree_indices"],
            leaf_size,
        ),
    )
    index = pynndescent.NNDescent.__new__(pynndescent.NNDescent)
    index.__setstate__(state)
    return index


@dataclass
class Candidates:
    """Training points in the order of their distance from each query.

    Attributes
    ----------
    point : (n, width) int64
        Nearest first, those at equal distance by number; -1 where there is none.
    offered : (n, width) int64
        Samples that the point offers to the query.
    distance : (n, width) float64
        Euclidean distance in descriptor space; infinite where there is no point.
    """

    point: Integers
    offered: Integers
    distance: npt.NDArray[np.float64]


@dataclass
class Neighbors:
    """The nearest training samples of each query.

    Attributes
    ----------
    point : (n, width) int64
        Training points, nearest first; -1 where there is none.
    weight : (n, width) float64
        Samples each point contributes; a row sums to k.
    distance : (n, width) float64
        Euclidean distance in descriptor space.
    """

    point: Integers
    weight: npt.NDArray[np.float64]
    distance: npt.NDArray[np.float64]

    def mean_distance(self) -> npt.NDArray[np.float64]:
        """Mean distance to the k nearest samples, (n,)."""
        return self.mean(np.where(self.weight > 0, self.distance, 0.0))

    def mean(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Mean over the k nearest samples of ``values`` (n, width), one for each neighbor; (n,)."""
        mean: npt.NDArray[np.float64] = _sum_rows(values * self.weight) / _sum_rows(self.weight)
        return mean

    def weigh(self, weighting: Weighting) -> Neighbors:
        """Give nearer samples more weight, in inverse proportion to their distance, or not."""
        if weighting == "uniform":
            return self
        weight = self.weight / np.maximum(self.distance, float(np.finfo(np.float32).tiny))
        share = _sum_rows(self.weight) / _sum_rows(weight)
        return Neighbors(self.point, weight * share[:, None], self.distance)


def _sum_rows(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum one value after the other, so that empty places at the end change nothing."""
    return np.asarray(np.cumsum(values, axis=1)[:, -1])


Offer = Callable[[Integers, Integers], Integers]


def _as_offer(offered: Integers | Offer) -> Offer:
    if isinstance(offered, np.ndarray):
        multiplicity = offered
        return lambda candidates, _rows: multiplicity[candidates]
    return offered


def find_neighbors(
    searcher: Searcher,
    queries: Floats,
    points: Floats,
    offered: Integers | Offer,
    k: int,
    *,
    threads: int = 1,
) -> Neighbors:
    """Find the k nearest training samples of each query.

    Neighbors are counted by samples: a point of multiplicity m fills m places, and points tied
    at the k-th place share what is left.

    Parameters
    ----------
    searcher : Searcher
        Proposes candidates.
    queries : (n, d) float32
        Descriptors, scaled like the points.
    points : (n_points, d) float32
        Distinct training descriptors.
    offered : (n_points,) int64 or callable
        Samples per point; or ``offered(candidates, rows)`` (m, width), the samples that points
        ``candidates`` (m, width) offer to the queries numbered ``rows`` (m,).
    k : int
        Samples to find, at most the number there is.
    threads : int
        Threads to share the rows among.

    Returns
    -------
    Neighbors
    """
    found = find_candidates(searcher, queries, points, offered, k, threads=threads)
    return share_places(found, k)


def find_candidates(
    searcher: Searcher,
    queries: Floats,
    points: Floats,
    offered: Integers | Offer,
    k: int,
    *,
    threads: int = 1,
) -> Candidates:
    """Find points that hold the k nearest samples of each query, and all that are tied with them.

    All points are returned where they hold fewer than k samples. The parameters are those of
    :func:`find_neighbors`.
    """
    offer = _as_offer(offered)
    rows = np.arange(len(queries))
    width = min(k + searcher.spare, len(points))
    found = _rank(searcher, queries, points, offer, rows, width, threads)
    _, _, open_tie = _hand_out(found, k)
    while open_tie.any() and width < len(points):
        width = min(2 * width, len(points))
        rows = rows[open_tie]
        wider = _rank(searcher, queries, points, offer, rows, width, threads)
        _, _, open_tie = _hand_out(wider, k)
        found = _replace_rows(found, rows, wider)
    return found


def share_places(found: Candidates, k: int) -> Neighbors:
    """Hand out k places among the candidates; ties at the k-th place share what is left."""
    weight, _, _ = _hand_out(found, k)
    return Neighbors(found.point, weight, found.distance)


def merge_candidates(one: Candidates, other: Candidates, k: int, *, threads: int = 1) -> Candidates:
    """Merge candidates of the same queries from two sets of points that have none in common.

    What neither is among the k nearest samples of its query nor tied with the last of them is
    dropped.
    """
    n = len(one.point)
    merged = _no_candidates(n, one.point.shape[1] + other.point.shape[1])

    def merge(start: int, stop: int) -> None:
        part = slice(start, stop)
        kernels.merge_candidates(
            one.point[part], one.offered[part], one.distance[part],
            other.point[part], other.offered[part], other.distance[part],
            merged.point[part], merged.offered[part], merged.distance[part],
        )  # fmt: skip

    share_rows(merge, n, threads)
    _, used, _ = _hand_out(merged, k)
    width = int(used.max(initial=1))
    return Candidates(
        np.ascontiguousarray(merged.point[:, :width]),
        np.ascontiguousarray(merged.offered[:, :width]),
        np.ascontiguousarray(merged.distance[:, :width]),
    )


def _hand_out(
    found: Candidates, k: int
) -> tuple[npt.NDArray[np.float64], Integers, npt.NDArray[np.bool_]]:
    """Weights; how many candidates were looked at; which rows may have to look at more."""
    weight = np.zeros(found.distance.shape)
    used = np.zeros(len(weight), dtype=np.int64)
    open_tie = kernels.share_places(found.distance, found.offered, k, weight, used)
    return weight, used, open_tie


def _no_candidates(n: int, width: int) -> Candidates:
    return Candidates(
        np.full((n, width), -1, dtype=np.int64),
        np.zeros((n, width), dtype=np.int64),
        np.full((n, width), np.inf),
    )


def _rank(
    searcher: Searcher,
    queries: Floats,
    points: Floats,
    offered: Offer,
    rows: Integers,
    width: int,
    threads: int,
) -> Candidates:
    wanted = queries if len(rows) == len(queries) else queries[rows]
    candidates = searcher.candidates(wanted, width)
    samples = np.ascontiguousarray(offered(candidates, rows))
    found = _no_candidates(len(rows), width)

    def rank(start: int, stop: int) -> None:
        part = slice(start, stop)
        kernels.sort_candidates(
            wanted[part], points, candidates[part], samples[part],
            found.point[part], found.offered[part], found.distance[part],
        )  # fmt: skip

    share_rows(rank, len(rows), threads)
    return found


def _replace_rows(found: Candidates, rows: Integers, wider: Candidates) -> Candidates:
    padded = _no_candidates(len(found.point), wider.point.shape[1])
    for name in ("point", "offered", "distance"):
        old, new = getattr(found, name), getattr(padded, name)
        new[:, : old.shape[1]] = old
        new[rows] = getattr(wider, name)
    return padded
