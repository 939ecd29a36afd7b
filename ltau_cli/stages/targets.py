"""Where results that are no artifacts go: a file that appears whole, or standard output."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from ltau_cli.artifacts.atomic import failures_named, replace_atomically
from ltau_cli.errors import OutputError

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
