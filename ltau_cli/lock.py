"""One process at a time writes a file, or what is written over time."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import socket
from pathlib import Path
from typing import Any

from ltau_cli.errors import OutputError, writing

_held: dict[Path, Lock] = {}  # by this process


class Lock:
    """Holds a folder or file against other processes until this one ends.

    The lock is on a hidden file beside what is written, which goes when the process ends; one that
    is killed leaves it, and holds nothing. Where the file system knows no locks, there is none. In
    the process itself the newest lock holds, so that a cell of a notebook can be run again.

    Raises
    ------
    OutputError
        If another process holds it.
    """

    def __init__(self, path: Path, hint: str) -> None:
        self.path, self._hint, self.pid = path, hint, os.getpid()
        path = path.resolve()
        self._at = path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
        before = _held.get(self._at)
        self._file: Any = before._file if before else self._open()
        _held[self._at] = self

    def check(self) -> None:
        """Refuse to write where a newer one of this process does."""
        if _held.get(self._at) is not self:
            raise OutputError(f"{self.path} is written by another", hint=self._hint)

    def _open(self) -> Any:
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            with writing(self._at):
                file = os.fdopen(os.open(self._at, flags, 0o644), "r+", encoding="utf-8")
            locked = lock(file.fileno())
            if locked is None:
                return file
            if not locked:
                owner = file.read().strip() or "another process"
                file.close()
                raise OutputError(f"{self.path} is written by {owner}", hint=self._hint)
            if is_at(file.fileno(), self._at):
                break
            file.close()  # of a process that has just ended
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.truncate()
        file.flush()
        return file


def lock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Lock an open file until it is closed; False if another has it, None if nobody can tell."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None  # a file system without locks
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


@atexit.register
def _let_go() -> None:
    for path, held in _held.items():
        if held.pid == os.getpid():  # not in a process that was forked from the one that holds it
            with contextlib.suppress(OSError):
                path.unlink()
    _held.clear()
