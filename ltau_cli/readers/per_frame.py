"""Descriptors that are stored frame by frame, as one row per atom.

Arrays (frames, atoms, d), as ``dp eval-desc`` writes them; groups of these in HDF5, one per system,
as of ``dp embed``; columns of extxyz files, as of ``mace_eval_configs``.
"""

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from ltau_cli.array_types import Array
from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import HDF5_ENDINGS, open_array
from ltau_cli.readers.frames import about, label_atoms, read_property
from ltau_cli.readers.hdf5 import list_datasets, open_hdf5
from ltau_cli.readers.place import Place
from ltau_cli.readers.scratch import Scratch
from ltau_cli.readers.source import ArraySource, in_file

COLUMNS = ("MACE_descriptors", "descriptors", "node_features")
IN_GROUPS = ("atomic_feature", "descriptor", "descriptors")  # the last layer first
Beside = dict[str, Array]


@contextlib.contextmanager
def open_column(place: Place) -> Iterator[tuple[ArraySource, Beside]]:
    """Open a column of an extxyz file, and give ``natoms`` and the labels of atoms with it.

    It is the one that the place names, else one of :data:`COLUMNS`.
    """
    scratch, shape = Scratch(), (0, 0)
    told = []
    n = 0
    hint = (
        f"let a network describe them: ltau describe {place.path} --network PACKAGE:FILE; or name "
        f"their column: {place.path}:COLUMN"
    )
    for frame, values in read_property(place, COLUMNS, "of descriptors", hint):
        if values.dtype.kind not in "fiub":
            raise InputError(f"{place}: descriptors are numbers, this column is text")
        values = values.reshape(len(frame), -1).astype(np.float32)
        scratch.write(np.ascontiguousarray(values), scratch.size)
        told.append(about(frame))
        n += len(frame)
        shape = (n, values.shape[1])
    source = in_file(
        place, shape, np.dtype(np.float32), False, lambda: contextlib.nullcontext(scratch.read)
    )
    yield source, {"natoms": np.array([len(one[0]) for one in told])} | label_atoms(told)


@contextlib.contextmanager
def open_groups(place: Place) -> Iterator[tuple[ArraySource, Beside] | None]:
    """Open the arrays (frames, atoms, d) of all groups of an HDF5 file, one after the other.

    Gives None if the file is another one, or an array is named.
    """
    if place.key is not None or place.path.suffix.lower() not in HDF5_ENDINGS:
        yield None
        return
    with open_hdf5(place.path) as file:
        sizes = list_datasets(place.path, file)
    found: list[str] = []
    for name in IN_GROUPS:
        found = [key for key, ndim in sizes.items() if ndim == 3 and key.endswith(f"/{name}")]
        if found:
            break
    if not found:
        yield None
        return
    with contextlib.ExitStack() as stack:
        yield stack_frames(
            place, [stack.enter_context(open_array(Place(place.path, key))) for key in found]
        )


def stack_frames(place: Place, arrays: Sequence[ArraySource]) -> tuple[ArraySource, Beside]:
    """Take arrays (frames, atoms, d) for one array (n_atoms, d), and give ``natoms`` with it."""
    widths = {array.shape[2] for array in arrays}
    if len(widths) > 1:
        raise InputError(f"{place} holds arrays of different widths: {sorted(widths)}")
    natoms = np.concatenate([np.full(array.shape[0], array.shape[1]) for array in arrays])
    starts = np.cumsum([0, *(array.shape[0] * array.shape[1] for array in arrays)])
    shape = (int(starts[-1]), widths.pop())
    dtype = np.result_type(*(array.dtype for array in arrays))
    read = partial(_read, arrays, starts.tolist(), shape[1], dtype)
    source = ArraySource(place, shape, dtype, read, lambda a, b: read(0, shape[0])[:, a:b])
    return source, {"natoms": natoms}


def _read(
    arrays: Sequence[ArraySource],
    starts: list[int],
    width: int,
    dtype: np.dtype[Any],
    start: int,
    stop: int,
) -> Array:
    """Read rows ``start..stop`` of all; the frames at both ends are read as a whole."""
    parts = [np.zeros((0, width), dtype)]
    for array, first, end in zip(arrays, starts, starts[1:], strict=False):
        low, high = max(start, first) - first, min(stop, end) - first
        if low < high:
            n = array.shape[1]
            frames = array.read(low // n, -(-high // n)).reshape(-1, width)
            parts.append(frames[low - low // n * n :][: high - low])
    return np.concatenate(parts).astype(dtype, copy=False)
