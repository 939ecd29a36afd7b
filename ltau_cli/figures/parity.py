"""Expected against true error."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.figures.style import GREY, ORANGE, new_figure, with_units


def draw(
    expected: npt.NDArray[np.float64],
    true: npt.NDArray[np.float64],
    *,
    rank_correlation: float | None,
    units: str,
) -> Any:
    """Draw a log-log density of expected (n,) against true error (n,), with the binned mean.

    Returns
    -------
    matplotlib.figure.Figure
    """
    shown = (expected > 0) & (true > 0)
    x, y = expected[shown], true[shown]
    with new_figure() as (figure, axes):
        axes.set(xscale="log", yscale="log")
        if len(x):
            low = min(np.quantile(x, 0.001), np.quantile(y, 0.005)) / 1.3
            high = max(x.max(), y.max()) * 1.3
            cells = axes.hexbin(
                x, y, xscale="log", yscale="log", gridsize=40, mincnt=1, bins="log", vmin=0.3,
                lw=0.1, cmap="Blues", extent=(*np.log10([low, high]), *np.log10([low, high])),
            )  # fmt: skip
            figure.colorbar(cells, ax=axes, label="rows", pad=0.02)
            axes.plot([low, high], [low, high], color=GREY, lw=0.8, label="equal")
            parts = np.array_split(np.argsort(x, kind="stable"), min(12, len(x)))
            axes.plot(
                [x[part].mean() for part in parts], [y[part].mean() for part in parts],
                "o-", color=ORANGE, ms=3.5, label="mean of true error",
            )  # fmt: skip
            axes.set(xlim=(low, high), ylim=(low, high))
            axes.legend(loc="upper left", fontsize=7)
        rank = "not defined" if rank_correlation is None else f"{rank_correlation:.2f}"
        axes.set(
            xlabel=with_units("expected error", units),
            ylabel=with_units("true error", units),
            title=f"Rank correlation {rank} over {len(expected):,} rows",
        )
        return figure
