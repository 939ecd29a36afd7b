"""What two files know of the same rows: by it they are matched, and it is compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Bools, Integers
from ltau_cli.errors import InputError

PRECISION = 1e-3  # Å
COMPARED = ("species", "structure", "group", "reference_norm")
SAME = 2e-3  # of the size of reference forces, within which they are the same
ROUNDED = 1e-4  # in their units, by which they may differ in text


def fingerprint(species: Sequence[str], positions: npt.ArrayLike) -> tuple[int, int]:
    """Return what a frame is known by in another file: two hashes, of which one must be the same.

    They are of the species and the positions (n_atoms, 3) in Å, atom by atom, as float32 and then
    rounded to 0.001 Å: so they are the same in a trainer of single precision and in text of eight
    digits. A coordinate on the edge of rounding is in the middle for the other hash. The cell is
    left out, as trainers make one for molecules, and positions are not wrapped into it, since what
    stands on its edge would be wrapped to either side.
    """
    grid = np.asarray(positions, dtype=np.float32).astype(np.float64) / PRECISION
    return tuple(  # type: ignore[return-value]
        int.from_bytes(
            hashlib.blake2b(
                " ".join(species).encode() + np.floor(grid + shift).astype("<i8").tobytes(),
                digest_size=8,
            ).digest(),
            "little",
        )
        >> 1
        for shift in (0.25, 0.75)
    )


@dataclass(frozen=True)
class Known:
    """What a file says of its rows."""

    name: object  # of the file, for messages
    n: int  # rows
    # dict of str to (n, ...) array: where it says so: ``sample_id``; ``fingerprint`` (n, 2) int64
    # of each row's frame; ``species``, ``structure``, ``group``, ``reference_norm``
    labels: dict[str, Array]

    def match(self, other: Known) -> Integers | None:
        """Find the own rows in another file, and compare what both know of them.

        By ``sample_id`` where both have it; one file may leave it to the places of its rows, if
        the other numbers just as many from 0 or 1. Else by the fingerprints, of frames that are
        there twice in the order of the file. Else rows are in the same order: None, for as many.
        Gives (n,) int64: rows of the other file, -1 where it has none.
        """
        at = self._by_id(other)
        if at is None:
            at = self._by_fingerprint(other)
        if at is not None or self.n == other.n:
            self._compare(other, np.arange(self.n) if at is None else at)
        return at

    def check(self, other: Known) -> None:
        """Refuse rows of another file that are not the own ones, in the same order."""
        at = self.match(other)
        if at is not None and self.n == other.n:
            wrong = np.flatnonzero(at != np.arange(self.n))
            raise InputError(
                f"{other.name} has other rows than {self.name}, or in another order, at "
                f"{self.tell(wrong)}",
                hint="give the very same, in the same order",
            )

    def tell(self, rows: Integers) -> str:
        """Return how many some rows are and which is the first, in the words of the file."""
        first = rows[0]
        if "sample_id" in self.labels:
            return f"{len(rows):,} rows, the first is sample_id {self.labels['sample_id'][first]}"
        if "structure" not in self.labels:
            return f"{len(rows):,} rows, the first is row {first}"
        frames = self.labels["structure"]
        return f"{len(np.unique(frames[rows])):,} frames, the first is frame {frames[first]}"

    def _by_id(self, other: Known) -> Integers | None:
        own, there = self._ids(other), other._ids(self)
        if own is None or there is None or np.array_equal(own, there):
            return None
        if own.dtype.kind != there.dtype.kind:
            numbers = own if own.dtype.kind == "i" else there
            if np.array_equal(numbers, np.arange(len(numbers))):  # of the rows, beside names
                return None
            raise InputError(
                f"{self.name} and {other.name} name their rows in two ways: sample_id {own[0]}, "
                f"and {there[0]}",
                hint="give the same sample_id in both, or leave it out of one",
            )
        own, there = own.astype(np.str_), there.astype(np.str_)
        for known, values in ((other, there), (self, own)):
            names, counts = np.unique(values, return_counts=True)
            if len(names) < len(values):
                raise InputError(
                    f"{known.name}: sample_id {names[np.argmax(counts > 1)]} is there more than "
                    "once",
                    hint="give each row a sample_id of its own, or leave them out",
                )
        return _find(own, there)

    def _ids(self, other: Known) -> Array | None:
        """Return the ids: the places of the rows, where the other numbers as many from 0 or 1."""
        own, there = (_whole(known.labels.get("sample_id")) for known in (self, other))
        if own is None and there is not None:
            for places in (np.arange(self.n), np.arange(1, self.n + 1)):
                if np.array_equal(np.sort(there), places):
                    return places
            return None
        return own

    def _by_fingerprint(self, other: Known) -> Integers | None:
        own, there = (known.labels.get("fingerprint") for known in (self, other))
        if own is None or there is None or same_frames(own, there):
            return None
        at = _find(own[:, 0], there[:, 0])
        left, free = np.flatnonzero(at < 0), np.setdiff1d(np.arange(other.n), at)
        if len(left) and len(free):
            found = _find(own[left, 1], there[free, 1])
            at[left] = np.where(found < 0, -1, free[found])
        return at

    def _compare(self, other: Known, at: Integers) -> None:
        """Refuse a row that is one thing here and another thing there."""
        rows = np.flatnonzero(at >= 0)
        for name in COMPARED:
            own, there = self.labels.get(name), other.labels.get(name)
            if own is None and name == "species" and there is not None:  # which may be the group
                group = self.labels.get("group")
                own = group if group is not None and _same_set(group, there) else None
            if own is None or there is None:
                continue
            a, b = own[rows], there[at[rows]]
            if name == "structure" or (a.dtype.kind in "iu") != (b.dtype.kind in "iu"):
                a, b = number(a), number(b)  # symbols and numbers may name the same
            wrong = np.flatnonzero(_differ(a, b) if name == "reference_norm" else a != b)
            if len(wrong):
                first = rows[wrong[0]]
                raise InputError(
                    f"{other.name} and {self.name} are not of the same rows: "
                    f"{name.replace('_norm', ' force')} differs in "
                    f"{len(wrong):,} of {len(rows):,}, the first is row {first} "
                    f"({there[at[first]]}, and {own[first]})",
                    hint="give the same samples in the same order, or a sample_id of each in both",
                )


def same_frames(one: Array, other: Array) -> bool:
    """Whether fingerprints, (n, 2) each, are those of the same frames in the same order."""
    return one.shape == other.shape and bool((one == other).any(axis=1).all())


def _find(own: Array, there: Array) -> Integers:
    """Where values stand among others; what is there twice is found in order; -1 if nowhere."""
    codes = np.unique(np.concatenate([own, there]), return_inverse=True)[1].astype(np.int64)
    n = len(own)
    before = np.concatenate([_count_before(codes[:n]), _count_before(codes[n:])])
    keys = codes * (before.max(initial=0) + 1) + before
    order = np.argsort(keys[n:])
    place = order[np.minimum(np.searchsorted(keys[n:], keys[:n], sorter=order), len(order) - 1)]
    return np.where(keys[n:][place] == keys[:n], place, -1)


def _count_before(codes: Integers) -> Integers:
    """How often each value was there before."""
    order, places = np.argsort(codes, kind="stable"), np.arange(len(codes))
    ordered = codes[order]
    first = np.append([True], ordered[1:] != ordered[:-1])
    before = np.empty_like(places)
    before[order] = places - np.maximum.accumulate(np.where(first, places, 0))
    return before


def next_structure(structure: Array) -> Integers:
    """Return the row at the same place of the structure that appears next, (n,); -1 if none."""
    numbers = number(structure)
    order = np.argsort(numbers, kind="stable")
    size = np.append(np.bincount(numbers), 0)
    start = np.cumsum(size) - size
    place = np.empty(len(numbers), dtype=np.int64)
    place[order] = np.arange(len(numbers)) - start[numbers[order]]
    there = place < size[numbers + 1]
    return np.where(there, order[np.where(there, start[numbers + 1 - ~there] + place, 0)], -1)


def _whole(ids: Array | None) -> Array | None:
    """Return text that is all whole numbers as such, if they are as distinct: 00012 is 12."""
    if ids is None or ids.dtype.kind != "U":
        return ids
    try:
        numbers = ids.astype(np.int64)
    except (ValueError, OverflowError):
        return ids
    return numbers if len(np.unique(numbers)) == len(np.unique(ids)) else ids


def number(labels: Array) -> Integers:
    """Return what a label is the how-manieth of, from 0 in the order of appearance, (n,)."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _differ(one: Array, other: Array) -> Bools:
    """Where numbers differ by more than rounding; NaN, which is unknown, from nothing."""
    known = np.isfinite(one) & np.isfinite(other)
    size = np.sqrt(np.square(one[known], dtype=np.float64).sum() / max(1, known.sum()))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(one - other) > SAME * size + ROUNDED)


def _same_set(one: Array, other: Array) -> bool:
    return bool(np.array_equal(np.unique(one), np.unique(other)))
