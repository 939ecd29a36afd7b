"""The epochs of a log that a model is fitted on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.read import Artifact
from ltau_cli.errors import UsageError
from ltau_cli.stages.checkup import rows_of_runs


class KeptLog:
    """A log without the first epochs of each run.

    Parameters
    ----------
    log : Artifact
        Open, of kind errors.
    burn_in : int
        Epochs to leave out of each run.

    Attributes
    ----------
    rows : (n_kept,) int64
        Rows of the log that are kept, increasing.

    Raises
    ------
    UsageError
        If no epoch of a run is left.
    """

    def __init__(self, log: Artifact, burn_in: int = 0) -> None:
        self.log = log
        runs = rows_of_runs(log.read("epoch"), log.read("run"))
        shortest = min(map(len, runs))
        if burn_in >= shortest:
            raise UsageError(
                f"--burn-in {burn_in} leaves no epoch; {log.path} has {shortest} epochs",
                hint=f"use --burn-in {shortest - 1} or less",
            )
        self.rows = np.sort(np.concatenate([own[burn_in:] for own in runs]))
        self._dataset = log.dataset("errors")
        self._contiguous = len(self.rows) == int(self.rows[-1]) + 1 - int(self.rows[0])

    @property
    def n_samples(self) -> int:
        """Samples of the log."""
        return int(self._dataset.shape[1])

    def read(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Errors of samples ``start..stop``, (n_kept, stop - start) float32."""
        if self._contiguous:
            block = self._dataset[int(self.rows[0]) : int(self.rows[-1]) + 1, start:stop]
        else:
            block = self._dataset[:, start:stop][self.rows]
        return np.asarray(block)

    def blocks(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Cut a range of samples where the chunks of the log end."""
        chunk = self._dataset.chunks[1]
        start = first
        while start < last:
            stop = min(last, (start // chunk + 1) * chunk)
            yield start, stop
            start = stop

    def n_logged(self) -> npt.NDArray[np.int32]:
        """Errors kept of each sample, (n_samples,); reads the log only if some are missing."""
        if len(self.rows) == self._dataset.shape[0]:
            return self.log.read("n_logged")
        if not self.log.read("epoch_missing").any():
            return np.full(self.n_samples, len(self.rows), dtype=np.int32)
        counts = np.empty(self.n_samples, dtype=np.int32)
        for start, stop in self.blocks(0, self.n_samples):
            counts[start:stop] = np.isfinite(self.read(start, stop)).sum(axis=0)
        return counts

    def per_epoch(self, name: str) -> npt.NDArray[Any]:
        """Return one of the datasets per epoch, of the kept epochs."""
        values: npt.NDArray[Any] = self.log.read(name)[self.rows]
        return values
