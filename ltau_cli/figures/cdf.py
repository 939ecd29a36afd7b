"""Error CDFs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.figures.style import BLUE, GREEN, GREY, ORANGE, RED, new_figure, with_units

Floats = npt.NDArray[np.float64]


def draw(
    edges: Floats, overall: Floats, rows: Mapping[str, Floats], *, threshold: float, units: str
) -> Any:
    """Draw the CDF of the whole set and of chosen rows.

    Parameters
    ----------
    edges : (n_edges,) float64
        Error units.
    overall : (n_edges,) float64
        P(error <= edge) over everything.
    rows : mapping of label to (n_edges,) float64
        Up to four CDFs.
    threshold : float
        Marked, in error units.
    units : str
        Error units.

    Returns
    -------
    matplotlib.figure.Figure
    """
    logarithmic = edges[0] > 0 and edges[-1] / edges[0] > 50
    with new_figure() as (figure, axes):
        axes.step(edges, overall, where="post", color=GREY, lw=2.2, alpha=0.6, label="all")
        for (label, cdf), color in zip(rows.items(), (BLUE, GREEN, ORANGE, RED), strict=False):
            axes.step(edges, cdf, where="post", color=color, label=label)
        axes.axvline(threshold, color="black", lw=0.8, ls=":")
        under = float(np.interp(threshold, edges, overall))
        value = f"{threshold:.3g}" + (f" {units}" if units else "")
        axes.set(
            xscale="log" if logarithmic else "linear", ylim=(0, 1.02),
            xlabel=with_units("error", units), ylabel="P(error ≤ x)",
            title=f"{100 * under:.0f} % of the errors are below {value}",
        )  # fmt: skip
        figure.legend(loc="outside lower center", ncols=2, fontsize=7)
        return figure
