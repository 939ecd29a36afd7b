"""One process at a time writes a folder, or a file, that is written over time."""

from __future__ import annotations

import atexit
import contextlib
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
        import fcntl

        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            with writing(self._at):
                file = os.fdopen(os.open(self._at, flags, 0o644), "r+", encoding="utf-8")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = file.read().strip() or "another process"
                file.close()
                raise OutputError(f"{self.path} is written by {owner}", hint=self._hint) from None
            except OSError:  # a file system without locks
                return file
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(self._at), os.fstat(file.fileno())):
                    break
            file.close()  # of a process that has just ended
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.truncate()
        file.flush()
        return file


@atexit.register
def _let_go() -> None:
    for path, lock in _held.items():
        if lock.pid == os.getpid():  # not in a process that was forked from the one that holds it
            with contextlib.suppress(OSError):
                path.unlink()
    _held.clear()
