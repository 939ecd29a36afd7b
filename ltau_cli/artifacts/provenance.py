"""Where an artifact came from: inputs with their hashes, and when."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from ltau_cli import stop
from ltau_cli.array_types import Integers, Singles
from ltau_cli.errors import InputError, UsageError
from ltau_cli.readers.place import is_there

PIECE = 1 << 20  # bytes hashed at a time
WAIT = 0.1  # seconds between two looks at whether the work is to be ended
_EPOCH_DIGITS = 11  # the year 5138


def created_now() -> str:
    """UTC time as ISO 8601; SOURCE_DATE_EPOCH sets it for reproducible files."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        now = datetime.now(timezone.utc)
    elif epoch.isascii() and epoch.isdecimal() and len(epoch) <= _EPOCH_DIGITS:
        now = datetime.fromtimestamp(int(epoch), timezone.utc)
    else:
        raise UsageError(
            f"SOURCE_DATE_EPOCH={epoch} is not a number of seconds since 1970",
            hint="unset it, or set it to a whole number",
        )
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


Stamp = tuple[int, int, int]


def stamp(state: os.stat_result) -> Stamp:
    """Return what changes when a file is replaced or written to: inode, size, time of change."""
    return state.st_ino, state.st_size, state.st_mtime_ns


@dataclass(frozen=True)
class Input:
    """An input of a stage: one file, or several that were read as one."""

    role: str
    name: str
    path: Path
    files: tuple[Path, ...]
    kind: str
    more: dict[str, Any]


class Hasher:
    """Hash inputs in the background while the stage works; a context manager.

    Files and folders of files that are ``watched`` are looked at before they are added. The others
    count from when they are added.
    """

    def __init__(self, watched: Sequence[Path] = ()) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._stopped = Event()
        self._pending: list[tuple[Input, Future[tuple[int, str]]]] = []
        self._before: dict[Path, Stamp] = {}
        for path in watched:
            for file in path.iterdir() if path.is_dir() else [path]:
                self._before[file] = stamp(file.stat())

    def __enter__(self) -> Hasher:
        return self

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        if error is not None:
            self._stopped.set()  # or the process could not end before a large file is hashed
        self._pool.shutdown(wait=error is None, cancel_futures=True)

    def stop(self) -> None:
        """Give up: nobody will ask for the records."""
        self._stopped.set()

    def add(
        self, role: str, path: Path, kind: str, files: Sequence[Path] = (), **more: Any
    ) -> None:
        """Note an input; ``files`` are its parts where ``path`` is a folder; None is left out."""
        more = {name: value for name, value in more.items() if value is not None}
        entry = Input(role, path.name or str(path), path, tuple(files) or (path,), kind, more)
        for file in entry.files:
            if not is_there(file):
                raise InputError(f"{file}: no such file")
            self._before.setdefault(file, stamp(file.stat()))
        self._pending.append((entry, self._pool.submit(_digest, entry.files, self._stopped)))

    def records(self) -> list[dict[str, Any]]:
        """Wait for the hashes; one record per input."""
        result = []
        for entry, future in self._pending:
            while not wait([future], WAIT).done:
                stop.look()
            size, digest = future.result()
            for file in entry.files:
                if stamp(file.stat()) != self._before[file]:
                    raise InputError(
                        f"{file} was changed while it was read",
                        hint="try again when it is complete",
                    )
            record: dict[str, Any] = {"role": entry.role, "file": entry.name, "kind": entry.kind}
            record |= entry.more
            if entry.files != (entry.path,):
                record["n_files"] = len(entry.files)
            result.append(record | {"size": size, "sha256": digest})
        return result


def hash_rows(block: Singles) -> Integers:
    """Hash each row of descriptors (n, d), so that it is known again in any file: (n,), 63 bits."""
    rows = np.ascontiguousarray(block + np.float32(0))  # -0 is 0
    digests = [hashlib.blake2b(row, digest_size=8).digest() for row in rows]
    return (np.frombuffer(b"".join(digests), dtype="<u8") >> np.uint64(1)).astype(np.int64)


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe, which its reader will refuse, without waiting for somebody to write."""
    return os.open(path, flags | os.O_NONBLOCK)


def _digest(files: Sequence[Path], stopped: Event) -> tuple[int, str]:
    """Total size and sha256; of several files, the hash of their hashes in order."""
    sizes, digests = [], []
    buffer = memoryview(bytearray(PIECE))
    for path in files:
        digest = hashlib.sha256()
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            while (size := file.readinto(buffer)) and not stopped.is_set():
                digest.update(buffer[:size])
            sizes.append(file.tell())
        digests.append(digest)
    if len(files) == 1:
        return sizes[0], digests[0].hexdigest()
    joined = hashlib.sha256(b"".join(digest.digest() for digest in digests))
    return sum(sizes), joined.hexdigest()
