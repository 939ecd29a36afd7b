"""Predicted beside true errors: parity, reliability, sparsification, coverage."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Floats, Integers
from ltau_cli.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SERIES,
    SKY,
    Chart,
    arrow,
    percent,
    quantity,
    with_units,
)
from ltau_cli.results import Metrics

MEANS = 12  # bins of a parity figure
POINTS = 200  # of a sparsification curve
MOST_GROUPS = 4  # of a reliability figure
SHOWN_LEVEL = "0.9"  # in titles
FEW_ROWS = 20  # parts with fewer say nothing in the title
_GROUP_COLORS = (GREEN, PURPLE, SKY, RED)
_MARKERS = "os^Dv<"

Curve = tuple[Floats, Floats, Integers]


def draw_parity(
    chart: Chart,
    expected: Floats,
    true: Floats,
    *,
    plain: Floats | None,
    rank_correlation: float | None,
    units: str,
) -> None:
    """Draw a log-log density of expected (n,) against true error (n,), with the binned mean.

    ``plain`` are the expected errors (n,) before calibration, where ``expected`` is calibrated:
    their binned mean is drawn too. All in error units.
    """
    shown = (expected > 0) & (true > 0) & np.isfinite(expected)
    x, y = expected[shown], true[shown]
    chart.axes.set(xscale="log", yscale="log")
    if len(x):
        low = min(np.quantile(x, 0.001), np.quantile(y, 0.005)) / 1.3
        high = max(x.max(), y.max()) * 1.3
        bar, centers = chart.cells(
            x, y, "rows", mincnt=1, bins="log", vmin=0.3, cmap="Blues",
            extent=(*np.log10([low, high]), *np.log10([low, high])),
        )  # fmt: skip
        bar.ax.set_ylim(bottom=0.9)  # lighter colors stand for less than one row
        chart.axes.plot([low, high], [low, high], color=GREY, lw=0.8)
        rows = bar.mappable.get_array()
        chart.keep("density", {"expected": centers[:, 0], "true": centers[:, 1], "rows": rows})
        _draw_mean(chart, expected, true, "binned mean", "o-", ORANGE)
        if plain is not None:
            _draw_mean(chart, plain, true, "binned mean before calibration", ".--", RED)
        chart.axes.set(xlim=(low, high), ylim=(low, high))
        chart.axes.set_box_aspect(1)
    label = "expected error" if plain is None else "calibrated error"
    rank = "not defined" if rank_correlation is None else f"{rank_correlation:.2f}"
    chart.finish(
        xlabel=with_units(label, units),
        ylabel=with_units("true error", units),
        title=f"Rank correlation {rank} over {len(expected):,} rows; mean error "
        f"{quantity(true.mean(), units)}, predicted {quantity(expected.mean(), units)}",
    )


def _draw_mean(
    chart: Chart, expected: Floats, true: Floats, name: str, marker: str, color: str
) -> None:
    """Draw the mean true error of rows with similar expected error."""
    parts = np.array_split(np.argsort(expected, kind="stable"), min(MEANS, len(expected)))
    columns = {
        "expected": [expected[part].mean() for part in parts],
        "true": [true[part].mean() for part in parts],
        "rows": [len(part) for part in parts],
    }
    chart.curve(name, columns, marker, color=color, ms=3.5)


def draw_thresholds(
    chart: Chart,
    before: Curve,
    after: Curve | None,
    groups: Mapping[str, Curve],
    *,
    threshold: float,
    errors: tuple[float, float | None],
    units: str,
) -> None:
    """Draw P(error > threshold) against what happened, before and after calibration.

    Curves hold the probabilities and the rows of each bin; those of ``groups`` are after
    calibration if there is one. ``errors`` are the expected calibration errors before and after.
    """
    _draw_diagonal(chart, max(1, int(np.median(before[2]))))
    curves = {"before calibration" if after else "without calibration": (before, "o-", ORANGE, 1.2)}
    if after:
        curves["after calibration"] = (after, "s-", BLUE, 1.2)
    for (name, curve), color in zip(groups.items(), _GROUP_COLORS, strict=False):
        curves[name] = (curve, ".-", color, 0.8)
    for name, ((predicted, observed, rows), marker, color, width) in curves.items():
        columns = {"predicted": predicted, "observed": observed, "rows": rows}
        chart.curve(name, columns, marker, color=color, ms=3.5, lw=width, clip_on=False)
    value = quantity(threshold, units)
    chart.finish(
        xlim=(0, 1), ylim=(0, 1), xlabel=f"predicted P(error > {value})", ylabel="observed share",
        title=f"Calibration error of P(error > {value}): {arrow(*errors)}",
    )  # fmt: skip


def draw_intervals(
    chart: Chart,
    plain: tuple[Floats, Floats],
    after: tuple[Floats, Floats] | None,
    groups: Mapping[str, tuple[Floats, Floats]],
    *,
    n: int,
    areas: tuple[float, float | None],
) -> None:
    """Draw the share of errors under predicted quantiles against the quantiles' levels.

    ``plain``, ``after`` (of the calibrated distribution) and ``groups`` are levels and observed
    shares of ``n`` rows, ``areas`` the miscalibration areas before and after.
    """
    axes = chart.axes
    _draw_diagonal(chart, n)
    levels, observed = (np.concatenate([[0.0], values, [1.0]]) for values in plain)
    name = "before calibration" if after else "plain quantiles"
    axes.fill_between(levels, levels, observed, color=ORANGE, alpha=0.12, lw=0)
    axes.plot(levels, observed, "-", color=ORANGE, lw=0.8)
    chart.curve(
        name, {"predicted": plain[0], "observed": plain[1]}, "o", color=ORANGE, ms=3.5,
        clip_on=False, label=f"{name}, area {areas[0]:.3f}",
    )  # fmt: skip
    curves: list[tuple[str, tuple[Floats, Floats], dict[str, Any]]] = []
    if after:
        axes.fill_between(after[0], after[0], after[1], color=BLUE, alpha=0.25, lw=0)
        label = f"after calibration, area {areas[1]:.3f}"
        curves.append(("after calibration", after, {"color": BLUE, "label": label}))
    for (name, curve), color in zip(groups.items(), _GROUP_COLORS, strict=False):
        curves.append((name, curve, {"color": color, "lw": 0.8}))
    for name, (predicted, share), look in curves:
        chart.curve(name, {"predicted": predicted, "observed": share}, **look)
    chart.finish(
        xlim=(0, 1), ylim=(0, 1), xlabel="level of the predicted quantile",
        ylabel="share of errors under it", title=f"Miscalibration area {arrow(*areas)}",
    )  # fmt: skip


def _draw_diagonal(chart: Chart, n: int) -> None:
    """Draw where a calibrated prediction lies, and 95 % of those that rest on ``n`` rows."""
    line = np.linspace(0, 1, 101)
    band = 1.96 * np.sqrt(line * (1 - line) / n)
    low, high = np.clip(line - band, 0, 1), np.clip(line + band, 0, 1)
    name = f"95 % by chance ({n:,} rows)"
    chart.axes.fill_between(line, low, high, color=GREY, alpha=0.2, lw=0, label=name)
    chart.axes.plot(line, line, color=GREY, lw=0.8)
    chart.keep(f"{name}, low", {"predicted": line, "observed": low})
    chart.keep(f"{name}, high", {"predicted": line, "observed": high})


def draw_sparsification(
    chart: Chart, own: Floats, oracle: Floats, *, ause: float, label: str, units: str
) -> None:
    """Draw the sparsification curve beside the oracle's and a random order's.

    ``own`` and ``oracle`` (n,) are the mean errors after 0, 1, ..., n - 1 rows were removed by
    ``label``, and by the true error (error units); ``ause`` is the area between.
    """
    n = len(own)
    at = np.unique(np.linspace(0, n - 1, min(n, POINTS)).astype(np.int64))
    removed = 100 * at / n
    chart.axes.fill_between(removed, oracle[at], own[at], color=BLUE, alpha=0.12, lw=0)
    for name, values, color, line in (
        ("random", np.full(len(at), own[0]), GREY, "--"),
        (f"by {label}", own[at], BLUE, "-"),
        ("oracle (by true error)", oracle[at], GREEN, "-"),
    ):
        chart.curve(name, {"removed_percent": removed, "mean_error": values}, line, color=color)
    half = own[n // 2] / own[0] - 1 if own[0] > 0 else 0.0
    chart.finish(
        xlim=(0, 100), xlabel="most uncertain rows removed (%)",
        ylabel=with_units("mean error of the rest", units), ylim=(0, None),
        title=f"AUSE {ause:.3f}; without the most uncertain half the mean error is "
        f"{percent(abs(half))} {'lower' if half <= 0 else 'higher'}",
    )  # fmt: skip


def draw_coverage(chart: Chart, parts: Mapping[str, Metrics], levels: Sequence[str]) -> None:
    """Draw the share of true errors under each bound in each part of the rows, the first being all.

    A bar shows where 95 % of as many rows lie by chance.
    """
    x, n = np.arange(len(parts)), np.array([part.n_rows for part in parts.values()])
    for i, level in enumerate(levels):
        color, p = SERIES[i % len(SERIES)], float(level)
        covered = np.array([part.coverage[level] for part in parts.values()])
        spread = 1.96 * np.sqrt(p * (1 - p) / n)
        shifted = x + 0.12 * (i - (len(levels) - 1) / 2)
        chart.axes.axhline(p, color=color, lw=0.6, ls=":")
        chart.axes.vlines(
            shifted, np.maximum(p - spread, 0), np.minimum(p + spread, 1),
            color=color, lw=3, alpha=0.3,
        )  # fmt: skip
        _draw_level(chart, i, level, shifted, covered, clip_on=False)
        chart.keep(f"{level} bound", {"part": list(parts), "rows": n, "coverage": covered})
    shown = SHOWN_LEVEL if SHOWN_LEVEL in levels else levels[-1]
    whole, *others = parts.values()
    rest = [part.coverage[shown] for part in others if part.n_rows >= FEW_ROWS]
    title = f"The {percent(float(shown))} bound covers {percent(whole.coverage[shown], 1)} of "
    title += f"{n[0]:,} rows"
    if rest:
        title += f", {100 * min(rest):.0f} to {percent(max(rest))} of each part"
        title += f" of {FEW_ROWS} rows or more"
    _finish_parts(chart, parts, ylim=(0, 1), ylabel="share under the bound", title=title)


def draw_width(
    chart: Chart, parts: Mapping[str, Metrics], levels: Sequence[str], *, units: str
) -> None:
    """Draw the mean bound of each level in each part of the rows, and the mean true error."""
    x, n = np.arange(len(parts)), np.array([part.n_rows for part in parts.values()])
    for i, level in enumerate(levels):
        width = np.array([part.mean_width[level] for part in parts.values()])
        _draw_level(chart, i, level, x, width)
        chart.keep(f"{level} bound", {"part": list(parts), "rows": n, "width": width})
    true = np.array([part.mean_true_error for part in parts.values()])
    chart.axes.plot(x, true, "_", color="black", ms=9, mew=1.5, label="mean true error")
    chart.keep("mean true error", {"part": list(parts), "rows": n, "width": true})
    shown = SHOWN_LEVEL if SHOWN_LEVEL in levels else levels[-1]
    whole = next(iter(parts.values()))
    _finish_parts(
        chart, parts, ylabel=with_units("mean bound", units), ylim=(0, None),
        title=f"Mean {percent(float(shown))} bound {quantity(whole.mean_width[shown], units)}, "
        f"mean true error {quantity(true[0], units)}",
    )  # fmt: skip


def _draw_level(chart: Chart, i: int, level: str, x: Array, y: Floats, **look: Any) -> None:
    chart.axes.plot(
        x, y, _MARKERS[i % len(_MARKERS)], color=SERIES[i % len(SERIES)], ms=3.5,
        label=f"{100 * float(level):g} % bound", **look,
    )  # fmt: skip


def _finish_parts(chart: Chart, parts: Mapping[str, Metrics], **properties: Any) -> None:
    """Name the parts below the axis."""
    labels = [f"{name} ({part.n_rows:,})" for name, part in parts.items()]
    chart.axes.set_xticks(
        range(len(parts)), labels, rotation=40, ha="right", rotation_mode="anchor", fontsize="small"
    )
    limits = (-0.5, len(parts) - 0.5)
    chart.finish(xlim=limits, xlabel="part (rows); r: relative distance", **properties)
