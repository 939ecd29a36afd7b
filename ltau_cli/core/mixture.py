"""The predicted error distribution of a row: the mean of its neighbors' CDFs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Floats, Integers, Singles
from ltau_cli.core.kernels import mixture as kernels
from ltau_cli.core.search.neighbors import Neighbors
from ltau_cli.core.threads import share_rows


def average_values(neighbors: Neighbors, values: Singles, *, threads: int = 1) -> Floats:
    """Mean over each row's k nearest samples of values of points (n_points, m), (n, m) float64."""
    out = np.empty((len(neighbors.point), values.shape[1]))

    def average(start: int, stop: int) -> None:
        part = slice(start, stop)
        kernels.average_values(neighbors.point[part], neighbors.weight[part], values, out[part])

    share_rows(average, len(out), threads)
    return out


def gather_rows(
    neighbors: Neighbors, read: Callable[[Integers], Array]
) -> tuple[Neighbors, Integers, Array]:
    """Read what is known of the neighbors of some rows, and of no other points.

    ``read(points)`` gives one row for each of the points, whose numbers increase. Returns the
    neighbors as places among the m points that carry a weight; their numbers (m,); their rows.
    """
    used = neighbors.weight > 0
    points, place = np.unique(neighbors.point[used], return_inverse=True)
    local = np.full_like(neighbors.point, -1)
    local[used] = place
    return Neighbors(local, neighbors.weight, neighbors.distance), points, read(points)


@dataclass
class Mixture:
    """What the mixed CDF says."""

    quantiles: Floats  # (n, n_levels): error quantiles, in error units
    above: Floats  # (n, n_thresholds): P(error > threshold)
    # (n, n_edges) float64 or (0, n_edges): P(error <= edge), where asked for
    cdf: Floats


def average_cdfs(
    neighbors: Neighbors,
    counts: npt.NDArray[np.unsignedinteger],
    max_error: Singles,
    edges: Floats,
    *,
    levels: Floats,
    thresholds: Floats,
    with_cdf: bool = False,
    threads: int = 1,
) -> Mixture:
    """Quantiles and exceedance of F_x = mean_j F_j, without ever holding (n, k, n_bins).

    q_p = inf{eps : F_x(eps) >= p}; F_x is exact at the edges and taken as linear between them,
    and no quantile exceeds the largest error that the neighbors ever had. ``counts`` are
    (n_points, n_edges + 1): underflow, the bins, overflow. ``max_error`` (n_points,), ``edges``
    (n_edges,) and ``thresholds`` are in error units, ``levels`` p in (0, 1).
    """
    n = len(neighbors.point)
    mixture = Mixture(
        np.empty((n, len(levels))),
        np.empty((n, len(thresholds))),
        np.empty((n if with_cdf else 0, len(edges))),
    )

    def average(start: int, stop: int) -> None:
        part = slice(start, stop)
        kernels.average_cdfs(
            neighbors.point[part], neighbors.weight[part], counts, max_error, edges, levels,
            thresholds, mixture.quantiles[part], mixture.above[part], mixture.cdf[part],
        )  # fmt: skip

    share_rows(average, n, threads)
    return mixture
