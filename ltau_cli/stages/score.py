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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.artifacts.model import ModelFile
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import ScoresFile, row_dtype, write_scores
from ltau_cli.artifacts.spool import open_spool, open_temporary_spool
from ltau_cli.artifacts.table import LEADING, SHOWN, Columns, name_columns, to_columns
from ltau_cli.artifacts.write import to_json
from ltau_cli.core.threads import available_threads
from ltau_cli.errors import ArtifactError, InputError, OutputError, UsageError
from ltau_cli.output import STDOUT, check_target, open_text
from ltau_cli.progress import Progress, silent
from ltau_cli.readers.place import Place
from ltau_cli.results import ScoreResult
from ltau_cli.settings import ClusterSettings, ScoreSettings
from ltau_cli.stages.cluster import open_cluster
from ltau_cli.stages.scoring.blocks import fill, score_blocks
from ltau_cli.stages.scoring.complete import complete, finished_blocks
from ltau_cli.stages.scoring.prepare import check_input, open_work, prepare
from ltau_cli.stages.scoring.work import Job, Work, identify
from ltau_cli.writers.tables import write_table

log = logging.getLogger("ltau")


def jobs_in_folder(descriptors: Sequence[str], folder: Path, settings: ScoreSettings) -> list[Job]:
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
        output = folder / result_name(f"{Place.parse(text).path.stem}.scores", settings.part)
        if output in jobs:
            raise UsageError(
                f"{jobs[output].descriptors} and {text} would both be scored to {output}",
                hint="score them into two folders, or one by one with -o",
            )
        jobs[output] = job_of(text, output, settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{folder} is not a folder", hint="name a folder with -O") from error
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
    return list(jobs.values())


def job_of(descriptors: str, output: Path, settings: ScoreSettings) -> Job:
    """Put an input together with what belongs to its rows."""
    return Job(
        descriptors, output, settings.natoms, settings.group, settings.features, settings.frames
    )


def result_name(stem: str, part: tuple[int, int] | None) -> str:
    """``scores.h5``, or ``scores.0-of-8.h5`` for a part."""
    return f"{stem}.h5" if part is None else f"{stem}.{part[0]}-of-{part[1]}.h5"


def run(
    descriptors: str | os.PathLike[str],
    model: str | os.PathLike[str] = "model.h5",
    output: str | os.PathLike[str] = "scores.h5",
    *,
    settings: ScoreSettings | None = None,
    threads: int | None = None,
    cluster: ClusterSettings | None = None,
    force: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> ScoreResult:
    """Score one descriptor file; see :func:`run_many`. Single settings may be given by name."""
    asked = ScoreSettings.of(settings, options)
    job = job_of(os.fspath(descriptors), Path(output), asked)
    (result,) = run_many(
        [job], Path(model), settings=asked, threads=threads, cluster=cluster, force=force,
        progress=progress,
    )  # fmt: skip
    return result


def run_many(
    jobs: Sequence[Job],
    model: Path,
    *,
    settings: ScoreSettings | None = None,
    threads: int | None = None,
    cluster: ClusterSettings | None = None,
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
        check_target(job.output, force=force or settings.resume, inputs=inputs)
    with open_artifact(model, ModelFile) as artifact, Hasher() as hasher:
        for job in jobs:
            check_input(job, artifact, settings.part)
        hasher.add("model", model, "model")
        if settings.calibration is not None:
            hasher.add("calibration", settings.calibration, "calibration")
        files = [model, *filter(None, [settings.calibration])]
        files += [Place.parse(job.descriptors).path for job in jobs]
        with open_cluster(cluster, read=files, write=[job.output for job in jobs]) as workers:
            shared = prepare(artifact, settings, hasher, threads or available_threads(), workers)
            for job in jobs:
                with open_work(job, shared) as work:
                    if job.output == STDOUT:
                        result = _score_to_csv(work, progress)
                    else:
                        result = _score_to_file(work, force=force, progress=progress)
                yield result


def _score_to_csv(work: Work, progress: Progress) -> ScoreResult:
    """Write the rows to standard output as the blocks come in, or when all are there."""
    scorer, calibrator = work.shared.scorer, work.shared.calibrator
    summary = work.header.start_summary()
    with contextlib.ExitStack() as stack:
        advance = stack.enter_context(progress("scoring", work.header.n))
        stream = stack.enter_context(open_text(STDOUT))
        blocks = score_blocks(work, work.header.first, advance)
        if work.shared.cutoff is not None or (
            calibrator is not None and calibrator.calibration.predictor.map.needs_structures
        ):
            spool = stack.enter_context(open_temporary_spool(row_dtype(scorer)))
            for _, rows in blocks:
                spool.append(rows)
            finished = finished_blocks(spool, work)
        else:
            finished = complete((rows for _, rows in blocks), work, None)
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
    return summary.result(STDOUT, work.header.units)


def _score_to_file(work: Work, *, force: bool, progress: Progress) -> ScoreResult:
    """Write the artifact, or skip it if it is up to date."""
    output = work.job.output
    if work.shared.settings.resume and output.exists():
        old = _read_up_to_date(work, force=force)
        if old is not None:
            return old
        log.warning("%s is out of date; scoring again", output)
        force = True
    with open_spool(output, identify(work), row_dtype(work.shared.scorer)) as spool:
        try:
            fill(spool, work, progress)
            return write_scores(
                output, work.header, finished_blocks(spool, work), inputs=work.inputs, force=force
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


def _read_up_to_date(work: Work, *, force: bool) -> ScoreResult | None:
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
            found = replace(old.summary, up_to_date=True)
    except ArtifactError:
        if not force:
            raise
        return None
    return found if same else None


def _without_model(inputs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Leave out the record of the model: the same model may be in files that differ in a date."""
    return [record for record in inputs if record["role"] != "model"]
