"""Leave-one-out distances and expected errors of the training samples themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ltau_cli.core.neighbors import Searcher, find_neighbors
from ltau_cli.core.points import Points
from ltau_cli.errors import ComputeError


@dataclass
class LeaveOneOut:
    """What each training sample looks like to the others.

    Attributes
    ----------
    distance : (n_samples,) float32
        Mean distance to the k nearest samples of other groups.
    expected_error : (n_samples,) float32
        Their mean error (error units).
    """

    distance: npt.NDArray[np.float32]
    expected_error: npt.NDArray[np.float32]


class _Excluded:
    """How many samples of a group coincide on a point, and the sum of their mean errors."""

    def __init__(
        self,
        points: Points,
        group: npt.NDArray[np.int64],
        mean_error: npt.NDArray[np.floating],
    ) -> None:
        self._n_groups = int(group.max()) + 1
        keys = points.of_sample * self._n_groups + group
        self.keys, self.of_sample, self.count = np.unique(
            keys, return_inverse=True, return_counts=True
        )
        self.total = np.bincount(self.of_sample, weights=mean_error)

    def pairs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Point and group of each pair that occurs."""
        return self.keys // self._n_groups, self.keys % self._n_groups

    def find(
        self, candidates: npt.NDArray[np.int64], group: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Excluded samples, and the sum of their mean errors, of candidates (n, width)."""
        wanted = candidates * self._n_groups + group[:, None]
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        there = self.keys[place] == wanted
        return np.where(there, self.count[place], 0), np.where(there, self.total[place], 0.0)


def leave_one_out(
    searcher: Searcher,
    descriptors: npt.NDArray[np.float32],
    points: Points,
    mean_error: npt.NDArray[np.floating],
    group: npt.NDArray[np.int64] | None,
    k: int,
    *,
    threads: int = 1,
    block: int = 16_384,
) -> LeaveOneOut:
    """Score every training sample by the samples outside its group.

    Parameters
    ----------
    searcher : Searcher
        Over the points.
    descriptors : (n_points, d) float32
        Of the points, scaled.
    points : Points
        And which sample belongs to which.
    mean_error : (n_samples,) float
        Mean logged error of each sample (error units).
    group : (n_samples,) int64 or None
        Samples that are left out together, such as those of one structure; None leaves out each
        sample by itself.
    k : int
        Neighbors.
    threads, block : int
        Change nothing but speed and memory.

    Returns
    -------
    LeaveOneOut

    Raises
    ------
    ComputeError
        If fewer than k samples are left for some sample.
    """
    n = len(points.of_sample)
    group = np.arange(n) if group is None else group
    left = n - int(np.bincount(group).max())
    if k > left:
        raise ComputeError(
            f"-k {k}: only {left:,} samples are left without the largest structure",
            hint="lower -k, or use --loo sample",
        )
    excluded = _Excluded(points, group, mean_error)
    of_point = np.bincount(points.of_sample, weights=mean_error)
    point, own_group = excluded.pairs()
    distance = np.empty(len(point), dtype=np.float32)
    expected = np.empty(len(point), dtype=np.float32)
    for start in range(0, len(point), block):
        rows = slice(start, start + block)
        of_rows = own_group[rows]

        def offered(
            candidates: npt.NDArray[np.int64],
            which: npt.NDArray[np.int64],
            of_rows: npt.NDArray[np.int64] = of_rows,
        ) -> npt.NDArray[np.int64]:
            return points.multiplicity[candidates] - excluded.find(candidates, of_rows[which])[0]

        found = find_neighbors(
            searcher, descriptors[point[rows]], descriptors, offered, k, threads=threads
        )
        distance[rows] = found.mean_distance()
        used = np.where(found.weight > 0, found.point, point[rows][:, None])
        count, total = excluded.find(used, of_rows)
        rest = np.maximum(points.multiplicity[used] - count, 1)
        means = (of_point[used] - total) / rest
        expected[rows] = (found.weight * means).sum(axis=1) / found.weight.sum(axis=1)
    return LeaveOneOut(distance[excluded.of_sample], expected[excluded.of_sample])
