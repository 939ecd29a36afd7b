"""Finished rows of a long job, safe on disk until its artifact is written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli import stop
from ltau_cli.artifacts.write import to_json
from ltau_cli.errors import InputError, writing
from ltau_cli.output import busy, hidden, is_at, lock

_COUNT_BYTES = 20  # of the first line, so that it can be written over


class Spool:
    """Rows appended block by block to a file that outlives its process.

    The file holds a line with the number of finished rows, a line of JSON that says which job they
    belong to, then the rows. The number is raised only when its rows are on disk, so the rows up to
    it are whole, whatever ended the process or the node.

    Parameters
    ----------
    descriptor : int
        Of the open file.
    target : Path
        The artifact that the rows are for.
    dtype : numpy.dtype
        Structured, fixed-width.
    start : int
        Byte at which the rows begin.
    rows : int
        Finished rows.
    """

    def __init__(
        self, descriptor: int, target: Path, dtype: np.dtype[Any], start: int, rows: int
    ) -> None:
        self.rows = rows
        self._descriptor = descriptor
        self._target = target
        self._dtype = dtype
        self._start = start

    def append(self, block: npt.NDArray[Any]) -> None:
        """Add a block (n,) of the spool's dtype; it is on disk when this returns.

        Raises
        ------
        OutputError
            If it cannot be written; the rows before it stay finished.
        """
        stop.look()
        with writing(self._target):
            _write(self._descriptor, block.tobytes(), self._place(self.rows))
            os.fsync(self._descriptor)
            _write(self._descriptor, _count_line(self.rows + len(block)), 0)
        self.rows += len(block)

    def blocks(self, rows: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Yield (first row, block (rows,)) of the finished rows."""
        for first in range(0, self.rows, rows):
            size = min(rows, self.rows - first) * self._dtype.itemsize
            with writing(self._target):
                data = os.pread(self._descriptor, size, self._place(first))
            yield first, np.frombuffer(data, self._dtype)

    def _place(self, row: int) -> int:
        return self._start + row * self._dtype.itemsize


@contextlib.contextmanager
def open_spool(target: Path, job: Mapping[str, Any], dtype: np.dtype[Any]) -> Iterator[Spool]:
    """Open the spool of an artifact; one that an equal job has left is continued.

    It stands beside ``target`` as ``.NAME.part``. It is removed when the block ends, but kept for
    the next try when the block was stopped or failed, unless that was because of the input.

    Parameters
    ----------
    target : Path
        The artifact.
    job : mapping
        All that the rows depend on; a spool of any other job is replaced.
    dtype : numpy.dtype
        Of a row, structured.

    Raises
    ------
    OutputError
        If it cannot be written, or another process is at it.
    """
    path = hidden(target, "part")
    with writing(target):
        descriptor = _open_locked(path, target)
    keep = True
    spool = None
    try:
        with writing(target):
            spool = _continue_or_begin(descriptor, target, job, dtype)
        yield spool
        keep = False
    except InputError:
        keep = False
        raise
    finally:
        if not keep or spool is None or spool.rows == 0:
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(descriptor)


@contextlib.contextmanager
def open_temporary_spool(dtype: np.dtype[Any]) -> Iterator[Spool]:
    """Open a spool that nobody continues, in a file without a name.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    folder = Path(tempfile.tempdir or "a temporary file")
    with contextlib.ExitStack() as stack:
        with writing(folder):
            file = stack.enter_context(tempfile.TemporaryFile(prefix="ltau-"))
        yield Spool(file.fileno(), folder, dtype, _COUNT_BYTES, 0)


def _open_locked(path: Path, target: Path) -> int:
    """Open the file for this process alone."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        if lock(descriptor) is False:
            os.close(descriptor)
            raise busy(target)
        if is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # its owner finished and removed it in between


def _continue_or_begin(
    descriptor: int, target: Path, job: Mapping[str, Any], dtype: np.dtype[Any]
) -> Spool:
    about = (to_json({"job": job, "row": dtype.descr}) + "\n").encode()
    start = _COUNT_BYTES + len(about)
    rows = _finished_rows(descriptor, about, dtype.itemsize)
    if rows == 0:
        os.ftruncate(descriptor, 0)
        _write(descriptor, _count_line(0) + about, 0)
    os.ftruncate(descriptor, start + rows * dtype.itemsize)
    return Spool(descriptor, target, dtype, start, rows)


def _finished_rows(descriptor: int, about: bytes, row_bytes: int) -> int:
    """Rows that an equal job has left; 0 if it was another job or the file is cut short."""
    head = os.pread(descriptor, _COUNT_BYTES + len(about), 0)
    count = head[:_COUNT_BYTES].strip()
    if head[_COUNT_BYTES:] != about or not count.isdigit():
        return 0
    whole = len(head) + int(count) * row_bytes <= os.fstat(descriptor).st_size
    return int(count) if whole else 0


def _count_line(rows: int) -> bytes:
    return f"{rows:>{_COUNT_BYTES - 1}}\n".encode()


def _write(descriptor: int, data: bytes, place: int) -> None:
    view = memoryview(data)
    while len(view):
        done = os.pwrite(descriptor, view, place)
        view, place = view[done:], place + done
