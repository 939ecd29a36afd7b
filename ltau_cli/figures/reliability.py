"""Predicted against observed probability."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.figures.style import BLUE, GREY, ORANGE, new_figure, with_units

Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]


def draw(
    before: Curve,
    after: Curve,
    *,
    threshold: float,
    scale: float,
    errors: tuple[float, float],
    units: str,
) -> Any:
    """Draw the reliability diagram of P(error > threshold), before and after calibration.

    Parameters
    ----------
    before, after : (predicted, observed, n)
        Per bin: probabilities and number of rows.
    threshold : float
        In error units.
    scale : float
        Of the threshold after calibration.
    errors : (float, float)
        Expected calibration error before and after.
    units : str
        Error units.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with new_figure() as (figure, axes):
        line = np.linspace(0, 1, 101)
        n = max(1, int(np.median(after[2])))
        band = 1.96 * np.sqrt(line * (1 - line) / n)
        axes.fill_between(
            line, np.clip(line - band, 0, 1), np.clip(line + band, 0, 1),
            color=GREY, alpha=0.15, lw=0, label=f"95 % of {n:,} rows",
        )  # fmt: skip
        axes.plot(line, line, color=GREY, lw=0.8)
        value = with_units(f"{threshold:.3g}", "") + (f" {units}" if units else "")
        axes.plot(before[0], before[1], "o-", color=ORANGE, ms=3.5, label=f"error > {value}")
        axes.plot(
            after[0], after[1], "s-", color=BLUE, ms=3.5, label=f"error > {scale:.2f} × {value}"
        )
        axes.set(
            xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability", ylabel="observed share",
            title=f"Calibration error {errors[0]:.3f} before, {errors[1]:.3f} after",
        )  # fmt: skip
        axes.legend(loc="upper left", fontsize=7)
        return figure
