"""Panels that need true errors: reliability, parity, sparsification, coverage."""

from collections import Counter
from functools import partial
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Bools
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
from ltau_cli.figures import accuracy as figures
from ltau_cli.figures.style import Panel
from ltau_cli.results import BinMetrics, Evaluation, Metrics
from ltau_cli.stages.panels.sources import Judged, NotGivenError, Sources

SMALLEST_GROUP = 100  # rows of a group with a reliability curve of its own
MOST_GROUPS = 8  # of a coverage figure: the largest ones


def reliability_panels(sources: Sources) -> list[Panel]:
    """Prepare predicted against observed probability, of thresholds and of intervals."""
    judged = sources.judged
    names = _largest(judged.group, figures.MOST_GROUPS)
    parts = {_label(name): judged.group == name for name in names}
    before, after = _curves(judged, np.ones(len(judged.true), dtype=bool))
    of_groups = {label: _curves(judged, part) for label, part in parts.items()}
    own, shares, calibrated = None, {}, judged.predicted
    if calibrated is not None:
        own = (RATIO_LEVELS, observed_shares(judged.true, calibrated))
        shares = {
            label: (RATIO_LEVELS, observed_shares(judged.true, calibrated, part))
            for label, part in parts.items()
        }
    thresholds = partial(
        figures.draw_thresholds,
        before=_plain(before),
        after=None if after is None else _plain(after),
        groups={label: _plain(b if a is None else a) for label, (b, a) in of_groups.items()},
        threshold=float(judged.artifact.read("thresholds")[0]),
        errors=(before.error, None if after is None else after.error),
        units=judged.artifact.units,
    )
    intervals = partial(
        figures.draw_intervals,
        plain=judged.plain,
        after=own,
        groups=shares,
        n=len(judged.true),
        areas=(
            miscalibration_area(*judged.plain),
            None if own is None else miscalibration_area(*own),
        ),
    )
    return [Panel("reliability", thresholds), Panel("interval coverage", intervals)]


def _curves(judged: Judged, rows: Bools) -> tuple[Reliability, Reliability | None]:
    """Reliability of the first threshold before and after calibration."""
    true, plain = judged.true[rows], judged.uncertainty[rows]
    threshold = float(judged.artifact.read("thresholds")[0])
    before = reliability(plain[:, 0], true > threshold)
    if judged.calibrated_uncertainty is None:
        return before, None
    return before, reliability(judged.calibrated_uncertainty[rows, 0], true > threshold)


def _plain(curve: Reliability) -> figures.Curve:
    return curve.predicted, curve.observed, curve.n


def parity_panels(sources: Sources) -> list[Panel]:
    """Prepare expected against true error."""
    judged = sources.judged
    draw = partial(
        figures.draw_parity,
        expected=judged.best,
        true=judged.true,
        plain=None if judged.predicted is None else judged.expected,
        rank_correlation=rank_correlation(judged.best, judged.true),
        units=judged.artifact.units,
    )
    return [Panel("parity", draw)]


def sparsification_panels(sources: Sources) -> list[Panel]:
    """Prepare the error of what remains without the most uncertain rows."""
    judged = sources.judged
    draw = partial(
        figures.draw_sparsification,
        own=sparsification(judged.true, judged.best),
        oracle=sparsification(judged.true, judged.true),
        ause=ause(judged.true, judged.best),
        label="expected error" if judged.predicted is None else "calibrated error",
        units=judged.artifact.units,
    )
    return [Panel("sparsification", draw)]


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
        Panel("coverage", partial(figures.draw_coverage, parts=parts, levels=levels)),
        Panel("width", partial(figures.draw_width, parts=parts, levels=levels, units=units)),
    ]


def _distance_label(part: BinMetrics) -> str:
    """``r 1.25–1.5``."""
    if part.to is None:
        return f"r ≥ {part.from_:g}"
    return f"r {part.from_:g}–{part.to:g}" if part.from_ else f"r < {part.to:g}"


def _label(group: Any) -> str:
    """``Au``, or ``group 3`` for what is a number."""
    return f"group {group}" if isinstance(group, int) else str(group)


def _largest(group: Array | None, n: int) -> list[Any]:
    """Return the labels of the ``n`` largest groups that are not small; none if there is one."""
    counts = Counter([] if group is None else group.tolist())
    if len(counts) < 2:
        return []
    counts = Counter({name: rows for name, rows in counts.items() if rows >= SMALLEST_GROUP})
    return sorted(sorted(counts, key=lambda name: (-counts[name], name))[:n])
