"""What can go wrong, and the exit code of each; a traceback means a bug."""

import contextlib
import errno
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}


class LtauWarning(UserWarning):
    """Something the user should know; the work goes on."""


def warn(line: str) -> None:
    """Tell the user, in one line."""
    warnings.warn(line, LtauWarning, stacklevel=3)


def printable(line: str) -> str:
    """Replace what would move the cursor or color a terminal: names of files may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in line)


class LtauError(Exception):
    """Something the user can mend.

    Parameters
    ----------
    message : str
        One line that names the file and the place.
    hint : str, optional
        The next step.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(printable(message))
        self.hint = hint
        if hint and hasattr(self, "add_note"):  # Python 3.11: below the traceback of a script
            self.add_note(f"hint: {hint}")


class UsageError(LtauError):
    """An option or argument that cannot be meant (exit code 2)."""

    exit_code = 2


class InputError(LtauError):
    """Input data that cannot be used (exit code 3)."""

    exit_code = 3


class ArtifactError(LtauError):
    """A file that is not the artifact a stage needs (exit code 4)."""

    exit_code = 4


class OutputError(LtauError):
    """A result that cannot be written (exit code 5)."""

    exit_code = 5


class ComputeError(LtauError):
    """A result that cannot be computed from what was given (exit code 6)."""

    exit_code = 6


class GateError(LtauError):
    """A quality gate that was asked for and failed (exit code 7)."""

    exit_code = 7


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn any failure to write ``target``, or beside it, into one clear line, an OutputError."""
    try:
        yield
    except OSError as error:
        raise cannot_write(target, error) from error


def cannot_write(target: Path, error: OSError) -> OutputError:
    """Say why ``target`` cannot be written, and what helps."""
    hint = None
    if error.errno in _NO_SPACE:
        hint = "free some space or choose another folder"
    elif error.errno in _NO_RIGHT:
        hint = f"check that you may write in {target.parent}"
    return OutputError(
        f"cannot write {target}: {os.strerror(error.errno) if error.errno else error}", hint=hint
    )
