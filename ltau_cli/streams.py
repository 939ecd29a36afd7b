"""Streams to open files, standard output among them: a failure to write becomes one line."""

import io
import os
import stat
from pathlib import Path
from typing import Any, TextIO

from ltau_cli.errors import cannot_write


class ReaderGoneError(Exception):
    """The reader of standard output, such as ``head``, has seen enough."""


class DescriptorStream(io.RawIOBase):
    """Bytes to an open file; the first failure is told, what follows it is dropped.

    A copy of the descriptor is kept: a stream that is only found when garbage is collected can
    still write. ``name`` is for the message; None tells nothing.
    """

    def __init__(self, descriptor: int, name: Path | None) -> None:
        super().__init__()
        self._descriptor = os.dup(descriptor)
        self._name = name
        self._failed = False

    def close(self) -> None:
        """Close the copy."""
        if not self.closed:
            super().close()
            os.close(self._descriptor)

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def seekable(self) -> bool:
        """Whether it is a file, such as a zip archive is written back and forth in."""
        return stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        return os.lseek(self._descriptor, offset, whence)

    def write(self, data: Any) -> int:
        """Write some of ``data``."""
        if self._failed:
            return len(data)
        try:
            return os.write(self._descriptor, data)
        except OSError as error:
            self._failed = True
            if self._name is None:
                return len(data)
            if isinstance(error, BrokenPipeError):
                raise ReaderGoneError from None
            raise cannot_write(self._name, error) from error


def standard_stream(descriptor: int, old: TextIO | None, name: str | None) -> TextIO | None:
    """Return what takes the place of ``sys.stdout`` or ``sys.stderr``; None if it is closed.

    A character that the terminal cannot show becomes ``?``: that is better than no answer.
    ``name`` is for the message when it cannot be written; None lets it be.
    """
    if old is None:
        os.open(os.devnull, os.O_WRONLY)  # or the next file that is opened took its number
        return None
    raw = DescriptorStream(descriptor, None if name is None else Path(name))
    return io.TextIOWrapper(
        io.BufferedWriter(raw), old.encoding, "replace", line_buffering=name is None or raw.isatty()
    )
