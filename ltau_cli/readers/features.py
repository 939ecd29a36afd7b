"""Features of the user's own: one number per row, such as the spread of a committee."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import read_array, read_optional
from ltau_cli.readers.frames import read_frames
from ltau_cli.readers.labels import check_count
from ltau_cli.readers.place import Place

FRAMES = (".xyz", ".extxyz")


def read_feature(name: str, given: Place | None, rows: Place, n: int) -> npt.NDArray[np.float32]:
    """Read a feature from a file of its own, or from an array beside the descriptors.

    Parameters
    ----------
    name : str
    given : Place or None
        An array (n,) or (n, 1) in .npy, .npz, HDF5 or text, or an extxyz file, whose column is
        named ``name`` or as the place says.
    rows : Place
        The descriptor file.
    n : int
        Rows.

    Returns
    -------
    (n,) float32

    Raises
    ------
    InputError
        If it cannot be read, is not n numbers, or one is negative or not finite.
    """
    values = read_optional(rows, name) if given is None else _read(name, given)
    where = f"{name} in {rows.path}" if given is None else str(given)
    if values is None:
        raise InputError(
            f"{rows.path} has no array {name}", hint=f"name its file: --feature {name}=FILE"
        )
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "fiu":
        raise InputError(f"{where} has shape {values.shape}; a feature is one number per row")
    check_count(values, n, where, str(rows), "rows")
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(single) | (single < 0))
    if len(bad):
        raise InputError(
            f"{where}: {len(bad):,} values are negative or not finite, the first is row {bad[0]}",
            hint="a feature grows with the error, such as a standard deviation",
        )
    return single


def _read(name: str, place: Place) -> npt.NDArray[np.float64]:
    if place.path.suffix.lower() not in FRAMES:
        return read_array(place, names=(name,), ndim=1).astype(np.float64)
    return _read_column(place.path, place.key or name)


def _read_column(path: Path, column: str) -> npt.NDArray[np.float64]:
    """Read a column of numbers of all atoms of extxyz frames."""
    found = []
    for number, frame in enumerate(read_frames(path)):
        values = frame.arrays.get(column)
        if values is None or values.ndim != 1 or values.dtype.kind not in "fiu":
            raise InputError(
                f"{path}, frame {number}: it has no column {column} of one number per atom",
                hint=f"it has: {', '.join(sorted(frame.arrays))}; name one: {path}:COLUMN",
            )
        found.append(values)
    return np.concatenate(found).astype(np.float64)
