"""The file that HDF5 writes to."""

import os
from pathlib import Path
from typing import Any

from ltau_cli.errors import cannot_write, writing


class FileSink:
    """A file for h5py that keeps a failed write to itself until it is asked.

    HDF5 crashes the process at exit if it could not write all it holds, as on a full disk. So a
    write that fails is noted and what comes after it is dropped, HDF5 closes in peace, and
    :meth:`check` raises. The file is a temporary one of ``target``; its writer removes it.
    """

    def __init__(self, path: Path, target: Path) -> None:
        with writing(target):
            self._descriptor = os.open(path, os.O_RDWR)
        self._target = target
        self._position = 0
        self._failure: OSError | None = None

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self._failure is not None:
            raise cannot_write(self._target, self._failure) from self._failure

    def write(self, data: Any) -> int:
        """Write all of ``data`` at the position."""
        view = memoryview(data).cast("B")
        size = len(view)
        start = self._position
        self._position += size
        try:
            while self._failure is None and len(view):
                done = os.pwrite(self._descriptor, view, start)
                view = view[done:]
                start += done
        except OSError as error:
            self._failure = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend the file."""
        size = self._position if size is None else size
        try:
            if self._failure is None:
                os.ftruncate(self._descriptor, size)
        except OSError as error:
            self._failure = error
        return size

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` from the position."""
        size = os.preadv(self._descriptor, [buffer], self._position)
        self._position += size
        return size

    def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes from the position."""
        data = os.pread(self._descriptor, size, self._position)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        base = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: self._position,
            os.SEEK_END: os.fstat(self._descriptor).st_size,
        }
        self._position = base[whence] + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """Close the file."""
        try:
            os.close(self._descriptor)
        except OSError as error:  # a network file system may tell only now
            self._failure = self._failure or error
