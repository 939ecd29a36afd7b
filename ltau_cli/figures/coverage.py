"""Coverage and width of the bounds, by group and by distance from the training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.figures.style import (
    SERIES,
    Data,
    legend_below,
    percent,
    quantity,
    series,
    with_units,
)
from ltau_cli.results import Metrics

_MARKERS = "os^Dv<"
SHOWN_LEVEL = "0.9"
FEW_ROWS = 20  # parts with fewer say nothing in the title


def draw(axes: Any, parts: Mapping[str, Metrics], levels: Sequence[str]) -> Data:
    """Draw the share of true errors under each bound in each part of the rows.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    parts : mapping of label to Metrics
        The first is of all rows. A bar shows where 95 % of as many rows lie by chance.
    levels : sequence of str
        Of the bounds, as in the metrics.
    """
    data = []
    x = np.arange(len(parts))
    n = np.array([part.n_rows for part in parts.values()])
    for i, level in enumerate(levels):
        color = SERIES[i % len(SERIES)]
        p = float(level)
        covered = np.array([part.coverage[level] for part in parts.values()])
        spread = 1.96 * np.sqrt(p * (1 - p) / n)
        shifted = x + 0.12 * (i - (len(levels) - 1) / 2)
        axes.axhline(p, color=color, lw=0.6, ls=":")
        axes.vlines(
            shifted, np.maximum(p - spread, 0), np.minimum(p + spread, 1),
            color=color, lw=3, alpha=0.3,
        )  # fmt: skip
        axes.plot(
            shifted, covered, _MARKERS[i % len(_MARKERS)], color=color, ms=3.5, clip_on=False,
            label=f"{100 * p:g} % bound",
        )  # fmt: skip
        data.append(series(f"{level} bound", part=list(parts), rows=n, coverage=covered))
    shown = SHOWN_LEVEL if SHOWN_LEVEL in levels else levels[-1]
    whole, *others = parts.values()
    rest = [part.coverage[shown] for part in others if part.n_rows >= FEW_ROWS]
    told = percent(whole.coverage[shown], 1)
    title = f"The {percent(float(shown))} bound covers {told} of {n[0]:,} rows"
    if rest:
        title += f", {100 * min(rest):.0f} to {percent(max(rest))} of each part"
        title += f" of {FEW_ROWS} rows or more"
    axes.set(ylim=(0, 1), ylabel="share under the bound", title=title)
    _label_parts(axes, list(parts), n)
    legend_below(axes)
    return data


def draw_width(
    axes: Any, parts: Mapping[str, Metrics], levels: Sequence[str], *, units: str
) -> Data:
    """Draw the mean bound of each level in each part of the rows, and the mean true error."""
    data = []
    x = np.arange(len(parts))
    n = np.array([part.n_rows for part in parts.values()])
    for i, level in enumerate(levels):
        width = np.array([part.mean_width[level] for part in parts.values()])
        axes.plot(
            x, width, _MARKERS[i % len(_MARKERS)], color=SERIES[i % len(SERIES)], ms=3.5,
            label=f"{100 * float(level):g} % bound",
        )  # fmt: skip
        data.append(series(f"{level} bound", part=list(parts), rows=n, width=width))
    true = np.array([part.mean_true_error for part in parts.values()])
    axes.plot(x, true, "_", color="black", ms=9, mew=1.5, label="mean true error")
    data.append(series("mean true error", part=list(parts), rows=n, width=true))
    shown = SHOWN_LEVEL if SHOWN_LEVEL in levels else levels[-1]
    whole = next(iter(parts.values()))
    axes.set(
        ylabel=with_units("mean bound", units),
        title=f"Mean {percent(float(shown))} bound {quantity(whole.mean_width[shown], units)}, "
        f"mean true error {quantity(true[0], units)}",
    )  # fmt: skip
    axes.set_ylim(bottom=0)
    _label_parts(axes, list(parts), n)
    legend_below(axes)
    return data


def _label_parts(axes: Any, names: Sequence[str], n: npt.NDArray[np.int64]) -> None:
    labels = [f"{name} ({rows:,})" for name, rows in zip(names, n, strict=True)]
    axes.set_xticks(
        range(len(names)), labels, rotation=40, ha="right", rotation_mode="anchor", fontsize="small"
    )
    axes.set(xlim=(-0.5, len(names) - 0.5), xlabel="part (rows); r: relative distance")
