"""Per-sample labels that the user adds to a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import read_array
from ltau_cli.readers.place import Place, check_file

GROUPS = ("group", "species")  # what rows are told apart by, where nothing is named


def read_label_column(place: Place, names: Sequence[str] = ()) -> npt.NDArray[Any]:
    """Read one label per sample: .npy of numbers or text, .txt with one per line, .npz, HDF5.

    Parameters
    ----------
    place : Place
    names : sequence of str
        Arrays to look for in a file of several.

    Returns
    -------
    (n,) int64 or str

    Raises
    ------
    InputError
        If it cannot be read or is not one-dimensional.
    """
    path = place.path
    check_file(path)
    values: npt.NDArray[Any]
    if path.suffix.lower() == ".txt":
        try:
            values = np.array(path.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot read it as text") from error
    else:
        values = read_array(place, names=names, ndim=1, text=True)
    if values.ndim != 1:
        raise InputError(f"{place} has shape {values.shape}; one label per sample is needed")
    return as_labels(values, place)


def is_number(cell: str) -> bool:
    """Whether a cell of a table reads as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def as_labels(values: npt.NDArray[Any], name: object) -> npt.NDArray[Any]:
    """Labels of any dtype as int64 or str; true is 1.

    Raises
    ------
    InputError
        If one is no text that UTF-8 can hold; it names ``name``.
    """
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind == "f" and (values == np.round(values)).all():
        exact = bool((np.abs(values) < 1 << 53).all())
        values = values.astype(np.int64 if exact else np.str_)
    if values.dtype.kind in "ib" or (values.dtype.kind == "u" and (values < 1 << 63).all()):
        return values.astype(np.int64)
    values = values.astype(np.str_)
    if not is_utf8("".join(values.ravel().tolist())):
        raise InputError(f"{name} holds labels that are no text", hint="write them as UTF-8")
    return values


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold it: JSON and numpy know halves of characters, which it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_magnitudes(place: Place) -> npt.NDArray[np.float32]:
    """Read target magnitudes: (n,) values, whose absolute value is taken, or (n, 3) vectors.

    Returns
    -------
    (n,) float32
        Error units.

    Raises
    ------
    InputError
        If it cannot be read or is not finite.
    """
    values = read_array(place, names=("magnitude", "reference_forces")).astype(np.float64)
    if values.ndim == 2 and values.shape[1] in (1, 3):
        values = np.linalg.norm(values, axis=1)
    if values.ndim != 1:
        raise InputError(f"{place} has shape {values.shape}; magnitudes are (n,) or (n, 3)")
    if not np.isfinite(values).all():
        raise InputError(f"{place} holds NaN or infinity")
    return np.abs(values).astype(np.float32)


def check_count(
    values: npt.NDArray[Any], n: int, name: object, log: str, what: str = "samples"
) -> None:
    """Refuse labels of another number of samples, or of whatever ``what`` is.

    Raises
    ------
    InputError
        With both numbers.
    """
    if len(values) != n:
        raise InputError(
            f"{name} has {len(values):,} rows, {log} has {n:,} {what}",
            hint="give one label for each, in the same order",
        )
