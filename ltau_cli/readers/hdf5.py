"""Arrays in HDF5 files."""

import contextlib
import math
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Array
from ltau_cli.errors import InputError
from ltau_cli.readers.place import Place
from ltau_cli.readers.scratch import Scratch
from ltau_cli.readers.source import MOST_UNPACKED, ArraySource, damage_named, in_file

UNPACKED_BYTES = 1 << 20  # of a compressed array, at a time
CHUNK_CACHE = 32 << 20  # bytes of unpacked chunks of a dataset that are kept
CHUNK_SLOTS = 100_003  # a prime, far above the number of chunks in the cache
SMALL = 1 << 20  # bytes that may be promised in any case


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file."""
    import h5py

    with damage_named(path, "an HDF5 file"):
        file = h5py.File(path, "r")
    with file:
        yield file


def list_datasets(path: Path, file: Any) -> dict[str, int]:
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


def in_hdf5(place: Place, file: Any, *, kept: int = CHUNK_CACHE) -> ArraySource:
    """Return a dataset of an open file; ``kept`` bytes of unpacked chunks stay in memory."""
    import h5py

    with damage_named(place.path, "an HDF5 file"):
        filtered = file[place.key].id.get_create_plist().get_nfilters() > 0
        # Without a cache, HDF5 reads parts of a chunk; what a filter made it must read whole.
        access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        access.set_chunk_cache(CHUNK_SLOTS, kept if filtered else 0, 1.0)
        dataset = h5py.Dataset(h5py.h5d.open(file.id, str(place.key).encode(), access))
        shape, dtype = dataset.shape or (), dataset.dtype
        lacking = not_stored(dataset, place.path.stat().st_size)
        if lacking:
            raise InputError(f"{place} {lacking}")
        chunks = dataset.chunks if filtered else None
        if h5py.check_string_dtype(dtype) is not None:
            dataset, dtype, chunks = dataset.asstr(), np.dtype(np.str_), None

    @cache
    def unpacked() -> ArraySource:
        with damage_named(place.path, "an HDF5 file"):
            scratch = _unpack_chunks(dataset)
        return in_file(place, shape, dtype, False, lambda: contextlib.nullcontext(scratch.read))

    def part(axis: int, start: int, stop: int) -> Array:
        if stop - start < shape[axis] and _bytes_across(chunks, shape, dtype, axis) > CHUNK_CACHE:
            whole = unpacked()
            return whole.columns(start, stop) if axis else whole.read(start, stop)
        with damage_named(place.path, "an HDF5 file"):
            selection = (slice(None),) * axis + (slice(start, stop),)
            values: Array = np.asarray(dataset[selection], dtype=dtype)
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


def not_stored(dataset: Any, file_size: int) -> str | None:
    """Say what a dataset promises beyond what is stored of it, before anything is allocated.

    Such as ``promises 80 bytes, but 8 are stored``; None if all is well.
    """
    stored, itemsize = dataset.id.get_storage_size(), dataset.dtype.itemsize
    if stored > file_size:
        return f"says that {stored:,} bytes are stored in a file of {file_size:,}"
    promised = math.prod(dataset.shape or ()) * itemsize
    most = stored
    if dataset.chunks is not None:
        promised = max(promised, math.prod(dataset.chunks) * itemsize)
        most = MOST_UNPACKED * stored + SMALL
    return f"promises {promised:,} bytes, but {stored:,} are stored" if promised > most else None
