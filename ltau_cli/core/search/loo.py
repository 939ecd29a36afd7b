"""Leave-one-out distances and expected errors of the training samples themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.core import kernels
from ltau_cli.core.choices import Weighting
from ltau_cli.core.search.neighbors import Neighbors
from ltau_cli.core.search.points import Points
from ltau_cli.core.search.shards import Shards, find_in_shards
from ltau_cli.errors import ComputeError

Integers = npt.NDArray[np.int64]


@dataclass
class LeaveOneOut:
    """What each training sample looks like to the others.

    Attributes
    ----------
    distance : (n_samples,) float32
        Mean distance to the k nearest samples of other groups.
    expected_error : (n_samples,) float32
        Their mean error (error units).
    share : (n_samples, k) float16
        Mean distance to the nearest 1, 2, ... k of them, over ``distance``.
    """

    distance: npt.NDArray[np.float32]
    expected_error: npt.NDArray[np.float32]
    share: npt.NDArray[np.float16]


class SampleLeftOut:
    """Each sample is left out by itself.

    Attributes
    ----------
    point : (n_pairs,) int64
        Point of each pair of a point and what is left out; increasing.
    """

    def __init__(self, points: Points, mean_error: npt.NDArray[np.floating]) -> None:
        self._order = np.argsort(points.of_sample, kind="stable")
        self._mean_error = mean_error
        self.point = points.of_sample[self._order]

    def find(
        self, candidates: Integers, pairs: Integers
    ) -> tuple[Integers, npt.NDArray[np.float64]]:
        """Excluded samples, and the sum of their mean errors, of candidates (n, width)."""
        there = candidates == self.point[pairs, None]
        own = self._mean_error[self._order[pairs], None]
        return there.astype(np.int64), np.where(there, own, 0.0)

    def to_samples(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values of the pairs as values of the samples."""
        result = np.empty_like(values)
        result[self._order] = values
        return result


class GroupLeftOut:
    """The samples of a group are left out together; those on one point are one pair.

    Attributes
    ----------
    point : (n_pairs,) int64
        As in :class:`SampleLeftOut`.
    """

    def __init__(
        self, points: Points, mean_error: npt.NDArray[np.floating], group: Integers
    ) -> None:
        self._n_groups = int(group.max()) + 1
        keys = points.of_sample * self._n_groups + group
        self._keys, self._of_sample, self._count = np.unique(
            keys, return_inverse=True, return_counts=True
        )
        self._total = np.bincount(self._of_sample, weights=mean_error)
        self.point = self._keys // self._n_groups

    def find(
        self, candidates: Integers, pairs: Integers
    ) -> tuple[Integers, npt.NDArray[np.float64]]:
        """Excluded samples, and the sum of their mean errors, of candidates (n, width)."""
        group = self._keys[pairs] % self._n_groups
        wanted = candidates * self._n_groups + group[:, None]
        place = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        there = self._keys[place] == wanted
        return np.where(there, self._count[place], 0), np.where(there, self._total[place], 0.0)

    def to_samples(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values of the pairs as values of the samples."""
        return values[self._of_sample]


def leave_one_out(
    shards: Shards,
    points: Points,
    mean_error: npt.NDArray[np.floating],
    group: Integers | None,
    k: int,
    *,
    weighting: Weighting = "uniform",
    threads: int = 1,
    block: int | None = None,
    advance: Callable[[int], None] = lambda _samples: None,
) -> LeaveOneOut:
    """Score every training sample by the samples outside its group.

    Parameters
    ----------
    shards : Shards
        The points.
    points : Points
        Which sample belongs to which.
    mean_error : (n_samples,) float
        Mean logged error of each sample (error units).
    group : (n_samples,) int64 or None
        Samples that are left out together, such as those of one structure; None leaves out each
        sample by itself.
    k : int
        Neighbors.
    weighting : {"uniform", "inverse-distance"}
        Of the neighbors' errors.
    threads, block : int
        Change nothing but speed and memory.
    advance : callable
        Called with the number of samples that are done.

    Returns
    -------
    LeaveOneOut

    Raises
    ------
    ComputeError
        If fewer than k samples are left for some sample.
    """
    n = len(points.of_sample)
    left = n - (1 if group is None else int(np.bincount(group).max()))
    if k > left:
        raise ComputeError(
            f"-k {k}: only {left:,} samples are left without the largest structure",
            hint="lower -k, or use --loo sample",
        )
    left_out = (
        SampleLeftOut(points, mean_error)
        if group is None
        else GroupLeftOut(points, mean_error, group)
    )
    of_point = np.bincount(points.of_sample, weights=mean_error)
    point = left_out.point
    distance = np.empty(len(point), dtype=np.float32)
    expected = np.empty(len(point), dtype=np.float32)
    share = np.empty((len(point), k), dtype=np.float16)
    for start in range(0, len(point), block or shards.rows):
        pairs = np.arange(start, min(start + (block or shards.rows), len(point)))

        def offered(candidates: Integers, rows: Integers, pairs: Integers = pairs) -> Integers:
            return points.multiplicity[candidates] - left_out.find(candidates, pairs[rows])[0]

        first, last = point[pairs[0]], point[pairs[-1]]
        queries = shards.descriptors(first, last + 1)
        if len(queries) < len(pairs):  # several pairs have the same point
            queries = queries[point[pairs] - first]
        for part, found in find_in_shards(shards, queries, offered, k, threads=threads):
            rows = pairs[part]
            distance[rows] = found.mean_distance()
            share[rows] = _share(found, k)
            used = np.where(found.weight > 0, found.point, point[rows][:, None])
            count, total = left_out.find(used, rows)
            rest = np.maximum(points.multiplicity[used] - count, 1)
            expected[rows] = found.weigh(weighting).mean((of_point[used] - total) / rest)
        advance(len(pairs))
    return LeaveOneOut(*(left_out.to_samples(v) for v in (distance, expected, share)))


def _share(found: Neighbors, k: int) -> npt.NDArray[np.float64]:
    """Mean distance to the nearest 1, 2, ... k samples over that to k; 0 where that is 0."""
    means = np.empty((len(found.point), k))
    kernels.average_nearest(found.distance, found.weight, means)
    whole = means[:, -1:]
    return np.minimum(np.divide(means, whole, out=np.zeros_like(means), where=whole > 0), 1)
