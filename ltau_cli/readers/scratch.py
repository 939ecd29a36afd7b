"""Values on their way from a format that cannot be read in blocks, in memory or on disk."""

import contextlib
import errno
import itertools
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np

from ltau_cli.array_types import Array, Integers, Singles
from ltau_cli.errors import OutputError

IN_MEMORY = 16 << 20  # bytes that are kept in memory; with more, all go to a temporary file
WINDOW = 1 << 20  # slots that are changed together
_UNSET = 0x7FC00001  # bits of a NaN that no computation gives


class Scratch:
    """Bytes that can be read and written anywhere, in memory or, if many, in an unnamed file.

    The file is never mapped: the pages of a map would count as memory of this process.
    """

    def __init__(self) -> None:
        self.size = 0
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    def write(self, values: Array | bytes, at: int) -> None:
        """Write the bytes of a contiguous array at a position."""
        view = bytes_of(values)
        end = max(self.size, at + len(view))
        if self._file is None and end > IN_MEMORY:
            self._move_to_file()
        if self._file is None:
            self._memory += bytes(end - len(self._memory))
            self._memory[at : at + len(view)] = view
        else:
            with _failures_named():
                _write(self._file, view, at)
        self.size = end

    def read(self, out: Array, at: int) -> None:
        """Fill a contiguous array with the bytes from a position; they must have been written."""
        view = bytes_of(out)
        if self._file is None:
            view[:] = memoryview(self._memory)[at : at + len(view)]
        else:
            fill(self._file, view, at)

    def _move_to_file(self) -> None:
        with _failures_named():
            self._file = tempfile.TemporaryFile(prefix="ltau-", buffering=0)  # noqa: SIM115
            weakref.finalize(self, self._file.close)
            _write(self._file, memoryview(self._memory), 0)
        self._memory = bytearray()


class Slots:
    """A growing row of ``size`` float32 slots, of which some may not be set."""

    def __init__(self) -> None:
        self.size = 0
        self._scratch = Scratch()

    def extend(self, values: Singles) -> int:
        """Append slots and return the place of the first."""
        start = self.size
        self._scratch.write(np.ascontiguousarray(values), 4 * start)
        self.size += len(values)
        return start

    def extend_unset(self, n: int) -> int:
        """Append ``n`` slots that are not set, which are read as NaN; see :meth:`extend`."""
        start = self.size
        for first in range(0, n, WINDOW):
            empty = np.full(min(WINDOW, n - first), _UNSET, dtype=np.uint32)
            self.extend(empty.view(np.float32))
        return start

    def put(self, places: Integers, values: Singles) -> int:
        """Set slots, of a repeated place to the last value; return how many were not set before.

        Slots that lie near each other are changed by one read and one write, so that any order of
        the places is fast.
        """
        if len(places) == 0:
            return 0
        windows = places // WINDOW
        if (windows[1:] < windows[:-1]).any():
            order = np.argsort(windows, kind="stable")
            places, values, windows = places[order], values[order], windows[order]
        values = np.where(np.isnan(values), np.float32(np.nan), values)
        bounds = [0, *(np.flatnonzero(np.diff(windows)) + 1).tolist(), len(places)]
        n_new = 0
        for start, stop in itertools.pairwise(bounds):
            own = places[start:stop]
            low = int(own.min())
            span = np.empty(int(own.max()) + 1 - low, dtype=np.float32)
            self._scratch.read(span, 4 * low)
            n_new += _count_unset(span)
            span[own - low] = values[start:stop]
            n_new -= _count_unset(span)
            self._scratch.write(span, 4 * low)
        return n_new

    def columns(self, starts: Sequence[int], start: int, stop: int) -> Singles:
        """Read slots ``start..stop`` of the rows that begin at ``starts``."""
        out = np.empty((len(starts), stop - start), dtype=np.float32)
        for row, first in zip(out, starts, strict=True):
            self._scratch.read(row, 4 * (first + start))
        return out


def fill(file: IO[bytes], view: memoryview, position: int) -> None:
    """Fill a buffer from a position of a file; an EOFError if the file ends before."""
    while len(view):
        done = os.preadv(file.fileno(), [view], position)
        if done == 0:
            raise EOFError
        view, position = view[done:], position + done


def _write(file: IO[bytes], view: memoryview, position: int) -> None:
    while len(view):
        done = os.pwrite(file.fileno(), view, position)
        view, position = view[done:], position + done


def bytes_of(values: Array | bytes) -> memoryview:
    """Return the buffer of a contiguous array."""
    if isinstance(values, bytes):
        return memoryview(values)
    return memoryview(values.reshape(-1).view(np.uint8).data)


def _count_unset(slots: Singles) -> int:
    return int(np.count_nonzero(slots.view(np.uint32) == _UNSET))


@contextlib.contextmanager
def _failures_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or "any folder for temporary files"
        raise OutputError(
            f"cannot write a temporary file in {folder}: {os.strerror(error.errno or errno.EIO)}",
            hint="name a folder on a disk with more space: export TMPDIR=FOLDER",
        ) from error
