"""An array in a file of any format, read by ranges."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Array
from ltau_cli.errors import InputError, LtauError
from ltau_cli.readers.place import Place

MOST_UNPACKED = 1_100  # bytes that a stored one can become; deflate makes at most 1,032
Fill = Callable[[Array, int], None]  # fills an array with the bytes from a position


@dataclass
class ArraySource:
    """An array in a file, read by ranges of its first dimension."""

    place: Place
    shape: tuple[int, ...]
    dtype: np.dtype[Any]  # integer, float or bool
    # ``read(start, stop)`` gives rows ``start..stop`` as stored
    read: Callable[[int, int], Array]
    # ``columns(start, stop)`` gives ``array[:, start:stop]``
    columns: Callable[[int, int], Array]

    def all(self) -> Array:
        """Read every row."""
        return self.read(0, self.shape[0])


@contextlib.contextmanager
def damage_named(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a library raises over a damaged file into one clear line."""
    try:
        yield
    except (LtauError, MemoryError):
        raise
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read it") from error
    except Exception as error:
        raise InputError(f"{path} is not {what}, or it is damaged or cut short") from error


def in_file(
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
        return in_memory(place, np.zeros(shape, dtype))
    lengths = shape[::-1] if fortran_order else shape  # in the order of the file

    def part(axis: int, start: int, stop: int) -> Array:
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


def in_memory(place: Place, values: Array) -> ArraySource:
    """Return an array that has been read as a whole."""
    return ArraySource(
        place,
        values.shape,
        values.dtype,
        lambda start, stop: values[start:stop],
        lambda start, stop: values[:, start:stop],
    )


def refuse_objects(place: Place, dtype: np.dtype[Any]) -> None:
    """Refuse what numpy would unpickle."""
    if dtype.hasobject:
        raise InputError(
            f"{place} holds pickled Python objects, which are never loaded",
            hint="save a plain numeric array: numpy.save(file, numpy.asarray(values, dtype=float))",
        )
