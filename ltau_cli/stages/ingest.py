"""Error logs to an errors artifact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.atomic import check_target
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.write import create_artifact
from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import Place
from ltau_cli.readers.logs import ErrorLog, open_log
from ltau_cli.stages.progress import Progress, silent

# `fit` reads all epochs of a block of samples, `--append` adds rows: so chunks are wide in samples,
# low in epochs, and a block of samples is whole chunks. A block of all epochs stays under 64 MB.
BLOCK_BYTES = 64 << 20
CHUNK_SAMPLES = 16_384
CHUNK_EPOCHS = 16


def run(
    log: str,
    output: Path,
    *,
    units: str = "",
    force: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Read an error log and write the errors artifact.

    Parameters
    ----------
    log : str
        Folder of per-epoch .npy files, one .npy, or an .npz with one array per run.
    output : Path
        The errors artifact.
    units : str
        Error units, such as ``eV/Å``.
    force : bool
        Replace an existing artifact.
    progress : Progress
        Shows the blocks.

    Returns
    -------
    dict
        The summary.

    Raises
    ------
    InputError
        If the log cannot be used: unreadable, empty, negative errors, samples never logged.
    OutputError
        If the artifact cannot be written.
    """
    check_target(output, force=force)
    place = Place.parse(log)
    with open_log(place) as source, Hasher() as hasher:
        hasher.add("log", place.path, "error log", source.files, key=place.key)
        n_epochs, n = len(source.epochs), source.n_samples
        chunk = sample_chunk(n_epochs, n)
        totals = EpochTotals.empty(n_epochs)
        n_logged = np.zeros(n, dtype=np.int32)
        with create_artifact(output, "errors", units=units, force=force) as artifact:
            errors = artifact.create(
                "errors",
                (n_epochs, n),
                chunks=(min(CHUNK_EPOCHS, n_epochs), chunk),
                growing=True,
            )
            with progress("reading errors", n) as advance:
                for start in range(0, n, chunk):
                    stop = min(start + chunk, n)
                    block = source.read(start, stop)
                    check_block(block, start, source, log)
                    totals.add(block)
                    n_logged[start:stop] = np.count_nonzero(~np.isnan(block), axis=0)
                    errors[:, start:stop] = block
                    advance(stop - start)
            refuse_never_logged(n_logged, log)
            summary = summarize(source, totals, n)
            for name, values in totals.datasets(n).items():
                artifact.put(name, values)
            artifact.put("epoch", source.epochs)
            artifact.put("run", source.runs)
            artifact.put("n_logged", n_logged, compress=True)
            artifact.finish(parameters={"units": units}, inputs=hasher.records(), summary=summary)
    return summary


def sample_chunk(n_epochs: int, n_samples: int) -> int:
    """Choose the samples per chunk and per block."""
    return max(1, min(CHUNK_SAMPLES, BLOCK_BYTES // (4 * n_epochs), n_samples))


@dataclass
class EpochTotals:
    """Running statistics of each epoch; whole chunks are added one after the other."""

    total: npt.NDArray[np.float64]
    logged: npt.NDArray[np.int64]
    zeros: npt.NDArray[np.int64]
    smallest: npt.NDArray[np.float64]
    largest: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, n_epochs: int) -> EpochTotals:
        """Start with nothing seen."""
        nothing = np.zeros(n_epochs, dtype=np.int64)
        return cls(
            np.zeros(n_epochs),
            nothing,
            nothing.copy(),
            np.full(n_epochs, np.inf),
            np.full(n_epochs, -np.inf),
        )

    def add(self, block: npt.NDArray[np.float32]) -> None:
        """Add a block of samples, (n_epochs, n) float32."""
        self.total += np.nansum(block, axis=1, dtype=np.float64)
        self.logged += np.count_nonzero(~np.isnan(block), axis=1)
        self.zeros += np.count_nonzero(block == 0, axis=1)
        positive = np.where(block > 0, block, np.inf).min(axis=1)
        self.smallest = np.minimum(self.smallest, positive)
        self.largest = np.maximum(self.largest, np.where(block >= 0, block, -np.inf).max(axis=1))

    def datasets(self, n_samples: int) -> dict[str, npt.NDArray[Any]]:
        """Return the per-epoch datasets of the artifact."""
        mean = np.full(len(self.total), np.nan)
        np.divide(self.total, self.logged, out=mean, where=self.logged > 0)
        return {
            "epoch_mean": mean,
            "epoch_min": np.where(np.isfinite(self.smallest), self.smallest, np.nan),
            "epoch_max": np.where(np.isfinite(self.largest), self.largest, np.nan),
            "epoch_missing": n_samples - self.logged,
        }


def check_block(block: npt.NDArray[np.float32], start: int, source: ErrorLog, log: str) -> None:
    """Refuse negative errors and turn -0.0 into 0.0, in place.

    Raises
    ------
    InputError
        Naming the file and the sample.
    """
    negative = np.argwhere(block < 0)
    if len(negative):
        row, sample = negative[0]
        raise InputError(
            f"{source.row_name(int(row))}: the error of sample {start + sample} is negative "
            f"({block[row, sample]:g})",
            hint="log magnitudes: |predicted - reference|, or the norm of the difference",
        )
    block += 0.0


def refuse_never_logged(n_logged: npt.NDArray[np.int32], log: str) -> None:
    """Refuse samples without a single error.

    Raises
    ------
    InputError
        With their number and the first.
    """
    never = np.flatnonzero(n_logged == 0)
    if len(never):
        raise InputError(
            f"{log}: {len(never):,} of {len(n_logged):,} samples were never logged "
            f"(NaN or infinite in every epoch), the first is sample {never[0]}",
            hint="leave them out of the log, and their rows out of the training descriptors",
        )


def summarize(source: ErrorLog, totals: EpochTotals, n_samples: int) -> dict[str, Any]:
    """Numbers that a person can judge the log by."""
    mean = totals.datasets(n_samples)["epoch_mean"]
    first_of_run = np.flatnonzero(np.diff(source.runs, prepend=-1))
    last_of_run = np.flatnonzero(np.diff(source.runs, append=-1))
    return {
        "n_samples": n_samples,
        "n_epochs": len(source.epochs),
        "n_runs": int(source.runs.max()) + 1,
        "epochs": [int(source.epochs.min()), int(source.epochs.max())],
        "n_missing": int((n_samples - totals.logged).sum()),
        "n_zero": int(totals.zeros.sum()),
        "smallest_positive": float(totals.smallest.min()),
        "largest": float(totals.largest.max()),
        "mean_first": float(np.mean(mean[first_of_run])),
        "mean_last": float(np.mean(mean[last_of_run])),
    }
