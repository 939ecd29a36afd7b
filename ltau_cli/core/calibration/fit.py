"""Fit a calibration on rows of known error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.core.calibration import maps
from ltau_cli.core.calibration.maps import ErrorMap, Floats, Rows
from ltau_cli.core.calibration.metrics import crps
from ltau_cli.core.calibration.model import GROUP_MEAN, RATIO_LEVELS, Calibration, Cells, Predictor
from ltau_cli.core.choices import Method
from ltau_cli.errors import ComputeError

# In order of preference: the first is taken unless another's cross-validated CRPS is clearly
# better, because cross-validation only sees rows like the calibration rows, and `distance` also
# holds away from them.
METHODS: Mapping[Method, Callable[[Rows, Floats], ErrorMap]] = {
    "distance": maps.fit_distance,
    "scale": maps.fit_scale,
    "isotonic": maps.fit_isotonic,
    "threshold": maps.fit_scale,
}
NEARLY = 0.05
FOLDS = 10
SMALLEST_CELL = 50  # rows of a group (in a distance bin) that gets bounds of its own


@dataclass(frozen=True)
class Fitted:
    """A calibration and what cross-validation said of each method that was tried.

    Attributes
    ----------
    calibration : Calibration
    compared : dict of str to dict
        For each method ``crps`` (error units) and its standard error over structures.
    small_groups : list
        Groups too small for bounds of their own.
    """

    calibration: Calibration
    compared: dict[str, dict[str, float]]
    small_groups: list[Any]


def fit_calibration(
    rows: Rows,
    true_error: Floats,
    *,
    methods: Sequence[Method],
    levels: Floats,
    thresholds: Floats,
    uncertainty: Floats,
    by_group: bool = False,
    distance_bins: int = 1,
    seed: int = 0,
) -> Fitted:
    """Fit the method that cross-validation over structures finds best, or nearly so.

    Every ratio of true to predicted error that a bound is made of comes from a map that was
    fitted without the row's structure (cross-conformal prediction, Vovk 2015, doi
    10.1007/s10472-013-9368-4).

    Parameters
    ----------
    rows : Rows
        Of n scored rows.
    true_error : (n,) float64
        Error units.
    methods : sequence of str
        Methods to choose from.
    levels : (n_levels,) float64
        Coverage of the bounds, in (0, 1).
    thresholds : (n_thresholds,) float64
        Error units.
    uncertainty : (n, n_thresholds) float64
        Of the scores.
    by_group : bool
        Give each group of enough rows bounds of its own (Mondrian conformal prediction).
    distance_bins : int
        Bins of equal size by relative distance with bounds of their own.
    seed : int
        Of the folds.

    Returns
    -------
    Fitted

    Raises
    ------
    ComputeError
        If there are too few rows for a level, or too few errors above 0.
    """
    fold = _folds(rows.structure, len(rows), seed=seed)
    _check_fold_errors(fold, true_error)
    tried = {method: cross_validate(method, rows, true_error, seed=seed) for method in methods}
    compared = {method: scores for method, (_, scores) in tried.items()}
    method = _choose(compared)
    cells, small = _make_cells(rows, by_group, distance_bins, _smallest_cell(levels))
    predictor = _fit_predictor(
        METHODS[method](rows, true_error), true_error / tried[method][0], cells.parts(rows), levels
    )
    groups = np.zeros(0, dtype=np.int64) if rows.group is None else np.unique(rows.group)
    group_error = _group_means(groups, rows, true_error)
    return Fitted(
        Calibration(
            method=method,
            levels=levels,
            cells=cells,
            predictor=predictor,
            baselines=_fit_baselines(rows, true_error, groups, group_error, fold, levels),
            groups=groups,
            group_error=group_error,
            thresholds=thresholds,
            threshold_scale=np.array([
                threshold_scale(true_error, uncertainty[:, j], threshold)
                for j, threshold in enumerate(thresholds)
            ]),
        ),
        {name: {"crps": float(v.mean()), "standard_error": _standard_error(v)}
         for name, v in compared.items()},
        small,
    )  # fmt: skip


def _folds(structure: npt.NDArray[np.int64] | None, n: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Fold of each row; rows of a structure stay together."""
    groups = np.arange(n) if structure is None else structure
    names, place = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    return np.asarray((order % min(FOLDS, len(names)))[place], dtype=np.int64)


def _check_fold_errors(fold: npt.NDArray[np.int64], true_error: Floats) -> None:
    """Refuse rows of which, without one of the folds, every true error is 0."""
    folds = len(np.unique(fold[true_error > 0]))
    if folds < min(2, int(fold.max()) + 1):
        raise ComputeError(
            f"only {int((true_error > 0).sum()):,} of the {len(true_error):,} true errors to fit "
            "on are above 0, too few to calibrate on",
            hint="check that they are errors, not energies or flags, and in the scores' units",
        )


def _predict_unseen(
    fit: Callable[[Rows, Floats], ErrorMap],
    rows: Rows,
    true_error: Floats,
    fold: npt.NDArray[np.int64],
) -> Floats:
    """Mean error of each row after a map that did not see its fold."""
    out = np.empty(len(rows))
    for number in range(int(fold.max()) + 1):
        held = fold == number
        fitted = fit(rows.take(~held), true_error[~held]) if held.any() and not held.all() else None
        if fitted is not None:
            out[held] = fitted.apply(rows.take(held))
    if fold.max() == 0:  # one structure alone
        out[:] = fit(rows, true_error).apply(rows)
    return out


def cross_validate(
    method: Method, rows: Rows, true_error: Floats, *, seed: int = 0
) -> tuple[Floats, Floats]:
    """Predict each row by a map that did not see its structure.

    Parameters
    ----------
    method : str
        A key of :data:`METHODS`.
    rows : Rows
    true_error : (n,) float64
        Error units.
    seed : int
        Of the folds.

    Returns
    -------
    (n,) float64, (n_structures,) float64
        Calibrated errors, and the CRPS of each structure (error units).
    """
    fold = _folds(rows.structure, len(rows), seed=seed)
    mean = _predict_unseen(METHODS[method], rows, true_error, fold)
    ratios = np.quantile(true_error / mean, RATIO_LEVELS)
    scores = crps(true_error, mean[:, None] * ratios, RATIO_LEVELS)
    groups = np.arange(len(rows)) if rows.structure is None else rows.structure
    _, place, n = np.unique(groups, return_inverse=True, return_counts=True)
    return mean, np.bincount(place, weights=scores) / n


def _choose(compared: Mapping[Method, Floats]) -> Method:
    """Take the first method, unless another is better by more than chance and `NEARLY`."""
    order = [method for method in METHODS if method in compared]
    best = min(order, key=lambda method: float(compared[method].mean()))
    for method in order:
        loss = compared[method] - compared[best]
        enough = len(loss) >= FOLDS and loss.mean() > 2 * _standard_error(loss)
        if not (enough and loss.mean() > NEARLY * compared[best].mean()):
            return method
    return best


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _smallest_cell(levels: Floats) -> int:
    """Rows that a part needs for bounds of its own at all levels."""
    return max(SMALLEST_CELL, max(_rows_needed(level) for level in levels))


def _make_cells(
    rows: Rows, by_group: bool, distance_bins: int, smallest: int
) -> tuple[Cells, list[Any]]:
    """Find the groups with enough rows for their bounds, and those without."""
    levels = np.arange(1, distance_bins) / distance_bins
    edges = np.unique(np.quantile(rows.relative_distance, levels)) if len(levels) else np.zeros(0)
    if rows.group is None or not by_group:
        return Cells(np.zeros(0, dtype=np.int64), edges), []
    names, counts = np.unique(rows.group, return_counts=True)
    enough = counts >= smallest * distance_bins
    return Cells(names[enough], edges), names[~enough].tolist()


def _fit_predictor(
    error_map: ErrorMap,
    ratio: Floats,
    parts: Sequence[npt.NDArray[np.bool_]],
    levels: Floats,
) -> Predictor:
    """Find the bounds of each cell from its rows ``parts``; of all rows where these are few."""
    bounds = np.empty((len(parts), len(levels)))
    quantiles = np.empty((len(parts), len(RATIO_LEVELS)))
    smallest = _smallest_cell(levels)
    for number, part in enumerate(parts):
        own = ratio[part]
        own = own if len(own) >= smallest else ratio
        bounds[number] = [conformal_quantile(own, level) for level in levels]
        quantiles[number] = np.quantile(own, RATIO_LEVELS)
    return Predictor(error_map, bounds, quantiles)


def _fit_baselines(
    rows: Rows,
    true_error: Floats,
    groups: npt.NDArray[Any],
    group_error: Floats,
    fold: npt.NDArray[np.int64],
    levels: Floats,
) -> dict[str, Predictor]:
    """Fit what the method must beat: a constant, the neighbor distance alone, the group's mean."""
    whole = [np.ones(len(rows), dtype=bool)]
    fits = {"constant": maps.fit_constant, "neighbor distance": maps.fit_neighbor_distance}
    found = {
        name: _fit_predictor(
            fit(rows, true_error),
            true_error / _predict_unseen(fit, rows, true_error, fold),
            whole,
            levels,
        )
        for name, fit in fits.items()
    }
    if len(groups):
        mean = group_error[Cells(groups, np.zeros(0)).of(rows)]
        found[GROUP_MEAN] = _fit_predictor(
            maps.power_law(rows.floors()), true_error / mean, whole, levels
        )
    return found


def _group_means(groups: npt.NDArray[Any], rows: Rows, true_error: Floats) -> Floats:
    cell = Cells(groups, np.zeros(0)).of(rows)
    means = [true_error[cell == i].mean() for i in range(len(groups))]
    return np.maximum([*means, true_error.mean()], float(np.finfo(np.float32).tiny))


def conformal_quantile(ratio: Floats, level: float) -> float:
    """Return the ceil((n + 1) level)-th smallest of n ratios of true to predicted error.

    For exchangeable rows a new ratio stays under it with probability at least ``level`` (split
    conformal prediction, Lei et al. 2018, doi 10.1080/01621459.2017.1307116).

    Parameters
    ----------
    ratio : (n,) float64
    level : float
        In (0, 1).

    Raises
    ------
    ComputeError
        If n is too small for the level.
    """
    n = len(ratio)
    rank = int(np.ceil((n + 1) * level - 1e-9))
    if rank > n:
        raise ComputeError(
            f"a {level:g} bound needs at least {_rows_needed(level):,} rows to fit on; "
            f"there are {n:,}",
            hint="give more true errors, a larger --fit-fraction, or lower levels",
        )
    return float(np.sort(ratio)[rank - 1])


def _rows_needed(level: float) -> int:
    return int(np.ceil(level / (1 - level) - 1e-9))


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
