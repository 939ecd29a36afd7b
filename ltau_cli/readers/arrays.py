"""Numeric arrays in .npy, .npz, HDF5 and text files, read row by row where the format allows."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import InputError

HDF5_ENDINGS = {".h5", ".hdf5", ".hdf", ".he5"}
TEXT_ENDINGS = {".txt", ".dat", ".csv"}


@dataclass(frozen=True)
class Place:
    """A file, and where the array is inside it: ``file.h5:/group/data`` or ``file.npz:name``."""

    path: Path
    key: str | None = None

    @classmethod
    def parse(cls, text: str | Path) -> Place:
        """Split at the last colon that follows an existing file.

        Raises
        ------
        InputError
            If there is no such file.
        """
        path = Path(text)
        if path.exists():
            return cls(path)
        before, colon, key = str(text).rpartition(":")
        if colon and Path(before).is_file():
            return cls(Path(before), key)
        raise InputError(f"{text}: no such file")

    def __str__(self) -> str:
        return str(self.path) if self.key is None else f"{self.path}:{self.key}"


@dataclass
class ArraySource:
    """An array in a file, read by ranges of its first dimension.

    Attributes
    ----------
    place : Place
    shape : tuple of int
    dtype : numpy.dtype
        Integer, float or bool.
    read : callable
        ``read(start, stop)`` gives rows ``start..stop`` as stored.
    columns : callable
        ``columns(start, stop)`` gives ``array[:, start:stop]``.
    """

    place: Place
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int, int], npt.NDArray[Any]]
    columns: Callable[[int, int], npt.NDArray[Any]]

    def all(self) -> npt.NDArray[Any]:
        """Read every row."""
        return self.read(0, self.shape[0])


@contextlib.contextmanager
def open_array(
    place: Place, *, names: Sequence[str] = (), ndim: int | None = None, text: bool = False
) -> Iterator[ArraySource]:
    """Open an array for reading.

    Parameters
    ----------
    place : Place
        ``.npy`` (memory-mapped), ``.npz`` (loaded), HDF5, or plain text.
    names : sequence of str
        Names to look for in a file that holds several arrays and where ``place`` names none.
    ndim : int, optional
        Dimensions of the array that is looked for, where several are there.
    text : bool
        Allow text as well as numbers.

    Raises
    ------
    InputError
        If the file is missing, truncated, of another format, pickled or not numeric, or if it
        does not say which array is meant.
    """
    path = place.path
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path} is a folder; a file is needed here")
    ending = path.suffix.lower()
    if ending == ".npy":
        yield _checked(_open_npy(place), text)
    elif ending == ".npz":
        with _reading_npz(path) as members:
            key = place.key or _choose(place, {n: members[n].ndim for n in members}, names, ndim)
            if key not in members:
                raise _no_such_array(place, list(members))
            yield _checked(_in_memory(Place(path, key), members[key]), text)
    elif ending in HDF5_ENDINGS:
        with _open_hdf5(path) as file:
            sizes = _datasets(file)
            key = (place.key or _choose(place, sizes, names, ndim)).strip("/")
            if key not in sizes:
                raise _no_such_array(place, list(sizes))
            dataset = file[key]
            yield _checked(_in_hdf5(Place(path, key), dataset), text)
    elif ending in TEXT_ENDINGS:
        yield _checked(_in_memory(place, _read_text(path)), text)
    else:
        raise InputError(
            f"{path}: arrays are read from .npy, .npz, .h5, .txt, .dat or .csv files",
            hint="save it with numpy.save",
        )


def read_array(
    place: Place, *, names: Sequence[str] = (), ndim: int | None = None, text: bool = False
) -> npt.NDArray[Any]:
    """Read a whole array; see :func:`open_array`."""
    with open_array(place, names=names, ndim=ndim, text=text) as source:
        return source.all()


def list_arrays(path: Path) -> list[str]:
    """Names of the arrays in an .npz file, as stored."""
    with _reading_npz(path) as members:
        return list(members)


def read_optional(place: Place, name: str) -> npt.NDArray[Any] | None:
    """Read a further array that may stand beside the one at ``place`` in the same file."""
    ending = place.path.suffix.lower()
    if ending == ".npz":
        with _reading_npz(place.path) as members:
            return members.get(name)
    if ending in HDF5_ENDINGS:
        with _open_hdf5(place.path) as file:
            folder = (place.key or "").rpartition("/")[0]
            where = f"{folder}/{name}".strip("/")
            if where in _datasets(file):
                values: npt.NDArray[Any] = file[where][...]
                return values
    return None


def _open_npy(place: Place) -> ArraySource:
    path = place.path
    try:
        with path.open("rb") as file:
            major, _minor = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0
                if major == 1
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran_order, dtype = read_header(file)
            offset = file.tell()
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read it") from error
    except (ValueError, EOFError, SyntaxError, TypeError) as error:
        raise InputError(f"{path} is not a .npy file, or its header is damaged") from error
    _refuse_objects(place, dtype)
    wanted = offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    size = path.stat().st_size
    if size < wanted:
        raise InputError(
            f"{path} is cut short: its header promises {wanted:,} bytes, it has {size:,}",
            hint="copy it again, or leave it out if its writer was killed",
        )
    if 0 in shape or len(shape) == 0:
        return _in_memory(place, np.zeros(shape, dtype))
    values = np.memmap(
        path, dtype=dtype, mode="r", offset=offset, shape=shape, order="F" if fortran_order else "C"
    )
    return _in_memory(place, values)


@contextlib.contextmanager
def _reading_npz(path: Path) -> Iterator[dict[str, npt.NDArray[Any]]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            members = {}
            for name in archive.files:
                try:
                    members[name] = archive[name]
                except ValueError as error:
                    raise InputError(
                        f"{path}:{name} cannot be read: {_npz_reason(error)}",
                        hint="save plain numeric arrays with numpy.savez",
                    ) from error
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, KeyError, NotImplementedError) as e:
        if isinstance(e, PermissionError):
            raise InputError(f"{path}: no permission to read it") from e
        raise InputError(f"{path} is not a .npz file, or it is cut short") from e
    yield members


def _npz_reason(error: ValueError) -> str:
    return "it holds pickled Python objects" if "pickle" in str(error) else "it is damaged"


@contextlib.contextmanager
def _open_hdf5(path: Path) -> Iterator[Any]:
    import h5py

    try:
        file = h5py.File(path, "r")
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read it") from error
    except OSError as error:
        raise InputError(f"{path} is not an HDF5 file, or it is cut short") from error
    with file:
        yield file


def _datasets(file: Any) -> dict[str, int]:
    """Map each dataset inside the file itself to its number of dimensions; follow no link out."""
    import h5py

    sizes: dict[str, int] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not item.is_virtual and not item.external:
            sizes[name] = len(item.shape or ())

    file.visititems(note)
    return sizes


def _in_hdf5(place: Place, dataset: Any) -> ArraySource:
    import h5py

    shape, dtype = dataset.shape or (), dataset.dtype
    if h5py.check_string_dtype(dtype) is not None:
        dataset, dtype = dataset.asstr(), np.dtype(np.str_)

    def read(*selection: slice) -> npt.NDArray[Any]:
        try:
            values: npt.NDArray[Any] = np.asarray(dataset[selection], dtype=dtype)
        except (OSError, RuntimeError) as error:
            raise InputError(f"{place} cannot be read; the file is damaged") from error
        return values

    return ArraySource(
        place,
        shape,
        dtype,
        lambda start, stop: read(slice(start, stop)),
        lambda start, stop: read(slice(None), slice(start, stop)),
    )


def _read_text(path: Path) -> npt.NDArray[np.float64]:
    try:
        values = np.loadtxt(path, delimiter="," if path.suffix.lower() == ".csv" else None, ndmin=1)
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read it") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a plain table of numbers: {error}") from error
    return values


def _in_memory(place: Place, values: npt.NDArray[Any]) -> ArraySource:
    return ArraySource(
        place,
        values.shape,
        values.dtype,
        lambda start, stop: values[start:stop],
        lambda start, stop: values[:, start:stop],
    )


def _checked(source: ArraySource, text: bool) -> ArraySource:
    _refuse_objects(source.place, source.dtype)
    if source.dtype.kind not in ("fiubUS" if text else "fiub"):
        raise InputError(f"{source.place} holds {source.dtype} values, not numbers")
    if len(source.shape) == 0:
        raise InputError(f"{source.place} holds a single value, not an array")
    return source


def _refuse_objects(place: Place, dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise InputError(
            f"{place} holds pickled Python objects, which are never loaded",
            hint="save a plain numeric array: numpy.save(file, numpy.asarray(values, dtype=float))",
        )


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
