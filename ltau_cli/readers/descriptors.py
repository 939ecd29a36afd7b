"""Descriptors: one row per sample, with what may stand beside them in the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import open_array, read_array, read_optional
from ltau_cli.readers.frames import read_natoms
from ltau_cli.readers.labels import GROUPS, as_labels, check_count, read_label_column
from ltau_cli.readers.per_frame import (
    FRAME_ENDINGS,
    Beside,
    open_column,
    open_groups,
    stack_frames,
)
from ltau_cli.readers.place import Place
from ltau_cli.readers.source import ArraySource

BLOCK_BYTES = 16 << 20


@dataclass
class Descriptors:
    """A descriptor file, read in blocks.

    Attributes
    ----------
    n, width : int
        Rows and columns.
    known : dict of str to array
        ``natoms`` (n_frames,) and ``species`` (n,), where the array itself tells them.
    """

    source: ArraySource
    n: int
    width: int
    known: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def beside(self, name: str) -> npt.NDArray[Any] | None:
        """Read a further array of the same file; None if there is none of that name."""
        known = self.known.get(name)
        return known if known is not None else read_optional(self.source.place, name)

    def blocks(
        self, rows: int, first: int = 0, last: int | None = None
    ) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yield (first row, block (rows, d) float32) of rows ``first..last``, checked to be finite.

        Raises
        ------
        InputError
            If a block holds NaN or infinity; the message counts them over the whole file.
        """
        last = self.n if last is None else last
        for start in range(first, last, rows):
            block = self._read(start, min(start + rows, last))
            if not np.isfinite(block).all():
                raise self._not_finite(rows)
            yield start, block

    def take(self, rows: npt.NDArray[np.int64], first: int, last: int) -> npt.NDArray[np.float32]:
        """Read rows ``first..last``, checked, and keep those numbered ``rows``, increasing."""
        out = np.empty((len(rows), self.width), dtype=np.float32)
        done = 0
        for start, block in self.blocks(max(1, BLOCK_BYTES // (4 * self.width)), first, last):
            own = rows[done : np.searchsorted(rows, start + len(block))] - start
            out[done : done + len(own)] = block[own]
            done += len(own)
        return out

    def _read(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(self.source.read(start, stop), dtype=np.float32)

    def _not_finite(self, rows: int) -> InputError:
        first, count = -1, 0
        for begin in range(0, self.n, rows):
            bad = ~np.isfinite(self._read(begin, min(begin + rows, self.n))).all(axis=1)
            if first < 0 and bad.any():
                first = begin + int(np.argmax(bad))
            count += int(bad.sum())
        return InputError(
            f"{self.source.place}: {count:,} of {self.n:,} rows hold NaN or infinity, "
            f"the first is row {first}",
            hint="leave these rows out, or compute their descriptors again",
        )


@contextlib.contextmanager
def open_descriptors(place: Place) -> Iterator[Descriptors]:
    """Open descriptors: an array (n, d) in .npy, .npz or HDF5 (named ``descriptors``), or text.

    What packages store frame by frame is read, too; see :mod:`ltau_cli.readers.per_frame`.

    Raises
    ------
    InputError
        If they cannot be read, are not two-dimensional, or are empty.
    """
    with _open_rows(place) as (source, known):
        if len(source.shape) != 2:
            raise InputError(
                f"{source.place} has shape {source.shape}; descriptors are (n_samples, width), "
                "or (frames, atoms, width)"
            )
        n, width = source.shape
        if n == 0 or width == 0:
            raise InputError(f"{source.place} is empty: its shape is {source.shape}")
        yield Descriptors(source, n, width, known)


@contextlib.contextmanager
def _open_rows(place: Place) -> Iterator[tuple[ArraySource, Beside]]:
    if place.path.suffix.lower() in FRAME_ENDINGS:
        with open_column(place) as found:
            yield found
        return
    with open_groups(place) as groups:
        if groups is not None:
            yield groups
            return
    with open_array(place, names=("descriptors",), ndim=2) as source:
        three = len(source.shape) == 3 and 0 not in source.shape
        yield stack_frames(source.place, [source]) if three else (source, {})


def find_structures(source: Descriptors, natoms: Place | None) -> npt.NDArray[np.int64] | None:
    """Structure of each row, from ``--natoms`` or from ``natoms`` / ``structure`` in the file.

    Parameters
    ----------
    source : Descriptors
    natoms : Place or None
        Atoms per structure.

    Returns
    -------
    (n,) int64 or None
        Numbers from 0 in order of first appearance; None if nobody says.

    Raises
    ------
    InputError
        If the counts do not add up to its rows.
    """
    n, place = source.n, source.source.place
    if natoms is not None:
        return structures_from_natoms(read_counts(natoms), n, str(natoms))
    beside = source.beside("natoms")
    if beside is not None:
        return structures_from_natoms(beside, n, f"natoms in {place.path}")
    beside = source.beside("structure")
    if beside is None:
        return None
    if beside.shape != (n,):
        raise InputError(
            f"structure in {place.path} has shape {beside.shape}, the descriptors have {n:,} rows"
        )
    _, first, inverse = np.unique(beside, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def read_counts(place: Place) -> npt.NDArray[Any]:
    """Read the atoms per structure, (n_frames,): an array ``natoms``, or frames in extxyz.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if place.path.suffix.lower() in FRAME_ENDINGS:
        return read_natoms(place.path)
    return read_array(place, names=("natoms",), ndim=1)


def structures_from_natoms(natoms: npt.NDArray[Any], n: int, name: str) -> npt.NDArray[np.int64]:
    """Structure number of each of ``n`` rows from the atoms per structure.

    Raises
    ------
    InputError
        If they are not whole positive numbers that add up to ``n``.
    """
    natoms = np.asarray(natoms).ravel()
    if natoms.dtype.kind not in "iuf" or (natoms != np.round(natoms)).any() or (natoms < 1).any():
        raise InputError(f"{name} must hold whole numbers of atoms, each at least 1")
    if (natoms > n).any():
        raise InputError(f"{name} says {natoms.max():,} atoms, but there are {n:,} rows")
    total = int(natoms.sum())
    if total != n:
        raise InputError(
            f"{name} adds up to {total:,} atoms in {len(natoms):,} structures, "
            f"but there are {n:,} rows",
            hint="give the natoms of the same frames, in the same order",
        )
    return np.repeat(np.arange(len(natoms)), natoms.astype(np.int64))


def find_labels(
    source: Descriptors, given: Place | None, names: Sequence[str]
) -> npt.NDArray[Any] | None:
    """One label per row, from a file of their own or from an array beside the descriptors.

    Parameters
    ----------
    source : Descriptors
    given : Place or None
        File of the labels.
    names : sequence of str
        Arrays (n,) to look for beside the descriptors.

    Returns
    -------
    (n,) int64 or str, or None
        None if nobody says.

    Raises
    ------
    InputError
        If the file does not hold one for each row.
    """
    n, place = source.n, source.source.place
    if given is not None:
        labels = read_label_column(given, GROUPS)
        check_count(labels, n, given, str(place), "rows")
        return labels
    for name in names:
        beside = source.beside(name)
        if beside is not None and beside.shape == (n,):  # else it is no label of rows
            return as_labels(beside, f"{name} in {place.path}")
    return None
