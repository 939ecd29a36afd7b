"""Predicted against observed probability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    Data,
    Floats,
    arrow,
    legend_below,
    quantity,
    series,
)

Curve = tuple[Floats, Floats, npt.NDArray[np.int64]]
MOST_GROUPS = 4
_GROUP_COLORS = (GREEN, PURPLE, SKY, RED)


def draw_thresholds(
    axes: Any,
    before: Curve,
    after: Curve | None,
    groups: Mapping[str, Curve],
    *,
    threshold: float,
    errors: tuple[float, float | None],
    units: str,
) -> Data:
    """Draw P(error > threshold) against what happened, before and after calibration.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    before, after : (predicted, observed, n)
        Per bin: probabilities and number of rows.
    groups : mapping of label to (predicted, observed, n)
        The same for each group, after calibration if there is one.
    threshold : float
        In error units.
    errors : (float, float or None)
        Expected calibration error before and after.
    units : str
        Error units.
    """
    n = max(1, int(np.median(before[2])))
    data = _draw_diagonal(axes, n)
    curves = {"before calibration" if after else "without calibration": (before, "o-", ORANGE, 1.2)}
    if after:
        curves["after calibration"] = (after, "s-", BLUE, 1.2)
    for (name, curve), color in zip(groups.items(), _GROUP_COLORS, strict=False):
        curves[name] = (curve, ".-", color, 0.8)
    for name, ((predicted, observed, rows), marker, color, width) in curves.items():
        axes.plot(
            predicted, observed, marker, color=color, ms=3.5, lw=width, clip_on=False, label=name
        )
        data.append(series(name, predicted=predicted, observed=observed, rows=rows))
    value = quantity(threshold, units)
    told = arrow(*errors)
    axes.set(
        xlim=(0, 1), ylim=(0, 1), xlabel=f"predicted P(error > {value})",
        ylabel="observed share", title=f"Calibration error of P(error > {value}): {told}",
    )  # fmt: skip
    legend_below(axes)
    return data


def draw_intervals(
    axes: Any,
    plain: tuple[Floats, Floats],
    after: tuple[Floats, Floats] | None,
    groups: Mapping[str, tuple[Floats, Floats]],
    *,
    n: int,
    areas: tuple[float, float | None],
) -> Data:
    """Draw the share of errors under predicted quantiles against the quantiles' levels.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    plain, after : (levels, observed)
        Of the plain quantiles and of the calibrated distribution.
    groups : mapping of label to (levels, observed)
    n : int
        Rows.
    areas : (float, float or None)
        Miscalibration area before and after.
    """
    data = _draw_diagonal(axes, n)
    ends = np.array([0.0]), np.array([1.0])
    levels, observed = (np.concatenate([ends[0], values, ends[1]]) for values in plain)
    name = "before calibration" if after else "plain quantiles"
    axes.fill_between(levels, levels, observed, color=ORANGE, alpha=0.12, lw=0)
    axes.plot(levels, observed, "-", color=ORANGE, lw=0.8)
    axes.plot(
        *plain, "o", color=ORANGE, ms=3.5, clip_on=False, label=f"{name}, area {areas[0]:.3f}"
    )
    data.append(series(name, predicted=plain[0], observed=plain[1]))
    if after:
        axes.fill_between(after[0], after[0], after[1], color=BLUE, alpha=0.25, lw=0)
        axes.plot(*after, color=BLUE, label=f"after calibration, area {areas[1]:.3f}")
        data.append(series("after calibration", predicted=after[0], observed=after[1]))
    for (label, curve), color in zip(groups.items(), _GROUP_COLORS, strict=False):
        axes.plot(*curve, color=color, lw=0.8, label=label)
        data.append(series(label, predicted=curve[0], observed=curve[1]))
    axes.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="level of the predicted quantile",
        ylabel="share of errors under it", title=f"Miscalibration area {arrow(*areas)}",
    )  # fmt: skip
    legend_below(axes)
    return data


def _draw_diagonal(axes: Any, n: int) -> Data:
    """Draw where a calibrated prediction lies, and 95 % of those that rest on ``n`` rows."""
    line = np.linspace(0, 1, 101)
    band = 1.96 * np.sqrt(line * (1 - line) / n)
    low, high = np.clip(line - band, 0, 1), np.clip(line + band, 0, 1)
    name = f"95 % by chance ({n:,} rows)"
    axes.fill_between(line, low, high, color=GREY, alpha=0.2, lw=0, label=name)
    axes.plot(line, line, color=GREY, lw=0.8)
    return [
        series(f"{name}, low", predicted=line, observed=low),
        series(f"{name}, high", predicted=line, observed=high),
    ]
