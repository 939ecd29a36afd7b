"""Error logs to an errors artifact."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.atomic import check_target
from ltau_cli.artifacts.provenance import Hasher, extend_record
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.write import ArtifactWriter, BlockWriter, create_artifact, extend_artifact
from ltau_cli.errors import ComputeError, InputError, LtauWarning, UsageError
from ltau_cli.readers.arrays import Place, read_array
from ltau_cli.readers.descriptors import structures_from_natoms
from ltau_cli.readers.frames import read_labels
from ltau_cli.readers.labels import check_count, read_label_column, read_magnitudes
from ltau_cli.readers.log import LogOptions
from ltau_cli.readers.logs import ErrorLog, open_log
from ltau_cli.stages.checkup import COMPARED_SAMPLES, Survey, check_up, join_datasets
from ltau_cli.stages.progress import Progress, silent

# `fit` reads all epochs of a block of samples, `--append` adds rows: so chunks are wide in samples
# and low in epochs, a block of samples is whole chunks, and each chunk is read exactly once. A
# block of all epochs stays under 64 MB, whatever the size of the log.
BLOCK_BYTES = 64 << 20
CHUNK_SAMPLES = 16_384
CHUNK_EPOCHS = 16

PER_EPOCH = ("epoch", "run", "epoch_mean", "epoch_min", "epoch_max", "epoch_missing", "epoch_zeros")
_WITH_IDS = ("long-table",)
IDENTITY = ("sample_id", "structure", "species")
PER_SAMPLE = ("n_logged", "sample_min", "sample_max")


@dataclass(frozen=True)
class Reading:
    """How the log is read; an appended artifact keeps to it.

    Attributes
    ----------
    format, quantity, norm, missing, columns, reference, prediction
        See :class:`ltau_cli.readers.log.LogOptions`.
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


def run(
    logs: Sequence[str],
    output: Path,
    *,
    reading: Reading | None = None,
    labels: Labels | None = None,
    units: str = "",
    allow_missing: bool = False,
    append: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Read an error log and write the errors artifact.

    Parameters
    ----------
    logs : sequence of str
        One log, or one per run of an ensemble.
    output : Path
        The errors artifact.
    reading : Reading
        How to read the log.
    labels : Labels
        Per-sample labels to attach.
    units : str
        Error units, such as ``eV/Å``.
    allow_missing : bool
        Accept samples that were never logged.
    append : bool
        Add epochs that the artifact does not have yet; only their files are read.
    force : bool
        Replace an existing artifact.
    progress : Progress
        Shows the samples.

    Returns
    -------
    dict
        The check-up; see :func:`ltau_cli.stages.checkup.check_up`.

    Raises
    ------
    InputError
        If the log cannot be used: unreadable, empty, negative errors, samples never logged.
    OutputError
        If the artifact cannot be written.
    """
    places = [Place.parse(log) for log in logs]
    if append and output.exists():
        if labels is not None and any(labels.places()):
            raise UsageError(
                f"labels cannot be added to {output} with --append",
                hint="leave them out, or ingest the whole log with --force",
            )
        return _append(places, output, reading, units, allow_missing, progress)
    check_target(output, force=force)
    reading = reading or Reading()
    labels = labels or Labels()
    with open_log(places, reading.options(append=append)) as log, Hasher() as hasher:
        _refuse_empty(log, places)
        _note_inputs(hasher, places, log)
        for role, place in labels.places():
            hasher.add(role, place.path, "labels", key=place.key)
        columns = _read_labels(labels, log)
        n = max([log.n_samples, *map(len, columns.values())])
        chunk = sample_chunk(len(log.epochs), n)
        with create_artifact(output, "errors", units=units, force=force) as artifact:
            errors = artifact.create(
                "errors", (len(log.epochs), n),
                chunks=(chunk_epochs(len(log.epochs)), chunk), growing=True,
            )  # fmt: skip
            survey = _copy(log, errors, 0, n, chunk, progress)
            data = {"epoch": log.epochs, "run": log.runs} | survey.datasets()
            _refuse_never_logged(data["n_logged"], places[0], allow_missing)
            log.notes["infinite"] += int(survey.infinite.sum())
            report = check_up(data, notes=log.notes, some_errors=errors[:, :COMPARED_SAMPLES])
            report |= {"format": log.format, "notes": dict(log.notes)}
            _write_rows(artifact, data)
            for name, values in columns.items():
                artifact.put(name, values, compress=True)
            parameters = asdict(reading) | {"units": units, "allow_missing": allow_missing}
            artifact.finish(parameters=parameters, inputs=hasher.records(), summary=report)
    return _tell(report, log) | {"units": units, "n_new": len(log.epochs)}


def _append(
    places: list[Place],
    output: Path,
    reading: Reading | None,
    units: str,
    allow_missing: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Add the epochs that the artifact does not have yet."""
    with open_artifact(output, "errors") as old:
        before = {name: old.read(name) for name in (*PER_EPOCH, *PER_SAMPLE)}
        parameters, inputs, old_units = old.parameters, old.inputs, old.units
        stored = {name: old.read(name) for name in IDENTITY if old.has(name)}
        notes = Counter(old.summary["notes"])
        old_report = old.summary
        shape, chunk = old.dataset("errors").shape, old.dataset("errors").chunks[1]
    reading = _same_reading(reading, parameters, output)
    if units and units != old_units:
        raise UsageError(f"{output} is in {old_units or 'unnamed units'}, not {units}")
    known = set(zip(before["run"].tolist(), before["epoch"].tolist(), strict=True))
    options = reading.options(known, append=True, expected=shape[1])
    with open_log(places, options) as log, Hasher() as hasher:
        if len(log.epochs) == 0:
            return _tell(old_report, log) | {"units": old_units, "n_new": 0}
        log = _same_samples(log, stored, shape[1], output)
        _note_inputs(hasher, places, log)
        with extend_artifact(output, "errors", units=old_units) as artifact:
            errors = artifact.open("errors", (shape[0] + len(log.epochs), shape[1]))
            survey = _copy(log, errors, shape[0], shape[1], chunk, progress)
            new = {"epoch": log.epochs, "run": log.runs} | survey.datasets()
            data = join_datasets(before, new)
            _refuse_never_logged(
                data["n_logged"], places[0], allow_missing or parameters["allow_missing"]
            )
            notes += log.notes
            notes["infinite"] += int(survey.infinite.sum())
            report = check_up(data, notes=notes, some_errors=errors[:, :COMPARED_SAMPLES])
            report |= {"format": log.format, "notes": dict(notes)}
            _write_rows(artifact, data)
            artifact.finish(
                parameters=parameters,
                inputs=_joined_inputs(inputs, hasher.records()),
                summary=report,
            )
    return _tell(report, log) | {"units": old_units, "n_new": len(log.epochs)}


def _same_samples(
    log: ErrorLog, stored: Mapping[str, npt.NDArray[Any]], n: int, output: Path
) -> ErrorLog:
    """Bring the samples of a log to the places that an artifact has for them.

    Raises
    ------
    InputError
        If they are not the samples of the artifact.
    """
    hint = "--append needs the same samples; ingest the whole log into a new file"
    for name in ("species", "structure"):
        both = name in log.labels and name in stored
        if both and not np.array_equal(log.labels[name], stored[name]):
            raise InputError(f"{log.names[0]} holds other atoms than {output}", hint=hint)
    ids = log.labels.get("sample_id", np.arange(log.n_samples))
    known = stored.get("sample_id", np.arange(n))
    by_id = "sample_id" in log.labels or ("sample_id" in stored and log.format in _WITH_IDS)
    if by_id or (log.format in _WITH_IDS and log.n_samples < n):
        places = {str(name): place for place, name in enumerate(known)}
        unknown = [str(name) for name in ids if str(name) not in places]
        if unknown:
            raise InputError(
                f"{log.names[0]} holds sample {unknown[0]}, which {output} does not know", hint=hint
            )
        target = np.array([places[str(name)] for name in ids])
        values = np.full((len(log.epochs), n), np.nan, dtype=np.float32)
        values[:, target] = log.read(0, log.n_samples)
        return replace(log, n_samples=n, read=lambda start, stop: values[:, start:stop].copy())
    if log.n_samples > n or (log.n_samples < n and not log.ends_early):
        raise InputError(
            f"{log.names[0]} has {log.n_samples:,} samples, {output} has {n:,}", hint=hint
        )
    return log


def _copy(
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


def sample_chunk(n_epochs: int, n_samples: int) -> int:
    """Choose the samples per chunk and per block."""
    return max(1, min(CHUNK_SAMPLES, BLOCK_BYTES // (4 * n_epochs), n_samples))


def chunk_epochs(n_epochs: int) -> int:
    """Choose the epochs per chunk, about 16, so that the last chunk is nearly full."""
    return -(-n_epochs // -(-n_epochs // CHUNK_EPOCHS))


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


def _write_rows(artifact: ArtifactWriter, data: dict[str, npt.NDArray[Any]]) -> None:
    for name in PER_EPOCH:
        artifact.put(name, data[name], growing=True)
    for name in PER_SAMPLE:
        artifact.put(name, data[name])


def _note_inputs(hasher: Hasher, places: Sequence[Place], log: ErrorLog) -> None:
    for place in places:
        files = [path for path in log.files if path == place.path or place.path in path.parents]
        if not files:  # nothing new in this one
            continue
        hasher.add("log", place.path, "error log", files, key=place.key)


def _joined_inputs(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the new files of each log to its record."""
    joined = [dict(record) for record in old]
    names = {(r["role"], r["file"], r.get("key")): i for i, r in enumerate(joined)}
    for record in new:
        place = names.get((record["role"], record["file"], record.get("key")))
        if place is None:
            joined.append(record)
        elif "n_files" in joined[place]:
            joined[place] = extend_record(joined[place], record)
        else:  # one file that has grown
            joined[place] = record
    return joined


_FLAGS = {"columns": "column", "prediction": "prediction-key", "reference": "reference-key"}


def _same_reading(asked: Reading | None, parameters: dict[str, Any], output: Path) -> Reading:
    """Return the way the artifact was read; refuse to mix it with another."""
    names = Reading.__dataclass_fields__
    stored = {name: parameters[name] for name in names}
    before = Reading(
        **stored | {"missing": tuple(stored["missing"]), "epochs": tuple(stored["epochs"])}
    )
    if any(bound is not None and bound < 0 for bound in before.epochs[:2]):
        raise UsageError(
            f"{output} was cut with --epochs counted from the end, so it cannot grow",
            hint="ingest the whole log again with --force",
        )
    plain = Reading()
    for name in names:
        value = getattr(asked or plain, name)
        if value not in (getattr(plain, name), getattr(before, name)):
            raise UsageError(
                f"{output} was ingested with another --{_FLAGS.get(name, name)}",
                hint="leave the option out to go on as before, or ingest anew with --force",
            )
    return replace(before)


def _read_labels(labels: Labels, log: ErrorLog) -> dict[str, npt.NDArray[Any]]:
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
        check_count(values, n, places.get(label, places.get("frames", Path(label))), name)  # type: ignore[arg-type]
    return columns


def _refuse_empty(log: ErrorLog, places: Sequence[Place]) -> None:
    if len(log.epochs) == 0:
        raise ComputeError(
            f"{places[0]}: no epoch is left to read", hint="check --epochs and --every"
        )


def _refuse_never_logged(
    n_logged: npt.NDArray[np.int32], place: Place, allow_missing: bool
) -> None:
    never = np.flatnonzero(n_logged == 0)
    if len(never) == len(n_logged):
        raise InputError(f"{place}: every error is missing (NaN, infinite or a sentinel)")
    if len(never) and not allow_missing:
        raise InputError(
            f"{place}: {len(never):,} of {len(n_logged):,} samples were never logged "
            f"(missing in every epoch), the first is sample {never[0]}",
            hint="if they were held out of the training: --allow-missing, and they carry no weight",
        )


def _tell(report: dict[str, Any], log: ErrorLog) -> dict[str, Any]:
    for line in [*log.warnings, *report["warnings"]]:
        warnings.warn(line, LtauWarning, stacklevel=3)
    return report
