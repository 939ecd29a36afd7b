"""Text files of a log, each of which can be read by itself: here, or ahead by another process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ltau_cli.array_types import Array
from ltau_cli.readers.logs.frames import FrameErrors, errors_of_file
from ltau_cli.readers.logs.long_rows import LongRows
from ltau_cli.readers.logs.tables import read_rows
from ltau_cli.settings import LogOptions

Arrays = dict[str, Array]


@dataclass(frozen=True)
class LogFile:
    """A file to read; ``epoch`` is that of all its rows, None if they say it themselves."""

    path: Path
    kind: Literal["frames", "table"]
    epoch: int | None

    def to_arrays(self, options: LogOptions) -> Arrays:
        """Read it into arrays, from which :class:`Files` makes again what was read."""
        if self.kind == "table":
            return read_rows(self.path, self.epoch, options).to_arrays()
        errors, labels = errors_of_file(self.path, options)
        return {"errors": errors, **labels}


@dataclass(frozen=True)
class Files:
    """Reads files, or takes the arrays that ``find`` knows of them."""

    find: Callable[[Path], Arrays | None] = lambda _path: None

    def frames(self, path: Path, options: LogOptions) -> FrameErrors:
        """Read evaluated frames."""
        arrays = self.find(path)
        if arrays is None:
            return errors_of_file(path, options)
        labels = dict(arrays)
        return np.array(labels.pop("errors")), labels

    def table(self, path: Path, epoch: int | None, options: LogOptions) -> LongRows:
        """Read a long table."""
        arrays = self.find(path)
        if arrays is None:
            return read_rows(path, epoch, options)
        return LongRows.from_arrays(arrays, options)
