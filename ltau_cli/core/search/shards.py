"""A training set in shards, searched one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from ltau_cli.array_types import Integers, Singles
from ltau_cli.core.search.neighbors import (
    Candidates,
    Neighbors,
    Offer,
    Searcher,
    as_offer,
    find_candidates,
    merge_candidates,
    share_places,
)

SEARCH_ROWS = 65_536  # rows searched at a time


@dataclass(frozen=True)
class Shard:
    """A shard in memory."""

    first: int  # number of its first point
    descriptors: Singles  # (n, d): of its points, scaled
    searcher: Searcher  # over them


class Shards(Protocol):
    """Training points in shards, each a range of their numbers."""

    count: int  # number of shards
    rows: int  # rows worth collecting before all shards are gone through
    width: int  # columns of the descriptors

    def load(self, number: int) -> Shard:
        """Bring a shard into memory; it lives as long as somebody holds it."""

    def descriptors(self, start: int, stop: int) -> Singles:
        """Return the descriptors of points ``start..stop``, (n, d) float32."""


class OneShard:
    """All points in memory, (n_points, d) float32."""

    count = 1
    rows = 16_384

    def __init__(self, descriptors: Singles, searcher: Searcher) -> None:
        self._shard = Shard(0, descriptors, searcher)
        self.width = descriptors.shape[1]

    def load(self, number: int) -> Shard:
        """Return all points."""
        return self._shard

    def descriptors(self, start: int, stop: int) -> Singles:
        """Return the descriptors of points ``start..stop``."""
        return self._shard.descriptors[start:stop]


def cut_evenly(n: int, count: int) -> list[int]:
    """Return the ``count + 1`` bounds of ``count`` ranges of ``n`` things."""
    return [n * i // count for i in range(count + 1)]


def find_in_shards(
    shards: Shards,
    rows: Singles,
    offered: Integers | Offer,
    k: int,
    *,
    threads: int = 1,
    block: int = SEARCH_ROWS,
) -> Iterator[tuple[slice, Neighbors]]:
    """Find the k nearest training samples of each row (n, d) of descriptors over all shards.

    The shards are gone through once, one in memory at a time. ``offered`` is that of
    :func:`ltau_cli.core.search.neighbors.find_neighbors`; points are numbered over all shards.
    Yields slices of the rows, and their neighbors.
    """
    parts = [slice(i, min(i + block, len(rows))) for i in range(0, len(rows), block)]
    offer = as_offer(offered)
    best: list[Candidates] = []
    for number in range(shards.count):
        shard = shards.load(number)
        for i, part in enumerate(parts):
            own = partial(_offer_from, offer, shard.first, part.start)
            found = find_candidates(
                shard.searcher, rows[part], shard.descriptors, own, k, threads=threads
            )
            found.point[found.point >= 0] += shard.first
            if number == 0:
                best.append(found)
            else:
                best[i] = merge_candidates(best[i], found, k, threads=threads)
        del shard  # or the next one would be loaded beside it
    for i, part in enumerate(parts):
        yield part, share_places(best[i], k)


def _offer_from(
    offer: Offer, point: int, row: int, candidates: Integers, numbers: Integers
) -> Integers:
    """Ask an offer with the numbers of points from ``point`` and of rows from ``row`` on."""
    return offer(candidates + point, numbers + row)
