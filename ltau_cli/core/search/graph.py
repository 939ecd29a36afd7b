"""NN-descent: build, store and search its graph, and find the effort that reaches a recall."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.core import kernels
from ltau_cli.core.search.cells import ExactSearcher
from ltau_cli.core.search.neighbors import Floats, Integers
from ltau_cli.core.search.trials import Trials
from ltau_cli.core.threads import share_rows

GRAPH_NEIGHBORS = 30
# Search efforts to try, least first: leaves of the search tree to start from, and how far beyond
# the k-th distance to follow the graph. From one leaf alone, about 1 % of the queries far from a
# clustered training set end in a wrong part of the graph and miss most of their neighbors.
EFFORTS = (
    (1, 0.1), (1, 0.15), (1, 0.2), (1, 0.25), (1, 0.3), (2, 0.3), (4, 0.2), (4, 0.3), (8, 0.2),
    (8, 0.3), (16, 0.2), (16, 0.3), (32, 0.2), (32, 0.4), (64, 0.5), (128, 0.8),
)  # fmt: skip


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

    def candidates(self, queries: Floats, width: int, *, threads: int = 1) -> Integers:
        """Return about the ``width`` nearest points of each query, exactly where it got stuck."""
        order = self._by_leaf(queries, threads)
        found = np.empty((len(queries), width), dtype=np.int64)
        distance = np.empty((len(queries), width), dtype=np.float32)
        found[order], distance[order] = self._index.query(
            queries[order], k=width, epsilon=self._epsilon
        )
        stuck = np.flatnonzero(np.isinf(distance).any(axis=1))
        if len(stuck):
            self._exact = self._exact or ExactSearcher(self._points)
            found[stuck] = self._exact.candidates(queries[stuck], width, threads=threads)
        return found

    def _by_leaf(self, queries: Floats, threads: int) -> Integers:
        """Order queries so that those after one another visit the same points.

        The points are then still in the processor's cache: 1.4 to 1.5 times as fast, and no answer
        depends on the order.
        """
        leaf = np.empty(len(queries), dtype=np.int64)
        names = ("tree_hyperplanes", "tree_offsets", "tree_children")
        hyperplanes, offsets, children = (self._tree[name] for name in names)

        def walk(start: int, stop: int) -> None:
            rows = slice(start, stop)
            kernels.find_leaves(queries[rows], hyperplanes, offsets, children, leaf[rows])

        share_rows(walk, len(queries), threads)
        return np.argsort(leaf, kind="stable")


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
    state = {name: scalars[name] for name in _PLAIN_STATE if name in scalars} | _FIXED_STATE
    state |= {
        "search_tree_leaf_budget": leaves,
        "_raw_data": np.ascontiguousarray(points[order]),
        "_vertex_order": order,
        "_min_distance": np.float32(scalars["min_distance"]),
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
            scalars["leaf_size"],
        ),
    )
    index = pynndescent.NNDescent.__new__(pynndescent.NNDescent)
    index.__setstate__(state)
    return index


LOST = 0.002  # share of the trials that may miss half of their neighbors


def choose_effort(
    points: npt.NDArray[np.float32],
    arrays: Mapping[str, npt.NDArray[Any]],
    scalars: Mapping[str, Any],
    trials: Trials,
    target: float,
    *,
    threads: int = 1,
) -> tuple[GraphSearcher, dict[str, Any]]:
    """Raise the effort until the recall in domain reaches the target.

    Parameters
    ----------
    points : (n_points, d) float32
    arrays, scalars : mapping
        The index, see :func:`graph_to_arrays`.
    trials : Trials
    target : float
        In (0, 1].
    threads : int
        Changes nothing but the speed.

    Returns
    -------
    (GraphSearcher, dict)
        The searcher of the chosen effort, or of the highest where none reaches the target; and
        its ``leaves`` and ``epsilon``.
    """
    for leaves, epsilon in EFFORTS:
        prepared = graph_from_arrays(points, arrays, scalars, leaves=leaves)
        searcher = GraphSearcher(points, prepared, epsilon, arrays)
        found = trials.near.measure(searcher, threads=threads)
        if found["recall"] >= target and found["lost"] <= LOST:
            break
    return searcher, {"leaves": leaves, "epsilon": epsilon}


def graph_library_version() -> str:
    """Version of pynndescent, without importing it."""
    from importlib.metadata import version

    return version("pynndescent")
