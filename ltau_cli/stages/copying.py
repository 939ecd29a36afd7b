"""Steps that a first ingest and an appending one share."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.write import ArtifactWriter, BlockWriter
from ltau_cli.errors import InputError, LtauWarning
from ltau_cli.readers.arrays import Place
from ltau_cli.readers.logs import ErrorLog
from ltau_cli.stages.checkup import Survey
from ltau_cli.stages.progress import Progress

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


def note_inputs(hasher: Hasher, places: Sequence[Place], log: ErrorLog) -> None:
    """Hash the files that are read of each log."""
    for place in places:
        files = [path for path in log.files if path == place.path or place.path in path.parents]
        if not files:  # nothing new in this one
            continue
        hasher.add("log", place.path, "error log", files, key=place.key)


def refuse_never_logged(n_logged: npt.NDArray[np.int32], place: Place, allow_missing: bool) -> None:
    """Refuse samples without a single error.

    Raises
    ------
    InputError
        With their number and the first; always if no sample has any.
    """
    never = np.flatnonzero(n_logged == 0)
    if len(never) == len(n_logged):
        raise InputError(f"{place}: every error is missing (NaN, infinite or a sentinel)")
    if len(never) and not allow_missing:
        raise InputError(
            f"{place}: {len(never):,} of {len(n_logged):,} samples were never logged "
            f"(missing in every epoch), the first is sample {never[0]}",
            hint="if they were held out of the training: --allow-missing, and they carry no weight",
        )


def tell(report: dict[str, Any], log: ErrorLog) -> dict[str, Any]:
    """Give out the warnings of a report and return it."""
    for line in [*log.warnings, *report["warnings"]]:
        warnings.warn(line, LtauWarning, stacklevel=3)
    return report
