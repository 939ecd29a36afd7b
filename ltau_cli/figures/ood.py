"""How far from the training set: distributions of neighbor distances, and the ROC curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.figures.style import (
    BLUE,
    GREY,
    SERIES,
    Data,
    Floats,
    legend_below,
    log_ticks,
    percent,
    series,
)

N_BINS = 50
MOST_NAMED = 3  # files in a title


def draw(
    axes: Any,
    training: npt.NDArray[np.floating],
    files: Mapping[str, npt.NDArray[np.floating]],
    shares: Mapping[str, float],
    *,
    line: float | None,
    pvalue: float,
) -> Data:
    """Draw the distribution of neighbor distances of the training set and of each scored file.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    training : (n_samples,) float
        Leave-one-out distances.
    files : mapping of label to (n_queries,) float
        Neighbor distances.
    shares : mapping of label to float
        Share of the rows of each file with a p-value below ``pvalue``.
    line : float or None
        Rows beyond it have a p-value below ``pvalue``.
    pvalue : float
    """
    sets = {"training set (leave-one-out)": training, **files}
    positive = [values[values > 0] for values in sets.values()]
    least = min((float(v.min()) for v in positive if len(v)), default=1.0)
    most = max((float(v.max()) for v in positive if len(v)), default=1.0)
    edges = np.geomspace(least * (1 - 1e-6), max(most, least * 1.001) * (1 + 1e-6), N_BINS + 1)
    data = []
    for i, (label, values) in enumerate(sets.items()):
        color = GREY if i == 0 else SERIES[(i - 1) % len(SERIES)]
        dashes = "-" if i <= len(SERIES) else "--"
        counts, _ = np.histogram(np.maximum(values, edges[0]), edges)
        share = 100 * counts / len(values)
        axes.stairs(
            share, edges, color=color, fill=i == 0, alpha=0.4 if i == 0 else 1, lw=1.2,
            ls=dashes, label=label,
        )  # fmt: skip
        data.append(series(label, distance_from=edges[:-1], distance_to=edges[1:], percent=share))
    if line is not None:
        axes.axvline(line, color="black", lw=0.8, ls=":", label=f"p = {pvalue:g}")
        data.append(series(f"p = {pvalue:g}", distance_from=line, distance_to=line, percent=0))
    told = ", ".join(f"{percent(share, 1)} of {name}" for name, share in shares.items())
    if len(shares) > MOST_NAMED:
        least_share, most_share = min(shares.values()), max(shares.values())
        told = f"{100 * least_share:.1f} to {percent(most_share, 1)} of {len(shares)} files"
    axes.set(
        xscale="log", xlabel="neighbor distance (descriptor units)", ylabel="rows per bin (%)",
        title=f"Out of domain (p < {pvalue:g}): {told}",
    )  # fmt: skip
    axes.set_ylim(bottom=0)
    log_ticks(axes.xaxis)
    legend_below(axes)
    return data


def draw_roc(axes: Any, false: Floats, true: Floats, *, auc: float, n: int) -> Data:
    """Draw the ROC curve of the p-value against the user's labels.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    false, true : (n_points,) float64
        Share of the in-domain and of the out-of-domain rows that are flagged.
    auc : float
        Area under the curve.
    n : int
        Rows.
    """
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8)
    axes.step(false, true, where="post", color=BLUE)
    axes.set(
        xlim=(0, 1), ylim=(0, 1.02), xlabel="in-domain rows flagged (share)",
        ylabel="out-of-domain rows\nflagged (share)",
        title=f"ROC AUC {auc:.3f} of the p-value over {n:,} rows",
    )  # fmt: skip
    return [series("roc", false_positive_rate=false, true_positive_rate=true)]
