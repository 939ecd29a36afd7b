"""Uncertainty along the frames of a trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.figures.style import (
    GLUE,
    MANY,
    RED,
    SERIES,
    Data,
    Floats,
    legend_below,
    log_ticks,
    percent,
    quantity,
    series,
    with_units,
)

MOST_NAMED = 3  # files in a title


@dataclass(frozen=True)
class Trace:
    """One scored trajectory.

    Attributes
    ----------
    name : str
    frame : (n,) int64
        Increasing.
    median, worst : (n,) float64
        Median and largest uncertainty of the frame's atoms, in error units.
    """

    name: str
    frame: npt.NDArray[np.int64]
    median: Floats
    worst: Floats

    def above(self, threshold: float) -> npt.NDArray[np.bool_]:
        """Frames whose worst atom is above the threshold, (n,) bool."""
        return self.worst > threshold

    def crossings(self, threshold: float) -> Floats:
        """Frames at which the line of the worst atoms goes through the threshold."""
        after = np.flatnonzero(np.diff(self.above(threshold).astype(np.int8))) + 1
        low, high = self.worst[after - 1], self.worst[after]
        step = (threshold - low) / (high - low)
        return np.asarray(self.frame[after - 1] + step * np.diff(self.frame)[after - 1])


def draw(
    axes: Any, traces: Sequence[Trace], *, threshold: float, label: str, unit: str, units: str
) -> Data:
    """Draw the median and the worst atom of each frame, and where the worst crosses the threshold.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    traces : sequence of Trace
    threshold : float
        In error units.
    label : str
        What is drawn, such as ``calibrated error``.
    unit : str
        ``frame``, or ``row`` where nothing says which rows belong together.
    units : str
        Error units.
    """
    data = []
    crossings = []
    many = sum(len(trace.frame) for trace in traces) > MANY
    for i, trace in enumerate(traces):
        color = SERIES[i % len(SERIES)]
        alone = len(traces) == 1
        name = "" if alone else f"{trace.name}, "
        if unit == "frame":
            axes.plot(
                trace.frame, trace.worst, color=color, label=f"{name}worst atom", rasterized=many
            )
            axes.plot(
                trace.frame, trace.median, color=color, ls="--", lw=0.9, label=f"{name}median",
                rasterized=many,
            )  # fmt: skip
        else:
            axes.plot(trace.frame, trace.worst, color=color, label=trace.name, rasterized=many)
        at = trace.crossings(threshold)
        crossings.append(at)
        data.append(
            series(
                trace.name, frame=trace.frame, median=trace.median, worst=trace.worst,
                above=trace.above(threshold).astype(np.int64),
            )
        )  # fmt: skip
        if len(at):
            data.append(series(f"{trace.name}, crossings", frame=at, worst=threshold))
    crossed = np.concatenate(crossings)
    if len(crossed):
        axes.plot(
            crossed, np.full(len(crossed), threshold), "o", mfc="white", mec=RED, ms=3.5, mew=0.9,
            zorder=3, label="crossing", rasterized=len(crossed) > MANY,
        )  # fmt: skip
    axes.axhline(threshold, color="black", lw=0.8, ls=":", label=quantity(threshold, units))
    values = np.concatenate([np.concatenate([t.median, t.worst]) for t in traces])
    logarithmic = bool(values.min() > 0 and values.max() / values.min() > 30)
    axes.set(
        xlabel=unit, ylabel=with_units(label, units), yscale="log" if logarithmic else "linear",
        title=_title(traces, threshold, unit, units),
    )  # fmt: skip
    axes.xaxis.get_major_locator().set_params(integer=True)
    if logarithmic:
        log_ticks(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)
    legend_below(axes)
    return data


def _title(traces: Sequence[Trace], threshold: float, unit: str, units: str) -> str:
    what = "Worst atom" if unit == "frame" else "Error"
    told = []
    for trace in traces:
        above = trace.above(threshold)
        of = f" of {trace.name}" if len(traces) > 1 else ""
        told.append(f"{above.sum():,} of {len(above):,} {unit}s{of}")
    if len(traces) > MOST_NAMED:
        shares = [trace.above(threshold).mean() for trace in traces]
        told = [
            f"{100 * min(shares):.0f} to {percent(max(shares))} of the {unit}s of "
            f"{len(traces)} files"
        ]
    title = f"{what} above {quantity(threshold, units)} in " + ", ".join(told)
    if len(traces) == 1 and traces[0].above(threshold).any():
        first = traces[0].frame[np.argmax(traces[0].above(threshold))]
        title += f", first in{GLUE}{unit}{GLUE}{first:,}"
    return title
