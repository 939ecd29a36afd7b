"""Nearest training points.

A searcher (cells, or the graph of NN-descent) only proposes candidate points. Distances, order and
the sharing of the k places are then computed exactly for the candidates, so results do not depend
on block size or threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ltau_cli.array_types import Bools, Floats, Integers, Singles
from ltau_cli.core.kernels import neighbors as kernels
from ltau_cli.core.threads import share_rows
from ltau_cli.settings import Weighting


class Searcher(Protocol):
    """Proposes candidate points for rows; ``spare`` of them beyond k are asked for."""

    spare: int

    def candidates(self, rows: Singles, width: int, *, threads: int = 1) -> Integers:
        """Return (n, width) point numbers, all different within a row."""


@dataclass
class Candidates:
    """Training points in the order of their distance from each row."""

    # (n, width): nearest first, those at equal distance by number; -1 where there is none
    point: Integers
    offered: Integers  # (n, width): samples that the point offers to the row
    # (n, width): euclidean distance in descriptor space; infinite where there is no point
    distance: Floats


@dataclass
class Neighbors:
    """The nearest training samples of each row."""

    point: Integers  # (n, width): training points, nearest first; -1 where there is none
    weight: Floats  # (n, width): samples each point contributes; a row sums to k
    distance: Floats  # (n, width): euclidean distance in descriptor space

    def mean_distance(self) -> Floats:
        """Mean distance to the k nearest samples, (n,)."""
        return self.mean(np.where(self.weight > 0, self.distance, 0.0))

    def mean(self, values: Floats) -> Floats:
        """Mean over the k nearest samples of ``values`` (n, width), one for each neighbor; (n,)."""
        mean: Floats = _sum_rows(values * self.weight) / _sum_rows(self.weight)
        return mean

    def weigh(self, weighting: Weighting) -> Neighbors:
        """Give nearer samples more weight, in inverse proportion to their distance, or not."""
        if weighting == "uniform":
            return self
        weight = self.weight / np.maximum(self.distance, float(np.finfo(np.float32).tiny))
        share = _sum_rows(self.weight) / _sum_rows(weight)
        return Neighbors(self.point, weight * share[:, None], self.distance)


def _sum_rows(values: Floats) -> Floats:
    """Sum one value after the other, so that empty places at the end change nothing."""
    return np.asarray(np.cumsum(values, axis=1)[:, -1])


Offer = Callable[[Integers, Integers], Integers]


def as_offer(offered: Integers | Offer) -> Offer:
    """Return what tells the samples of points, where they offer every row the same."""
    if isinstance(offered, np.ndarray):
        multiplicity = offered
        return lambda candidates, _numbers: multiplicity[candidates]
    return offered


def find_neighbors(
    searcher: Searcher,
    rows: Singles,
    points: Singles,
    offered: Integers | Offer,
    k: int,
    *,
    threads: int = 1,
) -> Neighbors:
    """Find the k nearest training samples of each row (n, d) of descriptors.

    Neighbors are counted by samples: a point of multiplicity m fills m places, but at most
    :func:`most_places`, and points tied at the k-th place share what is left. ``points``
    (n_points, d) are distinct and scaled like the rows; ``k`` is at most the number of samples.
    ``offered`` are the samples of each point, (n_points,); or ``offered(candidates, numbers)`` (m,
    width) those that points ``candidates`` (m, width) offer to the rows with ``numbers`` (m,).
    """
    found = find_candidates(searcher, rows, points, offered, k, threads=threads)
    return share_places(found, k)


def find_candidates(
    searcher: Searcher,
    rows: Singles,
    points: Singles,
    offered: Integers | Offer,
    k: int,
    *,
    threads: int = 1,
) -> Candidates:
    """Find points that hold the k nearest samples of each row, and all that are tied with them.

    All points are returned where they hold fewer than k samples. The parameters are those of
    :func:`find_neighbors`.
    """
    offer = as_offer(offered)
    numbers = np.arange(len(rows))
    width = min(k + searcher.spare, len(points))
    found = _rank(searcher, rows, points, offer, numbers, width, threads)
    _, _, open_tie = _hand_out(found, k)
    while open_tie.any() and width < len(points):
        width = min(2 * width, len(points))
        numbers = numbers[open_tie]
        wider = _rank(searcher, rows, points, offer, numbers, width, threads)
        _, _, open_tie = _hand_out(wider, k)
        found = _replace_rows(found, numbers, wider)
    return found


def most_places(k: int) -> int:
    """Places of k that one point may fill: half, so that no perfect crystal decides alone."""
    return -(-k // 2)


def share_places(found: Candidates, k: int) -> Neighbors:
    """Hand out k places among the candidates; ties at the k-th place share what is left."""
    weight, _, _ = _hand_out(found, k)
    return Neighbors(found.point, weight, found.distance)


def merge_candidates(one: Candidates, other: Candidates, k: int, *, threads: int = 1) -> Candidates:
    """Merge candidates of the same rows from two sets of points that have none in common.

    What neither is among the k nearest samples of its row nor tied with the last of them is
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


def _hand_out(found: Candidates, k: int) -> tuple[Floats, Integers, Bools]:
    """Weights; how many candidates were looked at; which rows may have to look at more."""
    weight = np.zeros(found.distance.shape)
    used = np.zeros(len(weight), dtype=np.int64)
    open_tie = kernels.share_places(found.distance, found.offered, k, most_places(k), weight, used)
    return weight, used, open_tie


def _no_candidates(n: int, width: int) -> Candidates:
    return Candidates(
        np.full((n, width), -1, dtype=np.int64),
        np.zeros((n, width), dtype=np.int64),
        np.full((n, width), np.inf),
    )


def _rank(
    searcher: Searcher,
    rows: Singles,
    points: Singles,
    offered: Offer,
    numbers: Integers,
    width: int,
    threads: int,
) -> Candidates:
    wanted = rows if len(numbers) == len(rows) else rows[numbers]
    candidates = searcher.candidates(wanted, width, threads=threads)
    samples = np.ascontiguousarray(offered(candidates, numbers))
    found = _no_candidates(len(numbers), width)

    def rank(start: int, stop: int) -> None:
        part = slice(start, stop)
        kernels.sort_candidates(
            wanted[part], points, candidates[part], samples[part],
            found.point[part], found.offered[part], found.distance[part],
        )  # fmt: skip

    share_rows(rank, len(numbers), threads)
    return found


def _replace_rows(found: Candidates, numbers: Integers, wider: Candidates) -> Candidates:
    padded = _no_candidates(len(found.point), wider.point.shape[1])
    for name in ("point", "offered", "distance"):
        old, new = getattr(found, name), getattr(padded, name)
        new[:, : old.shape[1]] = old
        new[numbers] = getattr(wider, name)
    return padded
