"""What every format of error log becomes: runs of epochs, read by ranges of samples."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ltau_cli.array_types import Array, Singles
from ltau_cli.errors import InputError
from ltau_cli.readers.place import Place
from ltau_cli.settings import LogOptions, Quantity

MOST_EPOCHS = 100  # times the samples: more are rather samples that come first
# Share of rows whose id is there already: 0.37 of samples drawn with replacement, 0.5 of two rows
# of each.
MOST_REPEATED = 0.4

NORMS: Mapping[str, Callable[[Array], Array]] = {
    "l2": lambda v: np.sqrt(np.einsum("...i,...i->...", v, v)),
    "l1": lambda v: np.abs(v).sum(axis=-1),
    "max": lambda v: np.abs(v).max(axis=-1),
    "rms": lambda v: np.sqrt(np.einsum("...i,...i->...", v, v) / v.shape[-1]),
}


@dataclass
class LoggedRun:
    """One training run."""

    epochs: list[int]  # epoch number of each row
    names: list[str]  # where each row stands, for messages
    files: list[Path]  # what is read
    n_samples: int
    # ``read(start, stop)`` gives (n_epochs, stop - start) float32, infinite or NaN where nothing
    # was logged
    read: Callable[[int, int], Singles]
    # whether an epoch may end at the largest id it saw, before the last sample
    ends_early: bool = False
    # per-sample labels that came along, such as ``species``, each (n_samples,)
    labels: dict[str, Array] = field(default_factory=dict)
    # whether the recorder says which samples are not trained on: then it is no mistake where one is
    # missing in every epoch
    knows_held_out: bool = False
    # findings of the reader, such as ``duplicated ids``
    notes: Counter[str] = field(default_factory=Counter)
    # how it was taken, where another way is possible; told as warnings
    remarks: list[str] = field(default_factory=list)
    format: str = ""  # what it was taken for, where the file's name does not tell
    # what the errors are of, where that is known; those of energies are of frames, per atom
    quantity: Quantity | None = None
    signed: bool = False  # whether they have their sign
    units: str = ""  # of the errors, where they are known


@dataclass
class ErrorLog(LoggedRun):
    """All runs of a log together."""

    place: Place = field(default_factory=lambda: Place(Path()))  # the first run, for messages
    runs: list[int] = field(default_factory=list)  # run of each row, from 0


def empty_run() -> LoggedRun:
    """Return a run of no epochs, to be filled."""
    return LoggedRun([], [], [], 0, lambda start, stop: np.empty((0, 0), np.float32))


def magnitudes(values: Array, options: LogOptions, *, vectors: bool) -> Singles:
    """Singles as stored to float32 magnitudes; sentinels become NaN, too large ones infinite."""
    missing = np.zeros(values.shape[:-1] if vectors else values.shape, dtype=bool)
    for sentinel in options.missing:
        same = values == sentinel
        missing |= same.any(axis=-1) if vectors else same
    with np.errstate(over="ignore", invalid="ignore"):
        if vectors:
            values = NORMS[options.norm](np.asarray(values, dtype=np.float64))
        errors = np.asarray(values).astype(np.float32, copy=bool(options.missing))
    if options.missing:
        errors[missing] = np.nan
    return errors


def remarks_on_shape(name: object, n_epochs: int, n: int) -> list[str]:
    """Say how a log was read that has far more rows than columns."""
    taken = f"{name} is read as {n_epochs:,} epochs of {n:,} samples"
    return [f"{taken}; transpose it if samples come first"] * (n_epochs > MOST_EPOCHS * n)


def refuse_repeated(n_repeated: int, n_rows: int, where: object) -> None:
    """Refuse a log that loses many of its rows, as their ids are there already."""
    if n_repeated > MOST_REPEATED * n_rows:
        raise InputError(
            f"{where}: {n_repeated:,} of {n_rows:,} rows have an id that stands in their epoch "
            "already",
            hint="give each sample an id of its own; if two columns of a table name it together: "
            "--column frame=NAME --column sample=NAME",
        )


def check_lengths(lengths: Sequence[int], names: Sequence[str], *, may_be_short: bool) -> int:
    """Return the number of samples of a run from the lengths of its epochs."""
    n = max(lengths)
    for length, name in zip(lengths, names, strict=True):
        if length != lengths[0] and not may_be_short:
            raise InputError(
                f"{name} has {length:,} samples, {names[0]} has {lengths[0]:,}",
                hint="all epochs of one log must hold the same samples",
            )
    if n == 0:
        raise InputError(f"{names[0]} is empty: it holds no samples")
    return n
