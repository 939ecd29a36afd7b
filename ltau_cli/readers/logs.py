"""Error logs as training left them: per-epoch files, one array, or one array per run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import ArraySource, Place, list_arrays, open_array

_NUMBER = re.compile(r"\d+")


@dataclass
class ErrorLog:
    """An error log, read by ranges of samples.

    Attributes
    ----------
    files : list of Path
        Everything that is read.
    epochs, runs : (n_epochs,) int32
        Of each row.
    n_samples : int
    read : callable
        ``read(start, stop)`` gives (n_epochs, stop - start) float32; missing values are NaN.
    row_name : callable
        Name of a row for messages.
    """

    files: list[Path]
    epochs: npt.NDArray[np.int32]
    runs: npt.NDArray[np.int32]
    n_samples: int
    read: Callable[[int, int], npt.NDArray[np.float32]]
    row_name: Callable[[int], str]


@contextlib.contextmanager
def open_log(place: Place) -> Iterator[ErrorLog]:
    """Open a folder of per-epoch .npy files, one .npy, or an .npz with one array per run.

    Raises
    ------
    InputError
        If it cannot be read, is empty, or its parts do not fit together.
    """
    with contextlib.ExitStack() as stack:
        if place.path.is_dir():
            yield _folder(place.path, stack)
        elif place.path.suffix.lower() == ".npz" and place.key is None:
            yield _runs(place, stack)
        else:
            source = stack.enter_context(open_array(place, names=("errors",)))
            yield _joined([source], [place.path])


def _folder(folder: Path, stack: contextlib.ExitStack) -> ErrorLog:
    numbered = find_epoch_files(folder)
    sources = [stack.enter_context(open_array(Place(path))) for _, path in numbered]
    for source in sources:
        if (len(source.shape) == 2 and source.shape[1] != 3) or len(source.shape) > 2:
            raise InputError(
                f"{source.place} has shape {source.shape}; a per-epoch file holds (n_samples,) "
                "errors or (n_samples, 3) error vectors"
            )
    first = sources[0]
    n_samples = first.shape[0]
    for source in sources:
        if source.shape[0] != n_samples:
            raise InputError(
                f"{source.place} has {source.shape[0]:,} samples, {first.place} has {n_samples:,}",
                hint="all epochs of one log must hold the same samples",
            )
    if n_samples == 0:
        raise InputError(f"{first.place} is empty: it holds no samples")

    def read(start: int, stop: int) -> npt.NDArray[np.float32]:
        rows = np.empty((len(sources), stop - start), dtype=np.float32)
        for row, source in zip(rows, sources, strict=True):
            row[:] = _magnitudes(source.read(start, stop), vectors=len(source.shape) == 2)
        return rows

    return ErrorLog(
        files=[path for _, path in numbered],
        epochs=np.array([epoch for epoch, _ in numbered], dtype=np.int32),
        runs=np.zeros(len(numbered), dtype=np.int32),
        n_samples=n_samples,
        read=read,
        row_name=lambda row: str(numbered[row][1]),
    )


def find_epoch_files(folder: Path) -> list[tuple[int, Path]]:
    """Per-epoch .npy files of a folder, by epoch number (9 before 10).

    Files belong together if their names differ in one number only.

    Raises
    ------
    InputError
        If there are none, or several such sets.
    """
    patterns: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.npy")):
        if _NUMBER.search(path.stem):
            patterns.setdefault(_NUMBER.sub("#", path.name), []).append(path)
    if not patterns:
        raise InputError(
            f"{folder} holds no per-epoch .npy files",
            hint="name them like errors_epoch_0.npy, errors_epoch_1.npy, ...",
        )
    series = {name: paths for name, paths in patterns.items() if len(paths) > 1} or patterns
    if len(series) > 1:
        raise InputError(
            f"{folder} holds several sets of numbered files: " + ", ".join(sorted(series)[:5]),
            hint="move each set to a folder of its own",
        )
    (paths,) = series.values()
    numbers = np.array([[int(n) for n in _NUMBER.findall(path.stem)] for path in paths])
    varying = np.flatnonzero((numbers != numbers[0]).any(axis=0))
    if len(varying) > 1:
        raise InputError(
            f"{folder}: more than one number varies in the file names, such as "
            f"{paths[0].name} and {paths[-1].name}",
            hint="keep one folder per run, where only the epoch number varies",
        )
    column = int(varying[0]) if len(varying) else -1
    return sorted(zip(numbers[:, column].tolist(), paths, strict=True))


def _runs(place: Place, stack: contextlib.ExitStack) -> ErrorLog:
    names = sorted(list_arrays(place.path), key=_natural)
    if not names:
        raise InputError(f"{place} is empty: it holds no arrays")
    sources = [stack.enter_context(open_array(Place(place.path, name))) for name in names]
    return _joined(sources, [place.path])


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _joined(sources: list[ArraySource], files: list[Path]) -> ErrorLog:
    for source in sources:
        _check_whole_log(source)
    n_samples = sources[0].shape[1]
    for source in sources:
        if source.shape[1] != n_samples:
            raise InputError(
                f"{source.place} has {source.shape[1]:,} samples, "
                f"{sources[0].place} has {n_samples:,}",
                hint="all runs of an ensemble must hold the same samples",
            )
    lengths = [source.shape[0] for source in sources]
    rows_of = [
        (s, row) for s, length in zip(sources, lengths, strict=True) for row in range(length)
    ]
    whole = [source.all() for source in sources]

    def read(start: int, stop: int) -> npt.NDArray[np.float32]:
        parts = [_magnitudes(values[:, start:stop], vectors=values.ndim == 3) for values in whole]
        return np.concatenate(parts)

    return ErrorLog(
        files=files,
        epochs=np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        runs=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        n_samples=n_samples,
        read=read,
        row_name=lambda row: f"{rows_of[row][0].place}, row {rows_of[row][1]}",
    )


def _check_whole_log(source: ArraySource) -> None:
    shape = source.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3):
        raise InputError(
            f"{source.place} has shape {shape}; an error log is (n_epochs, n_samples) or "
            "(n_epochs, n_samples, 3)",
            hint="transpose it if samples come first",
        )
    if 0 in shape:
        raise InputError(f"{source.place} is empty: its shape is {shape}")


def _magnitudes(values: npt.NDArray[Any], *, vectors: bool) -> npt.NDArray[np.float32]:
    """Errors as float32 magnitudes; norms of vectors; infinities become missing."""
    if vectors:
        values = np.linalg.norm(values.astype(np.float64), axis=-1)
    with np.errstate(over="ignore"):
        errors = np.asarray(values).astype(np.float32)
    errors[np.isinf(errors)] = np.nan
    return errors
