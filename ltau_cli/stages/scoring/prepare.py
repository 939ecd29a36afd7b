"""What can be known before a row is scored: the model, the rows, their labels, the header."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.calibration import to_datasets
from ltau_cli.artifacts.described import check_origin, find_origin
from ltau_cli.artifacts.model import ModelFile, announce_compilation
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.scores import Header, cut
from ltau_cli.artifacts.write import as_stored
from ltau_cli.core.calibration.apply import Calibrator
from ltau_cli.core.calibration.maps import FEATURES
from ltau_cli.core.scoring import Model, Scorer
from ltau_cli.errors import InputError, UsageError
from ltau_cli.readers.column import GROUPS, read_labels, read_magnitudes
from ltau_cli.readers.descriptors import Descriptors, open_descriptors, read_structure
from ltau_cli.readers.frames import holds_frames
from ltau_cli.readers.place import Place
from ltau_cli.settings import ScoreSettings
from ltau_cli.stages.cluster import Cluster
from ltau_cli.stages.scoring.calibration import check_calibration, load_calibration, threshold_scale
from ltau_cli.stages.scoring.work import Job, Shared, Work


def prepare(
    artifact: ModelFile,
    settings: ScoreSettings,
    hasher: Hasher,
    threads: int,
    cluster: Cluster | None,
) -> Shared:
    """Read the model and the calibration."""
    announce_compilation()
    scorer, calibrator, fit_hash, calibrated = make_scorer(artifact, settings, threads)
    rows = settings.block_rows or scorer.model.shards.rows
    return Shared(
        artifact.path,
        settings,
        scorer,
        rows,
        artifact.units,
        hasher,
        calibrator,
        fit_hash,
        calibrated or settings.cutoff,
        cluster,
    )


def make_scorer(
    artifact: ModelFile, settings: ScoreSettings, threads: int
) -> tuple[Scorer, Calibrator | None, npt.NDArray[np.int64] | None, float | None]:
    """Load the model, and the calibration with what :func:`load_calibration` says of it."""
    fitted = artifact.load()
    k = _check_k(settings.k, fitted, artifact.path)
    limits = np.array(sorted(set(settings.thresholds)) or fitted.thresholds, dtype=np.float64)
    calibrator, fit_hash, calibrated = load_calibration(settings, fitted, artifact.path, k, limits)
    scorer = Scorer(
        fitted,
        k=k,
        thresholds=limits,
        quantiles=np.array(sorted(set(settings.quantiles)), dtype=np.float64),
        threshold_scale=threshold_scale(calibrator),
        with_cdf=settings.with_cdf,
        threads=threads,
    )
    return scorer, calibrator, fit_hash, calibrated


def check_input(job: Job, model: ModelFile, part: tuple[int, int] | None) -> None:
    """Refuse early what could not be scored."""
    place = Place.parse(job.descriptors)
    check_origin(place, find_origin(place), model.parameters)
    with open_descriptors(place) as source:
        _check_width(source, model)
        if part is not None and part[1] > source.n:
            raise UsageError(
                f"{source.source.place} has {source.n:,} rows, too few for {part[1]:,} shards",
                hint=f"use --shard I/{source.n} or fewer shards",
            )


@contextlib.contextmanager
def open_work(job: Job, shared: Shared) -> Iterator[Work]:
    """Open the descriptors and read what belongs to them."""
    place = Place.parse(job.descriptors)
    with Hasher([place.path]) as hasher, open_descriptors(place) as source:
        place = source.source.place
        hasher.add("descriptors", place.path, "descriptors", key=place.key, rows=source.n)
        structure, frames = _read_structure(job, source, hasher)
        labels = _read_labels(job, source, hasher)
        features = _read_features(job, source, labels.get("sample_id"), hasher)
        check_calibration(shared, place, frames, structure, labels, features)
        header = _header(shared, place, source.n, structure, labels, list(features))
        columns = np.zeros((source.n, 0), np.float32)
        if features:
            columns = np.stack(list(features.values()), axis=1)
        yield Work(job, shared, source, structure, frames, labels, columns, header, hasher)


def _header(
    shared: Shared,
    place: Place,
    n_rows: int,
    structure: npt.NDArray[np.int64] | None,
    labels: Mapping[str, npt.NDArray[Any]],
    features: Sequence[str],
) -> Header:
    """Say what stands beside the rows."""
    scorer, wanted = shared.scorer, shared.settings.part
    n_structures = 0 if structure is None else int(structure.max()) + 1
    if wanted is not None and 0 < n_structures < wanted[1]:
        raise UsageError(
            f"{place} has {n_structures:,} structures, too few for {wanted[1]:,} shards",
            hint=f"use --shard I/{n_structures} or fewer shards",
        )
    part = cut(*(wanted or (0, 1)), n_rows, structure)
    parameters = {
        "k": scorer.k,
        "thresholds": scorer.thresholds,
        "quantiles": scorer.quantiles,
        "cdf": scorer.with_cdf,
        "labels": sorted(labels),
        "features": features,
    }
    if shared.cutoff is not None:
        parameters["cutoff"] = shared.cutoff
    if shared.calibrator is not None:
        parameters["calibration_method"] = shared.calibrator.calibration.method
    if wanted is not None:
        parameters["shard"] = asdict(part) | {"n_structures": n_structures}
        n_structures = 0  # a structure may go on in the next part: merge aggregates
    return Header(
        first=part.first,
        n=part.n,
        n_structures=n_structures,
        columns=_columns(shared) | ({"feature_names": np.array(features)} if features else {}),
        calibration=None if shared.calibrator is None else shared.calibrator.calibration,
        label_dtypes={name: as_stored(values).dtype for name, values in labels.items()},
        parameters=parameters,
        units=shared.units,
        model_fingerprint=scorer.model.fingerprint,
    )


def _read_structure(
    job: Job, source: Descriptors, hasher: Hasher
) -> tuple[npt.NDArray[np.int64] | None, Path | None]:
    """Structure of each row, and where its atoms stand, each where that is known."""
    counts = None if job.natoms is None else Place.parse(job.natoms)
    frames = None if job.frames is None else Path(job.frames)
    if frames is not None:
        hasher.add("frames", frames, "frames")
    if counts is not None:
        hasher.add("natoms", counts.path, "natoms", key=counts.key)
    structure = read_structure(counts, frames, source.n)
    if structure is None:
        structure = source.structure()
        own = source.source.place.path
        frames = own if holds_frames(own) else None
    return structure, frames


def _read_labels(job: Job, source: Descriptors, hasher: Hasher) -> dict[str, npt.NDArray[Any]]:
    ids = source.labels("sample_id")
    if job.group is None:
        group = source.labels(*GROUPS)
    else:
        given = Place.parse(job.group)
        hasher.add("group", given.path, "labels", key=given.key)
        group = read_labels(given, GROUPS).of(source.n, source.source.place, ids).values
    found = {"group": group, "sample_id": ids}
    return {name: labels for name, labels in found.items() if labels is not None}


def _read_features(
    job: Job, source: Descriptors, ids: npt.NDArray[Any] | None, hasher: Hasher
) -> dict[str, npt.NDArray[np.float32]]:
    """Read the user's own features, by name."""
    found = {}
    for name, given in sorted(job.features.items()):
        if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or name in FEATURES:
            raise UsageError(
                f"{name!r} cannot be the name of a feature",
                hint="use letters, digits and _, such as spread, and none of "
                + ", ".join(FEATURES),
            )
        if given == "":
            column = source.column(name)
        else:
            where = Place.parse(given)
            hasher.add("feature", where.path, "feature", key=where.key, feature=name)
            column = read_magnitudes(where, (name,), what="values")
        found[name] = column.of(source.n, source.source.place, ids).values.astype(np.float32)
    return found


def _columns(shared: Shared) -> dict[str, npt.NDArray[Any]]:
    scorer = shared.scorer
    columns = {"thresholds": scorer.thresholds, "quantile_levels": scorer.quantiles}
    if shared.calibrator is not None:
        calibration = shared.calibrator.calibration
        columns |= {"levels": calibration.levels} | to_datasets(calibration, "calibration/")
    if scorer.with_cdf:
        columns["cdf_edges"] = scorer.model.edges
    return columns


def _check_width(source: Descriptors, artifact: ModelFile) -> None:
    width = artifact.sizes["d"]
    if source.width != width:
        raise InputError(
            f"{source.source.place} has {source.width} columns, {artifact.path} was fitted on "
            f"{width}",
            hint="compute the descriptors with the same layer of the same trained network",
        )


def _check_k(k: int | None, model: Model, path: Path) -> int:
    if k is None:
        return model.k
    if k >= model.n_samples:
        raise UsageError(
            f"-k {k} is not below the {model.n_samples:,} training samples of {path}",
            hint=f"use -k {max(1, model.n_samples - 1)} or less",
        )
    return k
