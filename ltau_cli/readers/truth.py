"""True errors of scored rows."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import read_array, read_optional
from ltau_cli.readers.labels import as_labels, check_count, is_number
from ltau_cli.readers.place import Place, check_file
from ltau_cli.settings import LogOptions

FRAMES = {".xyz", ".extxyz"}
# per_atom.csv of SevenNet
SEVENN = tuple(f"{side}_{axis}" for side in ("inferred_force", "force_of_atoms") for axis in "xyz")
COLUMNS = ("error", "true_error", "force_error", "errors", "true_errors", "force_errors")


@dataclass(frozen=True)
class TrueErrors:
    """True errors as they stand in a file.

    Attributes
    ----------
    values : (n,) float64
        Error units.
    sample_id : (n,) labels or None
        The user's own name of each.
    species : (n,) str or None
        Of each atom, from frames.
    """

    values: npt.NDArray[np.float64]
    sample_id: npt.NDArray[Any] | None = None
    species: npt.NDArray[np.str_] | None = None


def read_true_errors(
    place: Place,
    n: int,
    scores: str,
    *,
    sample_id: npt.NDArray[Any] | None = None,
    keys: LogOptions | None = None,
) -> TrueErrors:
    """Read the true error of each of ``n`` scored rows.

    Parameters
    ----------
    place : Place
        (n,) magnitudes or (n, 3) error vectors in .npy, .npz, HDF5 or text; ``forces`` and
        ``reference_forces`` (n, 3) in .npz or HDF5, as of ``ltau describe``; a column of a CSV
        file; frames with reference and predicted forces; or what packages write of both:
        ``force_*.out`` of GPUMD, ``*.f.out`` of DeePMD, ``per_atom.csv`` of SevenNet,
        ``test_result.json`` of CHGNet.
    n : int
        Rows of the scores.
    scores : str
        Name of the scores, for messages.
    sample_id : (n,) labels, optional
        Of the scored rows: true errors that come with ``sample_id`` are matched by it.
    keys : LogOptions, optional
        Names of the forces in frames, if they are not common ones.

    Returns
    -------
    TrueErrors
        In the order of the scores.

    Raises
    ------
    InputError
        If the count or the ids differ or values are negative or not finite.
    """
    found = _read(place, keys or LogOptions())
    _check_values(place, found.values)
    if sample_id is not None and found.sample_id is not None:
        return _match(place, found, sample_id, scores)
    if len(found.values) != n:
        raise InputError(
            f"{place} has {len(found.values):,} true errors, {scores} has {n:,} rows",
            hint="give the errors of the very rows that were scored, in the same order",
        )
    return found


def _read(place: Place, keys: LogOptions) -> TrueErrors:
    ending = place.path.suffix.lower()
    if ending in FRAMES:
        from ltau_cli.readers.logs.frames import errors_of_file

        errors, labels = errors_of_file(place.path, keys)
        whole = keys.quantity == "energy"
        return TrueErrors(errors.astype(np.float64), species=None if whole else labels.species)
    if ending == ".csv":
        return _read_csv(place)
    if ending == ".json":
        return _read_chgnet(place)
    stored = _read_stored(place)
    if stored is not None:
        return stored
    values = read_array(place, names=COLUMNS[3:]).astype(np.float64)
    if values.ndim == 2 and values.shape[1] == 3:
        values = np.linalg.norm(values, axis=1)
    elif values.ndim == 2 and values.shape[1] == 6 and ending == ".out":  # of GPUMD and DeePMD
        values = np.linalg.norm(values[:, :3] - values[:, 3:], axis=1)
    elif values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise InputError(f"{place} has shape {values.shape}; true errors are (n,) or (n, 3)")
    ids = read_optional(place, "sample_id")
    if ids is None:
        return TrueErrors(values)
    if ids.ndim != 1:
        raise InputError(f"sample_id in {place.path} has shape {ids.shape}; one per row is needed")
    check_count(ids, len(values), f"sample_id in {place.path}", str(place), "true errors")
    return TrueErrors(values, as_labels(ids, f"sample_id in {place.path}"))


def _read_stored(place: Place) -> TrueErrors | None:
    """Read predicted and reference forces from a file that holds both, as of ``ltau describe``."""
    if place.key is not None:
        return None
    check_file(place.path)
    found = [read_optional(place, name) for name in ("forces", "reference_forces")]
    if found[0] is None or found[1] is None:
        return None
    if found[0].ndim != 2 or found[0].shape != found[1].shape:
        raise InputError(
            f"{place} holds forces of shape {found[0].shape} and reference_forces of shape "
            f"{found[1].shape}; both are (n_atoms, 3)"
        )
    values = np.linalg.norm(found[0].astype(np.float64) - found[1], axis=1)
    species = read_optional(place, "species")
    return TrueErrors(values, species=None if species is None else species.astype(np.str_))


def _read_chgnet(place: Place) -> TrueErrors:
    """Read ``test_result.json`` of CHGNet: predicted and true forces, frame by frame."""
    check_file(place.path)
    try:
        frames = json.loads(place.path.read_text(encoding="utf-8"))
        pairs = [
            [np.array(frame["force"][side], dtype=float) for side in ("prediction", "ground_truth")]
            for frame in frames
        ]
        errors = [np.linalg.norm(told - true, axis=1) for told, true in pairs]
        return TrueErrors(np.concatenate(errors))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{place.path} does not hold predicted and true forces as CHGNet writes them",
            hint="its trainer writes test_result.json with save_test_result=True and forces",
        ) from error


def _read_csv(place: Place) -> TrueErrors:
    """Read the column that ``place`` names, or the one with a common name, or the only one."""
    check_file(place.path)
    try:
        with place.path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{place.path}: cannot read it as CSV: {error}") from error
    if not rows:
        raise InputError(f"{place.path} is empty")
    header = [cell.strip() for cell in rows.pop(0)[1]]
    if place.key is None and len(header) == 1 and is_number(header[0]):
        header, rows = ["error"], [(1, header), *rows]
    if place.key is None and set(SEVENN) <= set(header):
        columns = [_column(place, rows, header.index(name), name) for name in SEVENN]
        vectors = np.stack(columns[:3], axis=1) - np.stack(columns[3:], axis=1)
        return TrueErrors(np.linalg.norm(vectors, axis=1))
    name = place.key or next((c for c in COLUMNS if c in header), None)
    if name not in header:
        raise InputError(
            f"{place.path} has no column {name or 'error'}; it has: " + ", ".join(header[:8]),
            hint=f"name the column: {place.path}:COLUMN",
        )
    values = _column(place, rows, header.index(name), name)
    ids = None
    if "sample_id" in header:
        column = header.index("sample_id")
        ids = np.array([row[column] if column < len(row) else "" for _, row in rows])
    return TrueErrors(values, ids)


def _column(
    place: Place, rows: list[tuple[int, list[str]]], at: int, name: str
) -> npt.NDArray[np.float64]:
    """Read the numbers of one column of the numbered lines of a table."""
    values = np.empty(len(rows))
    for i, (line, row) in enumerate(rows):
        try:
            values[i] = float(row[at])
        except (IndexError, ValueError) as error:
            raise InputError(f"{place.path}, line {line}: column {name} holds no number") from error
    return values


def _match(place: Place, found: TrueErrors, sample_id: npt.NDArray[Any], scores: str) -> TrueErrors:
    """Put true errors in the order of the scored rows by their ids."""
    assert found.sample_id is not None
    ids, wanted = found.sample_id.astype(np.str_), sample_id.astype(np.str_)
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    repeated = np.flatnonzero(ids[1:] == ids[:-1])
    if len(repeated):
        raise InputError(f"{place}: sample_id {ids[repeated[0]]} is there more than once")
    at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    lacking = np.flatnonzero(ids[at] != wanted)
    if len(lacking):
        raise InputError(
            f"{place} has no true error for {len(lacking):,} rows of {scores}, the first is "
            f"sample_id {wanted[lacking[0]]}",
            hint="give one for every scored row, or score only these rows",
        )
    return TrueErrors(found.values[order[at]], sample_id)


def _check_values(place: Place, values: npt.NDArray[np.float64]) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(
            f"{place}: {len(bad):,} true errors are NaN or infinite, the first is row {bad[0]}"
        )
    bad = np.flatnonzero(values < 0)
    if len(bad):
        raise InputError(
            f"{place}: {len(bad):,} true errors are negative, the first is row {bad[0]}",
            hint="an error is a magnitude: |predicted - reference|, or the norm of the difference",
        )
