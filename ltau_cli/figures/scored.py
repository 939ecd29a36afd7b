"""Scored rows: their distances from the training set, and errors along a trajectory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Bools, Floats, Integers
from ltau_cli.figures.style import (
    BLUE,
    GLUE,
    GREY,
    MANY,
    RED,
    SERIES,
    Chart,
    percent,
    quantity,
    with_units,
)

BINS = 50
MOST_NAMED = 3  # files in a title


def draw_distances(
    chart: Chart,
    training: npt.NDArray[np.floating],
    files: Mapping[str, npt.NDArray[np.floating]],
    shares: Mapping[str, float],
    *,
    line: float | None,
    pvalue: float,
    rule: str,
) -> None:
    """Draw the distribution of neighbor distances of the training set and of each scored file.

    ``shares`` of the rows of each file are flagged by ``rule``. Beyond ``line`` p is below
    ``pvalue``.
    """
    sets = {"training set (leave-one-out)": training, **files}
    positive = [values[values > 0] for values in sets.values()]
    least = min((float(v.min()) for v in positive if len(v)), default=1.0)
    most = max((float(v.max()) for v in positive if len(v)), default=1.0)
    edges = np.geomspace(least * (1 - 1e-6), max(most, least * 1.001) * (1 + 1e-6), BINS + 1)
    for i, (label, values) in enumerate(sets.items()):
        color = GREY if i == 0 else SERIES[(i - 1) % len(SERIES)]
        counts, _ = np.histogram(np.maximum(values, edges[0]), edges)
        share = 100 * counts / len(values)
        chart.axes.stairs(
            share, edges, color=color, fill=i == 0, alpha=0.4 if i == 0 else 1, lw=1.2,
            ls="-" if i <= len(SERIES) else "--", label=label,
        )  # fmt: skip
        chart.keep(label, {"distance_from": edges[:-1], "distance_to": edges[1:], "percent": share})
    if line is not None:
        label = f"p = {pvalue:g}"
        chart.axes.axvline(line, color="black", lw=0.8, ls=":", label=label)
        chart.keep(label, {"distance_from": line, "distance_to": line, "percent": 0})
    told = ", ".join(f"{percent(share, 1)} of {name}" for name, share in shares.items())
    if len(shares) > MOST_NAMED:
        low, high = min(shares.values()), max(shares.values())
        told = f"{100 * low:.1f} to {percent(high, 1)} of {len(shares)} files"
    chart.finish(
        xscale="log", xlabel="neighbor distance (descriptor units)", ylabel="rows per bin (%)",
        ylim=(0, None), title=f"Out of domain ({rule}): {told}",
    )  # fmt: skip


def draw_roc(chart: Chart, false: Floats, true: Floats, *, auc: float, n: int) -> None:
    """Draw the ROC curve of the p-value against the labels of ``n`` rows.

    ``false`` and ``true`` (n_points,) are the shares of the in-domain and of the out-of-domain rows
    that are flagged.
    """
    chart.axes.plot([0, 1], [0, 1], color=GREY, lw=0.8)
    chart.axes.step(false, true, where="post", color=BLUE)
    chart.keep("roc", {"false_positive_rate": false, "true_positive_rate": true})
    chart.finish(
        xlim=(0, 1), ylim=(0, 1.02), xlabel="in-domain rows flagged (share)",
        ylabel="out-of-domain rows\nflagged (share)",
        title=f"ROC AUC {auc:.3f} of the p-value over {n:,} rows",
    )  # fmt: skip


@dataclass(frozen=True)
class Trace:
    """The median and largest error of the atoms of each frame of one trajectory, error units."""

    name: str
    frame: Integers
    median: Floats
    worst: Floats

    def above(self, threshold: float) -> Bools:
        """Frames whose worst atom is above the threshold, (n,) bool."""
        return self.worst > threshold

    def crossings(self, threshold: float) -> Floats:
        """Frames at which the line of the worst atoms goes through the threshold."""
        after = np.flatnonzero(np.diff(self.above(threshold).astype(np.int8))) + 1
        low, high = self.worst[after - 1], self.worst[after]
        step = (threshold - low) / (high - low)
        return np.asarray(self.frame[after - 1] + step * np.diff(self.frame)[after - 1])


def draw_traces(
    chart: Chart, traces: Sequence[Trace], *, threshold: float, label: str, unit: str, units: str
) -> None:
    """Draw the median and the worst atom of each frame, and where the worst crosses the threshold.

    ``label`` is what is drawn, ``unit`` is ``frame``, or ``row`` where nothing says which rows
    belong together.
    """
    axes, alone = chart.axes, len(traces) == 1
    many = sum(len(trace.frame) for trace in traces) > MANY
    for i, trace in enumerate(traces):
        look = {"color": SERIES[i % len(SERIES)], "rasterized": many}
        name = "" if alone else f"{trace.name}, "
        if unit == "frame":
            axes.plot(trace.frame, trace.worst, label=f"{name}worst atom", **look)
            axes.plot(trace.frame, trace.median, ls="--", lw=0.9, label=f"{name}median", **look)
        else:
            axes.plot(trace.frame, trace.worst, label=trace.name, **look)
        above = trace.above(threshold).astype(np.int64)
        columns = {"frame": trace.frame, "median": trace.median, "worst": trace.worst}
        chart.keep(trace.name, columns | {"above": above})
        at = trace.crossings(threshold)
        if len(at):
            chart.keep(f"{trace.name}, crossings", {"frame": at, "worst": threshold})
    crossed = np.concatenate([trace.crossings(threshold) for trace in traces])
    if len(crossed):
        axes.plot(
            crossed, np.full(len(crossed), threshold), "o", mfc="white", mec=RED, ms=3.5, mew=0.9,
            zorder=3, label="crossing", rasterized=len(crossed) > MANY,
        )  # fmt: skip
    axes.axhline(threshold, color="black", lw=0.8, ls=":", label=quantity(threshold, units))
    values = np.concatenate([np.concatenate([t.median, t.worst]) for t in traces])
    logarithmic = bool(values.min() > 0 and values.max() / values.min() > 30)
    axes.xaxis.get_major_locator().set_params(integer=True)
    chart.finish(
        xlabel=unit, ylabel=with_units(label, units), yscale="log" if logarithmic else "linear",
        ylim=None if logarithmic else (0, None), title=_title(traces, threshold, unit, units),
    )  # fmt: skip


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
