"""Add the epochs that an errors artifact does not have yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.errors import PER_EPOCH, PER_SAMPLE, ErrorsFile, write_log
from ltau_cli.artifacts.provenance import Hasher, extend_record
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.write import extend_artifact
from ltau_cli.errors import InputError, UsageError
from ltau_cli.progress import Progress
from ltau_cli.readers.logs.open import open_log
from ltau_cli.readers.logs.run import ErrorLog
from ltau_cli.readers.place import Place
from ltau_cli.readers.scratch import Cells
from ltau_cli.results import IngestResult
from ltau_cli.settings import IngestSettings, LogOptions, Stored
from ltau_cli.stages.read_ahead import read_ahead

IDENTITY = ("sample_id", "structure", "species")
_WITH_IDS = ("long-table",)
_FLAGS = {"columns": "column", "prediction": "prediction-key", "reference": "reference-key"}


def append_epochs(
    places: list[Place],
    output: Path,
    settings: IngestSettings,
    *,
    workers: str | int | None,
    progress: Progress,
) -> tuple[IngestResult, ErrorLog]:
    """Add the epochs that the artifact does not have yet.

    Returns
    -------
    (IngestResult, ErrorLog)
        The check-up of all epochs, and the log of the new ones.

    Raises
    ------
    UsageError
        If the artifact was read in another way or has other units.
    InputError
        If the log cannot be used or holds other samples.
    """
    with open_artifact(output, ErrorsFile) as old:
        before = {name: old.read(name) for name in (*PER_EPOCH, *PER_SAMPLE)}
        parameters, inputs, old_units, old_report = (
            old.parameters, old.inputs, old.units, old.summary
        )  # fmt: skip
        stored = {name: old.read(name) for name in IDENTITY if old.has(name)}
        (n_epochs, n_samples), chunk = old.shape, old.sample_chunk
    options = _same_options(settings, parameters, output)
    if settings.units not in ("", old_units):
        raise UsageError(f"{output} is in {old_units or 'unnamed units'}, not {settings.units}")
    known = set(zip(before["run"].tolist(), before["epoch"].tolist(), strict=True))
    options = replace(options, stored=Stored(known, n_samples))
    watched = [place.path for place in places]
    with (
        Hasher(watched) as hasher,
        read_ahead(places, options, output, workers, progress) as readers,
        open_log(places, options, readers) as log,
    ):
        if len(log.epochs) == 0:
            return old_report, log
        log = _same_samples(log, stored, n_samples, chunk, output)
        note_inputs(hasher, places, log)
        with extend_artifact(old) as artifact:
            # Held until the end: where HDF5 places the last chunk depends on when this is closed.
            errors = artifact.open("errors", (n_epochs + len(log.epochs), n_samples))
            report = write_log(
                artifact,
                errors,
                log,
                before=before,
                notes=Counter(old_report.notes) + log.notes,
                allow_missing=settings.allow_missing or parameters["allow_missing"],
                output=output,
                progress=progress,
            )
            artifact.finish(
                parameters=parameters,
                inputs=_joined_inputs(inputs, hasher.records()),
                summary=report.stored(),
            )
    return report, log


def note_inputs(hasher: Hasher, places: Sequence[Place], log: ErrorLog) -> None:
    """Hash the files that are read of each run."""
    for place in places:
        files = [path for path in log.files if path == place.path or place.path in path.parents]
        if files:  # else there is nothing new in this one
            hasher.add("log", place.path, "error log", files, key=place.key)


def _same_samples(
    log: ErrorLog, stored: Mapping[str, npt.NDArray[Any]], n: int, chunk: int, output: Path
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
        cells = Cells()
        rows = [cells.extend_unset(n) for _ in log.epochs]
        for start in range(0, log.n_samples, chunk):
            place = target[start : start + chunk]
            block = log.read(start, start + len(place))
            for row, errors in zip(rows, block, strict=True):
                cells.put(row + place, errors)
        return replace(log, n_samples=n, read=partial(cells.columns, rows))
    if log.n_samples > n or (log.n_samples < n and not log.ends_early):
        raise InputError(
            f"{log.names[0]} has {log.n_samples:,} samples, {output} has {n:,}", hint=hint
        )
    return log


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


def _same_options(asked: LogOptions, parameters: dict[str, Any], output: Path) -> LogOptions:
    """Return the way the artifact was read; refuse to mix it with another."""
    plain = LogOptions()
    stored = {name: parameters[name] for name in plain.parameters()}
    before = LogOptions(
        **stored | {"missing": tuple(stored["missing"]), "epochs": tuple(stored["epochs"])}
    )
    if any(bound is not None and bound < 0 for bound in before.epochs[:2]):
        raise UsageError(
            f"{output} was cut with --epochs counted from the end, so it cannot grow",
            hint="ingest the whole log again with --force",
        )
    for name in stored:
        value = getattr(asked, name)
        if value not in (getattr(plain, name), getattr(before, name)):
            raise UsageError(
                f"{output} was ingested with another --{_FLAGS.get(name, name)}",
                hint="leave the option out to go on as before, or ingest anew with --force",
            )
    return before
