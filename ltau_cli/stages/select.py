"""Scores to the frames that are worth labeling next."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.read import Artifact, open_artifact
from ltau_cli.artifacts.scores import WRITE_ROWS, refuse_shard
from ltau_cli.artifacts.table import ScoreTable
from ltau_cli.core.conditions import check_columns
from ltau_cli.core.selection import (
    choose_diverse,
    choose_uncertain,
    mean_distance,
    standardize,
    summarize,
)
from ltau_cli.errors import ComputeError, InputError, UsageError
from ltau_cli.output import STDOUT, check_target, open_text
from ltau_cli.progress import Progress, silent
from ltau_cli.readers.descriptors import open_descriptors
from ltau_cli.readers.frames import read_frames
from ltau_cli.readers.place import Place
from ltau_cli.stages.score_frames import count_structures, match_frames, read_structure
from ltau_cli.writers.frames import annotate, write_frames

log = logging.getLogger("ltau")


def run(
    scores: Path,
    output: Path,
    n: int,
    *,
    column: str | None = None,
    by: str | float = "max",
    trust_low: float | None = None,
    trust_high: float | None = None,
    descriptors: str | None = None,
    frames: Path | None = None,
    chosen_frames: Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Choose frames by their uncertainty, and with descriptors also by their diversity.

    Parameters
    ----------
    scores : Path
        Scores artifact of the pool. Without structures, and without frames that tell them, every
        row is a frame, as for energy errors.
    output : Path
        Text file of frame numbers from 0, one per line in the order of choice; ``-`` is standard
        output.
    n : int
        Frames to choose.
    column : str, optional
        What the uncertainty of an atom is; default ``calibrated_error``, or ``expected_error``
        without a calibration.
    by : {"max", "mean"} or float
        The uncertainty of a frame from those of its atoms; a float is a quantile.
    trust_low, trust_high : float, optional
        Choose among frames with ``trust_low <= uncertainty < trust_high`` only.
    descriptors : str, optional
        The descriptors that were scored; without them the most uncertain frames are chosen.
    frames : Path, optional
        Frames of the pool.
    chosen_frames : Path, optional
        Extxyz file that gets copies of the chosen frames.
    force : bool
        Replace existing files.
    progress : Progress
        Shows the rows.

    Returns
    -------
    dict
        ``chosen``, the table of frames with their uncertainty, and what the summary shows.

    Raises
    ------
    InputError, ArtifactError, UsageError, OutputError
        What is wrong with which file or option.
    ComputeError
        If no frame is within the bounds.
    """
    for target in (output, chosen_frames):
        if target is not None and target != STDOUT:
            check_target(target, force=force)
    with open_artifact(scores, "scores") as artifact:
        refuse_shard(artifact)
        table = ScoreTable.open(artifact)
        calibrated = artifact.has("calibrated_error")
        blind = column is None and not calibrated
        column = column or ("calibrated_error" if calibrated else "expected_error")
        check_columns([column], table.columns, scores)
        if table.dtype(column).kind == "U":
            raise UsageError(
                f"{column} of {scores} holds text", hint="choose frames by a column of numbers"
            )
        rows = None if frames is None else match_frames(frames, artifact)
        n_frames = count_structures(artifact, rows)
        structure = read_structure(artifact, rows, 0, table.n)
        values = table.read(0, table.n, [column])[column]
        uncertainty = summarize(structure, values, n_frames, by)
        inside = _within(uncertainty, trust_low, trust_high, scores)
        wanted = min(n, len(inside))
        result = {
            "output": output, "n": wanted, "wanted": n, "n_frames": n_frames,
            "rows_are_frames": rows is None and not artifact.has("structure"),
            "n_in_bounds": len(inside), "column": column, "by": by,
            "trust_low": trust_low, "trust_high": trust_high,
            "units": artifact.units if column.endswith("error") else "",
            "pool_min": uncertainty.min(), "pool_max": uncertainty.max(),
            "mean_in_bounds": uncertainty[inside].mean(),
        }  # fmt: skip
        if descriptors is None:
            chosen = inside[choose_uncertain(uncertainty[inside], wanted)]
        else:
            means = _frame_means(descriptors, artifact, structure, n_frames, progress)[inside]
            points = standardize(means)
            picked = choose_diverse(uncertainty[inside], points, wanted)
            chosen = inside[picked]
            result |= {
                "mean_distance": mean_distance(points[picked]),
                "random_distance": mean_distance(points),
            }
    result |= {
        "min": uncertainty[chosen].min(),
        "max": uncertainty[chosen].max(),
        "mean": uncertainty[chosen].mean(),
        "chosen": [{"frame": int(i), "uncertainty": float(uncertainty[i])} for i in chosen],
    }
    if frames is not None and chosen_frames is not None:
        _copy_frames(frames, chosen_frames, chosen, force=force)
    with open_text(output, force=force) as stream:
        stream.writelines(f"{i}\n" for i in chosen)
    if blind:
        log.warning(
            "%s is not calibrated: frames far from the training set may look harmless; "
            "score with --calibration, or try --column relative_distance", scores,
        )  # fmt: skip
    return result


def _within(
    uncertainty: npt.NDArray[np.float64], low: float | None, high: float | None, scores: Path
) -> npt.NDArray[np.int64]:
    """Frames within the bounds."""
    inside = np.ones(len(uncertainty), dtype=bool)
    if low is not None:
        inside &= uncertainty >= low
    if high is not None:
        inside &= uncertainty < high
    if not inside.any():
        raise ComputeError(
            f"{scores}: no frame is within the trust bounds; the uncertainties go from "
            f"{uncertainty.min():.3g} to {uncertainty.max():.3g}",
            hint="widen --trust-low and --trust-high",
        )
    return np.flatnonzero(inside)


def _frame_means(
    descriptors: str,
    artifact: Artifact,
    structure: npt.NDArray[np.int64],
    n_frames: int,
    progress: Progress,
) -> npt.NDArray[np.float64]:
    """Mean descriptor (n_frames, d) of the atoms of each frame, read block by block."""
    with open_descriptors(Place.parse(descriptors)) as source:
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
    means: npt.NDArray[np.float64] = total / np.bincount(structure, minlength=n_frames)[:, None]
    return means


def _copy_frames(path: Path, target: Path, chosen: npt.NDArray[np.int64], *, force: bool) -> None:
    """Write the chosen frames in the order of choice, each with its number in the pool."""
    wanted = set(chosen.tolist())
    found = {i: frame for i, frame in enumerate(read_frames(path)) if i in wanted}
    with open_text(target, force=force, compress=target.suffix == ".gz") as stream:
        frames = (annotate(found[i], {}, {"ltau_frame": i}) for i in chosen.tolist())
        write_frames(stream, frames)
