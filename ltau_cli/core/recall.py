"""Find the search effort at which a graph index reaches a recall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.core import neighbors as nn

N_TRIALS = 3_000
STEPS = (-1.0, -3.0)
LOST = 0.002  # share of the trials that may miss half of their neighbors


def trial_queries(
    points: npt.NDArray[np.float32], k: int, *, seed: int, n: int = N_TRIALS
) -> npt.NDArray[np.float32]:
    """Make queries that are no training points, on the edge of the training set and beyond.

    A point of the index finds itself too easily to tell how new points fare, and queries far from
    the training set are the hardest. Each trial lies on the line from a random point's k-th
    neighbor to the point, behind it by one or three times their distance. (Measured on two
    molecules and a nanoparticle: the share of lost trials at once their distance is about that of
    test sets at the training temperature, at three times about that of hotter ones.)
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(points), min(n, len(points)), replace=False))
    width = min(k + 1, len(points))
    other = nn.ExactSearcher(points).candidates(points[chosen], width)[:, -1]
    step = np.array(STEPS, dtype=np.float32)[np.arange(len(chosen)) % len(STEPS), None]
    return np.ascontiguousarray(points[chosen] + step * (points[other] - points[chosen]))


def recall(found: npt.NDArray[np.int64], exact: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Share of each query's exact neighbors, (n, k), that were found, (n, k); (n,)."""
    share: npt.NDArray[np.float64] = (found[:, :, None] == exact[:, None, :]).any(axis=1).mean(1)
    return share


def choose_effort(
    points: npt.NDArray[np.float32],
    arrays: Mapping[str, npt.NDArray[Any]],
    scalars: Mapping[str, Any],
    queries: npt.NDArray[np.float32],
    k: int,
    target: float,
) -> tuple[nn.GraphSearcher, dict[str, Any]]:
    """Raise the effort until the recall at k reaches the target.

    Parameters
    ----------
    points : (n_points, d) float32
    arrays, scalars : mapping
        The index, see :func:`ltau_cli.core.neighbors.graph_to_arrays`.
    queries : (n, d) float32
        See :func:`trial_queries`.
    k : int
    target : float
        In (0, 1].

    Returns
    -------
    (GraphSearcher, dict)
        The searcher of the chosen effort, or of the highest where none reaches the target; and
        ``leaves``, ``epsilon``, the measured ``recall`` and the share of ``lost`` queries, which
        miss more than half of their neighbors.
    """
    k = min(k, len(points))
    exact = nn.ExactSearcher(points).candidates(queries, k)
    for leaves, epsilon in nn.EFFORTS:
        graph = nn.graph_from_arrays(points, arrays, scalars, leaves=leaves)
        searcher = nn.GraphSearcher(points, graph, epsilon, arrays)
        reached = recall(searcher.candidates(queries, k), exact)
        lost = float((reached < 0.5).mean())
        if reached.mean() >= target and lost <= LOST:
            break
    effort = {"leaves": leaves, "epsilon": epsilon, "recall": float(reached.mean()), "lost": lost}
    return searcher, effort
