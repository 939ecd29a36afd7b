"""How good are the bars of some atoms?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from calibration import LEVELS

from ltau_cli.core.calibration.metrics import crps, rank_correlation, rank_within
from scorecard.cases import Floats
from scorecard.ways import BOUNDS, Bars

SLABS = 10
FIFTHS = 5  # of the rows by noise
FAR_TIMES = 2.0  # an error above this many times the 95 % quantile in domain is a large one


@dataclass(frozen=True)
class Truth:
    """What is known of the n atoms that are judged.

    Attributes
    ----------
    error, distance : (n,) float64
        True error, and relative distance from the training set, the same for every way.
    species : (n,) str
    large : (n,) bool
        Whether the error is a large one, see :data:`FAR_TIMES`.
    noise : (n,) float64
        Standard deviation of the noise of each label, nan where it is not known.
    """

    error: Floats
    distance: Floats
    species: npt.NDArray[Any]
    large: npt.NDArray[np.bool_]
    noise: Floats


def measure(bars: Bars, truth: Truth) -> dict[str, float]:
    """All measures of one set; nan where one has no meaning."""
    covered = truth.error[:, None] <= bars.bounds
    found = {}
    slabs = np.array_split(np.argsort(truth.distance, kind="stable"), SLABS)
    for i, level in enumerate(BOUNDS):
        name = f"{100 * level:g}"
        found[f"coverage_{name}"] = float(covered[:, i].mean())
        found[f"worst_slab_{name}"] = worst_slab(covered[:, i], slabs)
        found[f"width_{name}"] = float(bars.bounds[:, i].mean())
    return found | {
        "rank": or_nan(rank_correlation(bars.mean, truth.error)),
        "rank_within_species": or_nan(rank_within(bars.mean, truth.error, truth.species)),
        "auroc": auroc(bars.mean, truth.large),
        "crps": float(crps(truth.error, bars.quantiles, LEVELS).mean()),
        "predicted_over_true": float(bars.mean.mean() / truth.error.mean()),
        "nominal_90": np.nan if bars.nominal is None else float(bars.nominal),
        **by_noise(bars.mean, covered[:, 1], truth.noise),
    }


def by_noise(mean: Floats, covered: npt.NDArray[np.bool_], noise: Floats) -> dict[str, float]:
    """Coverage of the least and the most noisy fifth, and the rank correlation with the noise."""
    names = ("least_noisy_90", "most_noisy_90", "rank_of_noise")
    if not np.ptp(noise) > 0:
        return dict.fromkeys(names, np.nan)
    order = np.argsort(noise, kind="stable")
    fifths = np.array_split(covered[order], min(FIFTHS, len(order)))
    found = (fifths[0].mean(), fifths[-1].mean(), or_nan(rank_correlation(mean, noise)))
    return dict(zip(names, map(float, found), strict=True))


def worst_slab(covered: npt.NDArray[np.bool_], slabs: list[npt.NDArray[np.int64]]) -> float:
    """Smallest share that is covered in one of the slabs, each some rows."""
    return float(min(covered[slab].mean() for slab in slabs if len(slab)))


def auroc(score: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """Chance that a positive has a higher score than a negative, ties count half.

    nan where all or none are positive.
    """
    from scipy.stats import rankdata

    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    above = rankdata(score)[positive].sum() - n * (n + 1) / 2
    return float(above / (n * m))


def or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
