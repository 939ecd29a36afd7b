"""Rows made to see how well a search does, near the training set and far from it."""

from dataclasses import dataclass

import numpy as np

from ltau_cli.array_types import Floats, Integers, Singles
from ltau_cli.core.search.neighbors import Searcher
from ltau_cli.results import SearchTrials

N_TRIALS = 3_000
STEPS = (-1.0, -3.0)


@dataclass(frozen=True)
class TrialSet:
    """Rows whose nearest points are known."""

    points: Singles  # (n_points, d)
    rows: Singles  # (n, d)
    nearest: Integers  # (n, k)

    def measure(self, searcher: Searcher, *, threads: int = 1) -> SearchTrials:
        """Compare what a searcher finds with the truth."""
        found = searcher.candidates(self.rows, self.nearest.shape[1], threads=threads)
        reached = recall(found, self.nearest)
        true = self._mean_distance(self.nearest)
        excess = self._mean_distance(found) / np.maximum(true, np.finfo(np.float32).tiny) - 1
        return SearchTrials(
            recall=float(reached.mean()),
            lost=float((reached < 0.5).mean()),
            too_long=float(max(excess.max(), 0.0)),
        )

    def _mean_distance(self, found: Integers) -> Floats:
        total = np.zeros(len(found))
        for column in found.T:
            total += np.linalg.norm(self.points[column].astype(np.float64) - self.rows, axis=1)
        mean: Floats = total / found.shape[1]
        return mean


@dataclass(frozen=True)
class Trials:
    """Rows on the edge of the training set, and far from it."""

    near: TrialSet
    far: TrialSet

    def measure(self, searcher: Searcher, *, threads: int = 1) -> tuple[SearchTrials, SearchTrials]:
        """Return what :meth:`TrialSet.measure` does, of the near and of the far ones."""
        near, far = (one.measure(searcher, threads=threads) for one in (self.near, self.far))
        return near, far


def make_trials(
    points: Singles, exact: Searcher, k: int, *, seed: int, n: int = N_TRIALS, threads: int = 1
) -> Trials:
    """Make ``n`` rows of each sort that are no training points, and find their true neighbors.

    A point of the index finds itself too easily to tell how new points fare. Each near trial lies
    on the line from a random point's k-th neighbor to the point, behind it by one or three times
    their distance. (Measured on two molecules and a nanoparticle: the share of lost trials at once
    their distance is about that of test sets at the training temperature, at three times about
    that of hotter ones.) Each far trial takes every column from another random point: every value
    has been seen, but not together, as in a new composition.
    """
    rng = np.random.default_rng(seed)
    k = min(k, len(points))
    chosen = np.sort(rng.choice(len(points), min(n, len(points)), replace=False))
    width = min(k + 1, len(points))
    other = exact.candidates(points[chosen], width, threads=threads)[:, -1]
    step = np.array(STEPS, dtype=np.float32)[np.arange(len(chosen)) % len(STEPS), None]
    near = np.ascontiguousarray(points[chosen] + step * (points[other] - points[chosen]))
    mixed = rng.integers(len(points), size=(len(chosen), points.shape[1]))
    far = np.take_along_axis(points, mixed, axis=0)
    sets = (
        TrialSet(points, rows, exact.candidates(rows, k, threads=threads)) for rows in (near, far)
    )
    return Trials(*sets)


def recall(found: Integers, exact: Integers) -> Floats:
    """Share of each row's exact neighbors, (n, k), that were found, (n, k); (n,)."""
    share: Floats = (found[:, :, None] == exact[:, None, :]).any(axis=1).mean(1)
    return share
