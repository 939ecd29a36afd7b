"""One value for each row, from anything that holds one: arrays, tables, frames, described files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import as_counts, as_labels, open_array, read_optional
from ltau_cli.readers.frames import FRAME_ENDINGS, read_property
from ltau_cli.readers.place import Place, check_file
from ltau_cli.readers.tables import TABLE_ENDINGS, Table, to_numbers

GROUPS = ("group", "species")  # what rows are told apart by, where nothing is named
ID = "sample_id"


@dataclass(frozen=True)
class Column:
    """Values of some rows as they stand in a file.

    Attributes
    ----------
    place : Place
        For messages.
    values : (n,) or (n, width) array
    sample_id : (n,) labels or None
        The user's own name of each row.
    species : (n,) str or None
        Of each atom, from frames.
    what : str
        The values are called, for messages.
    """

    place: Place
    values: npt.NDArray[Any]
    sample_id: npt.NDArray[Any] | None = None
    species: npt.NDArray[np.str_] | None = None
    what: str = "values"

    def of(self, n: int, rows: object, sample_id: npt.NDArray[Any] | None = None) -> Column:
        """Return the values of ``n`` rows, in their order.

        ``rows`` is the name of the file of the rows, for messages, ``sample_id`` (n,) their labels:
        values that come with labels, too, are matched by them.
        """
        if sample_id is not None and self.sample_id is not None:
            at = self._find(sample_id.astype(np.str_), rows)
            species = None if self.species is None else self.species[at]
            return replace(self, values=self.values[at], sample_id=sample_id, species=species)
        check_count(self.values, n, self.place, rows, self.what)
        return self

    def _find(self, wanted: npt.NDArray[np.str_], rows: object) -> npt.NDArray[np.int64]:
        """Where the value of each row stands."""
        assert self.sample_id is not None, "by the caller"
        ids = self.sample_id.astype(np.str_)
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        repeated = np.flatnonzero(ids[1:] == ids[:-1])
        if len(repeated):
            raise InputError(f"{self.place}: {ID} {ids[repeated[0]]} is there more than once")
        at = np.searchsorted(ids, wanted)
        lacking = np.flatnonzero(ids[np.minimum(at, len(ids) - 1)] != wanted)
        if len(lacking):
            raise InputError(
                f"{self.place} has no {self.what} for {len(lacking):,} rows of {rows}, the first "
                f"is {ID} {wanted[lacking[0]]}",
                hint="give one for every row, or leave the other rows out",
            )
        found: npt.NDArray[np.int64] = order[at]
        return found


def read_column(
    place: Place, names: Sequence[str], *, text: bool = False, vectors: bool = False
) -> Column:
    """Read one value for each row.

    It is in an array in .npy, .npz, HDF5 or text; a column of a CSV, TSV or JSON-lines file; a
    property of the atoms, or of the frames, of an extxyz file. What the place names is taken, else
    the first of ``names`` that is there, else what there is only one of. With ``text`` that may be
    text as well as numbers (a .txt file holds one label per line), with ``vectors`` (n, width) as
    well as (n,).
    """
    check_file(place.path)
    name = place.path.name.lower()
    if name.endswith(FRAME_ENDINGS):
        return _of_frames(place, names)
    if name.endswith(TABLE_ENDINGS):
        column = _of_table(place, names, text)
    elif text and name.endswith(".txt"):
        try:
            column = Column(place, np.array(place.path.read_text(encoding="utf-8").splitlines()))
        except UnicodeDecodeError as error:
            raise InputError(f"{place}: cannot read it as text") from error
    else:
        column = _of_array(place, names, text, vectors)
    shape = column.values.shape
    if shape[1:] == (1,):
        return replace(column, values=column.values[:, 0])
    if len(shape) > 1 and not vectors:
        raise InputError(f"{place} has shape {shape}; one value for each row is needed")
    return column


def _of_array(place: Place, names: Sequence[str], text: bool, vectors: bool) -> Column:
    with open_array(place, names=names, ndim=None if vectors else 1, text=text) as source:
        place, values = source.place, source.all()
    ids = read_optional(place, ID)
    if ids is None or place.key == ID:
        return Column(place, values)
    if ids.shape != (len(values),):
        raise InputError(
            f"{ID} in {place.path} has shape {ids.shape}, the values are {len(values):,}"
        )
    return Column(place, values, as_labels(ids, f"{ID} in {place.path}"))


def _of_table(place: Place, names: Sequence[str], text: bool) -> Column:
    table = Table(place.path)
    if not table.named and place.key is None:
        rows = [to_numbers(row, "value", place.path, [i] * len(row)) for i, row in table.rows()]
        return Column(place, np.array(rows))
    known = [name for name in names if name in table.header]
    alone = [name for name in table.header if name != ID]
    name = place.key or (known or alone if known or len(alone) == 1 else [names[0]])[0]
    if name not in table.header:
        raise InputError(
            f"{place.path} has no column {name}; it has: " + ", ".join(table.header[:8]),
            hint=f"name the column: {place.path}:COLUMN",
        )
    with_ids = ID in table.header and name != ID
    lines, (entries, *ids) = table.entries_of(name, *[ID] * with_ids)
    if not text:
        values = to_numbers(entries, name, place.path, lines)
    elif all(isinstance(entry, int) for entry in entries):
        values = np.array(entries)
    else:
        values = np.array(list(map(str, entries)))
    return Column(place, values, np.array(ids[0], dtype=np.str_) if ids else None)


def _of_frames(place: Place, names: Sequence[str]) -> Column:
    found: list[npt.NDArray[Any]] = []
    species: list[str] = []
    for frame, values in read_property(place, names, names[0]):
        found.append(values)
        species += frame.get_chemical_symbols()
    return Column(place, np.concatenate(found), species=np.array(species, dtype=np.str_))


def read_labels(place: Place, names: Sequence[str] = (ID,)) -> Column:
    """Read a label of each row, (n,) int64 or str; see :func:`read_column`."""
    column = read_column(place, names, text=True)
    return replace(column, values=as_labels(column.values, place), what="labels")


def read_counts(place: Place) -> npt.NDArray[np.int64]:
    """Read the number of rows of each structure, (n_structures,); see :func:`read_column`."""
    if place.path.name.lower().endswith(FRAME_ENDINGS):
        raise InputError(
            f"{place} holds frames, not the number of atoms of each",
            hint=f"name it as what it is: --frames {place}",
        )
    return as_counts(read_column(place, ("natoms",)).values, place)


def read_magnitudes(
    place: Place, names: Sequence[str], *, what: str, signed: bool = False
) -> Column:
    """Read numbers, (n,) float64, of vectors their norms; see :func:`read_column`."""
    return as_magnitudes(read_column(place, names, vectors=True), what=what, signed=signed)


def as_magnitudes(column: Column, *, what: str, signed: bool = False) -> Column:
    """Return numbers as magnitudes; see :func:`read_magnitudes`."""
    place, values = column.place, column.values
    if values.dtype.kind not in "fiub" or values.shape[1:] not in ((), (1,), (3,)):
        raise InputError(f"{place} has shape {values.shape}; {what} are (n,) or (n, 3)")
    values = values.astype(np.float64)
    if values.shape[1:] == (3,):
        values = np.linalg.norm(values, axis=1)
    values = np.abs(values.ravel()) if signed else values.ravel()
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(np.float32))
    for wrong, how, hint in (
        (~finite, "NaN or infinite", "give a number for each row, or leave these rows out"),
        (values < 0, "negative", "give magnitudes: |predicted - reference|, or a spread"),
    ):
        rows = np.flatnonzero(wrong)
        if len(rows):
            raise InputError(
                f"{place}: {len(rows):,} {what} are {how}, the first is row {rows[0]}", hint=hint
            )
    return replace(column, values=values, what=what)


def check_count(
    values: npt.NDArray[Any],
    n: int,
    name: object,
    rows: object,
    what: str = "values",
    of: str = "rows",
) -> None:
    """Refuse values of another number of rows, or of whatever ``of`` is."""
    if len(values) != n:
        raise InputError(
            f"{name} has {len(values):,} {what}, {rows} has {n:,} {of}",
            hint="give one for each, in the same order",
        )
