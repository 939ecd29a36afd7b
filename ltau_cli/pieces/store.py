"""Finished pieces of a long job, on disk until its result is written."""

import contextlib
import hashlib
import itertools
import json
import logging
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli import __version__
from ltau_cli.array_types import Array
from ltau_cli.artifacts.provenance import stamp
from ltau_cli.artifacts.write import to_json
from ltau_cli.errors import InputError, OutputError, writing
from ltau_cli.lock import is_at, lock
from ltau_cli.output import busy, hidden
from ltau_cli.readers.place import Place

log = logging.getLogger("ltau")

ENDING = "ltau-pieces"  # of a folder beside the result
_LOCK = "lock"
_JOB = re.compile(r"[0-9a-f]{16}(\.gone)?")  # folders of pieces
_PIECE = re.compile(r"(\w+)-(\d+)-(\d+)")

Range = tuple[int, int]


class Piece:
    """A file of arrays and of what JSON knows; an OSError or ValueError if it is no good one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arrays: dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]] = {}
        with path.open("rb") as file:
            head = json.loads(np.lib.format.read_array(file, allow_pickle=False).tobytes())
            self.values: dict[str, Any] = head["values"]
            for name in head["arrays"]:
                np.lib.format.read_magic(file)
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
                if dtype.hasobject:
                    raise ValueError("it holds Python objects")
                self._arrays[name] = (file.tell(), shape, dtype)
                file.seek(math.prod(shape) * dtype.itemsize, os.SEEK_CUR)
            if file.tell() > os.fstat(file.fileno()).st_size:
                raise ValueError("it is cut short")

    def __getitem__(self, name: str) -> Any:
        return self.read(name) if name in self._arrays else self.values[name]

    @property
    def names(self) -> list[str]:
        """Of the arrays."""
        return list(self._arrays)

    def read(self, name: str, start: int = 0, end: int | None = None) -> Array:
        """Read rows ``start..end`` of an array; not mapped, which would count as memory."""
        offset, shape, dtype = self._arrays[name]
        start, end, _ = slice(start, end).indices(shape[0])
        width = math.prod(shape[1:])
        try:
            values = np.fromfile(
                self._path, dtype, max(0, end - start) * width,
                offset=offset + start * width * dtype.itemsize,
            )  # fmt: skip
            return values.reshape(max(0, end - start), *shape[1:])
        except (OSError, ValueError) as error:
            raise _damaged(self._path, error) from error


@dataclass(frozen=True)
class Store:
    """The pieces of one job, in a folder that processes on any node may share.

    A piece appears under its name whole or not at all, and all who make it make the same bytes. So
    one that is there is done, whoever made it and whatever became of him.
    """

    # absolute. A process that comes too late, for a job that was given up, finds it gone
    folder: Path
    target: Path  # the result, for messages

    def save(self, what: str, start: int, end: int, values: Mapping[str, Any]) -> None:
        """Store a piece: ``what`` from ``start`` to ``end``; it is on disk when this returns."""
        arrays = {n: np.ascontiguousarray(v) for n, v in values.items() if hasattr(v, "dtype")}
        plain = {name: value for name, value in values.items() if name not in arrays}
        head = to_json({"arrays": list(arrays), "values": plain}).encode()
        with writing(self.target):
            descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=".")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    for array in (np.frombuffer(head, np.uint8), *arrays.values()):
                        np.lib.format.write_array_header_1_0(
                            file, np.lib.format.header_data_from_array_1_0(array)
                        )
                        file.write(array.reshape(-1).view(np.uint8).data)  # tells why it cannot
                    file.flush()
                    os.fsync(descriptor)
                os.replace(temporary, self._path(what, start, end))
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise

    def load(self, what: str, start: int, end: int) -> Piece:
        """Open a piece that is there."""
        path = self._path(what, start, end)
        try:
            return Piece(path)
        except (OSError, ValueError, KeyError) as error:
            raise _damaged(path, error) from error

    def has(self, what: str, start: int, end: int) -> bool:
        """Whether a piece is there, whole."""
        try:
            Piece(self._path(what, start, end))
        except (OSError, ValueError, KeyError):
            return False
        return True

    def remove(self, what: str, start: int, end: int) -> None:
        """Remove a piece, whose place on the disk is needed."""
        with contextlib.suppress(OSError):
            self._path(what, start, end).unlink()

    def ranges(self, what: str) -> list[Range]:
        """Ranges of the pieces that are there, in order."""
        with writing(self.target):
            found = list(map(_PIECE.fullmatch, os.listdir(self.folder)))
        return sorted((int(m[2]), int(m[3])) for m in found if m is not None and m[1] == what)

    def missing(self, what: str, start: int, end: int, size: int) -> list[Range]:
        """Cut what is not done of ``start..end`` into pieces of at most ``size``."""
        there = [own for own in self.ranges(what) if own[1] > start and own[0] < end]
        whole = [own for own in there if self.has(what, *own)]
        for damaged in set(there) - set(whole):
            self.remove(what, *damaged)
        todo: list[Range] = []
        for first, last in [*whole, (end, end)]:
            if start < first:
                cuts = [start, *range((start // size + 1) * size, first, size), first]
                todo += itertools.pairwise(cuts)
            start = max(start, last)
        return todo

    def blocks(self, what: str, size: int) -> Iterator[Array]:
        """Yield the array ``rows`` of all pieces, one after the other, ``size`` rows at a time."""
        held: list[Array] = []
        n = done = 0
        for first, last in self.ranges(what):
            while done < last:
                part = min(size - n, last - done)
                rows = self.load(what, first, last).read("rows", done - first, done - first + part)
                held, n, done = [*held, rows], n + part, done + part
                if n == size:
                    yield np.concatenate(held) if len(held) > 1 else held[0]
                    held, n = [], 0
        if held:
            yield np.concatenate(held) if len(held) > 1 else held[0]

    def _path(self, what: str, start: int, end: int) -> Path:
        return self.folder / f"{what}-{start}-{end}"


@contextlib.contextmanager
def open_store(target: Path, job: Mapping[str, Any], *, shared: bool = False) -> Iterator[Store]:
    """Open the store of a result; pieces that an equal job has left are in it, others go.

    It is removed when the block ends, but kept for the next try when the block was stopped or
    failed, unless that was because of the input. If it is shared, several processes make pieces at
    once, and leave them for one that does not share.
    """
    place = Path(os.path.realpath(target))
    above = hidden(place, ENDING)
    about = to_json({"ltau_version": __version__, "job": job})
    folder = above / hashlib.sha256(about.encode()).hexdigest()[:16]
    with writing(target):
        descriptor = _enter(above, target, shared=shared)
    done = False
    try:
        with writing(target):
            if not shared:
                _remove_jobs(above, but=folder)
            folder.mkdir(exist_ok=True)
        yield Store(folder, target)
        done = not shared
    except InputError:
        done = not shared
        raise
    except BaseException:
        if folder.is_dir() and any(map(_PIECE.fullmatch, os.listdir(folder))):
            log.warning("%s: what is done is kept; the same command goes on from there", target)
        raise
    finally:
        with contextlib.suppress(OSError):
            _leave(above, folder, descriptor, done=done, shared=shared)
        os.close(descriptor)


def _enter(above: Path, target: Path, *, shared: bool) -> int:
    """Make the folder and lock it, against all others or against those who do not share."""
    while True:
        with contextlib.suppress(FileExistsError):
            above.mkdir()
        try:
            if not stat.S_ISDIR(above.lstat().st_mode):
                raise OutputError(
                    f"{above} is in the way: it is not a folder that ltau has made",
                    hint="rename or remove it",
                )
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(above / _LOCK, flags, 0o666)
        except FileNotFoundError:
            continue  # its owner finished and removed it in between
        if lock(descriptor, shared=shared) is False:
            os.close(descriptor)
            raise busy(target)
        if is_at(descriptor, above / _LOCK):
            return descriptor
        os.close(descriptor)


def _leave(above: Path, folder: Path, descriptor: int, *, done: bool, shared: bool) -> None:
    """Remove what is done with, and the folder if nothing is left in it."""
    if done:
        _remove_jobs(above)
    else:
        with contextlib.suppress(OSError):  # it holds pieces
            folder.rmdir()
    if os.listdir(above) == [_LOCK] and (not shared or lock(descriptor) is not False):
        (above / _LOCK).unlink()
        above.rmdir()


def _remove_jobs(above: Path, but: Path | None = None) -> None:
    """Remove the pieces of all jobs but one; links are no such folders."""
    for job in sorted(above.iterdir(), reverse=True):  # what is gone already first
        if job != but and _JOB.fullmatch(job.name) and stat.S_ISDIR(job.lstat().st_mode):
            away = job.with_suffix(".gone")  # where nobody comes too late and writes into it
            os.rename(job, away)
            shutil.rmtree(away, ignore_errors=True)


def _damaged(path: Path, error: Exception) -> OutputError:
    return OutputError(
        f"{path} is damaged or gone: {error}",
        hint=f"give the command again after: rm -r {path.parent.parent}",
    )


def stamps_of(places: Sequence[Place]) -> list[Any]:
    """Tell files apart from those that are written to or replaced, without reading them."""
    return [[str(place.path.resolve()), place.key, *stamp(place.path.stat())] for place in places]
