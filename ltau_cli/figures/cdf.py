"""Error CDFs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ltau_cli.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    Data,
    Floats,
    legend_below,
    log_ticks,
    percent,
    quantity,
    series,
    with_units,
)

MOST_ROWS = 4
SMALLEST = 0.002  # probability from which on a curve is shown

Cdf = tuple[Floats, Floats]


def draw(
    axes: Any, overall: Mapping[str, Cdf], rows: Mapping[str, Cdf], *, threshold: float, units: str
) -> Data:
    """Draw the CDFs of whole sets and of chosen rows.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    overall : mapping of label to (edges, cdf)
        Of the training set or of all rows: edges in error units and P(error <= edge); one or two.
    rows : mapping of label to (edges, cdf)
        Up to four.
    threshold : float
        Marked, in error units.
    units : str
        Error units.
    """
    data = []
    whole = ({"color": GREY, "lw": 2.2}, {"color": "black", "lw": 1.2, "ls": "--"})
    for (label, (edges, cdf)), line in zip(overall.items(), whole, strict=False):
        axes.step(edges, cdf, where="post", label=label, **line)
        data.append(series(label, error=edges, probability=cdf))
    for (label, (edges, cdf)), color in zip(
        rows.items(), (BLUE, GREEN, ORANGE, PURPLE), strict=False
    ):
        axes.step(edges, cdf, where="post", color=color, label=label)
        data.append(series(label, error=edges, probability=cdf))
    axes.axvline(threshold, color="black", lw=0.8, ls=":")
    label, (edges, cdf) = next(iter(overall.items()))
    under = float(np.interp(threshold, edges, cdf))
    logarithmic = edges[0] > 0 and edges[-1] / edges[0] > 50
    axes.set(
        xscale="log" if logarithmic else "linear", ylim=(0, 1.02),
        xlabel=with_units("error", units), ylabel="P(error ≤ x)",
        title=f"{percent(under)} of the errors of {label} are at most "
        f"{quantity(threshold, units)}",
    )  # fmt: skip
    curves = [*overall.values(), *rows.values()]
    low = min(float(edges[np.argmax(cdf > SMALLEST)]) for edges, cdf in curves)
    if logarithmic and low > 0:
        axes.set_xlim(left=low / 1.3)
        log_ticks(axes.xaxis)
    legend_below(axes)
    return data
