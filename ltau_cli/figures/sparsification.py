"""Error of what remains when the most uncertain rows are removed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ltau_cli.figures.style import (
    BLUE,
    GREEN,
    GREY,
    Data,
    Floats,
    legend_below,
    percent,
    series,
    with_units,
)

N_POINTS = 200


def draw(axes: Any, own: Floats, oracle: Floats, *, ause: float, label: str, units: str) -> Data:
    """Draw the sparsification curve beside the oracle's and a random order's.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    own, oracle : (n,) float64
        Mean error after 0, 1, ..., n - 1 rows were removed by uncertainty, and by the true error
        (error units).
    ause : float
        Area between them, over the mean error.
    label : str
        What the rows are ranked by.
    units : str
        Error units.
    """
    n = len(own)
    at = np.unique(np.linspace(0, n - 1, min(n, N_POINTS)).astype(np.int64))
    removed = 100 * at / n
    curves = {
        "random": (np.full(len(at), own[0]), GREY, "--"),
        f"by {label}": (own[at], BLUE, "-"),
        "oracle (by true error)": (oracle[at], GREEN, "-"),
    }
    data = []
    axes.fill_between(removed, oracle[at], own[at], color=BLUE, alpha=0.12, lw=0)
    for name, (values, color, line) in curves.items():
        axes.plot(removed, values, line, color=color, label=name)
        data.append(series(name, removed_percent=removed, mean_error=values))
    half = own[n // 2] / own[0] - 1 if own[0] > 0 else 0.0
    axes.set(
        xlim=(0, 100), xlabel="most uncertain rows removed (%)",
        ylabel=with_units("mean error of the rest", units),
        title=f"AUSE {ause:.3f}; without the most uncertain half the mean error is "
        f"{percent(abs(half))} {'lower' if half <= 0 else 'higher'}",
    )  # fmt: skip
    axes.set_ylim(bottom=0)
    legend_below(axes)
    return data
