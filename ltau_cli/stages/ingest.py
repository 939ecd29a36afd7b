"""Error logs to an errors artifact."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Singles
from ltau_cli.artifacts.errors import create_errors, write_log
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.write import create_artifact
from ltau_cli.errors import ComputeError, UsageError, warn
from ltau_cli.offsets import fit_offsets, fractions
from ltau_cli.output import check_target
from ltau_cli.progress import Progress, silent
from ltau_cli.readers.column import GROUPS, check_count, read_counts, read_labels, read_magnitudes
from ltau_cli.readers.descriptors import check_one_says, spread
from ltau_cli.readers.frames import (
    ISOLATED,
    REFERENCES,
    FrameLabels,
    label_frames,
    read_frame_labels,
)
from ltau_cli.readers.logs.open import open_log
from ltau_cli.readers.logs.run import ErrorLog
from ltau_cli.readers.place import Place
from ltau_cli.results import IngestResult
from ltau_cli.settings import IngestSettings, documented
from ltau_cli.stages.read_ahead import read_ahead

LABELS = ("natoms", "frames", "group", "sample_id", "magnitude")


@documented
def run(
    logs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] = "errors.h5",
    *,
    settings: IngestSettings | None = None,
    workers: str | int | None = None,
    force: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> IngestResult:
    """Read an error log and write the errors artifact.

    Parameters
    ----------
    logs : path or sequence of paths
        One log, or one per run of an ensemble.
    output : path
        The errors artifact.

    Raises
    ------
    InputError
        If the log cannot be used: unreadable, empty, negative errors, samples never logged.
    OutputError
        If the artifact cannot be written.
    ComputeError
        If no epoch is left, or the workers fail.
    """
    output, settings = Path(output), IngestSettings.of(settings, options)
    several = [logs] if isinstance(logs, str | os.PathLike) else logs
    places = [Place.parse(os.fspath(log)) for log in several]
    check_target(output, force=force)
    with (
        Hasher([place.path for place in places]) as hasher,
        read_ahead(places, settings, output, workers, progress) as files,
        open_log(places, settings, files) as log,
    ):
        result = _write(log, places, output, settings, hasher, force=force, progress=progress)
    for line in result.warnings:
        warn(line)
    return result


def _write(
    log: ErrorLog,
    places: Sequence[Place],
    output: Path,
    settings: IngestSettings,
    hasher: Hasher,
    *,
    force: bool,
    progress: Progress,
) -> IngestResult:
    if len(log.epochs) == 0:
        raise ComputeError(f"{places[0]}: no epoch is left to read", hint="check --epochs")
    given = {role: getattr(settings, role) for role in LABELS}
    labels = {role: Place.parse(text) for role, text in given.items() if text is not None}
    named = [place.path for place in labels.values()]
    check_target(output, force=force, inputs=[*log.files, *named])
    for place in places:
        files = [path for path in log.files if path == place.path or place.path in path.parents]
        if files:  # else none of its epochs was chosen
            hasher.add("log", place.path, "error log", files, key=place.key)
    for role, place in labels.items():
        hasher.add(role, place.path, "labels", key=place.key)
    columns, offsets = _read_labels(labels, log), None
    units = settings.units or log.units
    if log.quantity == "energy":
        log, offsets = _take_out_offsets(log, columns.get("formula"))
    n_samples = max([log.n_samples, *map(len, columns.values())])
    with create_artifact(output, "errors", units=units, force=force) as artifact:
        errors = create_errors(artifact, len(log.epochs), n_samples)
        result = write_log(
            artifact, errors, log, allow_missing=settings.allow_missing, output=output,
            progress=progress,
        )  # fmt: skip
        result = replace(result, offsets=offsets or {})
        for name, values in columns.items():
            artifact.put(name, values, compress=True)
        artifact.finish(
            parameters=settings.parameters()
            | {"units": units, "allow_missing": settings.allow_missing}
            | ({} if log.quantity is None else {"quantity": log.quantity})
            | ({} if offsets is None else {"offsets": offsets}),
            inputs=hasher.records(),
            summary=result.stored(),
        )
    return result


def _read_labels(places: Mapping[str, Place], log: ErrorLog) -> dict[str, Array]:
    """Read the labels of the log and of the user, each (n,), of the log's length or longer."""
    columns = dict(log.labels)
    name = log.names[0]
    check_one_says(places.get("natoms"), places.get("frames"))
    if "frames" in places:
        told = read_frame_labels(places["frames"].path)
        energies = log.quantity == "energy"
        columns |= label_frames(told) if energies else _as_logged(told, log, places["frames"])
    if "natoms" in places:
        if log.quantity == "energy":
            raise UsageError(
                "--natoms is for errors of atoms, energies are those of frames",
                hint="give the frames, or leave it out: --frames FILE",
            )
        natoms = read_counts(places["natoms"])
        total = max(log.n_samples, int(natoms.sum())) if log.ends_early else log.n_samples
        columns["structure"] = spread(natoms, total, str(places["natoms"]))
    if "group" in places:
        columns["group"] = read_labels(places["group"], GROUPS).values
    if "sample_id" in places:
        columns["sample_id"] = read_labels(places["sample_id"]).values
    if "magnitude" in places:
        names = ("magnitude", "reference_forces", *REFERENCES["forces"])
        magnitude = read_magnitudes(places["magnitude"], names, what="magnitudes", signed=True)
        columns["magnitude"] = magnitude.values.astype(np.float32)
    # A log may end at the largest id that was seen; the frames then tell how many there are.
    n = log.n_samples
    if log.ends_early:
        n = max([n, *(len(v) for k, v in columns.items() if k in ("structure", "species"))])
    counts = np.bincount(columns["structure"]) if "structure" in columns else None
    for label, values in columns.items():
        place = places.get(label) or places.get("frames") or label
        check_count(values, n, place, name, of="samples", natoms=counts)
    return columns


def _as_logged(labels: FrameLabels, log: ErrorLog, place: Place) -> FrameLabels:
    """Leave out isolated atoms, as trainers and ``ltau describe`` do, unless they were logged."""
    kinds = np.char.lower(labels.get("config_type", labels["species"]))
    alone = (np.bincount(labels["structure"])[labels["structure"]] == 1) & (kinds == ISOLATED)
    n, n_alone = len(alone) - int(alone.sum()), int(alone.sum())
    if not n_alone or not (log.n_samples == n or (log.ends_early and log.n_samples < n)):
        return labels
    warn(
        f"{place}: left out {n_alone:,} frames of isolated atoms (config_type=IsolatedAtom), which "
        "the log does not hold"
    )
    kept = {name: values[~alone] for name, values in labels.items()}
    return kept | {"structure": np.unique(kept["structure"], return_inverse=True)[1]}


def _take_out_offsets(log: ErrorLog, formulas: Array | None) -> tuple[ErrorLog, dict[str, float]]:
    """Take the offset of each element out of each epoch of a log of energies.

    Returns the magnitudes of what is left, and the offsets of the last epoch in error units. What
    has no sign is left as it is, without offsets: it cannot be told what all errors share.
    """
    errors = log.read(0, log.n_samples).astype(np.float64)
    if not (log.signed or (errors < 0).any()):
        warn(
            f"{log.names[0]}: errors of energies without a sign: what all have in common, such as "
            "an offset of each element, cannot be taken out of them"
        )
        return log, {}
    if formulas is None or len(formulas) != log.n_samples:
        formulas = np.full(log.n_samples, "all1")
    elements, shares = fractions(formulas)
    errors[~np.isfinite(errors)] = np.nan
    offsets = np.zeros(len(elements))
    for row in errors:
        offsets = fit_offsets(row, shares)
        row -= shares @ offsets
    left = np.abs(errors).astype(np.float32)

    def read(start: int, stop: int) -> Singles:
        return left[:, start:stop]

    return replace(log, read=read), dict(zip(elements, offsets.tolist(), strict=True))
