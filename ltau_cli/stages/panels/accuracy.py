"""Panels that need true errors: reliability, parity, sparsification, coverage."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.calibration import CalibrationFile
from ltau_cli.core.calibration.evaluation import evaluate
from ltau_cli.core.calibration.metrics import (
    Reliability,
    ause,
    miscalibration_area,
    observed_shares,
    rank_correlation,
    reliability,
    sparsification,
)
from ltau_cli.core.calibration.model import RATIO_LEVELS
from ltau_cli.figures import coverage as coverage_figure
from ltau_cli.figures import parity as parity_figure
from ltau_cli.figures import reliability as reliability_figure
from ltau_cli.figures import sparsification as sparsification_figure
from ltau_cli.figures.style import Panel
from ltau_cli.results import BinMetrics, Evaluation, Metrics
from ltau_cli.stages.panels.sources import Judged, NotGivenError, Sources

SMALLEST_GROUP = 100  # rows of a group with a reliability curve of its own
MOST_GROUPS = 8  # of a coverage figure: the largest ones


def reliability_panels(sources: Sources) -> list[Panel]:
    """Prepare predicted against observed probability, of thresholds and of intervals."""
    judged = sources.judged
    names = _largest(judged.group, reliability_figure.MOST_GROUPS)
    whole = np.ones(len(judged.true), dtype=bool)
    before, after = _curves(judged, whole)
    groups = {}
    for name in names:
        own_before, own_after = _curves(judged, judged.group == name)
        groups[_label(name)] = _plain(own_after or own_before)
    threshold = float(judged.artifact.read("thresholds")[0])
    panels = [
        Panel(
            "reliability",
            lambda axes: reliability_figure.draw_thresholds(
                axes, _plain(before), None if after is None else _plain(after), groups,
                threshold=threshold,
                errors=(before.error, None if after is None else after.error),
                units=judged.artifact.units,
            ),
        )
    ]  # fmt: skip
    calibrated = judged.predicted
    own = None if calibrated is None else observed_shares(judged.true, calibrated)
    areas = (
        miscalibration_area(*judged.plain),
        None if own is None else miscalibration_area(RATIO_LEVELS, own),
    )
    of_groups = {}
    if calibrated is not None:
        of_groups = {
            _label(name): (
                RATIO_LEVELS,
                observed_shares(judged.true, calibrated, judged.group == name),
            )
            for name in names
        }
    panels.append(
        Panel(
            "interval coverage",
            lambda axes: reliability_figure.draw_intervals(
                axes, judged.plain, None if own is None else (RATIO_LEVELS, own), of_groups,
                n=len(judged.true), areas=areas,
            ),
        )
    )  # fmt: skip
    return panels


def _curves(judged: Judged, rows: npt.NDArray[np.bool_]) -> tuple[Reliability, Reliability | None]:
    """Reliability of the first threshold before and after calibration."""
    true, plain = judged.true[rows], judged.uncertainty[rows]
    threshold = float(judged.artifact.read("thresholds")[0])
    before = reliability(plain[:, 0], true > threshold)
    if judged.calibrated_uncertainty is None:
        return before, None
    return before, reliability(judged.calibrated_uncertainty[rows, 0], true > threshold)


def _plain(curve: Reliability) -> reliability_figure.Curve:
    return curve.predicted, curve.observed, curve.n


def parity_panels(sources: Sources) -> list[Panel]:
    """Prepare expected against true error."""
    judged = sources.judged
    best = judged.best
    return [
        Panel(
            "parity",
            lambda axes: parity_figure.draw(
                axes, best, judged.true,
                plain=None if judged.predicted is None else judged.expected,
                rank_correlation=rank_correlation(best, judged.true),
                units=judged.artifact.units,
            ),
        )
    ]  # fmt: skip


def sparsification_panels(sources: Sources) -> list[Panel]:
    """Prepare the error of what remains without the most uncertain rows."""
    judged = sources.judged
    label = "expected error" if judged.predicted is None else "calibrated error"
    return [
        Panel(
            "sparsification",
            lambda axes: sparsification_figure.draw(
                axes,
                sparsification(judged.true, judged.best),
                sparsification(judged.true, judged.true),
                ause=ause(judged.true, judged.best),
                label=label,
                units=judged.artifact.units,
            ),
        )
    ]


def coverage_panels(sources: Sources) -> list[Panel]:
    """Prepare coverage and width of the bounds by group and by distance bin."""
    judged = sources.judged
    if judged.calibration is None:
        raise NotGivenError(
            f"{judged.artifact.path} has no bounds",
            hint="score again with --calibration, or plot the calibration artifact",
        )
    result: Evaluation
    if isinstance(judged.artifact, CalibrationFile):
        result = judged.artifact.summary.heldout
    else:
        assert judged.rows is not None, "read of scores"
        result = evaluate(judged.rows, judged.true, judged.calibration, labels=judged.group)
    parts: dict[str, Metrics] = {"all": result.own}
    groups = sorted(result.groups, key=lambda part: -part.n_rows)[:MOST_GROUPS]
    # numbers before text
    groups.sort(key=lambda part: (isinstance(part.group, str), part.group))
    parts |= {_label(part.group): part for part in groups}
    parts |= {_distance_label(part): part for part in result.distance_bins}
    levels = [f"{level:g}" for level in judged.calibration.levels]
    units = judged.artifact.units
    return [
        Panel("coverage", lambda axes: coverage_figure.draw(axes, parts, levels)),
        Panel("width", lambda axes: coverage_figure.draw_width(axes, parts, levels, units=units)),
    ]


def _distance_label(part: BinMetrics) -> str:
    """``r 1.25–1.5``."""
    if part.to is None:
        return f"r ≥ {part.from_:g}"
    return f"r {part.from_:g}–{part.to:g}" if part.from_ else f"r < {part.to:g}"


def _label(group: Any) -> str:
    """``Au``, or ``group 3`` for what is a number."""
    return f"group {group}" if isinstance(group, int) else str(group)


def _largest(group: npt.NDArray[Any] | None, n: int) -> list[Any]:
    """Return the labels of the ``n`` largest groups that are not small; none if there is one."""
    counts = Counter([] if group is None else group.tolist())
    if len(counts) < 2:
        return []
    counts = Counter({name: rows for name, rows in counts.items() if rows >= SMALLEST_GROUP})
    return sorted(sorted(counts, key=lambda name: (-counts[name], name))[:n])
