"""Arrays in .npy and .npz files."""

import contextlib
import math
import struct
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from ltau_cli.array_types import Array
from ltau_cli.errors import InputError
from ltau_cli.readers.place import Place
from ltau_cli.readers.scratch import Scratch, bytes_of, fill
from ltau_cli.readers.source import (
    MOST_UNPACKED,
    ArraySource,
    Fill,
    damage_named,
    in_file,
    refuse_objects,
)

UNPACKED_BYTES = 1 << 20  # of a compressed array, at a time
MOST_DIMENSIONS = 32


def open_npy(place: Place, start: int = 0, stop: int | None = None) -> ArraySource:
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
        with damage_named(path, "there any more"), path.open("rb", buffering=0) as file:
            yield lambda out, at: _fill(place, file, out, offset + at)

    return in_file(place, shape, dtype, fortran_order, opened)


def _check_header(
    place: Place, shape: tuple[int, ...], dtype: np.dtype[Any], *, header: int, size: int
) -> None:
    """Refuse objects, and a .npy file of ``size`` bytes that cannot hold what its header says."""
    refuse_objects(place, dtype)
    if (
        len(shape) > MOST_DIMENSIONS
        or dtype.itemsize == 0
        or not all(type(length) is int and 0 <= length < 1 << 40 for length in shape)
    ):
        raise InputError(f"{place} is damaged: its header says {dtype} values of shape {shape}")
    wanted = header + math.prod(shape) * dtype.itemsize
    if size < wanted:
        raise InputError(
            f"{place} is cut short: its header promises {wanted:,} bytes, it has {size:,}",
            hint="copy it again, or leave it out if its writer was killed",
        )


def _fill(place: Place, file: IO[bytes], out: Array, position: int) -> None:
    try:
        fill(file, bytes_of(out), position)
    except EOFError as error:
        raise InputError(f"{place} became shorter while it was read") from error


def open_npz(path: Path) -> dict[str, ArraySource]:
    """Open the arrays of an .npz file; no values are read yet."""
    members = {}
    with damage_named(path, "a .npz file"), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.compress_size for entry in entries) > path.stat().st_size:
            raise InputError(f"{path} is damaged: its arrays overlap")
        for entry in entries:
            if not entry.filename.endswith(".npy"):
                continue
            place = Place(path, entry.filename.removesuffix(".npy"))
            if entry.compress_type == zipfile.ZIP_STORED:
                with archive.open(entry):  # checks the local header
                    start = _start_of_member(path, entry)
                members[str(place.key)] = open_npy(place, start, start + entry.file_size)
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
    if entry.compress_type != zipfile.ZIP_DEFLATED:
        raise InputError(f"{place} is compressed in a way that numpy does not write")
    if entry.file_size > MOST_UNPACKED * entry.compress_size:
        raise InputError(
            f"{place} promises {entry.file_size:,} bytes, but {entry.compress_size:,} are stored"
        )
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

    return in_file(
        place, shape, dtype, fortran_order, lambda: contextlib.nullcontext(unpacked().read)
    )


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype of a .npy file."""
    major, _minor = np.lib.format.read_magic(file)
    if major == 1:
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)
