"""Numeric arrays in .npy, .npz, HDF5 and text files, read row by row where the format allows."""

from __future__ import annotations

import contextlib
import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import InputError, LtauError
from ltau_cli.readers.place import Place
from ltau_cli.readers.scratch import Scratch, bytes_of, fill

UNPACKED_BYTES = 1 << 20  # of a compressed array, at a time
CHUNK_CACHE = 32 << 20  # bytes of unpacked chunks of an HDF5 dataset that are kept
CHUNK_SLOTS = 100_003  # a prime, far above the number of chunks in the cache
HDF5_ENDINGS = {".h5", ".hdf5", ".hdf", ".he5"}
TEXT_ENDINGS = {".txt", ".dat", ".csv"}

Fill = Callable[[npt.NDArray[Any], int], None]  # fills an array with the bytes from a position


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
        ``.npy``, ``.npz``, HDF5, or plain text.
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
        members = _npz_members(path)
        sizes = {name: len(source.shape) for name, source in members.items()}
        key = place.key or _choose(place, sizes, names, ndim)
        if key not in members:
            raise _no_such_array(place, list(members))
        yield _checked(members[key], text)
    elif ending in HDF5_ENDINGS:
        with _open_hdf5(path) as file:
            sizes = _datasets(path, file)
            key = (place.key or _choose(place, sizes, names, ndim)).strip("/")
            if key not in sizes:
                raise _no_such_array(place, list(sizes))
            yield _checked(_in_hdf5(Place(path, key), file), text)
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
    return list(_npz_members(path))


def read_optional(place: Place, name: str) -> npt.NDArray[Any] | None:
    """Read a further array that may stand beside the one at ``place`` in the same file."""
    ending = place.path.suffix.lower()
    if ending == ".npz":
        member = _npz_members(place.path).get(name)
        return None if member is None else _checked(member, text=True).all()
    if ending in HDF5_ENDINGS:
        with _open_hdf5(place.path) as file:
            folder = (place.key or "").rpartition("/")[0]
            where = f"{folder}/{name}".strip("/")
            if where in _datasets(place.path, file):
                return _checked(_in_hdf5(Place(place.path, where), file), text=True).all()
    return None


@contextlib.contextmanager
def damage_named(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a library raises over a damaged file into one clear line.

    Raises
    ------
    InputError
    """
    try:
        yield
    except (LtauError, MemoryError):
        raise
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read it") from error
    except Exception as error:
        raise InputError(f"{path} is not {what}, or it is damaged or cut short") from error


def _open_npy(place: Place, start: int = 0, stop: int | None = None) -> ArraySource:
    """Open a .npy file, or one that stands uncompressed at ``start..stop`` of an .npz file."""
    path = place.path
    with damage_named(path, "a .npy file"), path.open("rb") as file:
        file.seek(start)
        shape, fortran_order, dtype = _read_header(file)
        offset = file.tell()
        size = path.stat().st_size if stop is None else stop
    _check_header(place, shape, dtype, header=offset - start, size=size - start)

    @contextlib.contextmanager
    def opened() -> Iterator[Fill]:
        with path.open("rb", buffering=0) as file:
            yield lambda out, at: _fill(place, file, out, offset + at)

    return _in_file(place, shape, dtype, fortran_order, opened)


def _check_header(
    place: Place, shape: tuple[int, ...], dtype: np.dtype[Any], *, header: int, size: int
) -> None:
    """Refuse objects, and a .npy file of ``size`` bytes that cannot hold what its header says."""
    _refuse_objects(place, dtype)
    wanted = header + math.prod(shape) * dtype.itemsize
    if size < wanted or any(length < 0 for length in shape):
        raise InputError(
            f"{place} is cut short: its header promises {wanted:,} bytes, it has {size:,}",
            hint="copy it again, or leave it out if its writer was killed",
        )


def _fill(place: Place, file: IO[bytes], out: npt.NDArray[Any], position: int) -> None:
    try:
        fill(file, bytes_of(out), position)
    except EOFError as error:
        raise InputError(f"{place} became shorter while it was read") from error


def _in_file(
    place: Place,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    fortran_order: bool,
    opened: Callable[[], contextlib.AbstractContextManager[Fill]],
) -> ArraySource:
    """Read parts of an array on demand; a map of it would count as this process's memory.

    ``opened`` is entered for each read: a log may have more epochs than a process may hold open
    files. What it gives fills an array with the bytes from a position.
    """
    if math.prod(shape) * dtype.itemsize == 0:
        return _in_memory(place, np.zeros(shape, dtype))
    lengths = shape[::-1] if fortran_order else shape  # in the order of the file

    def part(axis: int, start: int, stop: int) -> npt.NDArray[Any]:
        axis = len(shape) - 1 - axis if fortran_order else axis
        n = max(0, stop - start)
        width = math.prod(lengths[axis + 1 :])
        pieces = np.empty((math.prod(lengths[:axis]), n * width), dtype)
        with opened() as fill_from:
            for i, piece in enumerate(pieces):
                fill_from(piece, (i * lengths[axis] + start) * width * dtype.itemsize)
        out = pieces.reshape(*lengths[:axis], n, *lengths[axis + 1 :])
        return out.T if fortran_order else out

    return ArraySource(place, shape, dtype, partial(part, 0), partial(part, 1))


def _npz_members(path: Path) -> dict[str, ArraySource]:
    """Open the arrays of an .npz file; no values are read yet."""
    members = {}
    with damage_named(path, "a .npz file"), zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.filename.endswith(".npy"):
                continue
            place = Place(path, entry.filename.removesuffix(".npy"))
            if entry.compress_type == zipfile.ZIP_STORED:
                with archive.open(entry):  # checks the local header
                    start = _start_of_member(path, entry)
                members[str(place.key)] = _open_npy(place, start, start + entry.file_size)
            else:
                members[str(place.key)] = _compressed(place, archive, entry)
    return members


def _start_of_member(path: Path, entry: zipfile.ZipInfo) -> int:
    """Where the bytes of a zip member begin, behind its local header (APPNOTE 4.3.7)."""
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return int(entry.header_offset + 30 + name + extra)


def _compressed(place: Place, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> ArraySource:
    """Read the header now; unpack the values, all of them, when the first are needed."""
    with archive.open(entry) as file:
        shape, fortran_order, dtype = _read_header(file)
        start = file.tell()
    _check_header(place, shape, dtype, header=start, size=entry.file_size)

    @cache
    def unpacked() -> Scratch:
        scratch = Scratch()
        with (
            damage_named(place.path, "a .npz file"),
            zipfile.ZipFile(place.path) as again,
            again.open(entry) as file,
        ):
            _read_header(file)
            while data := file.read(UNPACKED_BYTES):
                scratch.write(data, scratch.size)
            if scratch.size < entry.file_size - start:
                raise EOFError
        return scratch

    return _in_file(
        place, shape, dtype, fortran_order, lambda: contextlib.nullcontext(unpacked().read)
    )


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype of a .npy file."""
    major, _minor = np.lib.format.read_magic(file)
    if major == 1:
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


@contextlib.contextmanager
def _open_hdf5(path: Path) -> Iterator[Any]:
    import h5py

    with damage_named(path, "an HDF5 file"):
        file = h5py.File(path, "r")
    with file:
        yield file


def _datasets(path: Path, file: Any) -> dict[str, int]:
    """Map each dataset inside the file itself to its number of dimensions; follow no link out."""
    import h5py

    sizes: dict[str, int] = {}

    def note(name: str | bytes, item: Any) -> None:
        if isinstance(name, bytes):  # not UTF-8: nobody can name it
            return
        if isinstance(item, h5py.Dataset) and not item.is_virtual and not item.external:
            sizes[name] = len(item.shape or ())

    with damage_named(path, "an HDF5 file"):
        file.visititems(note)
    return sizes


def _in_hdf5(place: Place, file: Any) -> ArraySource:
    import h5py

    with damage_named(place.path, "an HDF5 file"):
        filtered = file[place.key].id.get_create_plist().get_nfilters() > 0
        # Without a cache, HDF5 reads parts of a chunk; what a filter made it must read whole.
        access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        access.set_chunk_cache(CHUNK_SLOTS, CHUNK_CACHE if filtered else 0, 1.0)
        dataset = h5py.Dataset(h5py.h5d.open(file.id, str(place.key).encode(), access))
        shape, dtype = dataset.shape or (), dataset.dtype
        chunks = dataset.chunks if filtered else None
        if h5py.check_string_dtype(dtype) is not None:
            dataset, dtype, chunks = dataset.asstr(), np.dtype(np.str_), None

    @cache
    def unpacked() -> ArraySource:
        with damage_named(place.path, "an HDF5 file"):
            scratch = _unpack_chunks(dataset)
        return _in_file(place, shape, dtype, False, lambda: contextlib.nullcontext(scratch.read))

    def part(axis: int, start: int, stop: int) -> npt.NDArray[Any]:
        if stop - start < shape[axis] and _bytes_across(chunks, shape, dtype, axis) > CHUNK_CACHE:
            whole = unpacked()
            return whole.columns(start, stop) if axis else whole.read(start, stop)
        with damage_named(place.path, "an HDF5 file"):
            selection = (slice(None),) * axis + (slice(start, stop),)
            values: npt.NDArray[Any] = np.asarray(dataset[selection], dtype=dtype)
        return values

    return ArraySource(place, shape, dtype, partial(part, 0), partial(part, 1))


def _bytes_across(
    chunks: tuple[int, ...] | None, shape: tuple[int, ...], dtype: np.dtype[Any], axis: int
) -> int:
    """Bytes of the chunks at one place of an axis; with less cache, each is read several times."""
    if chunks is None or len(shape) < 2:
        return 0
    lengths = [-(-n // chunk) * chunk for n, chunk in zip(shape, chunks, strict=True)]
    return math.prod([*lengths[:axis], chunks[axis], *lengths[axis + 1 :]]) * dtype.itemsize


def _unpack_chunks(dataset: Any) -> Scratch:
    """Copy an array of two or more dimensions, reading each chunk once."""
    scratch = Scratch()
    shape, chunks, itemsize = dataset.shape, dataset.chunks, dataset.dtype.itemsize
    cell = math.prod(shape[2:]) * itemsize
    width = chunks[1] * max(1, UNPACKED_BYTES // (chunks[0] * chunks[1] * cell))
    for top in range(0, shape[0], chunks[0]):
        for left in range(0, shape[1], width):
            for i, row in enumerate(dataset[top : top + chunks[0], left : left + width], top):
                scratch.write(row, (i * shape[1] + left) * cell)
    return scratch


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


def _checked(source: ArraySource, text: bool = False) -> ArraySource:
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
