"""The epochs of a log that a model is fitted on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.read import Artifact
from ltau_cli.artifacts.write import ArtifactWriter, BlockWriter
from ltau_cli.core.checkup import Survey, rows_of_runs
from ltau_cli.errors import InputError, UsageError
from ltau_cli.progress import Progress
from ltau_cli.readers.logs.open import ErrorLog


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
        chunk = (self._dataset.chunks or self._dataset.shape)[1]
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


# `fit` reads all epochs of a block of samples, `--append` adds rows: so chunks are wide in samples
# and low in epochs, a block of samples is whole chunks, and each chunk is read exactly once. A
# block of all epochs stays under 64 MB, whatever the size of the log.
BLOCK_BYTES = 64 << 20
CHUNK_SAMPLES = 16_384
CHUNK_EPOCHS = 16


def sample_chunk(n_epochs: int, n_samples: int) -> int:
    """Choose the samples per chunk and per block."""
    return max(1, min(CHUNK_SAMPLES, BLOCK_BYTES // (4 * n_epochs), n_samples))


def chunk_epochs(n_epochs: int) -> int:
    """Choose the epochs per chunk, about 16, so that the last chunk is nearly full."""
    return -(-n_epochs // -(-n_epochs // CHUNK_EPOCHS))


PER_EPOCH = ("epoch", "run", "epoch_mean", "epoch_min", "epoch_max", "epoch_missing", "epoch_zeros")
PER_SAMPLE = ("n_logged", "sample_min", "sample_max")


def copy_log(
    log: ErrorLog, errors: BlockWriter, row: int, n: int, chunk: int, progress: Progress
) -> Survey:
    """Copy the log into rows ``row..``, block by block; the next is read while one is written."""
    survey = Survey.empty(len(log.epochs), n)

    def read(start: int) -> npt.NDArray[np.float32]:
        block = _read_block(log, start, min(start + chunk, n))
        negative = survey.add(block, start)
        if negative is not None:
            where, sample = negative
            raise InputError(
                f"{log.names[where]}: the error of sample {sample} is negative "
                f"({block[where, sample - start]:g})",
                hint="log magnitudes: |predicted - reference|, or the norm of the difference; "
                "if it stands for a missing value: --missing VALUE",
            )
        return block

    with progress("reading errors", n) as advance, ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, 0)
        for start in range(0, n, chunk):
            block = coming.result()
            if start + chunk < n:
                coming = reader.submit(read, start + chunk)
            errors[row : row + len(block), start : start + block.shape[1]] = block
            advance(block.shape[1])
    return survey


def _read_block(log: ErrorLog, start: int, stop: int) -> npt.NDArray[np.float32]:
    """Read samples ``start..stop``; those beyond the end of the log are missing."""
    end = max(start, min(stop, log.n_samples))
    block = np.ascontiguousarray(log.read(start, end), dtype=np.float32)
    if end < stop:
        block = np.pad(block, ((0, 0), (0, stop - end)), constant_values=np.nan)
    return block if block.flags.writeable and block.base is None else block.copy()


def write_rows(artifact: ArtifactWriter, data: dict[str, npt.NDArray[Any]]) -> None:
    """Write what is stored per epoch and per sample."""
    for name in PER_EPOCH:
        artifact.put(name, data[name], growing=True)
    for name in PER_SAMPLE:
        artifact.put(name, data[name])


def last_mean(log: Artifact) -> float:
    """Mean error over the training set at the last epoch, the model's MAE; the mean over runs."""
    means = log.read("epoch_mean")
    rows = rows_of_runs(log.read("epoch"), log.read("run"))
    return float(np.mean([means[own][np.isfinite(means[own])][-1] for own in rows]))
