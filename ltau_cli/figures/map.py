"""The data map of training dynamics."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.figures.style import (
    MANY,
    RED,
    Data,
    hexagon_centers,
    legend_below,
    log_ticks,
    percent,
    quantity,
    series,
    with_units,
)


def draw(
    axes: Any,
    mean: npt.NDArray[np.floating],
    deviation: npt.NDArray[np.floating],
    share: npt.NDArray[np.floating],
    hard: npt.NDArray[np.int64],
    drawn: npt.NDArray[np.int64],
    *,
    n: int,
    threshold: float,
    units: str,
) -> Data:
    """Draw mean error against its variability, colored by the share of epochs under the threshold.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    mean, deviation, share : (n_samples,) float
        Mean and standard deviation of each sample's error over the epochs (error units), and the
        share of its errors under the threshold.
    hard : (n_hard,) int64
        Samples that stay hard; they are marked.
    drawn : (n_drawn,) int64
        Samples that the cells are made of.
    n : int
        Samples with errors.
    threshold : float
        Error units.
    units : str
        Error units.
    """
    data: Data = []
    x, y = deviation[drawn], mean[drawn]
    shown = (x > 0) & (y > 0)
    axes.set(xscale="log", yscale="log")
    if shown.any():
        cells = axes.hexbin(
            x[shown], y[shown], C=share[drawn][shown], reduce_C_function=np.mean, xscale="log",
            yscale="log", gridsize=40, lw=0.1, cmap="cividis", vmin=0, vmax=1,
        )  # fmt: skip
        label = f"share of errors ≤ {quantity(threshold, units)}"
        axes.figure.colorbar(cells, ax=axes, label=label, pad=0.02)
        centers = hexagon_centers(cells)
        data.append(
            series(
                "cells", sample=-1, deviation=centers[:, 0], mean_error=centers[:, 1],
                share_under=cells.get_array(),
            )
        )  # fmt: skip
    if len(hard):
        axes.plot(
            deviation[hard], mean[hard], "o", mfc="none", mec=RED, ms=3.5, mew=0.8,
            label="stays hard", rasterized=len(hard) > MANY,
        )  # fmt: skip
        data.append(
            series(
                "stay_hard", sample=hard, deviation=deviation[hard],
                mean_error=mean[hard], share_under=share[hard],
            )
        )  # fmt: skip
        legend_below(axes)
    share_marked = percent(len(hard) / max(1, n), 1)
    title = f"{len(hard):,} of {n:,} samples ({share_marked}) stay hard"
    if len(drawn) < n:
        title += f"; cells of {len(drawn):,} samples"
    if shown.any():
        log_ticks(axes.xaxis)
        log_ticks(axes.yaxis)
    axes.set(
        xlabel=with_units("standard deviation over epochs", units),
        ylabel=with_units("mean error over epochs", units), title=title,
    )  # fmt: skip
    return data
