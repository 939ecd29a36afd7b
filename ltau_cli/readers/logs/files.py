"""Text files of a log, each of which can be read by itself: here, or ahead by another process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ltau_cli.readers.frames import FrameLabels
from ltau_cli.readers.logs.frames import FrameErrors, errors_of_file
from ltau_cli.readers.logs.long_rows import LongRows
from ltau_cli.readers.logs.tables import read_rows
from ltau_cli.settings import LogOptions

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class LogFile:
    """A file to read.

    Attributes
    ----------
    path : Path
    kind : {"frames", "table"}
    epoch : int or None
        Of all its rows; None if they say it themselves, or it does not matter.
    """

    path: Path
    kind: Literal["frames", "table"]
    epoch: int | None


@dataclass(frozen=True)
class Readers:
    """How the files are read; others than these take what was read ahead."""

    frames: Callable[[Path, LogOptions], FrameErrors] = errors_of_file
    table: Callable[[Path, int | None, LogOptions], LongRows] = read_rows


def read_file(file: LogFile, options: LogOptions) -> Arrays:
    """Read a file into arrays, from which :func:`readers_of` makes again what was read.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if file.kind == "table":
        return read_rows(file.path, file.epoch, options).to_arrays()
    errors, labels = errors_of_file(file.path, options)
    return {"errors": errors, **labels.as_dict()}


def readers_of(find: Callable[[Path], Arrays | None]) -> Readers:
    """Take the files that ``find`` knows the arrays of, and read the others."""

    def frames(path: Path, options: LogOptions) -> FrameErrors:
        arrays = find(path)
        if arrays is None:
            return errors_of_file(path, options)
        kinds = arrays.get("config_type")
        return np.array(arrays["errors"]), FrameLabels(
            arrays["structure"], arrays["species"], kinds
        )

    def table(path: Path, epoch: int | None, options: LogOptions) -> LongRows:
        arrays = find(path)
        if arrays is None:
            return read_rows(path, epoch, options)
        return LongRows.from_arrays(arrays, options)

    return Readers(frames, table)
