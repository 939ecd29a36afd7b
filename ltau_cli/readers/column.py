"""One value for each row, from anything that holds one: arrays, tables, frames, described files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from ltau_cli.array_types import Array, Bools, Integers
from ltau_cli.errors import InputError
from ltau_cli.matching import Known, number
from ltau_cli.readers.arrays import as_counts, as_labels, open_array, read_optional
from ltau_cli.readers.frames import FRAME_ENDINGS, about, label_atoms, read_property
from ltau_cli.readers.place import Place, check_file
from ltau_cli.readers.tables import INDEX_NAMES, SAMPLE_NAMES, TABLE_ENDINGS, Table, to_numbers

GROUPS = ("group", "species")  # what rows are told apart by, where nothing is named
ID = "sample_id"
IDS = (*SAMPLE_NAMES, "row")  # of columns; the last is what ltau export writes
# Arrays that say something of rows, see row_labels.
ROW_LABELS = (ID, "species", "group", "structure", "natoms", "fingerprint", "reference_forces")


@dataclass(frozen=True)
class Column:
    """Values of some rows as they stand in a file."""

    place: Place  # for messages
    values: Array  # (n,) or (n, width) array
    # dict of str to (n, ...) array: what the file says of its rows, see
    # :class:`ltau_cli.matching.Known`
    labels: dict[str, Array] = field(default_factory=dict)
    what: str = "values"  # what the values are called, for messages

    def of(self, rows: Known) -> Column:
        """Return the values of some rows, in their order: matched, where both tell theirs apart."""
        at = rows.match(Known(self.place, len(self.values), self.labels))
        if at is None:
            frames = rows.labels.get("structure")
            natoms = None if frames is None else np.bincount(frames)
            check_count(self.values, rows.n, self.place, rows.name, self.what, natoms=natoms)
            return self
        lacking = np.flatnonzero(at < 0)
        if len(lacking):
            raise InputError(
                f"{self.place} has no {self.what} for {rows.tell(lacking)}, of {rows.name}",
                hint="give one for every row, or leave the other rows out",
            )
        labels = {name: values[at] for name, values in self.labels.items()}
        return replace(self, values=self.values[at], labels=labels)


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
    if place.key == ID:
        return Column(place, values)
    ids = read_optional(place, ID)
    if ids is not None and ids.shape != (len(values),):
        raise InputError(
            f"{ID} in {place.path} has shape {ids.shape}, the values are {len(values):,}"
        )
    return Column(place, values, row_labels(len(values), partial(read_optional, place)))


def _of_table(place: Place, names: Sequence[str], text: bool) -> Column:
    table = Table(place.path, has_header=place.key is not None)
    if not table.named and place.key is None:
        rows = [to_numbers(row, "value", place.path, [i] * len(row)) for i, row in table.rows()]
        return Column(place, np.array(rows))
    known = [name for name in names if name in table.header]
    ids = [name for name in table.header if name.lower() in IDS]
    alone = [name for name in table.header if name not in (ID, *INDEX_NAMES)]
    name = place.key or (known or alone if known or len(alone) == 1 else [names[0]])[0]
    if name not in table.header:
        raise InputError(
            f"{place.path} has no column {name}; it has: " + ", ".join(table.header[:8]),
            hint=f"name the column: {place.path}:COLUMN",
        )
    ids = [own for own in (ID, *ids) if own in ids and own != name][:1]
    lines, (entries, *told) = table.entries_of(name, *ids)
    if not text:
        values = to_numbers(entries, name, place.path, lines)
    elif all(isinstance(entry, int) for entry in entries):
        values = np.array(entries)
    else:
        values = np.array(list(map(str, entries)))
    if not told or (ids != [ID] and len(set(told[0])) < len(values)):  # the atom of its frame
        return Column(place, values)
    return Column(place, values, {ID: np.array(told[0], dtype=np.str_)})


def _of_frames(place: Place, names: Sequence[str]) -> Column:
    found = [(values, about(frame)) for frame, values in read_property(place, names, names[0])]
    values, told = zip(*found, strict=True)
    return Column(place, np.concatenate(values), label_atoms(told))


def row_labels(n: int, beside: Callable[[str], Array | None]) -> dict[str, Array]:
    """Return what arrays beside some rows say of them, for a :class:`ltau_cli.matching.Known`."""
    labels: dict[str, Array] = {}
    for name in (ID, "species", "group", "structure"):
        values = beside(name)
        if values is not None and values.shape == (n,):  # else it is no label of rows
            labels[name] = as_labels(values, name)
    natoms, frames = beside("natoms"), beside("fingerprint")
    if natoms is not None and natoms.dtype.kind in "iuf" and natoms.sum() == n:
        labels["structure"] = np.repeat(np.arange(len(natoms)), natoms.astype(np.int64))
    if "structure" in labels:
        labels["structure"] = number(labels["structure"])
        if frames is not None and frames.shape == (labels["structure"].max(initial=0) + 1, 2):
            frames = frames[labels["structure"]]
    if frames is not None and frames.shape == (n, 2):
        labels["fingerprint"] = frames
    forces = beside("reference_forces")
    if forces is not None and forces.shape == (n, 3):
        labels["reference_norm"] = np.linalg.norm(forces, axis=1).astype(np.float32)
    return labels


def read_labels(place: Place, names: Sequence[str] = (ID,)) -> Column:
    """Read a label of each row, (n,) int64 or str; see :func:`read_column`."""
    column = read_column(place, names, text=True)
    return replace(column, values=as_labels(column.values, place), what="labels")


def read_counts(place: Place) -> Integers:
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
    column = as_numbers(replace(column, values=values), what=what)
    _refuse(values < 0, column, "negative", "give magnitudes: |predicted - reference|, or a spread")
    return column


def as_numbers(column: Column, *, what: str) -> Column:
    """Return numbers, (n,) float64, of either sign, all finite."""
    if column.values.dtype.kind not in "fiub" or column.values.ndim != 1:
        raise InputError(f"{column.place} has shape {column.values.shape}; {what} are numbers (n,)")
    column = replace(column, values=column.values.astype(np.float64), what=what)
    with np.errstate(over="ignore"):
        finite = np.isfinite(column.values.astype(np.float32))
    _refuse(
        ~finite, column, "NaN or infinite", "give a number for each row, or leave these rows out"
    )
    return column


def _refuse(wrong: Bools, column: Column, how: str, hint: str) -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        raise InputError(
            f"{column.place}: {len(rows):,} {column.what} are {how}, the first is row {rows[0]}",
            hint=hint,
        )


def check_count(
    values: Array,
    n: int,
    name: object,
    rows: object,
    what: str = "values",
    of: str = "rows",
    natoms: Integers | None = None,
) -> None:
    """Refuse values of another number of rows, or of whatever ``of`` is."""
    if len(values) != n:
        raise InputError(
            f"{name} has {len(values):,} {what}, {rows} has {n:,} {of}",
            hint=tell_counts(len(values), n, natoms),
        )


def tell_counts(one: int, other: int, natoms: Integers | None = None) -> str:
    """Say what two counts that should be the same may be, given the atoms of each frame."""
    few, many = sorted((one, other))
    alone = 0 if natoms is None else int((natoms == 1).sum())
    if natoms is not None and len(natoms) in (one, other) and len(natoms) != natoms.sum():
        return (
            f"{len(natoms):,} is the number of frames: energies, one for each frame? Then ltau "
            "ingest --quantity energy; another quantity of a frame: ltau fit --natoms FILE"
        )
    if alone and many - few == alone:
        return (
            f"{alone:,} frames are a single atom: isolated atoms, which trainers and ltau describe "
            "leave out, unless told to keep them: --isolated"
        )
    if few and many == 3 * few:
        return "three for each: x, y and z? Give vectors (n, 3), or their norms"
    if few > 1 and many % few == 0:
        return f"{many // few:,} for each: several epochs, runs or heads in one file?"
    return (
        "give one for each, in the same order; what may be missing: isolated atoms (ltau describe "
        "leaves them out, but for --isolated), a head, a validation set"
    )
