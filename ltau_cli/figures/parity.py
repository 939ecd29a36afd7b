"""Expected against true error."""

from __future__ import annotations

from typing import Any

import numpy as np

from ltau_cli.figures.style import (
    GREY,
    ORANGE,
    RED,
    Data,
    Floats,
    hexagon_centers,
    legend_below,
    log_ticks,
    quantity,
    series,
    with_units,
)

N_BINS = 12


def draw(
    axes: Any,
    expected: Floats,
    true: Floats,
    *,
    plain: Floats | None,
    rank_correlation: float | None,
    units: str,
) -> Data:
    """Draw a log-log density of expected (n,) against true error (n,), with the binned mean.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    expected, true : (n,) float64
        Error units.
    plain : (n,) float64 or None
        Expected errors before calibration, where ``expected`` is calibrated: their binned mean is
        drawn too.
    rank_correlation : float or None
    units : str
        Error units.
    """
    shown = (expected > 0) & (true > 0)
    x, y = expected[shown], true[shown]
    data: Data = []
    axes.set(xscale="log", yscale="log")
    if len(x):
        low = min(np.quantile(x, 0.001), np.quantile(y, 0.005)) / 1.3
        high = max(x.max(), y.max()) * 1.3
        cells = axes.hexbin(
            x, y, xscale="log", yscale="log", gridsize=40, mincnt=1, bins="log", vmin=0.3,
            lw=0.1, cmap="Blues", extent=(*np.log10([low, high]), *np.log10([low, high])),
        )  # fmt: skip
        bar = axes.figure.colorbar(cells, ax=axes, label="rows", pad=0.02)
        bar.ax.set_ylim(bottom=0.9)  # lighter colors stand for less than one row
        axes.plot([low, high], [low, high], color=GREY, lw=0.8)
        centers = hexagon_centers(cells)
        data.append(
            series("density", expected=centers[:, 0], true=centers[:, 1], rows=cells.get_array())
        )
        name = "binned mean"
        data.append(_draw_mean(axes, expected, true, name, "o-", ORANGE))
        if plain is not None:
            data.append(_draw_mean(axes, plain, true, "binned mean before calibration", ".--", RED))
        axes.set(xlim=(low, high), ylim=(low, high))
        axes.set_box_aspect(1)
        log_ticks(axes.xaxis)
        log_ticks(axes.yaxis)
        legend_below(axes)
    label = "expected error" if plain is None else "calibrated error"
    rank = "not defined" if rank_correlation is None else f"{rank_correlation:.2f}"
    axes.set(
        xlabel=with_units(label, units),
        ylabel=with_units("true error", units),
        title=f"Rank correlation {rank} over {len(expected):,} rows; mean error "
        f"{quantity(true.mean(), units)}, predicted {quantity(expected.mean(), units)}",
    )
    return data


def _draw_mean(
    axes: Any, expected: Floats, true: Floats, name: str, marker: str, color: str
) -> dict[str, Any]:
    """Draw the mean true error of rows with similar expected error."""
    parts = np.array_split(np.argsort(expected, kind="stable"), min(N_BINS, len(expected)))
    x = np.array([expected[part].mean() for part in parts])
    y = np.array([true[part].mean() for part in parts])
    axes.plot(x, y, marker, color=color, ms=3.5, label=name)
    return series(name, expected=x, true=y, rows=[len(part) for part in parts])
