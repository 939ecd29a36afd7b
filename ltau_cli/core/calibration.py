"""Maps from predicted to observed errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import ComputeError

Floats = npt.NDArray[np.float64]


def split_rows(
    structure: npt.NDArray[np.int64] | None, n: int, *, fit_fraction: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Choose the rows to fit on; all rows of a structure stay together.

    Parameters
    ----------
    structure : (n,) int64 or None
        Structure of each row; without it every row is on its own.
    n : int
        Rows.
    fit_fraction : float
        Share of the structures to fit on, in (0, 1).
    seed : int
        Of the random choice.

    Returns
    -------
    (n,) bool
        True for the rows to fit on.

    Raises
    ------
    ComputeError
        If there are fewer than two structures.
    """
    groups = np.arange(n) if structure is None else structure
    names = np.unique(groups)
    if len(names) < 2:
        raise ComputeError(
            f"cannot calibrate on {len(names)} structure: fit and check need one each at least",
            hint="score more structures and give their true errors",
        )
    n_fit = min(max(1, round(fit_fraction * len(names))), len(names) - 1)
    chosen = np.random.default_rng(seed).permutation(names)[:n_fit]
    return np.isin(groups, chosen)


def threshold_scale(true_error: Floats, uncertainty: Floats, threshold: float) -> float:
    """Scale s for which P(error > s * threshold) matches the predicted uncertainty.

    Rows are sorted into ten bins of equal size by uncertainty; s minimizes the mean square
    difference between the bins' mean uncertainty and observed share of errors above
    ``s * threshold`` (the calibration of Vita et al., doi 10.1088/2632-2153/adb4b9).

    Parameters
    ----------
    true_error, uncertainty : (n,) float64
        Error units, and probability.
    threshold : float
        In error units, above 0.

    Returns
    -------
    float
    """
    order = np.argsort(uncertainty, kind="stable")
    bins = np.array_split(order, min(10, len(order)))
    predicted = np.array([uncertainty[rows].mean() for rows in bins])
    errors = [np.sort(true_error[rows]) for rows in bins]
    trials = np.unique(np.quantile(true_error, np.linspace(0.0, 1.0, 1001)))
    misfit = np.zeros(len(trials))
    for p, sorted_errors in zip(predicted, errors, strict=True):
        above = 1 - np.searchsorted(sorted_errors, trials, side="right") / len(sorted_errors)
        misfit += (above - p) ** 2 * len(sorted_errors)
    return float(max(trials[np.argmin(misfit)], np.finfo(np.float32).tiny) / threshold)


def error_scale(true_error: Floats, expected_error: Floats) -> float:
    """Mean true over mean expected error, (n,) each in error units."""
    return float(true_error.mean() / safe_expected(expected_error).mean())


def conformal_ratio(true_error: Floats, expected_error: Floats, level: float) -> float:
    """Split-conformal quantile of error / expected error.

    The ceil((n + 1) level)-th smallest ratio: for exchangeable rows a new row stays under
    ratio * expected error with probability at least ``level`` (Lei et al. 2018, doi
    10.1080/01621459.2017.1307116).

    Parameters
    ----------
    true_error, expected_error : (n,) float64
        Error units.
    level : float
        In (0, 1).

    Raises
    ------
    ComputeError
        If n is too small for the level.
    """
    n = len(true_error)
    rank = int(np.ceil((n + 1) * level - 1e-9))
    if rank > n:
        need = int(np.ceil(level / (1 - level)))
        raise ComputeError(
            f"a {level:g} bound needs at least {need:,} rows to fit on; there are {n:,}",
            hint="give more true errors, a larger --fit-fraction, or lower levels",
        )
    return float(np.sort(true_error / safe_expected(expected_error))[rank - 1])


def safe_expected(expected_error: Floats) -> Floats:
    """Lift expected errors of zero to float32's smallest normal number."""
    return np.maximum(expected_error, float(np.finfo(np.float32).tiny))


@dataclass
class Reliability:
    """Predicted against observed probability by bins of equal size.

    Attributes
    ----------
    predicted, observed : (n_bins,) float64
    n : (n_bins,) int64
        Rows per bin.
    """

    predicted: Floats
    observed: Floats
    n: npt.NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: the weighted mean of |predicted - observed|."""
        return float((self.n * np.abs(self.predicted - self.observed)).sum() / self.n.sum())


def reliability(uncertainty: Floats, exceeded: npt.NDArray[np.bool_]) -> Reliability:
    """Compare predicted probabilities (n,) with what happened (n,), in ten bins of equal size."""
    order = np.argsort(uncertainty, kind="stable")
    bins = np.array_split(order, min(10, len(order)))
    return Reliability(
        np.array([uncertainty[rows].mean() for rows in bins]),
        np.array([exceeded[rows].mean() for rows in bins]),
        np.array([len(rows) for rows in bins]),
    )


def rank_correlation(a: Floats, b: Floats) -> float | None:
    """Spearman's rank correlation; None where one side does not vary."""
    from scipy.stats import spearmanr

    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)
