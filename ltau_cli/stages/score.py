"""New descriptors and a model artifact to scores artifacts.

Scoring has two phases. The first appends finished blocks to a spool beside the result, where a
later call of the same job goes on. The second streams the spool into the artifact, so that nothing
in the artifact depends on the blocks or on interruptions.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli import __version__
from ltau_cli.artifacts.calibration import CalibrationFile, FittedOn, to_datasets
from ltau_cli.artifacts.described import check_origin, find_origin
from ltau_cli.artifacts.model import ModelFile, announce_compilation
from ltau_cli.artifacts.parts import Parts, open_parts, stamps_of
from ltau_cli.artifacts.provenance import Hasher, hash_rows
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import (
    WRITE_ROWS,
    Header,
    ScoresFile,
    cut,
    in_order,
    row_dtype,
    to_block,
    to_rows,
    write_scores,
)
from ltau_cli.artifacts.spool import Spool, open_spool, open_temporary_spool
from ltau_cli.artifacts.table import LEADING, SHOWN, Columns, name_columns, to_columns
from ltau_cli.artifacts.write import as_stored, to_json
from ltau_cli.core.calibration.apply import Calibrator
from ltau_cli.core.calibration.maps import FEATURES
from ltau_cli.core.scoring import Model, Scorer
from ltau_cli.core.structures import Block, local_distance, log_structure_distance
from ltau_cli.core.threads import available_threads
from ltau_cli.errors import ArtifactError, InputError, LtauWarning, OutputError, UsageError
from ltau_cli.output import STDOUT, check_target, open_text
from ltau_cli.progress import Advance, Progress, silent
from ltau_cli.readers.descriptors import (
    Descriptors,
    find_labels,
    find_structures,
    open_descriptors,
    structures_from_natoms,
)
from ltau_cli.readers.features import read_feature
from ltau_cli.readers.frames import neighbors_of, read_frames, read_natoms
from ltau_cli.readers.labels import GROUPS
from ltau_cli.readers.place import Place
from ltau_cli.stages.cluster import Cluster, keep, open_cluster
from ltau_cli.stages.results import Result, only_if_asked
from ltau_cli.stages.settings import DEFAULT_CUTOFF, ClusterSettings, ScoreSettings
from ltau_cli.writers.tables import write_table

log = logging.getLogger("ltau")


@dataclass(frozen=True, repr=False)
class ScoreResult(Result):
    """What is told of all scored rows.

    Attributes
    ----------
    output : Path
    units : str
        Error units.
    n_queries, n_structures, k : int
    thresholds, mean_uncertainty : (n_thresholds,) float64
        Error units, and the mean probability of an error above.
    levels, mean_bound : (n_levels,) float64
        Coverage levels and the mean error bound; empty without a calibration.
    mean_expected_error, mean_calibrated_error : float
        Error units; the latter with a calibration only.
    mean_calibrated_uncertainty : (n_thresholds,) float64
        With a calibration only; ``mean_uncertainty`` is the plain one.
    mean_neighbor_distance, mean_relative_distance : float
    flagged_share, flagged_below : float
        Share of the rows with a p-value below.
    riskiest : list of dict
        The rows with the largest errors.
    likeness : dict
        How like these rows the calibrated ones are; see
        :meth:`ltau_cli.core.calibration.support.Likeness.result`.
    up_to_date : bool
        Whether there was nothing to do.
    """

    output: Path
    units: str
    n_queries: int
    n_structures: int
    k: int
    thresholds: npt.NDArray[np.float64]
    mean_uncertainty: npt.NDArray[np.float64]
    levels: npt.NDArray[np.float64]
    mean_bound: npt.NDArray[np.float64]
    mean_expected_error: float
    mean_neighbor_distance: float
    mean_relative_distance: float
    flagged_share: float
    flagged_below: float
    riskiest: list[dict[str, Any]]
    mean_calibrated_error: float | None = only_if_asked()
    mean_calibrated_uncertainty: npt.NDArray[np.float64] | None = only_if_asked()
    likeness: dict[str, Any] | None = only_if_asked()
    up_to_date: bool | None = only_if_asked()


@dataclass(frozen=True)
class Job:
    """One descriptor file to score.

    Attributes
    ----------
    descriptors : str
        Descriptors (n_queries, d), or a described artifact.
    output : Path
        The scores artifact, or ``-`` for CSV on standard output.
    natoms : str, optional
        Atoms per structure.
    group : str, optional
        Label of each row, such as its species.
    frames : str, optional
        Extxyz file of the frames, for the mean distances around each atom instead of those of whole
        structures.
    features : dict of str to str, optional
        Features of the user's own by name: (n_queries,) numbers, at least 0, in an array file or an
        extxyz column; an empty place is the array of that name beside the descriptors.
    """

    descriptors: str
    output: Path
    natoms: str | None = None
    group: str | None = None
    features: Mapping[str, str] = field(default_factory=dict)
    frames: str | None = None


def jobs_in_folder(
    descriptors: Sequence[str], folder: Path, part: tuple[int, int] | None
) -> list[Job]:
    """Name a result in ``folder`` after the stem of each input, and make the folder.

    Raises
    ------
    InputError
        If there is no such input.
    UsageError
        If two inputs would have the same result.
    OutputError
        If the folder is a file or cannot be made.
    """
    jobs: dict[Path, Job] = {}
    for text in descriptors:
        output = folder / result_name(f"{Place.parse(text).path.stem}.scores", part)
        if output in jobs:
            raise UsageError(
                f"{jobs[output].descriptors} and {text} would both be scored to {output}",
                hint="score them into two folders, or one by one with -o",
            )
        jobs[output] = Job(text, output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{folder} is not a folder", hint="name a folder with -O") from error
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
    return list(jobs.values())


def result_name(stem: str, part: tuple[int, int] | None) -> str:
    """``scores.h5``, or ``scores.0-of-8.h5`` for a part."""
    return f"{stem}.h5" if part is None else f"{stem}.{part[0]}-of-{part[1]}.h5"


def run(
    descriptors: str | os.PathLike[str],
    model: str | os.PathLike[str] = "model.h5",
    output: str | os.PathLike[str] = "scores.h5",
    *,
    natoms: str | None = None,
    group: str | None = None,
    features: Mapping[str, str] | None = None,
    frames: str | None = None,
    settings: ScoreSettings | None = None,
    threads: int | None = None,
    cluster: ClusterSettings | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> ScoreResult:
    """Score one descriptor file; see :class:`Job` and :func:`run_many`."""
    job = Job(os.fspath(descriptors), Path(output), natoms, group, features or {}, frames)
    (result,) = run_many(
        [job], Path(model), settings=settings, threads=threads, cluster=cluster, resume=resume,
        force=force, progress=progress,
    )  # fmt: skip
    return result


def run_many(
    jobs: Sequence[Job],
    model: Path,
    *,
    settings: ScoreSettings | None = None,
    threads: int | None = None,
    cluster: ClusterSettings | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> Iterator[ScoreResult]:
    """Score one descriptor file after the other; the model is loaded once.

    Parameters
    ----------
    jobs : sequence of Job
        What to score.
    model : Path
        Model artifact.
    settings : ScoreSettings
        How to score.
    threads : int
        Threads, all by default; the result does not depend on it.
    cluster : ClusterSettings
        Score the blocks of rows on these workers; the result does not depend on it.
    resume : bool
        Skip a result that is there and up to date; make one that is out of date again.
    force : bool
        Replace an existing artifact.
    progress : Progress
        Shows the rows.

    Yields
    ------
    ScoreResult
        Of each job when it is done.

    Raises
    ------
    InputError, ArtifactError, UsageError, OutputError
        What is wrong with which file. Files that are missing, of another width or in the way are
        refused before any work is done.
    ComputeError
        If the cluster fails.
    """
    settings = settings or ScoreSettings()
    read = [model, settings.calibration, *(job.descriptors for job in jobs)]
    for job in jobs:
        if cluster is not None and job.output == STDOUT:
            raise UsageError(
                "workers write files, not to standard output",
                hint="name a file with -o, or leave the cluster out",
            )
        inputs = [*read, job.natoms, job.group, job.frames, *filter(None, job.features.values())]
        check_target(job.output, force=force or resume, inputs=inputs)
    with open_artifact(model, ModelFile) as artifact, Hasher() as hasher:
        for job in jobs:
            _check_input(job, artifact, settings.part)
        hasher.add("model", model, "model")
        if settings.calibration is not None:
            hasher.add("calibration", settings.calibration, "calibration")
        files = [model, *filter(None, [settings.calibration])]
        files += [Place.parse(job.descriptors).path for job in jobs]
        with open_cluster(cluster, read=files, write=[job.output for job in jobs]) as workers:
            shared = _prepare(artifact, settings, hasher, threads or available_threads(), workers)
            for job in jobs:
                with _open_work(job, shared) as work:
                    if job.output == STDOUT:
                        summary = _score_to_csv(work, progress)
                    else:
                        summary = _score_to_file(
                            work, resume=resume, force=force, progress=progress
                        )
                yield ScoreResult(output=job.output, units=artifact.units, **summary)


@dataclass(frozen=True)
class _Shared:
    """What all jobs of a call have in common."""

    model_path: Path
    settings: ScoreSettings
    scorer: Scorer
    block_rows: int
    units: str
    hasher: Hasher  # of the model and the calibration
    calibrator: Calibrator | None
    fitted_on: FittedOn | None
    cutoff: float  # Å, where there are frames
    local: bool  # whether the calibration is of scores with frames
    cluster: Cluster | None


@dataclass(frozen=True)
class _Work:
    """One descriptor file, open, and what is to be done with it."""

    job: Job
    shared: _Shared
    source: Descriptors
    structure: npt.NDArray[np.int64] | None
    labels: dict[str, npt.NDArray[Any]]  # group and sample_id of each row, where they are known
    features: npt.NDArray[np.float32]  # (n, n_features) of the user's own
    header: Header
    hasher: Hasher  # of the descriptors and what belongs to them

    def inputs(self) -> list[dict[str, Any]]:
        """Wait for the hashes; one record per input."""
        return self.hasher.records() + self.shared.hasher.records()


def _prepare(
    artifact: ModelFile,
    settings: ScoreSettings,
    hasher: Hasher,
    threads: int,
    cluster: Cluster | None,
) -> _Shared:
    """Read the model and the calibration."""
    announce_compilation()
    scorer, calibrator, fitted_on, calibrated = load_scorer(artifact, settings, threads)
    rows = settings.block_rows or scorer.model.shards.rows
    return _Shared(
        artifact.path,
        settings,
        scorer,
        rows,
        artifact.units,
        hasher,
        calibrator,
        fitted_on,
        calibrated or settings.cutoff or DEFAULT_CUTOFF,
        calibrated is not None,
        cluster,
    )


def load_scorer(
    artifact: ModelFile, settings: ScoreSettings, threads: int
) -> tuple[Scorer, Calibrator | None, FittedOn | None, float | None]:
    """Load the model, the maps, which rows they were fitted on, and their cutoff (Å)."""
    fitted = artifact.load()
    k = _check_k(settings.k, fitted, artifact.path)
    limits = np.array(sorted(set(settings.thresholds)) or fitted.thresholds, dtype=np.float64)
    calibrator, fitted_on, calibrated = _load_calibration(
        settings, fitted, artifact.path, k, limits
    )
    scorer = Scorer(
        fitted,
        k=k,
        thresholds=limits,
        quantiles=np.array(sorted(set(settings.quantiles)), dtype=np.float64),
        threshold_scale=_threshold_scale(calibrator),
        with_cdf=settings.with_cdf,
        threads=threads,
    )
    return scorer, calibrator, fitted_on, calibrated


def _check_input(job: Job, model: ModelFile, part: tuple[int, int] | None) -> None:
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
def _open_work(job: Job, shared: _Shared) -> Iterator[_Work]:
    place = Place.parse(job.descriptors)
    with Hasher([place.path]) as hasher, open_descriptors(place) as source:
        place = source.source.place
        hasher.add("descriptors", place.path, "descriptors", key=place.key, rows=source.n)
        counts = None if job.natoms is None else Place.parse(job.natoms)
        if job.frames is None:
            structure = find_structures(source, counts)
        else:
            frames = Path(job.frames)
            hasher.add("frames", frames, "frames")
            structure = structures_from_natoms(read_natoms(frames), source.n, job.frames)
        if counts is not None:
            hasher.add("natoms", counts.path, "natoms", key=counts.key)
        labels = _find_labels(job, source, hasher)
        features = _read_features(job, place, source.n, hasher)
        _check_calibration(shared, job, place, structure, labels, features)
        header = _header(shared, job, place, source.n, structure, labels, list(features))
        columns = np.zeros((source.n, 0), np.float32)
        if features:
            columns = np.stack(list(features.values()), axis=1)
        yield _Work(job, shared, source, structure, labels, columns, header, hasher)


def _header(
    shared: _Shared,
    job: Job,
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
    if job.frames is not None:
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


def _find_labels(job: Job, source: Descriptors, hasher: Hasher) -> dict[str, npt.NDArray[Any]]:
    given = None if job.group is None else Place.parse(job.group)
    if given is not None:
        hasher.add("group", given.path, "labels", key=given.key)
    found = {
        "group": find_labels(source, given, GROUPS),
        "sample_id": find_labels(source, None, ("sample_id",)),
    }
    return {name: labels for name, labels in found.items() if labels is not None}


def _read_features(
    job: Job, place: Place, n: int, hasher: Hasher
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
        where = None if given == "" else Place.parse(given)
        if where is not None:
            hasher.add("feature", where.path, "feature", key=where.key, feature=name)
        found[name] = read_feature(name, where, place, n)
    return found


def _check_calibration(
    shared: _Shared,
    job: Job,
    place: Place,
    structure: npt.NDArray[np.int64] | None,
    labels: Mapping[str, npt.NDArray[Any]],
    features: Mapping[str, npt.NDArray[np.float32]],
) -> None:
    """Refuse rows that do not come with what the calibration needs to know of them."""
    if shared.calibrator is None:
        return
    calibration, path = shared.calibrator.calibration, shared.settings.calibration
    if shared.local != (job.frames is not None):
        did, hint = ("with", "give --frames") if shared.local else ("without", "leave out --frames")
        raise InputError(
            f"{path} was fitted on scores {did} frames",
            hint=f"{hint}, or calibrate on scores made in the same way",
        )
    if calibration.predictor.map.needs_structures:
        if structure is None:
            raise InputError(
                f"{path} uses each structure's mean distance, but {place} does not "
                "say which structure a row belongs to",
                hint="give --natoms, or calibrate on scores without structures",
            )
        if shared.settings.part is not None and not in_order(structure):
            raise InputError(
                f"{place}: the rows of a structure do not stand together, so --shard would cut it",
                hint="score the file in one call, or sort its rows by structure",
            )
    lacking = sorted(calibration.predictor.map.used & set(calibration.own_features) - set(features))
    if lacking:
        raise InputError(
            f"{path} uses the feature {lacking[0]} of each row, which {place} comes without",
            hint=f"give it: --feature {lacking[0]}=FILE, made as for the calibration",
        )
    if len(calibration.cells.groups) and "group" not in labels:
        raise InputError(
            f"{path} has bounds for each group, but {place} does not say which group "
            "a row belongs to",
            hint="give the labels with --group, such as the species of each atom",
        )
    known = calibration.cells.groups.astype(np.str_)
    if len(known) and not np.isin(labels["group"].astype(np.str_), known).any():
        warnings.warn(
            f"no row of {place} is in a group that has bounds of its own in {path}; "
            "the bounds of all are used",
            LtauWarning,
            stacklevel=2,
        )


def _score_to_csv(work: _Work, progress: Progress) -> dict[str, Any]:
    """Write the rows to standard output as the blocks come in, or when all are there."""
    scorer, calibrator = work.shared.scorer, work.shared.calibrator
    summary = work.header.start_summary()
    with contextlib.ExitStack() as stack:
        advance = stack.enter_context(progress("scoring", work.header.n))
        stream = stack.enter_context(open_text(STDOUT))
        blocks = _score_blocks(work, work.header.first, advance)
        if work.job.frames is not None or (
            calibrator is not None and calibrator.calibration.predictor.map.needs_structures
        ):
            spool = stack.enter_context(open_temporary_spool(row_dtype(scorer)))
            for _, rows in blocks:
                spool.append(rows)
            finished = _finished_blocks(spool, work)
        else:
            finished = _complete((rows for _, rows in blocks), work, None)
        first = next(finished)
        order = dict.fromkeys(name for name in (*LEADING, *SHOWN) if name in first)
        names = name_columns(["row", *order], work.header.columns)

        def columns() -> Iterator[Columns]:
            start = work.header.first
            for block in itertools.chain([first], finished):
                summary.add(start, block)
                stop = start + len(block["expected_error"])
                yield to_columns(block | {"row": np.arange(start, stop)}, names)
                start = stop

        write_table(stream, [name for of in names.values() for name in of], columns())
    return summary.result()


def _score_to_file(work: _Work, *, resume: bool, force: bool, progress: Progress) -> dict[str, Any]:
    """Write the artifact, or skip it if it is up to date."""
    output = work.job.output
    if resume and output.exists():
        old = _read_up_to_date(work, force=force)
        if old is not None:
            return old
        log.warning("%s is out of date; scoring again", output)
        force = True
    with open_spool(output, _identify(work), row_dtype(work.shared.scorer)) as spool:
        try:
            _fill(spool, work, progress)
            return write_scores(
                output, work.header, _finished_blocks(spool, work), inputs=work.inputs, force=force
            )
        except InputError:
            raise
        except BaseException:
            if spool.rows:
                log.warning(
                    "%s: %s of %s rows are done and kept; the same command goes on from there",
                    output, f"{spool.rows:,}", f"{work.header.n:,}",
                )  # fmt: skip
            raise


def _read_up_to_date(work: _Work, *, force: bool) -> dict[str, Any] | None:
    """Read the summary of the result if it is what this job would make again.

    Raises
    ------
    ArtifactError
        If the file is no scores artifact and may not be replaced.
    """
    try:
        with open_artifact(work.job.output, ScoresFile) as old:
            same = (
                old.model_fingerprint == work.shared.scorer.model.fingerprint
                and to_json(old.parameters) == to_json(work.header.parameters)
                and _without_model(old.inputs) == _without_model(work.inputs())
            )
            found = old.summary | {"up_to_date": True}
    except ArtifactError:
        if not force:
            raise
        return None
    return found if same else None


def _without_model(inputs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Leave out the record of the model: the same model may be in files that differ in a date."""
    return [record for record in inputs if record["role"] != "model"]


def _identify(work: _Work) -> dict[str, Any]:
    """All that the rows depend on, without reading whole files."""
    files = [work.source.source.place]
    if work.shared.settings.calibration is not None:
        files.append(Place(work.shared.settings.calibration))
    return {
        "ltau_version": __version__,
        "model_fingerprint": work.shared.scorer.model.fingerprint,
        "parameters": work.header.parameters,
        "n_rows": work.header.n,
        "files": stamps_of(files),
    }


def _fill(spool: Spool, work: _Work, progress: Progress) -> None:
    """Score the rows that the spool does not have yet."""
    if spool.rows:
        log.warning(
            "%s: continuing at row %s of %s",
            work.job.output,
            f"{spool.rows:,}",
            f"{work.header.n:,}",
        )
    score = _score_blocks if work.shared.cluster is None else _score_on_cluster
    with progress("scoring", work.header.n) as advance:
        advance(spool.rows)
        for _, rows in score(work, work.header.first + spool.rows, advance):
            spool.append(rows)


def _score_blocks(
    work: _Work, first: int, advance: Advance
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield (first row, structured rows) from row ``first`` on."""
    scorer = work.shared.scorer
    dtype, last = row_dtype(scorer), work.header.first + work.header.n
    for start, block in work.source.blocks(work.shared.block_rows, first, last):
        yield start, _score_block(scorer, block, dtype)
        advance(len(block))


def _score_block(
    scorer: Scorer, block: npt.NDArray[np.float32], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    return to_rows(scorer.score(block) | {"row_hash": hash_rows(block)}, dtype)


@dataclass(frozen=True)
class _RowsTask:
    """What a worker has to know to score a block of rows.

    Attributes
    ----------
    model : Path
    model_fingerprint : str
    settings : ScoreSettings
    descriptors : Place
    rows, last : int
        Of a block, and the end of the last one.
    folder : Path
        Of the parts.
    """

    model: Path
    model_fingerprint: str
    settings: ScoreSettings
    descriptors: Place
    rows: int
    last: int
    folder: Path


def _score_on_cluster(
    work: _Work, first: int, advance: Advance
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield (first row, structured rows) in order, as the workers finish the blocks of a file."""
    shared, cluster = work.shared, work.shared.cluster
    assert cluster is not None, "or the blocks are scored here"
    rows, last = shared.block_rows, work.header.first + work.header.n
    starts = [
        start for start in range(work.header.first, last, rows) if min(start + rows, last) > first
    ]
    place, settings = work.source.source.place, shared.settings
    if settings.calibration is not None:
        settings = replace(settings, calibration=settings.calibration.absolute())
    with open_parts(work.job.output, _identify(work) | {"block_rows": rows}) as parts:
        task = _RowsTask(
            shared.model_path.absolute(), shared.scorer.model.fingerprint, settings,
            replace(place, path=place.path.absolute()), rows, last, parts.folder,
        )  # fmt: skip
        finished = {start for start in starts if parts.has(_part_name(start))}
        todo = [start for start in starts if start not in finished]

        def note(start: int) -> None:
            finished.add(start)
            advance(min(start + rows, last) - max(start, first))

        for start in list(finished):
            note(start)
        read = [shared.model_path, place.path, *filter(None, [settings.calibration])]
        with (
            parts.kept(work.job.output),
            closing(cluster.map(_score_part, task, todo, "the block at row", read)) as coming,
        ):
            for start in starts:
                while start not in finished:
                    note(next(coming))
                yield max(start, first), parts.load(_part_name(start))[max(0, first - start) :]
                parts.remove(_part_name(start))


def _part_name(start: int) -> str:
    return f"rows-{start}"


def _score_part(task: _RowsTask, start: int, threads: int) -> None:
    """Score a block of rows on a worker, which keeps the model for the next."""

    def load(stack: contextlib.ExitStack) -> Scorer:
        artifact = stack.enter_context(open_artifact(task.model, ModelFile))
        return load_scorer(artifact, task.settings, threads)[0]

    scorer = keep((task.model, task.model_fingerprint, task.settings, threads), load)
    with open_descriptors(task.descriptors) as source:
        for _, block in source.blocks(task.rows, start, min(start + task.rows, task.last)):
            rows = _score_block(scorer, block, row_dtype(scorer))
            Parts(task.folder).save(_part_name(start), rows)


def _finished_blocks(spool: Spool, work: _Work) -> Iterator[Block]:
    """Yield what the spool holds, with what else is known of the rows."""
    calibrator, structure = work.shared.calibrator, work.structure
    log_distance = None
    if work.job.frames is not None:
        return _complete(
            (rows for _, rows in spool.blocks(WRITE_ROWS)),
            work,
            None,
            _local_distances(spool, work),
        )
    if calibrator is not None and calibrator.calibration.predictor.map.needs_structures:
        assert structure is not None, "checked when the file was opened"
        first = work.header.first
        log_distance = log_structure_distance(
            (
                (structure[first + done : first + done + len(rows)], rows["relative_distance"])
                for done, rows in spool.blocks(WRITE_ROWS)
            ),
            int(structure.max()) + 1,
        )
    return _complete((rows for _, rows in spool.blocks(WRITE_ROWS)), work, log_distance)


def _local_distances(spool: Spool, work: _Work) -> npt.NDArray[np.float32]:
    """Average the relative distances around each atom of the frames, (n,)."""
    assert work.job.frames is not None, "checked by the caller"
    distance = np.concatenate([rows["relative_distance"] for _, rows in spool.blocks(WRITE_ROWS)])
    found = np.empty_like(distance)
    start = -work.header.first
    for frame in read_frames(Path(work.job.frames)):
        stop = start + len(frame)
        if start >= 0 and stop <= len(distance):
            pairs = neighbors_of(frame, work.shared.cutoff)
            found[start:stop] = local_distance(distance[start:stop], *pairs)
        start = stop
    return found


def _complete(
    parts: Iterable[npt.NDArray[Any]],
    work: _Work,
    log_distance: npt.NDArray[np.float64] | None,
    local: npt.NDArray[np.float32] | None = None,
) -> Iterator[Block]:
    """Turn structured rows into blocks with structures, labels and calibrated columns."""
    calibrator = work.shared.calibrator
    blocks = _with_labels(parts, work, local)
    if calibrator is None:
        return blocks
    names = tuple(work.header.parameters["features"])
    return replace(calibrator, feature_names=names).columns(blocks, log_distance)


def _with_labels(
    parts: Iterable[npt.NDArray[Any]], work: _Work, local: npt.NDArray[np.float32] | None
) -> Iterator[Block]:
    used = _find_used(work)
    start = work.header.first
    for rows in parts:
        stop = start + len(rows)
        block = to_block(rows)
        if work.structure is not None:
            block["structure"] = work.structure[start:stop]
        block |= {name: labels[start:stop] for name, labels in work.labels.items()}
        if local is not None:
            block["local_distance"] = local[start - work.header.first : stop - work.header.first]
        if work.features.shape[1]:
            block["features"] = work.features[start:stop]
        if used is not None:
            block["in_calibration"] = used(start, block["row_hash"])
        yield block
        start = stop


def _find_used(
    work: _Work,
) -> Callable[[int, npt.NDArray[np.int64]], npt.NDArray[np.bool_]] | None:
    """Tell, from their first row and their hashes, which rows the calibration was fitted on."""
    fitted = work.shared.fitted_on
    if fitted is None:
        return None
    known = fitted.hashes
    if known is not None:
        return lambda _, hashes: np.isin(hashes, known)
    own = work.inputs()[0]
    same = [rows for record, rows in fitted.files if same_rows(own, record)]
    used = np.concatenate([np.zeros(0, dtype=np.int64), *same])
    return lambda start, hashes: np.isin(np.arange(start, start + len(hashes)), used)


def _columns(shared: _Shared) -> dict[str, npt.NDArray[Any]]:
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


def same_rows(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two input records name the same rows of the same file."""
    return all(one.get(name) == other.get(name) for name in ("sha256", "key", "rows"))


def _threshold_scale(calibrator: Calibrator | None) -> npt.NDArray[np.float64] | None:
    """Scale of each threshold, where the method calibrates by it; between thresholds linear."""
    if calibrator is None or calibrator.calibration.method != "threshold":
        return None
    calibration = calibrator.calibration
    return np.interp(calibrator.thresholds, calibration.thresholds, calibration.threshold_scale)


def _load_calibration(
    settings: ScoreSettings,
    model: Model,
    model_path: Path,
    k: int,
    thresholds: npt.NDArray[np.float64],
) -> tuple[Calibrator | None, FittedOn | None, float | None]:
    """Read the maps, which rows of which descriptors they were fitted on, and their cutoff."""
    path = settings.calibration
    if path is None:
        return None, None, None
    with open_artifact(path, CalibrationFile) as artifact:
        if artifact.model_fingerprint != model.fingerprint:
            raise ArtifactError(
                f"{path} was fitted on scores of another model than {model_path}",
                hint="score the calibration rows with this model and run ltau calibrate again",
            )
        if artifact.summary["k"] != k:
            raise UsageError(
                f"{path} was fitted on scores with -k {artifact.summary['k']}, these have -k {k}",
                hint="use the same -k, or calibrate again",
            )
        calibration = artifact.calibration()
        new = set(thresholds) - set(calibration.thresholds)
        for threshold in sorted(new) if calibration.method == "threshold" else ():
            warnings.warn(
                f"{path} has no threshold {threshold:g}; its scale is taken from the nearest ones",
                LtauWarning,
                stacklevel=2,
            )
        cutoff = artifact.summary.get("cutoff")
        if None not in (cutoff, settings.cutoff) and cutoff != settings.cutoff:
            raise UsageError(
                f"{path} was fitted on scores with --cutoff {cutoff:g}, not {settings.cutoff:g}",
                hint="leave out --cutoff, or calibrate again",
            )
        return Calibrator(calibration, thresholds), artifact.fitted_on(), cutoff
