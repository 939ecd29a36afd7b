"""Descriptors to structured rows, block by block, here or on the workers of a cluster."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.model import ModelFile
from ltau_cli.artifacts.parts import Parts, open_parts
from ltau_cli.artifacts.provenance import hash_rows
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import row_dtype, to_rows
from ltau_cli.artifacts.spool import Spool
from ltau_cli.core.scoring import Scorer
from ltau_cli.progress import Advance, Progress
from ltau_cli.readers.descriptors import open_descriptors
from ltau_cli.readers.place import Place
from ltau_cli.settings import ScoreSettings
from ltau_cli.stages.cluster import keep
from ltau_cli.stages.scoring.prepare import make_scorer
from ltau_cli.stages.scoring.work import Work, identify

log = logging.getLogger("ltau")


def fill(spool: Spool, work: Work, progress: Progress) -> None:
    """Score the rows that the spool does not have yet."""
    if spool.rows:
        log.warning(
            "%s: continuing at row %s of %s",
            work.job.output,
            f"{spool.rows:,}",
            f"{work.header.n:,}",
        )
    score = score_blocks if work.shared.cluster is None else _score_on_cluster
    with progress("scoring", work.header.n) as advance:
        advance(spool.rows)
        for _, rows in score(work, work.header.first + spool.rows, advance):
            spool.append(rows)


def score_blocks(
    work: Work, first: int, advance: Advance
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
    work: Work, first: int, advance: Advance
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
    with open_parts(work.job.output, identify(work) | {"block_rows": rows}) as parts:
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
        return make_scorer(artifact, task.settings, threads)[0]

    scorer = keep((task.model, task.model_fingerprint, task.settings, threads), load)
    with open_descriptors(task.descriptors) as source:
        for _, block in source.blocks(task.rows, start, min(start + task.rows, task.last)):
            rows = _score_block(scorer, block, row_dtype(scorer))
            Parts(task.folder).save(_part_name(start), rows)
