"""The file that HDF5 writes to."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ltau_cli.errors import cannot_write, writing


class FileSink(io.FileIO):
    """A file for h5py that keeps a failed write to itself until it is asked.

    HDF5 crashes the process at exit if it could not write all it holds, as on a full disk. So a
    write that fails is noted and what comes after it is dropped, HDF5 closes in peace, and
    :meth:`check` raises. The file is a temporary one of ``target``; its writer removes it.
    """

    def __init__(self, path: Path, target: Path) -> None:
        with writing(target):
            super().__init__(path, "r+b")
        self._target = target
        self._failure: OSError | None = None

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self._failure is not None:
            raise cannot_write(self._target, self._failure) from self._failure

    def write(self, data: Any) -> int:
        """Write all of ``data`` at the position."""
        view = memoryview(data).cast("B")
        size = len(view)
        with self._kept_to_itself():
            while self._failure is None and len(view):
                view = view[super().write(view) :]
        return size

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend the file."""
        with self._kept_to_itself():
            if self._failure is None:
                return super().truncate(size)
        return self.tell() if size is None else size

    def close(self) -> None:
        """Close the file; a network file system may tell only now what it could not write."""
        with self._kept_to_itself():
            super().close()

    @contextlib.contextmanager
    def _kept_to_itself(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failure = self._failure or error
