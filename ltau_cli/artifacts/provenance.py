"""Where an artifact came from: inputs with their hashes, and when."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any

PIECE = 1 << 20  # bytes hashed at a time


def created_now() -> str:
    """UTC time as ISO 8601; SOURCE_DATE_EPOCH sets it for reproducible files."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = (
        datetime.fromtimestamp(int(epoch), timezone.utc)
        if epoch.isdigit()
        else datetime.now(timezone.utc)
    )
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


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
    """Hash inputs in the background while the stage works; a context manager."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._stopped = Event()
        self._pending: list[tuple[Input, Future[tuple[int, str]]]] = []

    def __enter__(self) -> Hasher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._stopped.set()  # or the process could not end before a large file is hashed
        self._pool.shutdown(wait=error is None, cancel_futures=True)

    def add(
        self, role: str, path: Path, kind: str, files: Sequence[Path] = (), **more: Any
    ) -> None:
        """Note an input; ``files`` are its parts where ``path`` is a folder; None is left out."""
        more = {name: value for name, value in more.items() if value is not None}
        entry = Input(role, path.name or str(path), path, tuple(files) or (path,), kind, more)
        self._pending.append((entry, self._pool.submit(_digest, entry.files, self._stopped)))

    def records(self) -> list[dict[str, Any]]:
        """Wait for the hashes; one record per input."""
        result = []
        for entry, future in self._pending:
            size, digest = future.result()
            record: dict[str, Any] = {"role": entry.role, "file": entry.name, "kind": entry.kind}
            record |= entry.more
            if entry.files != (entry.path,):
                record["n_files"] = len(entry.files)
            result.append(record | {"size": size, "sha256": digest})
        return result


def extend_record(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Record of an input that more files were read of; the hash is that of both hashes."""
    joined = hashlib.sha256((old["sha256"] + new["sha256"]).encode())
    n_files = int(old.get("n_files", 1)) + int(new.get("n_files", 1))
    return old | {
        "n_files": n_files,
        "size": old["size"] + new["size"],
        "sha256": joined.hexdigest(),
    }


def _digest(files: Sequence[Path], stopped: Event) -> tuple[int, str]:
    """Total size and sha256; of several files, the hash of their hashes in order."""
    sizes, digests = [], []
    buffer = memoryview(bytearray(PIECE))
    for path in files:
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while (size := file.readinto(buffer)) and not stopped.is_set():
                digest.update(buffer[:size])
            sizes.append(file.tell())
        digests.append(digest)
    if len(files) == 1:
        return sizes[0], digests[0].hexdigest()
    joined = hashlib.sha256(b"".join(digest.digest() for digest in digests))
    return sum(sizes), joined.hexdigest()
