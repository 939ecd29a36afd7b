"""A file appears under its name whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from ltau_cli.errors import OutputError

WRITE_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ENXIO}


def check_target(target: Path, *, force: bool) -> None:
    """Refuse early what could not be written at the end.

    Raises
    ------
    OutputError
        If the target exists (without ``force``) or is a folder, or its folder is missing or not
        writable.
    """
    if target.is_dir():
        raise OutputError(f"{target} is a folder", hint="name a file with -o")
    if target.exists() and not force:
        raise OutputError(
            f"{target} exists already", hint="add --force to replace it, or name another file"
        )
    if not target.parent.is_dir():
        raise OutputError(
            f"cannot write {target}: there is no folder {target.parent}",
            hint=f"make it first: mkdir -p {target.parent}",
        )


@contextlib.contextmanager
def replace_atomically(target: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that takes its place when the block succeeds.

    Raises
    ------
    OutputError
        If the target may not or cannot be written; the old content is then untouched.
    """
    check_target(target, force=force)
    with creation_named(target):
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with failures_named(target):
            yield temporary
            _sync(temporary)
            temporary.chmod(0o666 & ~_umask())
            if not force and target.exists():
                raise OutputError(f"{target} appeared while this was running", hint="add --force")
            os.replace(temporary, target)
            _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def creation_named(target: Path) -> Iterator[None]:
    """Turn a failure to create a file beside ``target`` into one clear line.

    Raises
    ------
    OutputError
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {os.strerror(error.errno or errno.EIO)}",
            hint=f"check that you may write in {target.parent}",
        ) from error


@contextlib.contextmanager
def failures_named(target: Path) -> Iterator[None]:
    """Turn a failed write, as on a full disk, into one clear line.

    Raises
    ------
    OutputError
    """
    try:
        yield
    except OSError as error:
        if error.errno not in WRITE_FAILURES:
            raise
        raise OutputError(
            f"cannot write {target}: {os.strerror(error.errno or 0)}",
            hint="free some space or choose another folder",
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


STDOUT = Path("-")


@contextlib.contextmanager
def open_text(target: Path, *, force: bool = False, compress: bool = False) -> Iterator[TextIO]:
    """Open ``target``, or standard output for ``-``, for writing text; gzip it with ``compress``.

    Raises
    ------
    OutputError
        If it may not or cannot be written.
    """
    if target == STDOUT:
        with _standard_output():
            yield sys.stdout
        return
    with open_binary(target, force=force) as file, contextlib.ExitStack() as stack:
        binary: Any = file
        if compress:  # without name and time: the same rows are the same bytes
            binary = stack.enter_context(gzip.GzipFile("", "wb", 6, file, 0))
        yield stack.enter_context(io.TextIOWrapper(binary, encoding="utf-8", newline="\n"))


@contextlib.contextmanager
def open_binary(target: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Open ``target``, or standard output for ``-``, for writing bytes; see :func:`open_text`."""
    if target == STDOUT:
        with _standard_output():
            yield cast(BinaryIO, sys.stdout.buffer)
        return
    with replace_atomically(target, force=force) as temporary, temporary.open("wb") as file:
        yield file


@contextlib.contextmanager
def _standard_output() -> Iterator[None]:
    try:
        with failures_named(Path("standard output")):
            yield
            sys.stdout.flush()
    except OutputError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the rest goes nowhere
        raise
