"""Error against epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.figures.style import (
    BLUE,
    GLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    Data,
    Floats,
    legend_below,
    log_ticks,
    quantity,
    series,
    with_units,
)

FAN = (0.05, 0.25, 0.5, 0.75, 0.95)


def draw(
    axes: Any,
    epoch: npt.NDArray[np.integer],
    mean: Floats,
    fan: Floats,
    rows: Mapping[str, Floats],
    *,
    burn_in: int,
    n: int,
    n_drawn: int,
    n_runs: int,
    units: str,
) -> Data:
    """Draw the quantile fan of the training set over the epochs, and chosen samples.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    epoch : (n_epochs,) int
        Increasing.
    mean : (n_epochs,) float64
        Mean error over the training set (error units).
    fan : (n_epochs, 5) float64
        Error quantiles over the training set at the levels of :data:`FAN`.
    rows : mapping of label to (n_epochs,) float64
        Up to four samples.
    burn_in : int
        Epochs of the burn-in.
    n, n_drawn : int
        Samples, and those that the fan is made of.
    n_runs : int
        Training runs; errors of a sample are their mean.
    units : str
        Error units.
    """
    data = []
    for low, high, alpha in ((0, 4, 0.15), (1, 3, 0.3)):
        label = f"{100 * FAN[low]:.0f}–{100 * FAN[high]:.0f} %"
        axes.fill_between(
            epoch, fan[:, low], fan[:, high], color=GREY, alpha=alpha, lw=0, label=label
        )
    axes.plot(epoch, fan[:, 2], color=GREY, label="median")
    axes.plot(epoch, mean, color="black", ls="--", lw=0.9, label="mean")
    for level, values in zip(FAN, fan.T, strict=True):
        data.append(series(f"quantile {level:g}", epoch=epoch, error=values))
    data.append(series("mean", epoch=epoch, error=mean))
    for (label, values), color in zip(rows.items(), (BLUE, GREEN, ORANGE, PURPLE), strict=False):
        axes.plot(epoch, values, color=color, lw=0.9, label=label)
        data.append(series(label, epoch=epoch, error=values))
    title = f"Mean error {mean[0]:.3g}{GLUE}→{GLUE}{quantity(mean[-1], units)}"
    title += f" in {len(epoch):,} epoch{'s' * (len(epoch) != 1)}"
    if 0 < burn_in < len(epoch):
        edge = (epoch[burn_in - 1] + epoch[burn_in]) / 2
        axes.axvline(edge, color="black", lw=0.8, ls=":", label="end of burn-in")
        title += f", burn-in up to epoch {epoch[burn_in - 1]:,}"
        data.append(series("burn-in", epoch=epoch[:burn_in], error=mean[:burn_in]))
    if n_runs > 1:
        title += f"; mean of {n_runs} runs"
    if n_drawn < n:
        title += f"; fan of {n_drawn:,} of {n:,} samples"
    logarithmic = bool((fan[:, 0] > 0).all())
    axes.set(
        xlabel="epoch", ylabel=with_units("error", units), title=title,
        yscale="log" if logarithmic else "linear",
        xlim=(epoch[0], epoch[-1]) if len(epoch) > 1 else None,
    )  # fmt: skip
    if logarithmic:
        log_ticks(axes.yaxis)
    legend_below(axes)
    return data
