"""Training samples whose trajectory stands far out of their neighbors': wrong labels, perhaps."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Floats, Integers, Singles
from ltau_cli.core.mixture import average_cdfs
from ltau_cli.core.search.loo import leave_out
from ltau_cli.core.search.neighbors import Neighbors
from ltau_cli.core.search.points import Points
from ltau_cli.core.search.shards import Shards, find_in_shards

OUTLIER = 3.5  # robust z-score, as Iglewicz and Hoaglin advise (How to Detect and Handle Outliers)
LEVEL = 0.25  # quantile of the trajectories that are compared
_SIGMA = 1.482602218505602  # standard deviation over median absolute deviation, if normal


def own_quartile(
    counts: npt.NDArray[np.unsignedinteger], max_error: Singles, edges: Floats, *, threads: int = 1
) -> Floats:
    """Lower quartile of each point's own error CDF, (n_points,), in error units.

    A wrong label keeps even the best errors of its sample large. A sample that is only learned
    late has small ones among them, though its mean error may be as large. ``counts`` are
    (n_points, n_edges + 1): underflow, the bins, overflow; ``max_error`` (n_points,) the largest
    errors.
    """
    n = len(counts)
    itself = Neighbors(np.arange(n)[:, None], np.ones((n, 1)), np.zeros((n, 1)))
    mixture = average_cdfs(
        itself, counts, max_error, edges,
        levels=np.array([LEVEL]), thresholds=np.zeros(0), threads=threads,
    )  # fmt: skip
    return mixture.quantiles[:, 0]


def robust_score(own: Floats, neighbors: npt.NDArray[np.floating]) -> Floats:
    """How far each sample stands out of what its neighbors let expect, (n,).

    z_i = (r_i - median r) / (1.4826 median |r - median r|) with r_i = log(own_i / neighbors_i), of
    the lower quartiles of the sample and the mean of its neighbors', without its own. The ratio
    makes easy and hard regions comparable. 0 everywhere if the ratios do not vary.
    """
    tiny = float(np.finfo(np.float32).tiny)
    ratio: Floats = np.log(np.maximum(own, tiny) / np.maximum(neighbors.astype(np.float64), tiny))
    ratio -= np.median(ratio)
    spread = _SIGMA * np.median(np.abs(ratio)) or ratio.std()
    return ratio / spread if spread > 0 else np.zeros(len(ratio))


@dataclass
class Explanation:
    """The training samples nearest to a suspect, (n,), nearest first in descriptor space."""

    sample: Integers
    distance: Floats


def explain(
    shards: Shards, points: Points, group: Integers | None, suspects: Integers, k: int
) -> list[Explanation]:
    """Find the ``k`` training samples nearest to each suspect; of coinciding samples the first.

    ``group`` (n_samples,) tells which samples are left out together with a suspect; None leaves
    out the suspect alone. ``suspects`` (n,) are sample numbers, at least one.
    """
    left_out = leave_out(points, np.zeros(len(points.of_sample)), group)
    pair = left_out.to_samples(np.arange(len(left_out.point)))[suspects]

    def offered(candidates: Integers, rows: Integers) -> Integers:
        return points.multiplicity[candidates] - left_out.find(candidates, pair[rows])[0]

    own_points = points.of_sample[suspects].tolist()
    chosen = np.concatenate([shards.descriptors(p, p + 1) for p in own_points])
    result = []
    for part, found in find_in_shards(shards, chosen, offered, k):
        for row, suspect in enumerate(suspects[part].tolist()):
            used = found.weight[row] > 0
            near, distance = found.point[row][used], found.distance[row][used]
            sample = _samples_of(near, points, group, suspect)[:k]
            place = np.argsort(near)
            at = place[np.searchsorted(near, points.of_sample[sample], sorter=place)]
            result.append(Explanation(sample, distance[at]))
    return result


def _samples_of(near: Integers, points: Points, group: Integers | None, suspect: int) -> Integers:
    """Return the samples of some points, in the order of these, without those left out."""
    rank = np.full(len(points.multiplicity), len(near))
    rank[near] = np.arange(len(near))
    found = np.flatnonzero(rank[points.of_sample] < len(near))
    left = found != suspect if group is None else group[found] != group[suspect]
    found = found[left]
    order = np.argsort(rank[points.of_sample[found]], kind="stable")
    return np.asarray(found[order])
