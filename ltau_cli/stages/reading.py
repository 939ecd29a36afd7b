"""How an error log is read, and the labels that go with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.readers.arrays import read_array
from ltau_cli.readers.descriptors import structures_from_natoms
from ltau_cli.readers.frames import read_labels
from ltau_cli.readers.labels import check_count, read_label_column, read_magnitudes
from ltau_cli.readers.logs.open import ErrorLog
from ltau_cli.readers.logs.run import LogOptions
from ltau_cli.readers.place import Place


@dataclass(frozen=True)
class Reading:
    """How the log is read; an appended artifact keeps to it.

    Attributes
    ----------
    format, quantity, norm, missing, columns, reference, prediction
        See :class:`ltau_cli.readers.logs.run.LogOptions`.
    epochs : tuple of (int or None)
        START, STOP, STEP of the epoch numbers to keep; a negative one counts from the end.
    every : int
        Of these, keep each ``every``-th.
    """

    format: str | None = None
    quantity: str | None = None
    norm: str = "l2"
    missing: tuple[float, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    reference: str | None = None
    prediction: str | None = None
    epochs: tuple[int | None, int | None, int | None] = (None, None, None)
    every: int = 1

    def options(
        self, known: Collection[tuple[int, int]] = (), *, append: bool = False, expected: int = 0
    ) -> LogOptions:
        """Return the reader's options; ``known`` (run, epoch) pairs are not read again."""
        values = {k: v for k, v in asdict(self).items() if k not in ("epochs", "every")}

        def select(run: int, epochs: Sequence[int]) -> list[int]:
            kept = select_epochs(epochs, self.epochs)[:: self.every]
            return [i for i in kept if (run, epochs[i]) not in known]

        return LogOptions(**values, select=select, growing=append, expected=expected)


@dataclass(frozen=True)
class Labels:
    """Files with per-sample labels; see ``ltau ingest -h``."""

    natoms: str | None = None
    frames: str | None = None
    group: str | None = None
    sample_id: str | None = None
    magnitude: str | None = None

    def places(self) -> Iterator[tuple[str, Place]]:
        """Yield the role and place of each file that was given."""
        for role, text in asdict(self).items():
            if text is not None:
                yield role, Place.parse(text)


def select_epochs(
    epochs: Sequence[int], bounds: tuple[int | None, int | None, int | None]
) -> list[int]:
    """Positions of the epochs within START:STOP:STEP; a negative bound counts from the end.

    Parameters
    ----------
    epochs : sequence of int
        Epoch numbers, increasing.
    bounds : (start, stop, step)
        As in a slice, but of epoch numbers.

    Returns
    -------
    list of int
    """
    if not epochs:
        return []
    start, stop, step = bounds
    end = epochs[-1] + 1
    low = epochs[0] if start is None else start + (end if start < 0 else 0)
    high = end if stop is None else stop + (end if stop < 0 else 0)
    return [i for i, e in enumerate(epochs) if low <= e < high and (e - low) % (step or 1) == 0]


def read_all_labels(labels: Labels, log: ErrorLog) -> dict[str, npt.NDArray[Any]]:
    """Labels of the log and of the user, all of one length."""
    columns = dict(log.labels)
    places = dict(labels.places())
    name = log.names[0]
    if "frames" in places:
        columns |= read_labels(places["frames"].path).as_dict()
    if "natoms" in places:
        natoms = read_array(places["natoms"], names=("natoms",), ndim=1)
        total = max(log.n_samples, int(np.sum(natoms))) if log.ends_early else log.n_samples
        columns["structure"] = structures_from_natoms(natoms, total, str(places["natoms"]))
    if "group" in places:
        columns["group"] = read_label_column(places["group"])
    if "sample_id" in places:
        columns["sample_id"] = read_label_column(places["sample_id"])
    if "magnitude" in places:
        columns["magnitude"] = read_magnitudes(places["magnitude"])
    # A log may end at the largest id that was seen; the frames then tell how many there are.
    n = log.n_samples
    if log.ends_early:
        n = max([n, *(len(v) for k, v in columns.items() if k in ("structure", "species"))])
    for label, values in columns.items():
        check_count(values, n, places.get(label) or places.get("frames") or label, name)
    return columns
