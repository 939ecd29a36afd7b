"""Descriptors: one row per sample, with what may stand beside them in the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ltau_cli.array_types import Array, Floats, Integers, Singles
from ltau_cli.errors import InputError, UsageError
from ltau_cli.matching import Known, number
from ltau_cli.offsets import fit_offsets, formulas, fractions
from ltau_cli.readers.arrays import as_counts, as_labels, open_array, read_optional
from ltau_cli.readers.column import Column, as_magnitudes, read_counts, row_labels, tell_counts
from ltau_cli.readers.frames import FRAME_ENDINGS, read_frame_labels
from ltau_cli.readers.per_frame import Beside, open_column, open_groups, stack_frames
from ltau_cli.readers.place import Place
from ltau_cli.readers.source import ArraySource

BLOCK_BYTES = 16 << 20
GAP = 64  # rows between two that are wanted are read along


@dataclass
class Descriptors:
    """A descriptor file, read in blocks."""

    source: ArraySource
    n: int  # rows
    width: int  # columns
    # dict of str to array: ``natoms`` (n_frames,), ``species`` (n,), ..., where the array itself
    # tells them
    known: dict[str, Array] = field(default_factory=dict)
    named: bool = False  # whether the user named the array
    # (n,): which rows of the file these are, see :meth:`ordered`
    rows: Integers | None = None
    # (n,): rows of the file that each of these is the mean of, see :meth:`averaged`
    natoms: Integers | None = None

    def beside(self, name: str) -> Array | None:
        """Read a further array of the same file; None if there is none of that name."""
        known = self.known.get(name)
        if known is not None or self.natoms is not None:
            return known
        return read_optional(self.source.place, name)

    def column(self, name: str) -> Column:
        """Read a feature of the rows that stands beside them, (n,) float64."""
        path, values = self.source.place.path, self.beside(name)
        if values is None:
            raise InputError(
                f"{path} has no array {name}", hint=f"name its file: --feature {name}=FILE"
            )
        return as_magnitudes(Column(Place(path, name), values), what="values")

    def structure(self) -> Integers | None:
        """Structure of each row, (n,) from 0, by ``natoms`` or ``structure``; None if unknown."""
        path = self.source.place.path
        natoms = self.beside("natoms")
        if natoms is not None:
            name = f"natoms in {path}"
            return spread(as_counts(natoms, name), self.n, name)
        beside = self.beside("structure")
        if beside is None:
            return None
        if beside.shape != (self.n,):
            raise InputError(
                f"structure in {path} has shape {beside.shape}, the descriptors have {self.n:,} "
                "rows"
            )
        return number(beside)

    def told(self) -> Known:
        """Return what the file says of the rows; an array that is named has no fingerprints."""
        labels = row_labels(self.n, self.beside)
        if self.named:
            labels.pop("fingerprint", None)
        return Known(self.source.place, self.n, labels)

    def errors(self) -> Floats | None:
        """Read the norms of predicted minus reference forces, (n,); None without both.

        Of structures: their energies per atom, without an offset of each element.
        """
        if self.natoms is not None:
            return self._energy_errors(self.natoms)
        told, true = (self.beside(name) for name in ("forces", "reference_forces"))
        if told is None or true is None or not told.shape == true.shape == (self.n, 3):
            return None
        return np.asarray(np.linalg.norm(told - true, axis=1), dtype=np.float64)

    def _energy_errors(self, natoms: Integers) -> Floats | None:
        told, true = (
            read_optional(self.source.place, name) for name in ("energy", "reference_energy")
        )
        if told is None or true is None or not told.shape == true.shape == (self.n,):
            return None
        errors, of = (told - true) / natoms, self.beside("formula")
        shares = np.ones((self.n, 1)) if of is None else fractions(of)[1]
        return np.asarray(np.abs(errors - shares @ fit_offsets(errors, shares)), dtype=np.float64)

    def ordered(self, rows: Integers) -> Descriptors:
        """Return the rows of these numbers, (n,) int64; -1 stands for one of zeros."""

        def read(start: int, stop: int) -> Array:
            wanted = rows[start:stop]
            order = np.argsort(wanted, kind="stable")
            order = order[np.searchsorted(wanted[order], 0) :]
            block = np.zeros((len(wanted), self.width), dtype=np.float32)
            for own in np.split(order, np.flatnonzero(np.diff(wanted[order]) > GAP) + 1):
                if len(own):
                    first = int(wanted[own[0]])
                    block[own] = self._read(first, int(wanted[own[-1]]) + 1)[wanted[own] - first]
            return block

        source = replace(self.source, shape=(len(rows), self.width), read=read)
        return replace(self, source=source, n=len(rows), rows=rows)

    def averaged(self, natoms: Integers) -> Descriptors:
        """Return the mean over the rows of each structure, of which there are ``natoms``.

        A structure is then a row. Of what is known of the atoms, ``fingerprint`` and ``formula``
        of their frame are left.
        """
        ends = np.cumsum(natoms)

        def read(start: int, stop: int) -> Array:
            first = int(ends[start] - natoms[start])
            block = self._read(first, int(ends[stop - 1])).astype(np.float64)
            sums = np.add.reduceat(block, ends[start:stop] - natoms[start:stop] - first, axis=0)
            return sums / natoms[start:stop, None]

        told, known = self.told().labels, {}
        if "fingerprint" in told:
            known["fingerprint"] = told["fingerprint"][ends - 1]
        if "species" in told:
            known["formula"] = formulas(told["species"], natoms)
        source = replace(self.source, shape=(len(natoms), self.width), read=read)
        return replace(self, source=source, n=len(natoms), known=known, natoms=natoms)

    def labels(self, *names: str) -> Array | None:
        """Label of each row, (n,) int64 or str, the first of these that is there; None if none."""
        for name in names:
            beside = self.beside(name)
            if beside is not None and beside.shape == (self.n,):  # else it is no label of rows
                return as_labels(beside, f"{name} in {self.source.place.path}")
        return None

    def blocks(
        self, rows: int, first: int = 0, last: int | None = None
    ) -> Iterator[tuple[int, Singles]]:
        """Yield (first row, block (rows, d) float32) of rows ``first..last``; all are finite."""
        last = self.n if last is None else last
        for start in range(first, last, rows):
            block = self._read(start, min(start + rows, last))
            if not np.isfinite(block).all():
                raise self._not_finite(rows)
            yield start, block

    def take(self, rows: Integers, first: int, last: int) -> Singles:
        """Read rows ``first..last``, checked, and keep those numbered ``rows``, increasing."""
        out = np.empty((len(rows), self.width), dtype=np.float32)
        done = 0
        for start, block in self.blocks(max(1, BLOCK_BYTES // (4 * self.width)), first, last):
            own = rows[done : np.searchsorted(rows, start + len(block))] - start
            out[done : done + len(own)] = block[own]
            done += len(own)
        return out

    def _read(self, start: int, stop: int) -> Singles:
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
        yield Descriptors(source, n, width, known, named=place.key is not None)


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


def read_structure(natoms: Place | None, frames: Path | None, rows: Known) -> dict[str, Array]:
    """Read what a user says of some rows: at least their ``structure``, (n,) int64 from 0.

    ``natoms`` holds the number of rows of each structure, ``frames`` the structures themselves,
    whose atoms the rows are; without both there is nothing. What the rows know of it themselves
    is compared.
    """
    check_one_says(natoms, frames)
    if frames is not None:
        name, labels = str(frames), read_frame_labels(frames)
        spread(np.bincount(labels["structure"]), rows.n, name)
    elif natoms is not None:
        name = str(natoms)
        labels = {"structure": spread(read_counts(natoms), rows.n, name)}
    else:
        return {}
    rows.check(Known(name, rows.n, labels))
    return labels


def check_one_says(natoms: object, frames: object) -> None:
    """Refuse both, the numbers of atoms of the frames and the frames."""
    if natoms is not None and frames is not None:
        raise UsageError("--frames and --natoms both say what a structure is", hint="give one")


def spread(natoms: Integers, n: int, name: str) -> Integers:
    """Structure of each of ``n`` rows from the number of rows of each."""
    total = int(natoms.sum())
    if total != n:
        raise InputError(
            f"{name} adds up to {total:,} atoms in {len(natoms):,} structures, "
            f"but there are {n:,} rows",
            hint=tell_counts(total, n, natoms),
        )
    return np.repeat(np.arange(len(natoms)), natoms)
