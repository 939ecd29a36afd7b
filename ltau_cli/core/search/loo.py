"""Leave-one-out distances and expected errors of the training samples themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Floats, Integers, Singles
from ltau_cli.core.kernels import neighbors as kernels
from ltau_cli.core.search.neighbors import Neighbors
from ltau_cli.core.search.points import Points
from ltau_cli.core.search.shards import Shards, find_in_shards
from ltau_cli.errors import ComputeError
from ltau_cli.settings import Weighting


@dataclass
class LeaveOneOut:
    """What each training sample looks like to the others."""

    # (n_samples,): mean distance to the k nearest samples of other groups
    distance: Singles
    expected_error: Singles  # (n_samples,): their mean error (error units)
    # (n_samples, k): mean distance to the nearest 1, 2, ... k of them, over ``distance``
    share: npt.NDArray[np.float16]


@dataclass
class SampleLeftOut:
    """Each sample is left out by itself."""

    point: Integers  # (n_pairs,): point of each pair of a point and what is left out; increasing
    mean_error: npt.NDArray[np.floating]  # (n_pairs,) float: of what is left out (error units)
    order: Integers  # (n_pairs,): sample of each pair

    @classmethod
    def of(cls, points: Points, mean_error: npt.NDArray[np.floating]) -> SampleLeftOut:
        """Make a pair of every sample, whose mean errors are (n_samples,)."""
        order = np.argsort(points.of_sample, kind="stable")
        return cls(points.of_sample[order], mean_error[order], order)

    def find(self, candidates: Integers, pairs: Integers) -> tuple[Integers, Floats]:
        """Excluded samples, and the sum of their mean errors, of candidates (n, width)."""
        there = candidates == self.point[pairs, None]
        return there.astype(np.int64), np.where(there, self.mean_error[pairs, None], 0.0)

    def to_samples(self, values: Array) -> Array:
        """Values of the pairs as values of the samples."""
        result = np.empty_like(values)
        result[self.order] = values
        return result


@dataclass
class GroupLeftOut:
    """The samples of a group are left out together; those on one point are one pair."""

    point: Integers  # (n_pairs,): as in :class:`SampleLeftOut`
    n_groups: int
    keys: Integers  # (n_pairs,): ``point * n_groups + group``
    count: Integers  # (n_pairs,): samples of the pair
    total: Floats  # (n_pairs,): sum of their mean errors (error units)
    of_sample: Integers  # (n_samples,): pair of each sample

    @classmethod
    def of(
        cls, points: Points, mean_error: npt.NDArray[np.floating], group: Integers
    ) -> GroupLeftOut:
        """Make the pairs; mean errors and groups of the samples are (n_samples,)."""
        n_groups = int(group.max()) + 1
        keys, of_sample, count = np.unique(
            points.of_sample * n_groups + group, return_inverse=True, return_counts=True
        )
        total: Array = np.bincount(of_sample, weights=mean_error)
        return cls(keys // n_groups, n_groups, keys, count, total, of_sample)

    def find(self, candidates: Integers, pairs: Integers) -> tuple[Integers, Floats]:
        """Excluded samples, and the sum of their mean errors, of candidates (n, width)."""
        group = self.keys[pairs] % self.n_groups
        wanted = candidates * self.n_groups + group[:, None]
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        there = self.keys[place] == wanted
        return np.where(there, self.count[place], 0), np.where(there, self.total[place], 0.0)

    def to_samples(self, values: Array) -> Array:
        """Values of the pairs as values of the samples."""
        return values[self.of_sample]


def leave_out(
    points: Points, mean_error: npt.NDArray[np.floating], group: Integers | None
) -> SampleLeftOut | GroupLeftOut:
    """Make the pairs of all samples (n_samples,), which None leaves out one by one."""
    if group is None:
        return SampleLeftOut.of(points, mean_error)
    return GroupLeftOut.of(points, mean_error, group)


@dataclass
class LeaveOneOutSearch:
    """The search of every training sample for the k nearest outside its group."""

    # the pairs, of which any range can be searched by itself
    left_out: SampleLeftOut | GroupLeftOut
    multiplicity: Integers  # (n_points,): samples of each point
    error_of_point: Floats  # (n_points,): sum of their mean errors (error units)
    k: int
    weighting: Weighting

    @classmethod
    def of(
        cls,
        points: Points,
        mean_error: npt.NDArray[np.floating],
        group: Integers | None,
        k: int,
        weighting: Weighting,
    ) -> LeaveOneOutSearch:
        """See :func:`leave_one_out`."""
        n = len(points.of_sample)
        left = n - (1 if group is None else int(np.bincount(group).max()))
        if k > left:
            raise ComputeError(
                f"-k {k}: only {left:,} samples are left without the largest structure",
                hint="lower -k, or use --loo sample",
            )
        left_out = leave_out(points, mean_error, group)
        error_of_point: Array = np.bincount(points.of_sample, weights=mean_error)
        return cls(left_out, points.multiplicity, error_of_point, k, weighting)

    @property
    def n_pairs(self) -> int:
        """Pairs to search."""
        return len(self.left_out.point)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What is found for a pair; see :class:`LeaveOneOut`."""
        return np.dtype([
            ("distance", "<f4"), ("expected_error", "<f4"), ("share", "<f2", (self.k,))
        ])  # fmt: skip

    def find(self, shards: Shards, start: int, stop: int, *, threads: int) -> Array:
        """Search pairs ``start..stop``; (stop - start,) of :attr:`dtype`."""
        point, left_out = self.left_out.point, self.left_out
        pairs = np.arange(start, stop)

        def offered(candidates: Integers, numbers: Integers) -> Integers:
            return self.multiplicity[candidates] - left_out.find(candidates, pairs[numbers])[0]

        first, last = point[start], point[stop - 1]
        rows = shards.descriptors(first, last + 1)
        if len(rows) < len(pairs):  # several pairs have the same point
            rows = rows[point[pairs] - first]
        result = np.empty(len(pairs), self.dtype)
        for part, found in find_in_shards(shards, rows, offered, self.k, threads=threads):
            own = pairs[part]
            result["distance"][part] = found.mean_distance()
            result["share"][part] = _share(found, self.k)
            used = np.where(found.weight > 0, found.point, point[own][:, None])
            count, total = left_out.find(used, own)
            rest = np.maximum(self.multiplicity[used] - count, 1)
            mean = (self.error_of_point[used] - total) / rest
            result["expected_error"][part] = found.weigh(self.weighting).mean(mean)
        return result

    def to_samples(self, found: Array) -> LeaveOneOut:
        """Turn what was found for all pairs into values of the samples."""
        names = ("distance", "expected_error", "share")
        return LeaveOneOut(*(self.left_out.to_samples(found[name]) for name in names))


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
    """Score every training sample by the k nearest samples outside its group.

    ``mean_error`` (n_samples,) is the mean logged error of each (error units), ``group``
    (n_samples,) tells what is left out together, such as a structure; None leaves out each sample
    by itself. ``weighting`` is that of the neighbors' errors. ``advance`` is called with the
    number of samples that are done.
    """
    search = LeaveOneOutSearch.of(points, mean_error, group, k, weighting)
    found = np.empty(search.n_pairs, search.dtype)
    size = block or shards.rows
    for start in range(0, len(found), size):
        stop = min(start + size, len(found))
        found[start:stop] = search.find(shards, start, stop, threads=threads)
        advance(stop - start)
    return search.to_samples(found)


def _share(found: Neighbors, k: int) -> Floats:
    """Mean distance to the nearest 1, 2, ... k samples over that to k; 0 where that is 0."""
    means = np.empty((len(found.point), k))
    kernels.average_nearest(found.distance, found.weight, means)
    whole = means[:, -1:]
    return np.minimum(np.divide(means, whole, out=np.zeros_like(means), where=whole > 0), 1)
