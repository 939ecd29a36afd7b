"""Fit a calibration on rows of known error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Bools, Floats, Integers
from ltau_cli.core.calibration import maps
from ltau_cli.core.calibration.maps import ErrorMap, Rows
from ltau_cli.core.calibration.metrics import crps
from ltau_cli.core.calibration.model import (
    GROUP_MEAN,
    LAST_EPOCH,
    RATIO_LEVELS,
    Calibration,
    Predictor,
    Strata,
)
from ltau_cli.core.calibration.predicted import widening
from ltau_cli.core.calibration.support import describe_draws, draws_needed
from ltau_cli.core.calibration.threshold import StoredCdf, find_threshold_scale
from ltau_cli.errors import ComputeError
from ltau_cli.results import MethodScore
from ltau_cli.settings import Method

# In order of preference: the first is taken, unless the rows come from several sets and another's
# cross-validated CRPS is clearly better. Cross-validation in one set only sees rows like those of
# that set, and `distance` also holds away from them.
METHODS: Mapping[Method, Callable[[Rows, Floats], ErrorMap]] = {
    "distance": maps.fit_distance,
    "scale": maps.fit_scale,
    "threshold": maps.fit_scale,
}
TRIED: tuple[Method, ...] = ("distance", "scale")  # where the user names none
NEARLY = 0.05
FOLDS = 10
SMALLEST_STRATUM = 50  # rows of a group or distance bin that has bounds of its own


@dataclass(frozen=True)
class Fitted:
    """A calibration and what cross-validation said of each method that was tried."""

    calibration: Calibration
    compared: dict[str, MethodScore]
    small_groups: list[Any]  # groups too small for bounds of their own: they have those of all rows
    # distance bins that are left of each group that has fewer than were asked for, because
    # neighboring ones that were too small were merged; under None those of all rows
    merged: dict[Any, int]
    n_draws: int  # draws that were fitted on
    # how many more each level needs that is above what ``n_draws`` can tell: its bound is the
    # largest ratio that was seen
    missing: dict[float, int]


def fit_calibration(
    rows: Rows,
    true_error: Floats,
    *,
    methods: Sequence[Method],
    levels: Floats,
    thresholds: Floats,
    cdf: StoredCdf | None = None,
    by_group: bool = False,
    distance_bins: int = 1,
    seed: int = 0,
) -> Fitted:
    """Fit the first of the methods, or of several sets the best by cross-validation over draws.

    A draw is what was drawn together, else a structure, else a row. Every ratio of true to
    predicted error that a bound is made of comes from a map that was fitted without the row's draw
    (cross-conformal prediction, Vovk 2015, doi 10.1007/s10472-013-9368-4). Every set among the
    rows weighs the same.

    ``true_error`` (n,) and ``thresholds`` (n_thresholds,) are in error units, ``levels``
    (n_levels,) the coverage of the bounds, in (0, 1). ``cdf`` is needed by the method
    ``threshold`` only. With ``by_group`` each group that is large enough has bounds of its own
    (Mondrian conformal prediction), and so has each of ``distance_bins`` bins of equal size by
    relative distance, those that are too small being merged with the next. ``seed`` is that of the
    folds.
    """
    fold = _folds(rows.draw, seed=seed)
    _check_fold_errors(fold, true_error)
    tried = {method: cross_validate(method, rows, true_error, seed=seed) for method in methods}
    compared = {method: scores for method, (_, _, scores) in tried.items()}
    several_sets = rows.dataset is not None and len(np.unique(rows.dataset)) > 1
    method = _choose(compared, several_sets=several_sets)
    n_draws = int(rows.draw.max()) + 1
    needed = [draws_needed(level) for level in levels]
    strata, parts, small, merged = _make_strata(
        rows, by_group, distance_bins, min(max(needed), n_draws)
    )
    mean, spread, _ = tried[method]
    ratios = Ratios(true_error / mean, spread, rows.weight, rows.draw)
    predictor = _fit_predictor(METHODS[method](rows, true_error), ratios, parts, levels)
    groups = np.zeros(0, dtype=np.int64) if rows.group is None else np.unique(rows.group)
    group_error = _group_means(groups, rows, true_error)
    return Fitted(
        Calibration(
            method=method,
            levels=levels,
            strata=strata,
            draws=describe_draws(rows, predictor.map.floors),
            predictor=predictor,
            baselines=_fit_baselines(rows, true_error, groups, group_error, fold, levels),
            groups=groups,
            group_error=group_error,
            thresholds=thresholds,
            threshold_scale=_threshold_scales(method, true_error, thresholds, cdf),
        ),
        {name: MethodScore(crps=float(v.mean()), standard_error=_standard_error(v))
         for name, v in compared.items()},
        small,
        merged,
        n_draws,
        {float(level): n - n_draws for level, n in zip(levels, needed, strict=True) if n > n_draws},
    )  # fmt: skip


def _threshold_scales(
    method: Method, true_error: Floats, thresholds: Floats, cdf: StoredCdf | None
) -> Floats:
    if method != "threshold":
        return np.ones(len(thresholds))
    if cdf is None:
        raise ValueError("the method threshold needs the CDFs of the rows")
    return np.array([find_threshold_scale(true_error, cdf, float(t)) for t in thresholds])


def _folds(draw: Integers, *, seed: int) -> Integers:
    """Fold of each row; rows that were drawn together stay together."""
    n = int(draw.max()) + 1
    order = np.random.default_rng(seed).permutation(n)
    return np.asarray((order % min(FOLDS, n))[draw], dtype=np.int64)


def _check_fold_errors(fold: Integers, true_error: Floats) -> None:
    """Refuse rows of which, without one of the folds, every true error is 0."""
    folds = len(np.unique(fold[true_error > 0]))
    if folds < min(2, int(fold.max()) + 1):
        raise ComputeError(
            f"only {int((true_error > 0).sum()):,} of the {len(true_error):,} true errors to fit "
            "on are above 0, too few to calibrate on",
            hint="check that they are errors, not energies or flags, and in the scores' units",
        )


def _predict_unseen(
    fit: Callable[[Rows, Floats], ErrorMap], rows: Rows, true_error: Floats, fold: Integers
) -> tuple[Floats, Floats]:
    """Mean error and its spread of each row after a map that did not see its fold."""
    mean, spread = np.empty(len(rows)), np.empty(len(rows))
    for number in range(int(fold.max()) + 1):
        held = fold == number
        seen = ~held if fold.max() > 0 else held  # one draw alone
        fitted = fit(rows.take(seen), true_error[seen])
        mean[held] = fitted.apply(rows.take(held))
        spread[held] = fitted.spread(rows.take(held))
    return mean, spread


def cross_validate(
    method: Method, rows: Rows, true_error: Floats, *, seed: int = 0
) -> tuple[Floats, Floats, Floats]:
    """Predict each row by a map that did not see its draw.

    Returns calibrated errors (n,), the standard deviation of their logarithms (n,), and the CRPS
    of each draw (n_draws,), all float64, errors and CRPS in error units.
    """
    fold = _folds(rows.draw, seed=seed)
    mean, spread = _predict_unseen(METHODS[method], rows, true_error, fold)
    ratios = np.quantile(true_error / mean, RATIO_LEVELS)
    scores = crps(true_error, mean[:, None] * ratios, RATIO_LEVELS)
    n = np.bincount(rows.draw)
    return mean, spread, np.bincount(rows.draw, weights=scores) / n


def _choose(compared: Mapping[Method, Floats], *, several_sets: bool) -> Method:
    """Take the first method, or of several sets one that is better by more than `NEARLY`."""
    order = [method for method in METHODS if method in compared]
    if not several_sets:
        return order[0]
    best = min(order, key=lambda method: float(compared[method].mean()))
    for method in order:
        loss = compared[method] - compared[best]
        enough = len(loss) >= FOLDS and loss.mean() > 2 * _standard_error(loss)
        if not (enough and loss.mean() > NEARLY * compared[best].mean()):
            return method
    return best


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _make_strata(
    rows: Rows, by_group: bool, distance_bins: int, n_draws: int
) -> tuple[Strata, list[Bools], list[Any], dict[Any, int]]:
    """Find the strata and the rows of each, the groups that are too small, and the bins left.

    A part is large enough with :data:`SMALLEST_STRATUM` rows of ``n_draws`` draws.
    """
    draw = rows.draw

    def enough(part: Bools) -> bool:
        return int(part.sum()) >= SMALLEST_STRATUM and len(np.unique(draw[part])) >= n_draws

    everywhere = np.ones(len(rows), dtype=bool)
    shares = np.arange(1, distance_bins) / distance_bins
    strata = Strata(np.zeros(0, np.int64), np.unique(np.quantile(rows.relative_distance, shares)))
    block = _merge_bins(strata.bins(rows), strata.n_bins, everywhere, enough)
    strata = Strata(strata.groups, strata.distance_edges[np.diff(block) > 0])
    bins = strata.bins(rows)
    of_all = [bins == number for number in range(strata.n_bins)]
    merged = {None: strata.n_bins} if strata.n_bins < distance_bins else {}
    if rows.group is None or not by_group:
        return strata, of_all, [], merged
    parts, large, small = [], [], []
    for name in np.unique(rows.group):
        own = rows.group == name
        if not enough(own):
            small.append(name.item())
            continue
        large.append(name)
        block = _merge_bins(bins, strata.n_bins, own, enough)
        parts += [own & (block[bins] == number) for number in block]
        if block[-1] + 1 < strata.n_bins:
            merged[name.item()] = int(block[-1]) + 1
    groups = np.array(large, dtype=rows.group.dtype)
    return Strata(groups, strata.distance_edges), parts + of_all, small, merged


def _merge_bins(
    bins: Integers, n_bins: int, own: Bools, enough: Callable[[Bools], bool]
) -> Integers:
    """Block of each bin (n_bins,): neighbors are merged until the rows ``own`` are enough."""
    block = np.zeros(n_bins, dtype=np.int64)
    for number in range(1, n_bins):
        before = own & (block[bins] == block[number - 1]) & (bins < number)
        block[number:] += enough(before)
    if block[-1] > 0 and not enough(own & (block[bins] == block[-1])):
        block = np.minimum(block, block[-1] - 1)
    return block


@dataclass(frozen=True)
class Ratios:
    """True over predicted error of n rows."""

    ratio: Floats  # (n,)
    spread: Floats  # (n,): of the logarithm of the prediction
    weight: Floats  # (n,)
    draw: Integers  # (n,)

    def quantiles(self, levels: Floats, part: Bools, *, conformal: bool) -> list[float]:
        """Quantiles of the ratios of some rows, each less the widening of its own spread."""
        ratio, spread, weight = self.ratio[part], self.spread[part], self.weight[part]
        draws = len(np.unique(self.draw[part])) if conformal else None
        if not spread.any():
            return [float(v) for v in weighted_quantiles(ratio, levels, weight, draws)]
        return [
            float(
                weighted_quantiles(ratio * np.exp(-z * spread), levels[i : i + 1], weight, draws)[0]
            )
            for i, z in enumerate(widening(levels))
        ]


def _fit_predictor(
    error_map: ErrorMap, ratios: Ratios, parts: Sequence[Bools], levels: Floats
) -> Predictor:
    """Find the bounds of each stratum from its rows ``parts``."""
    return Predictor(
        error_map,
        np.array([ratios.quantiles(levels, part, conformal=True) for part in parts]),
        np.array([ratios.quantiles(RATIO_LEVELS, part, conformal=False) for part in parts]),
    )


def _fit_baselines(
    rows: Rows,
    true_error: Floats,
    groups: Array,
    group_error: Floats,
    fold: Integers,
    levels: Floats,
) -> dict[str, Predictor]:
    """Fit what to compare with: a constant, the distance, the last epoch, the group's mean."""
    whole = [np.ones(len(rows), dtype=bool)]

    def predictor(error_map: ErrorMap, mean: Floats, spread: Floats) -> Predictor:
        ratios = Ratios(true_error / mean, spread, rows.weight, rows.draw)
        return _fit_predictor(error_map, ratios, whole, levels)

    fits = {"constant": maps.fit_constant, "neighbor distance": maps.fit_neighbor_distance}
    if rows.last_epoch_error is not None:
        fits[LAST_EPOCH] = maps.fit_last_epoch
    found = {
        name: predictor(fit(rows, true_error), *_predict_unseen(fit, rows, true_error, fold))
        for name, fit in fits.items()
    }
    if len(groups):
        mean = group_error[Strata(groups, np.zeros(0)).of(rows)]
        found[GROUP_MEAN] = predictor(maps.power_law(rows), mean, np.zeros(len(rows)))
    return found


def _group_means(groups: Array, rows: Rows, true_error: Floats) -> Floats:
    stratum = Strata(groups, np.zeros(0)).of(rows)
    means = [true_error[stratum == i].mean() for i in range(len(groups))]
    return np.maximum([*means, true_error.mean()], float(np.finfo(np.float32).tiny))


def weighted_quantiles(
    values: Floats, levels: Floats, weight: Floats, n_draws: int | None
) -> Floats:
    """Smallest of the values (n,) that rows of weight ``levels`` (n_levels,) do not exceed.

    With ``n_draws`` S the weights count as S / (S + 1) of the whole, the rest is a draw to come,
    of any size. Where every draw weighs the same, a row of a new draw then stays under the value
    with probability at least its level, if the draws are exchangeable (hierarchical conformal
    prediction, Lee, Barber & Willett 2023, arXiv 2306.06342; Dunn, Wasserman & Ramdas 2022, doi
    10.1080/01621459.2022.2060112). With fewer than :func:`draws_needed` draws nothing can be said
    of it; the largest value is returned.
    """
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order])
    share *= (1.0 if n_draws is None else n_draws / (n_draws + 1)) / share[-1]
    place = np.minimum(np.searchsorted(share, levels - 1e-9), len(order) - 1)
    return values[order[place]]


def split_rows(rows: Rows, *, fit_fraction: float, seed: int) -> Bools:
    """Choose the rows to fit on, (n,) bool: a share ``fit_fraction`` of the draws of each set.

    Rows that were drawn together stay so. Every set needs two draws.
    """
    draw = rows.draw
    dataset = np.zeros(len(rows), np.int64) if rows.dataset is None else rows.dataset
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(rows), dtype=bool)
    for name in np.unique(dataset):
        own = dataset == name
        names = np.unique(draw[own])
        if len(names) < 2:
            what = "row" if rows.structure is None else "structure"
            raise ComputeError(
                f"cannot calibrate on {len(names)} {what}: fit and check need one each at least",
                hint=f"score more {what}s and give their true errors",
            )
        n_fit = min(max(1, round(fit_fraction * len(names))), len(names) - 1)
        chosen |= own & np.isin(draw, random.permutation(names)[:n_fit])
    return chosen
