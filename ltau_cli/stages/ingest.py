"""Error logs to an errors artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ltau_cli.artifacts.errors import chunk_epochs, copy_log, sample_chunk, write_rows
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.write import create_artifact
from ltau_cli.core.checkup import COMPARED_SAMPLES, check_up
from ltau_cli.errors import ComputeError, UsageError
from ltau_cli.output import check_target
from ltau_cli.progress import Progress, silent
from ltau_cli.readers.logs.open import ErrorLog, open_log
from ltau_cli.readers.place import Place
from ltau_cli.stages.append import append_epochs
from ltau_cli.stages.copying import note_inputs, refuse_never_logged, tell
from ltau_cli.stages.reading import Labels, Reading, read_all_labels


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
        The check-up; see :func:`ltau_cli.core.checkup.check_up`.

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
        return append_epochs(places, output, reading, units, allow_missing, progress)
    check_target(output, force=force)
    reading = reading or Reading()
    labels = labels or Labels()
    with open_log(places, reading.options(append=append)) as log, Hasher() as hasher:
        _refuse_empty(log, places)
        note_inputs(hasher, places, log)
        for role, place in labels.places():
            hasher.add(role, place.path, "labels", key=place.key)
        columns = read_all_labels(labels, log)
        n = max([log.n_samples, *map(len, columns.values())])
        chunk = sample_chunk(len(log.epochs), n)
        with create_artifact(output, "errors", units=units, force=force) as artifact:
            errors = artifact.create(
                "errors", (len(log.epochs), n),
                chunks=(chunk_epochs(len(log.epochs)), chunk), growing=True,
            )  # fmt: skip
            survey = copy_log(log, errors, 0, n, chunk, progress)
            data = {"epoch": log.epochs, "run": log.runs} | survey.datasets()
            refuse_never_logged(data["n_logged"], places[0], allow_missing)
            log.notes["infinite"] += int(survey.infinite.sum())
            report = check_up(data, notes=log.notes, some_errors=errors[:, :COMPARED_SAMPLES])
            report |= {"format": log.format, "notes": dict(log.notes)}
            write_rows(artifact, data)
            for name, values in columns.items():
                artifact.put(name, values, compress=True)
            parameters = asdict(reading) | {"units": units, "allow_missing": allow_missing}
            artifact.finish(parameters=parameters, inputs=hasher.records(), summary=report)
    return tell(report, log) | {"units": units, "n_new": len(log.epochs)}


def _refuse_empty(log: ErrorLog, places: Sequence[Place]) -> None:
    if len(log.epochs) == 0:
        raise ComputeError(
            f"{places[0]}: no epoch is left to read", hint="check --epochs and --every"
        )
