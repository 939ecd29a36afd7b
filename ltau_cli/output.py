"""A file appears under its name whole or not at all.

What may not or cannot be written raises an ``OutputError``.
"""

import contextlib
import errno
import gzip
import io
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from ltau_cli import stop
from ltau_cli.errors import OutputError, writing
from ltau_cli.lock import is_at, lock
from ltau_cli.streams import DescriptorStream

STDOUT = Path("-")


def check_target(
    target: Path, *, force: bool, inputs: Iterable[str | os.PathLike[str] | None] = ()
) -> None:
    """Refuse early what could not, or must not, be written at the end.

    ``inputs`` are files that are read, also as ``FILE:KEY``; None is left out.
    """
    if target == STDOUT:
        return
    with writing(target):
        place = _real(target)
        if place.is_symlink():
            raise OSError(errno.ELOOP, "")
        if target.is_dir():
            raise OutputError(f"{target} is a folder", hint="name a file with -o")
        if target.exists():
            if not stat.S_ISREG(target.stat().st_mode):
                raise OutputError(
                    f"{target} is a device, a pipe or a socket, not a file",
                    hint="name a file, or - for standard output",
                )
            for path in map(_file_of, inputs):
                if path is not None and path.exists() and target.samefile(path):
                    raise OutputError(
                        f"{target} is an input of this command (as {path}); it is never replaced",
                        hint="name another file",
                    )
        if os.path.lexists(target) and not force and not _is_unfinished(place):
            link = "" if target.exists() else f", a link to {place}, which is not there"
            raise OutputError(
                f"{target} exists already{link}",
                hint="add --force to replace it, or name another file",
            )
        if not place.parent.is_dir():
            raise OutputError(
                f"cannot write {target}: there is no folder {place.parent}",
                hint=f"make it first: mkdir -p {place.parent}",
            )


class Results:
    """Files that appear together; see :func:`open_results`."""

    def __init__(self, *, force: bool) -> None:
        self._force = force
        self._files: list[_File] = []
        self._streams: list[Any] = []  # the inner ones first

    def path(self, target: Path) -> Path:
        """Return the path of an empty temporary file that ``target`` will be made of."""
        check_target(target, force=self._force)
        with writing(target):
            self._files.append(_File(target, force=self._force))
        return self._files[-1].temporary

    def binary(self, target: Path) -> Any:
        """Open ``target``, or standard output for ``-``, for bytes; see :meth:`path`."""
        if target == STDOUT:
            return self._standard_output().buffer
        self.path(target)
        return self._add(io.BufferedWriter(DescriptorStream(self._files[-1].descriptor, target)))

    def text(self, target: Path, *, compress: bool = False) -> Any:
        """Open ``target``, or standard output for ``-``, for text, maybe gzipped."""
        if target == STDOUT:
            return self._standard_output()
        binary = self.binary(target)
        if compress:  # without name and time: the same rows are the same bytes
            binary = self._add(gzip.GzipFile("", "wb", 6, binary, 0))
        return self._add(io.TextIOWrapper(binary, encoding="utf-8", newline="\n"))

    def finish(self) -> None:
        """Give the files their names."""
        for stream in reversed(self._streams):
            stream.flush() if stream is sys.stdout else stream.close()
        for file in self._files:
            with writing(file.target):
                file.complete()
        stop.look()
        named: list[_File] = []
        try:
            for file in self._files:
                with writing(file.target):
                    file.appear()
                named.append(file)
        except OutputError:
            for file in named if not self._force else ():
                file.place.unlink(missing_ok=True)
            raise

    def remove_temporaries(self) -> None:
        """Remove what did not become a result."""
        for file in self._files:
            with contextlib.suppress(OSError):
                file.temporary.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files:
            with contextlib.suppress(OSError):  # fsync has told already
                os.close(file.descriptor)

    def _standard_output(self) -> TextIO:
        if sys.stdout is None:
            raise OutputError("standard output is closed", hint="name a file with -o")
        self._add(sys.stdout)
        return sys.stdout

    def _add(self, stream: Any) -> Any:
        self._streams.append(stream)
        return stream


@contextlib.contextmanager
def open_results(*, force: bool) -> Iterator[Results]:
    """Open files that appear together, whole, when the block ends without an error.

    Until then they are hidden temporary files beside their targets. One that a dead process has
    left is removed by the next that writes the same target.
    """
    results = Results(force=force)
    try:
        with stop.at_worst(results.remove_temporaries):
            try:
                yield results
                results.finish()
            finally:
                results.remove_temporaries()
    finally:
        results.close()


@contextlib.contextmanager
def replace_atomically(target: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary path whose file becomes ``target``; see :func:`open_results`."""
    with open_results(force=force) as results:
        yield results.path(target)


@contextlib.contextmanager
def open_text(target: Path, *, force: bool = False, compress: bool = False) -> Iterator[TextIO]:
    """Open one file, or standard output for ``-``, for text; see :func:`open_results`."""
    with open_results(force=force) as results:
        yield results.text(target, compress=compress)


@contextlib.contextmanager
def open_binary(target: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Open one file, or standard output for ``-``, for bytes; see :func:`open_results`."""
    with open_results(force=force) as results:
        yield results.binary(target)


class _File:
    """A temporary file that this process alone writes, and what it will become."""

    def __init__(self, target: Path, *, force: bool) -> None:
        self.target = target
        self.place = _real(target)
        self._force = force
        self.temporary = hidden(self.place, "tmp")
        self._old = self.place.stat() if self.place.exists() else None
        self.descriptor = self._create(0o666 if self._old is None else 0o600)

    def complete(self) -> None:
        """Put all on disk; keep the mode and the owner of the old file where that can be."""
        os.fsync(self.descriptor)
        if self._old is not None:
            with contextlib.suppress(OSError):
                os.fchown(self.descriptor, self._old.st_uid, self._old.st_gid)
            with contextlib.suppress(OSError):
                os.fchmod(self.descriptor, self._old.st_mode & 0o777)

    def appear(self) -> None:
        """Take the name of the target."""
        if self._force or not self._link():
            os.replace(self.temporary, self.place)
        _sync_folder(self.place.parent)

    def _link(self) -> bool:
        """Take the name if no file has it; False where there are no hard links."""
        try:
            os.link(self.temporary, self.place)
        except OSError:
            if not os.path.lexists(self.place):
                return False
            if not os.path.samestat(self.place.lstat(), os.fstat(self.descriptor)):
                raise OutputError(
                    f"{self.target} appeared while this was running",
                    hint="add --force to replace it, or name another file",
                ) from None
        return True

    def _create(self, mode: int) -> int:
        """Create the temporary file and lock it, in place of one that a dead process left."""
        while True:
            try:
                descriptor = os.open(self.temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
            except FileExistsError:
                self._remove_dead()
                continue
            if lock(descriptor) is not False and is_at(descriptor, self.temporary):
                return descriptor
            os.close(descriptor)  # taken for a dead one's in the moment before it was locked

    def _remove_dead(self) -> None:
        try:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(self.temporary, flags)
        except FileNotFoundError:
            return  # gone in between
        try:
            locked = lock(descriptor)
            if locked is None:
                raise OutputError(
                    f"{self.target} is being written by another ltau, or one was killed",
                    hint=f"if none is at work: rm {self.temporary}",
                )
            if not locked:
                raise busy(self.target)
            if is_at(descriptor, self.temporary):
                if not self._force and _is_unfinished(self.place):
                    self.place.unlink()
                self.temporary.unlink()
        finally:
            os.close(descriptor)


def busy(target: Path) -> OutputError:
    """Say that another process is at ``target``."""
    return OutputError(
        f"{target} is being written by another ltau",
        hint="wait until it is done, or name another file",
    )


def hidden(place: Path, ending: str) -> Path:
    """Return ``.NAME.ENDING`` beside a file."""
    return place.with_name(f".{place.name}.{ending}")


def _real(target: Path) -> Path:
    return Path(os.path.realpath(target))


def _file_of(given: str | os.PathLike[str] | None) -> Path | None:
    """Return the file of ``FILE`` or ``FILE:KEY``."""
    if given is None:
        return None
    path = Path(given)
    return path if path.exists() else Path(str(given).rpartition(":")[0])


def _is_unfinished(place: Path) -> bool:
    """Whether a killed process had named this file, but not yet those that belong to it."""
    temporary = hidden(place, "tmp")
    return place.is_file() and temporary.is_file() and place.samefile(temporary)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
