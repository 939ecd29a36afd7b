"""How an error log is read; imports nothing heavy, so that help texts are fast."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Quantity = Literal["forces", "energy"]
Norm = Literal["l2", "l1", "max", "rms"]
EpochRange = tuple[int | None, int | None, int | None]


@dataclass(frozen=True)
class Stored:
    """What of a log is stored already, where epochs are added to it.

    Attributes
    ----------
    epochs : collection of (int, int)
        (run, epoch) pairs that are not read again.
    n_samples : int
        Samples of a complete epoch; 0 where that is not known yet.
    """

    epochs: Collection[tuple[int, int]] = ()
    n_samples: int = 0


@dataclass(frozen=True)
class LogOptions:
    """How to read a log; an artifact that grows keeps to them.

    Attributes
    ----------
    format : str or None
        Forced format; None detects it.
    quantity : {"forces", "energy"} or None
        Which errors, where a log holds both.
    norm : {"l2", "l1", "max", "rms"}
        For error vectors.
    missing : tuple of float
        Values that stand for "not logged", besides NaN and infinity.
    columns : mapping
        Column names of tables: ``epoch``, ``sample``, ``error``, ``run``.
    reference, prediction : str or None
        Keys of evaluated frames.
    epochs : tuple of (int or None)
        START, STOP, STEP of the epoch numbers to keep; a negative one counts from the end.
    every : int
        Of these, keep each ``every``-th.
    stored : Stored or None
        Given where epochs are added: the log may still be written, so a last epoch that is not
        complete is left out.
    """

    format: str | None = None
    quantity: Quantity | None = None
    norm: Norm = "l2"
    missing: tuple[float, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None
    prediction: str | None = None
    epochs: EpochRange = (None, None, None)
    every: int = 1
    stored: Stored | None = None

    @property
    def growing(self) -> bool:
        """Whether the log may still be written."""
        return self.stored is not None

    @property
    def expected(self) -> int:
        """Samples of a complete epoch; 0 where that is not known."""
        return 0 if self.stored is None else self.stored.n_samples

    def select(self, run: int, epochs: Sequence[int]) -> list[int]:
        """Return the positions of the epochs to read, of the increasing numbers ``epochs``."""
        known = () if self.stored is None else self.stored.epochs
        kept = _within(epochs, self.epochs)[:: self.every]
        return [i for i in kept if (run, epochs[i]) not in known]

    def parameters(self) -> dict[str, Any]:
        """Return what an artifact records of them."""
        return {name: value for name, value in asdict(self).items() if name != "stored"}


def _within(epochs: Sequence[int], bounds: EpochRange) -> list[int]:
    """Positions of the epochs within START:STOP:STEP; a negative bound counts from the end."""
    if not epochs:
        return []
    start, stop, step = bounds
    end = epochs[-1] + 1
    low = epochs[0] if start is None else start + (end if start < 0 else 0)
    high = end if stop is None else stop + (end if stop < 0 else 0)
    return [i for i, e in enumerate(epochs) if low <= e < high and (e - low) % (step or 1) == 0]
