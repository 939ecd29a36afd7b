"""Logged errors of the training set: their distribution, trajectories, and the data map."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Floats, Integers
from ltau_cli.figures.style import (
    CHOSEN,
    GLUE,
    GREY,
    MANY,
    RED,
    Chart,
    percent,
    quantity,
    with_units,
)

SMALLEST = 0.002  # probability from which on a CDF is shown
FAN = (0.05, 0.25, 0.5, 0.75, 0.95)

Cdf = tuple[Floats, Floats]


def draw_cdf(
    chart: Chart,
    overall: Mapping[str, Cdf],
    rows: Mapping[str, Cdf],
    *,
    threshold: float,
    units: str,
) -> None:
    """Draw the CDFs of one or two whole sets and of up to four rows: edges and P(error <= edge).

    ``threshold`` is marked; like the edges, it is in error units.
    """
    axes = chart.axes
    looks: list[dict[str, Any]] = [
        {"color": GREY, "lw": 2.2},
        {"color": "black", "lw": 1.2, "ls": "--"},
    ]
    looks = looks[: len(overall)] + [{"color": color} for color in CHOSEN]
    for (label, (edges, cdf)), look in zip([*overall.items(), *rows.items()], looks, strict=False):
        chart.curve(label, {"error": edges, "probability": cdf}, drawstyle="steps-post", **look)
    axes.axvline(threshold, color="black", lw=0.8, ls=":")
    label, (edges, cdf) = next(iter(overall.items()))
    under = float(np.interp(threshold, edges, cdf))
    if edges[0] > 0 and edges[-1] / edges[0] > 50:
        low = min(
            float(x[np.argmax(y > SMALLEST)]) for _, (x, y) in [*overall.items(), *rows.items()]
        )
        axes.set(xscale="log", xlim=(low / 1.3, None))
    chart.finish(
        ylim=(0, 1.02), xlabel=with_units("error", units), ylabel="P(error ≤ x)",
        title=f"{percent(under)} of the errors of {label} are at most "
        f"{quantity(threshold, units)}",
    )  # fmt: skip


def draw_trajectories(
    chart: Chart,
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
) -> None:
    """Draw the quantile fan of the training set over the epochs, and chosen samples.

    Increasing ``epoch`` (n_epochs,), ``mean`` error (n_epochs,), quantiles ``fan`` (n_epochs, 5) at
    the levels of :data:`FAN` of ``n_drawn`` of ``n`` samples, and up to four ``rows`` (n_epochs,),
    means of ``n_runs``; error units. The first ``burn_in`` epochs are the burn-in.
    """
    axes = chart.axes
    for low, high, alpha in ((0, 4, 0.15), (1, 3, 0.3)):
        label = f"{100 * FAN[low]:.0f}–{100 * FAN[high]:.0f} %"
        axes.fill_between(
            epoch, fan[:, low], fan[:, high], color=GREY, alpha=alpha, lw=0, label=label
        )
    axes.plot(epoch, fan[:, 2], color=GREY, label="median")
    for level, values in zip(FAN, fan.T, strict=True):
        chart.keep(f"quantile {level:g}", {"epoch": epoch, "error": values})
    chart.curve("mean", {"epoch": epoch, "error": mean}, "--", color="black", lw=0.9)
    for (label, values), color in zip(rows.items(), CHOSEN, strict=False):
        chart.curve(label, {"epoch": epoch, "error": values}, color=color, lw=0.9)
    title = f"Mean error {mean[0]:.3g}{GLUE}→{GLUE}{quantity(mean[-1], units)}"
    title += f" in {len(epoch):,} epoch{'s' * (len(epoch) != 1)}"
    if 0 < burn_in < len(epoch):
        edge = (epoch[burn_in - 1] + epoch[burn_in]) / 2
        axes.axvline(edge, color="black", lw=0.8, ls=":", label="end of burn-in")
        title += f", burn-in up to epoch {epoch[burn_in - 1]:,}"
        chart.keep("burn-in", {"epoch": epoch[:burn_in], "error": mean[:burn_in]})
    if n_runs > 1:
        title += f"; mean of {n_runs} runs"
    if n_drawn < n:
        title += f"; fan of {n_drawn:,} of {n:,} samples"
    chart.finish(
        xlabel="epoch", ylabel=with_units("error", units), title=title,
        yscale="log" if (fan[:, 0] > 0).all() else "linear",
        xlim=(epoch[0], epoch[-1]) if len(epoch) > 1 else None,
    )  # fmt: skip


def draw_map(
    chart: Chart,
    mean: npt.NDArray[np.floating],
    deviation: npt.NDArray[np.floating],
    share: npt.NDArray[np.floating],
    hard: Integers,
    drawn: Integers,
    *,
    n: int,
    threshold: float,
    units: str,
) -> None:
    """Draw mean error against its variability, colored by the share of epochs under the threshold.

    All (n_samples,), in error units. The cells are made of the samples ``drawn`` (n_drawn,), those
    that stay ``hard`` (n_hard,) are marked; ``n`` samples have errors.
    """
    x, y = deviation[drawn], mean[drawn]
    shown = (x > 0) & (y > 0)
    chart.axes.set(xscale="log", yscale="log")

    names = ("sample", "deviation", "mean_error", "share_under")
    if shown.any():
        bar, centers = chart.cells(
            x[shown], y[shown], f"share of errors ≤ {quantity(threshold, units)}",
            C=share[drawn][shown], reduce_C_function=np.mean, cmap="cividis", vmin=0, vmax=1,
        )  # fmt: skip
        values = (-1, centers[:, 0], centers[:, 1], bar.mappable.get_array())
        chart.keep("cells", dict(zip(names, values, strict=True)))
    if len(hard):
        chart.axes.plot(
            deviation[hard], mean[hard], "o", mfc="none", mec=RED, ms=3.5, mew=0.8,
            label="stays hard", rasterized=len(hard) > MANY,
        )  # fmt: skip
        marked = (hard, deviation[hard], mean[hard], share[hard])
        chart.keep("stay_hard", dict(zip(names, marked, strict=True)))
    title = f"{len(hard):,} of {n:,} samples ({percent(len(hard) / max(1, n), 1)}) stay hard"
    if len(drawn) < n:
        title += f"; cells of {len(drawn):,} samples"
    chart.finish(
        xlabel=with_units("standard deviation over epochs", units),
        ylabel=with_units("mean error over epochs", units), title=title,
    )  # fmt: skip
