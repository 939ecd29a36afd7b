"""Scores to the frames that are worth labeling next."""

import logging
import os
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ltau_cli.array_types import Floats, Integers
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import WRITE_ROWS, ScoresFile
from ltau_cli.artifacts.table import ScoreTable
from ltau_cli.core.conditions import check_columns
from ltau_cli.core.selection import (
    choose_diverse,
    choose_largest,
    mean_distance,
    standardize,
    summarize,
)
from ltau_cli.errors import ComputeError, InputError, UsageError
from ltau_cli.output import check_target, open_results
from ltau_cli.progress import Progress, silent
from ltau_cli.readers.descriptors import open_descriptors
from ltau_cli.readers.frames import read_frames
from ltau_cli.readers.place import Place
from ltau_cli.results import ChosenFrame, SelectResult
from ltau_cli.settings import SelectSettings, documented
from ltau_cli.stages.frame_rows import count_structures, match_frames, read_structure
from ltau_cli.stages.scoring.rows import natoms_of
from ltau_cli.writers.frames import annotate, write_frames

log = logging.getLogger("ltau")


@documented
def run(
    scores: str | os.PathLike[str],
    output: str | os.PathLike[str],
    n: int,
    *,
    settings: SelectSettings | None = None,
    force: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> SelectResult:
    """Choose frames by their errors, and with descriptors also by their diversity.

    Parameters
    ----------
    scores : path
        Scores artifact of the pool. Without structures, and without frames that tell them, every
        row is a frame, as for energy errors.
    output : path
        Text file of frame numbers from 0, one per line in the order of choice; ``-`` is standard
        output.
    n : int
        Frames to choose.

    Raises
    ------
    InputError, ArtifactError, UsageError, OutputError
        What is wrong with which file or option.
    ComputeError
        If no frame is within the bounds.
    """
    scores, output = Path(scores), Path(output)
    settings = SelectSettings.of(settings, options)
    for target in (output, settings.chosen_frames):
        if target is not None:
            inputs = [scores, settings.frames, settings.descriptors]
            check_target(target, force=force, inputs=inputs)
    with open_artifact(scores, ScoresFile) as artifact:
        table = ScoreTable.open(artifact)
        column = settings.column or artifact.error_column
        check_columns([column], table.columns, scores)
        if table.dtype(column).kind == "U":
            raise UsageError(
                f"{column} of {scores} holds text", hint="choose frames by a column of numbers"
            )
        rows = None if settings.frames is None else match_frames(settings.frames, artifact)
        n_frames = count_structures(artifact, rows)
        structure = read_structure(artifact, rows, 0, table.n)
        of_rows = table.read(0, table.n, [column])[column]
        values = summarize(structure, of_rows, n_frames, settings.by)
        inside = _within(values, settings.trust_low, settings.trust_high, scores)
        wanted, distances = min(n, len(inside)), {}
        if settings.descriptors is None:
            chosen = inside[choose_largest(values[inside], wanted)]
        else:
            means = _frame_means(settings.descriptors, artifact, structure, n_frames, progress)
            points = standardize(means[inside])
            picked = choose_diverse(values[inside], points, wanted)
            chosen = inside[picked]
            distances = {
                "mean_distance": mean_distance(points[picked]),
                "random_distance": mean_distance(points),
            }
        result = SelectResult(
            output=output,
            n=wanted,
            wanted=n,
            n_frames=n_frames,
            rows_are_frames=rows is None and not artifact.has("structure"),
            n_in_bounds=len(inside),
            column=column,
            by=settings.by,
            trust_low=settings.trust_low,
            trust_high=settings.trust_high,
            units=artifact.units if column.endswith("error") else "",
            pool_min=float(values.min()),
            pool_max=float(values.max()),
            mean_in_bounds=float(values[inside].mean()),
            min=float(values[chosen].min()),
            max=float(values[chosen].max()),
            mean=float(values[chosen].mean()),
            chosen=[ChosenFrame(frame=int(i), value=float(values[i])) for i in chosen],
            **distances,
        )
        blind = settings.column is None and not artifact.calibrated
    with open_results(force=force) as results:
        if settings.frames is not None and settings.chosen_frames is not None:
            compress = settings.chosen_frames.suffix == ".gz"
            stream = results.text(settings.chosen_frames, compress=compress)
            _copy_frames(settings.frames, stream, chosen)
        results.text(output).writelines(f"{i}\n" for i in chosen)
    if blind:
        log.warning(
            "%s is not calibrated: what is far from the training set may look harmless; "
            "score with --calibration, or try --column relative_distance", scores,
        )  # fmt: skip
    return result


def _within(values: Floats, low: float | None, high: float | None, scores: Path) -> Integers:
    """Frames within the bounds."""
    inside = np.ones(len(values), dtype=bool)
    if low is not None:
        inside &= values >= low
    if high is not None:
        inside &= values < high
    if not inside.any():
        raise ComputeError(
            f"{scores}: no frame is within the trust bounds; the frames go from "
            f"{values.min():.3g} to {values.max():.3g}",
            hint="widen --trust-low and --trust-high",
        )
    return np.flatnonzero(inside)


def _frame_means(
    descriptors: str, artifact: ScoresFile, structure: Integers, n_frames: int, progress: Progress
) -> Floats:
    """Mean descriptor (n_frames, d) of the atoms of each frame, read block by block."""
    with open_descriptors(Place.parse(descriptors)) as source:
        if artifact.parameters.get("averaged") and source.n != artifact.n:
            source = source.averaged(natoms_of(source.told()))
        if source.n != len(structure):
            raise InputError(
                f"{source.source.place} has {source.n:,} rows, {artifact.path} has "
                f"{len(structure):,}",
                hint="give the very descriptors that were scored",
            )
        total = np.zeros((n_frames, source.width))
        with progress("reading descriptors", source.n) as advance:
            for start, block in source.blocks(WRITE_ROWS):
                np.add.at(total, structure[start : start + len(block)], block)
                advance(len(block))
    means: Floats = total / np.bincount(structure, minlength=n_frames)[:, None]
    return means


def _copy_frames(path: Path, stream: TextIO, chosen: Integers) -> None:
    """Write the chosen frames in the order of choice, each with its number in the pool."""
    wanted = set(chosen.tolist())
    found = {i: frame for i, frame in enumerate(read_frames(path)) if i in wanted}
    write_frames(stream, (annotate(found[i], {}, {"frame": i}) for i in chosen.tolist()))
