"""Training dynamics: how the error of each sample behaved over the epochs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ltau_cli.array_types import Bools, Floats, Singles

HARD = 2.0  # mean error of what stays hard, in medians of the training set
STEADY = 0.5  # its deviation over its mean, in medians of the training set
RARELY = 0.05  # its share of epochs under the threshold, at most
CONVERGED = 2.0  # the burn-in ends where the mean error stays below this many times its last value


@dataclass(frozen=True)
class Dynamics:
    """Statistics of n samples over their epochs; NaN for a sample that was never logged."""

    # (n,): mean and standard deviation over the epochs, in error units
    mean_error: Singles
    deviation: Singles
    # (n,): share of the logged errors that are at most the threshold
    share_under: Singles

    def __len__(self) -> int:
        return len(self.mean_error)


def summarize_dynamics(errors: Singles, threshold: float) -> Dynamics:
    """Take the statistics of a block of samples, (n_epochs, n) float32; NaN is left out."""
    there = ~np.isnan(errors)
    n = there.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of a sample without errors
        mean = np.where(there, errors, 0).sum(axis=0, dtype=np.float64) / n
        square = np.where(there, (errors - mean) ** 2, 0).sum(axis=0) / n
        under = (errors <= threshold).sum(axis=0) / n
    return Dynamics(*(values.astype(np.float32) for values in (mean, np.sqrt(square), under)))


def join_dynamics(parts: Sequence[Dynamics]) -> Dynamics:
    """Put blocks of samples together, in order."""
    names = ("mean_error", "deviation", "share_under")
    return Dynamics(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def stay_hard(dynamics: Dynamics) -> Bools:
    """Tell which samples stayed hard all through training.

    They have a mean error of at least twice the median over the training set, a deviation over
    their mean of at most half the median, and at most 5 % of their errors under the threshold: they
    are not learned and it does not matter to them how far the others are. (The hard-to-learn region
    of the data maps of Swayamdipta et al. 2020, doi 10.18653/v1/2020.emnlp-main.746.) Whether the
    label or the environment is at fault, the neighbors tell: :mod:`ltau_cli.core.suspects`.
    """
    mean = dynamics.mean_error
    if not np.isfinite(mean).any():
        return np.zeros(len(dynamics), dtype=bool)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = dynamics.deviation / mean
    hard: Bools = (
        (mean >= HARD * np.nanmedian(mean))
        & (relative <= STEADY * np.nanmedian(relative))
        & (dynamics.share_under <= RARELY)
    )
    return hard


def count_burn_in(epoch_mean: Floats) -> int:
    """Epochs before the mean error of the training set, (n_epochs,), stays below twice its last.

    NaN is left out; 0 where the first epoch is below already.
    """
    known = np.flatnonzero(np.isfinite(epoch_mean))
    if not len(known):
        return 0
    above = known[epoch_mean[known] > CONVERGED * epoch_mean[known[-1]]]
    return int(above[-1]) + 1 if len(above) else 0
