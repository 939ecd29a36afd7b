"""What can go wrong, and the exit code of each; a traceback means a bug."""

from __future__ import annotations


class LtauWarning(UserWarning):
    """Something the user should know; the work goes on."""


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
        # Names from a damaged file may hold anything; the message stays one readable line.
        super().__init__("".join(c if c.isprintable() else "?" for c in message))
        self.hint = hint


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
