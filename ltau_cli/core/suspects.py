"""Training samples whose trajectory stands far out of their neighbors': wrong labels, perhaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ltau_cli.core.mixture import average_cdfs
from ltau_cli.core.neighbors import Neighbors
from ltau_cli.core.points import Points
from ltau_cli.core.shards import Shards, find_in_shards

OUTLIER = 3.5  # robust z-score, as Iglewicz and Hoaglin advise (How to Detect and Handle Outliers)
LEVEL = 0.25  # quantile of the trajectories that are compared
_SIGMA = 1.482602218505602  # standard deviation over median absolute deviation, if normal

Floats = npt.NDArray[np.float64]


def own_quantile(
    counts: npt.NDArray[np.unsignedinteger],
    max_error: npt.NDArray[np.float32],
    edges: Floats,
    *,
    threads: int = 1,
) -> Floats:
    """Lower quartile of each point's own error CDF.

    A wrong label keeps even the best errors of its sample large. A sample that is only learned late
    has small ones among them, though its mean error may be as large.

    Parameters
    ----------
    counts : (n_points, n_edges + 1) unsigned int
        Underflow, the bins, overflow.
    max_error : (n_points,) float32
        Largest error of each point (error units).
    edges : (n_edges,) float64
        Bin edges (error units).
    threads : int
        Changes nothing but speed.

    Returns
    -------
    (n_points,) float64
        Error units.
    """
    n = len(counts)
    itself = Neighbors(np.arange(n)[:, None], np.ones((n, 1)), np.zeros((n, 1)))
    none = np.zeros(0)
    level = np.array([LEVEL])
    mixture = average_cdfs(
        itself, counts, max_error, edges, levels=level, thresholds=none, threads=threads
    )
    return mixture.quantiles[:, 0]


def robust_score(own: Floats, neighbors: npt.NDArray[np.floating]) -> Floats:
    """How far each sample stands out of what its neighbors let expect.

    z_i = (r_i - median r) / (1.4826 median |r - median r|) with r_i = log(own_i / neighbors_i). The
    ratio makes easy and hard regions comparable.

    Parameters
    ----------
    own : (n,) float64
        Lower quartile of each sample's errors, at least 0.
    neighbors : (n,) float
        Mean of that of its neighbors, without its own.

    Returns
    -------
    (n,) float64
        0 everywhere if the ratios do not vary.
    """
    tiny = float(np.finfo(np.float32).tiny)
    ratio: Floats = np.log(np.maximum(own, tiny) / np.maximum(neighbors.astype(np.float64), tiny))
    ratio -= np.median(ratio)
    spread = _SIGMA * np.median(np.abs(ratio)) or ratio.std()
    return ratio / spread if spread > 0 else np.zeros(len(ratio))


@dataclass
class Explanation:
    """The training samples nearest to a suspect, nearest first.

    Attributes
    ----------
    sample : (n,) int64
    distance : (n,) float64
        In descriptor space.
    """

    sample: npt.NDArray[np.int64]
    distance: Floats


def explain(
    shards: Shards,
    points: Points,
    group: npt.NDArray[np.int64] | None,
    suspect: int,
    k: int,
) -> Explanation:
    """Find the ``k`` training samples nearest to a suspect.

    Parameters
    ----------
    shards : Shards
        The points.
    points : Points
        Which sample belongs to which.
    group : (n_samples,) int64 or None
        Samples that are left out together with the suspect; None leaves out the suspect alone.
    suspect : int
        Number of the sample.
    k : int
        At most the number of samples outside the suspect's group.

    Returns
    -------
    Explanation
        Of coinciding samples the first ones.
    """
    n = len(points.of_sample)
    left_out = np.arange(n) == suspect if group is None else group == group[suspect]
    n_points, point = len(points.multiplicity), int(points.of_sample[suspect])
    own = np.bincount(points.of_sample[left_out], minlength=n_points)
    query = shards.descriptors(point, point + 1)
    _, found = next(find_in_shards(shards, query, points.multiplicity - own, k))
    used = found.weight[0] > 0
    near = found.point[0][used]
    rank = np.full(n_points, len(near))
    rank[near] = np.arange(len(near))
    candidates = np.flatnonzero((rank[points.of_sample] < len(near)) & ~left_out)
    order = np.argsort(rank[points.of_sample[candidates]], kind="stable")[:k]
    sample = candidates[order]
    return Explanation(sample, found.distance[0][used][rank[points.of_sample[sample]]])
