"""The errors artifact: the error of every training sample at every logged epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Integers, Singles
from ltau_cli.artifacts.read import Artifact
from ltau_cli.artifacts.write import ArtifactWriter, BlockWriter
from ltau_cli.core.checkup import COMPARED_SAMPLES, Survey, check_up, rows_of_runs
from ltau_cli.epochs import ALL_EPOCHS, EpochRange, choose_epochs, format_epochs
from ltau_cli.errors import InputError, UsageError
from ltau_cli.matching import COMPARED, Known
from ltau_cli.progress import Progress
from ltau_cli.readers.logs.run import ErrorLog
from ltau_cli.results import IngestResult
from ltau_cli.settings import Quantity

# `fit` reads all epochs of a block of samples: it is whole chunks, each of which is read exactly
# once, and stays under 64 MB, whatever the size of the log.
BLOCK_BYTES = 64 << 20
CHUNK_SAMPLES = 16_384
CHUNK_EPOCHS = 16


class ErrorsFile(Artifact):
    """An open errors artifact."""

    kind = "errors"
    summary: IngestResult

    @property
    def shape(self) -> tuple[int, int]:
        """Epochs (rows of all runs) and samples."""
        n_epochs, n_samples = self.dataset("errors").shape
        return int(n_epochs), int(n_samples)

    @property
    def sample_chunk(self) -> int:
        """Samples per chunk of the file: blocks of whole chunks are read once."""
        n_samples = self.shape[1]
        return int((self.dataset("errors").chunks or (1, min(CHUNK_SAMPLES, n_samples)))[1])

    @property
    def quantity(self) -> Quantity | None:
        """What the errors are of, where that is known."""
        return self.parameters.get("quantity")

    def runs(self) -> list[Integers]:
        """Rows of each run, in the order of its epochs."""
        return rows_of_runs(self.read("epoch"), self.read("run"))

    def told(self) -> Known:
        """Return what the log says of the samples."""
        names = ("sample_id", "fingerprint", *COMPARED)
        labels = {name: self.read(name) for name in names if self.has(name)}
        return Known(self.path, self.shape[1], labels)

    def default_threshold(self) -> float:
        """Mean error of the last epoch without its largest 1 %; mean over runs.

        An epoch whose errors are all 0 tells nothing; the last one before it counts. Where nearly
        all are 0, it is the mean of all.
        """
        return self.summary.trimmed_last or self.summary.mean_last or 0.0

    def choose(self, epochs: EpochRange = ALL_EPOCHS) -> ChosenEpochs:
        """Choose epochs of each run; see :func:`ltau_cli.epochs.choose_epochs`."""
        return ChosenEpochs(self, epochs)


class ChosenEpochs:
    """Some epochs of each run of a log: what a model is fitted on.

    ``rows`` (n_chosen,) int64 are their rows of the log, increasing; ``runs`` the places among
    these of the epochs of each run, in order.
    """

    def __init__(self, log: ErrorsFile, epochs: EpochRange = ALL_EPOCHS) -> None:
        self.log = log
        numbers, chosen = log.read("epoch"), []
        for run, own in enumerate(log.runs()):
            places = choose_epochs(numbers[own].tolist(), epochs)
            if not places:
                raise UsageError(
                    f"--epochs {format_epochs(epochs)} leaves no epoch of run {run} of {log.path}",
                    hint=f"it has the epochs {numbers[own[0]]} to {numbers[own[-1]]}",
                )
            chosen.append(own[places])
        self.rows = np.sort(np.concatenate(chosen))
        self.runs = [np.searchsorted(self.rows, own) for own in chosen]
        self._dataset = log.dataset("errors")
        self._contiguous = len(self.rows) == int(self.rows[-1]) + 1 - int(self.rows[0])

    @property
    def n_samples(self) -> int:
        """Samples of the log."""
        return int(self._dataset.shape[1])

    def read(self, start: int, stop: int) -> Singles:
        """Errors of samples ``start..stop``, (n_chosen, stop - start) float32."""
        if self._contiguous:
            block = self._dataset[int(self.rows[0]) : int(self.rows[-1]) + 1, start:stop]
        else:
            block = self._dataset[:, start:stop][self.rows]
        return np.asarray(block)

    def blocks(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Cut a range of samples where the chunks of the log end."""
        chunk = self.log.sample_chunk
        start = first
        while start < last:
            stop = min(last, (start // chunk + 1) * chunk)
            yield start, stop
            start = stop

    def n_logged(self) -> npt.NDArray[np.int32]:
        """Errors chosen of each sample, (n_samples,); reads the log only if some are missing."""
        if len(self.rows) == self._dataset.shape[0]:
            return self.log.read("n_logged")
        if not self.log.read("epoch_missing").any():
            return np.full(self.n_samples, len(self.rows), dtype=np.int32)
        counts = np.empty(self.n_samples, dtype=np.int32)
        for start, stop in self.blocks(0, self.n_samples):
            counts[start:stop] = np.isfinite(self.read(start, stop)).sum(axis=0)
        return counts

    def per_epoch(self, name: str) -> Array:
        """Return one of the datasets per epoch, of the chosen epochs."""
        values: Array = self.log.read(name)[self.rows]
        return values


def create_errors(artifact: ArtifactWriter, n_epochs: int, n_samples: int) -> BlockWriter:
    """Create the errors, (n_epochs, n_samples) float32."""
    epochs = -(-n_epochs // -(-n_epochs // CHUNK_EPOCHS))  # so that the last chunk is nearly full
    samples = max(1, min(CHUNK_SAMPLES, BLOCK_BYTES // (4 * n_epochs), n_samples))
    return artifact.create("errors", (n_epochs, n_samples), chunks=(epochs, samples))


def write_log(
    artifact: ArtifactWriter,
    errors: BlockWriter,
    log: ErrorLog,
    *,
    allow_missing: bool,
    output: Path,
    progress: Progress,
) -> IngestResult:
    """Write the rows of a log, what is stored of each row and each sample; return the check-up.

    ``errors`` is (n_epochs, n_samples); samples beyond the end of the log are missing. With
    ``allow_missing`` samples may have no error at all.
    """
    survey = _copy(log, errors, progress)
    data = {
        "epoch": np.array(log.epochs, dtype=np.int32),
        "run": np.array(log.runs, dtype=np.int32),
        **survey.datasets(),
    }
    _refuse_never_logged(data["n_logged"], log, allow_missing)
    notes = Counter(log.notes)
    notes["infinite"] += int(survey.infinite.sum())
    report = check_up(
        data,
        notes=notes,
        some_errors=errors[:, :COMPARED_SAMPLES],
        read_epoch=lambda row: errors[row : row + 1, :][0],
        knows_held_out=log.knows_held_out,
    )
    report.warnings[:0] = log.remarks
    for name, values in data.items():
        artifact.put(name, values)
    return IngestResult(
        output=output, units=artifact.units, format=log.format, notes=dict(notes),
        **vars(report),
    )  # fmt: skip


def _copy(log: ErrorLog, errors: BlockWriter, progress: Progress) -> Survey:
    """Copy the log block by block; the next is read while one is written."""
    (n_epochs, n), (_, chunk) = errors.shape, errors.chunks
    survey = Survey.empty(n_epochs, n)

    def read(start: int) -> Singles:
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
            errors[:, start : start + block.shape[1]] = block
            advance(block.shape[1])
    return survey


def _read_block(log: ErrorLog, start: int, stop: int) -> Singles:
    """Read samples ``start..stop``; those beyond the end of the log are missing."""
    end = max(start, min(stop, log.n_samples))
    block = np.ascontiguousarray(log.read(start, end), dtype=np.float32)
    if end < stop:
        block = np.pad(block, ((0, 0), (0, stop - end)), constant_values=np.nan)
    return block if block.flags.writeable and block.base is None else block.copy()


def _refuse_never_logged(
    n_logged: npt.NDArray[np.int32], log: ErrorLog, allow_missing: bool
) -> None:
    """Refuse samples without a single error; always if no sample has any."""
    never = np.flatnonzero(n_logged == 0)
    if len(never) == len(n_logged):
        raise InputError(f"{log.place}: every error is missing (NaN, infinite or a sentinel)")
    if len(never) and not (allow_missing or log.knows_held_out):
        raise InputError(
            f"{log.place}: {len(never):,} of {len(n_logged):,} samples were never logged "
            f"(missing in every epoch), the first is sample {never[0]}",
            hint="if they were held out of the training: --allow-missing, and they carry no weight",
        )
