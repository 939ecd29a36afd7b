"""Numeric arrays in .npy, .npz, HDF5 and text files, read row by row where the format allows."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ltau_cli.array_types import Array, Floats, Integers
from ltau_cli.errors import InputError
from ltau_cli.readers.hdf5 import in_hdf5, list_datasets, open_hdf5
from ltau_cli.readers.npy import open_npy, open_npz
from ltau_cli.readers.place import Place, check_file
from ltau_cli.readers.source import ArraySource, in_memory, refuse_objects
from ltau_cli.readers.tables import Table

HDF5_ENDINGS = {".h5", ".hdf5", ".hdf", ".he5"}
TEXT_ENDINGS = {".txt", ".dat", ".csv", ".out"}


@contextlib.contextmanager
def open_array(
    place: Place, *, names: Sequence[str] = (), ndim: int | None = None, text: bool = False
) -> Iterator[ArraySource]:
    """Open an array of numbers for reading: in ``.npy``, ``.npz``, HDF5 or plain text.

    Where the place does not name one of several, it is the first of ``names`` that is there, else
    the only one of ``ndim`` dimensions. With ``text`` it may be text as well as numbers.
    """
    path = place.path
    check_file(path)
    ending = path.suffix.lower()
    if ending == ".npy":
        yield _checked(open_npy(place), text)
    elif ending == ".npz":
        members = open_npz(path)
        sizes = {name: len(source.shape) for name, source in members.items()}
        key = place.key or _choose(place, sizes, names, ndim)
        if key not in members:
            raise _no_such_array(place, list(members))
        yield _checked(members[key], text)
    elif ending in HDF5_ENDINGS:
        with open_hdf5(path) as file:
            sizes = list_datasets(path, file)
            key = (place.key or _choose(place, sizes, names, ndim)).strip("/")
            if key not in sizes:
                raise _no_such_array(place, list(sizes))
            yield _checked(in_hdf5(Place(path, key), file), text)
    elif ending in TEXT_ENDINGS:
        yield _checked(in_memory(place, _read_text(path)), text)
    else:
        raise InputError(
            f"{path}: arrays are read from .npy, .npz, .h5, .txt, .dat, .out or .csv files",
            hint="save it with numpy.save",
        )


def read_array(
    place: Place, *, names: Sequence[str] = (), ndim: int | None = None, text: bool = False
) -> Array:
    """Read a whole array; see :func:`open_array`."""
    with open_array(place, names=names, ndim=ndim, text=text) as source:
        return source.all()


def open_members(path: Path, *, text: bool = False) -> dict[str, ArraySource]:
    """Open all arrays of an .npz file, by name; see :func:`open_array`."""
    check_file(path)
    return {name: _checked(member, text) for name, member in open_npz(path).items()}


def read_optional(place: Place, name: str) -> Array | None:
    """Read a further array that may stand beside the one at ``place`` in the same file."""
    ending = place.path.suffix.lower()
    if ending == ".npz":
        member = open_npz(place.path).get(name)
        return None if member is None else _checked(member, text=True).all()
    if ending in HDF5_ENDINGS:
        with open_hdf5(place.path) as file:
            folder = (place.key or "").rpartition("/")[0]
            where = f"{folder}/{name}".strip("/")
            if where in list_datasets(place.path, file):
                return _checked(in_hdf5(Place(place.path, where), file), text=True).all()
    return None


def as_labels(values: Array, name: object) -> Array:
    """Labels of any dtype as int64 or str; true is 1."""
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


def as_counts(values: Array, name: object) -> Integers:
    """Return numbers of atoms as int64."""
    right = values.ndim == 1 and values.dtype.kind in "iuf"
    if not right or not ((values == np.round(values)) & (values >= 1)).all():
        raise InputError(f"{name} must hold whole numbers of atoms, each at least 1")
    return values.astype(np.int64)


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold it: JSON and numpy know halves of characters, which it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_text(path: Path) -> Floats:
    table = Table(path)
    try:
        values = np.loadtxt(
            path, delimiter="," if path.suffix.lower() == ".csv" else None, ndmin=1,
            skiprows=table.header_lines if table.numbered else 0, encoding="utf-8-sig",
        )  # fmt: skip
    except (ValueError, OSError) as error:
        raise InputError(
            f"{path} is not a plain table of numbers: {str(error)[:200]}",
            hint="leave out the line of names, and columns that are none of the values"
            if table.named
            else None,
        ) from error
    return values


def _checked(source: ArraySource, text: bool = False) -> ArraySource:
    refuse_objects(source.place, source.dtype)
    if source.dtype.kind not in ("fiubUS" if text else "fiub"):
        raise InputError(f"{source.place} holds {source.dtype} values, not numbers")
    if len(source.shape) == 0:
        raise InputError(f"{source.place} holds a single value, not an array")
    return source


def _choose(place: Place, sizes: dict[str, int], names: Sequence[str], ndim: int | None) -> str:
    for name in names:
        if name in sizes:
            return name
    fitting = [name for name, n in sizes.items() if ndim is None or n == ndim]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise InputError(f"{place} holds no array" + (f" of {ndim} dimensions" if ndim else ""))
    raise InputError(
        f"{place} holds {len(fitting)} arrays and does not say which one is meant: "
        + ", ".join(sorted(fitting)[:5]),
        hint=f"name it: {place}:{sorted(fitting)[0]}",
    )


def _no_such_array(place: Place, there: list[str]) -> InputError:
    return InputError(
        f"{place.path} has no array {place.key}", hint="it has: " + ", ".join(sorted(there)[:10])
    )
