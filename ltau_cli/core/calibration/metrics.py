"""How well predicted error distributions describe true errors."""

from dataclasses import dataclass, replace

import numpy as np

from ltau_cli.array_types import Array, Bools, Floats, Integers
from ltau_cli.core.calibration.predicted import Predicted
from ltau_cli.results import Metrics

CHANCE = 0.23370  # variance of the logarithm of the norm of a Gaussian 3-vector
BOOTSTRAP = 500
MOST_DRAWS = 2000


def crps(true_error: Floats, quantiles: Floats, levels: Floats) -> Floats:
    """Continuous ranked probability score of each row, (n,) in error units.

    Twice the mean pinball loss over ``levels`` (n_levels,), the midpoints of equal parts of (0,
    1), at which the quantiles (n, n_levels) are predicted (Gneiting & Ranjan 2011, doi
    10.1198/jbes.2010.08110, eq. 17).
    """
    gap = true_error[:, None] - quantiles
    out: Floats = 2 * np.maximum(levels * gap, (levels - 1) * gap).mean(axis=1)
    return out


def measure(
    true_error: Floats,
    predicted: Predicted,
    *,
    draw: Integers | None,
    group: Array | None,
    rows: Bools | None = None,
    seed: int = 0,
) -> Metrics:
    """Every metric over n rows, or those that ``rows`` (n,) bool names; errors in error units.

    Rows of one ``draw`` (n,) are dependent: the bootstrap, of this seed, draws them together. With
    groups (n,) the rank correlation is also given as the mean over groups.
    """
    if rows is not None:
        true_error = true_error[rows]
        draw = None if draw is None else draw[rows]
        group = None if group is None else group[rows]
        predicted = predicted.take(rows)
    mean, bounds = predicted.mean, predicted.bounds()
    names = [f"{level:g}" for level in predicted.levels]
    covered = (true_error[:, None] <= bounds).mean(axis=0)
    score, second, observed = _of_distribution(true_error, predicted)
    return replace(
        measure_plain(true_error, mean, draw=draw, group=group, seed=seed),
        coverage=dict(zip(names, covered.tolist(), strict=True)),
        mean_width=dict(zip(names, bounds.mean(axis=0).tolist(), strict=True)),
        miscalibration_area=miscalibration_area(predicted.ratio_levels, observed),
        ence=ence(true_error, second),
        crps=float(score.mean()),
    )


def measure_plain(
    true_error: Floats,
    expected: Floats,
    *,
    draw: Integers | None,
    group: Array | None,
    seed: int = 0,
) -> Metrics:
    """Measure errors (n,) that were predicted without a distribution; see :func:`measure`."""
    return Metrics(
        n_rows=len(true_error),
        mean_true_error=float(true_error.mean()),
        mean_predicted_error=float(expected.mean()),
        error_ratio=float(expected.mean() / max(true_error.mean(), np.finfo(np.float64).tiny)),
        rank_correlation=rank_correlation(expected, true_error),
        rank_correlation_interval=rank_interval(expected, true_error, draw, seed=seed),
        rank_correlation_within_groups=None
        if group is None
        else rank_within(expected, true_error, group),
        ause=ause(true_error, expected),
    )


def _of_distribution(true_error: Floats, predicted: Predicted) -> tuple[Floats, Floats, Floats]:
    """CRPS and predicted mean square of each row, and the share of rows under each quantile."""
    n, levels = len(true_error), predicted.ratio_levels
    score, second = np.empty(n), np.empty(n)
    below = np.zeros(len(levels))
    for part, quantiles in predicted.quantiles():
        score[part] = crps(true_error[part], quantiles, levels)
        second[part] = (quantiles**2).mean(axis=1)
        below += (true_error[part, None] <= quantiles).sum(axis=0)
    return score, second, below / n


def observed_shares(true_error: Floats, predicted: Predicted, rows: Bools | None = None) -> Floats:
    """Share of the true errors (n,) under each predicted quantile, (n_ratio_levels,) float64.

    Of those rows alone that ``rows`` (n,) bool names.
    """
    if rows is not None:
        true_error, predicted = true_error[rows], predicted.take(rows)
    return _of_distribution(true_error, predicted)[2]


def rank_correlation(a: Floats, b: Floats) -> float | None:
    """Spearman's rank correlation; None where one side does not vary."""
    from scipy.stats import spearmanr

    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)


def rank_ceiling(true_error: Floats) -> float | None:
    """Rank correlation with the norms of Gaussian 3-vectors that the best predictor could reach.

    The logarithm of such a norm has a variance of psi'(3/2) / 4 = 0.234 that no predictor of the
    vectors' size can know. What is left of the variance of log(true error) is taken for the
    predictable part, both for normal, and the correlation as that of ranks (6 / pi asin(rho / 2),
    Pearson 1907). Norms of 0 are left out; None where all are 0 or the same.
    """
    logs = np.log(true_error[true_error > 0])
    variance = float(logs.var()) if len(logs) else 0.0
    if variance == 0:
        return None
    known = np.sqrt(max(0.0, 1 - CHANCE / variance))
    return float(6 / np.pi * np.arcsin(known / 2))


def rank_within(a: Floats, b: Floats, group: Array) -> float | None:
    """Mean of the rank correlations within each group, weighted by rows; None if there is none."""
    total, n = 0.0, 0
    for name in np.unique(group):
        own = group == name
        value = rank_correlation(a[own], b[own])
        if value is not None:
            total, n = total + value * int(own.sum()), n + int(own.sum())
    return total / n if n else None


def rank_interval(
    a: Floats, b: Floats, draw: Integers | None, *, seed: int = 0
) -> list[float] | None:
    """95 % bootstrap interval of the rank correlation over draws.

    Draws are drawn with replacement; the ranks are those of the whole set, so that a sample costs
    no sorting. None where there is nothing to draw from.
    """
    from scipy.stats import rankdata

    if draw is None:
        draw = np.arange(len(a))
    _, place = np.unique(draw, return_inverse=True)
    place = place % MOST_DRAWS  # many draws are drawn in bundles, which is as good
    n = int(place.max()) + 1 if len(place) else 0
    if n < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    x, y = rankdata(a) - len(a) / 2, rankdata(b) - len(b) / 2
    sums = np.stack(
        [np.bincount(place, weights=w) for w in (np.ones(len(x)), x, y, x * x, y * y, x * y)]
    )
    random = np.random.default_rng(seed)
    values = []
    for _ in range(BOOTSTRAP):
        drawn = np.bincount(random.integers(0, n, n), minlength=n)
        m, sx, sy, sxx, syy, sxy = sums @ drawn
        spread = (sxx - sx * sx / m) * (syy - sy * sy / m)
        if spread > 0:
            values.append((sxy - sx * sy / m) / np.sqrt(spread))
    return [float(v) for v in np.quantile(values, [0.025, 0.975])] if values else None


def miscalibration_area(levels: Floats, observed: Floats) -> float:
    """Area between level and share of errors under its quantile, both (n_levels,) float64.

    Both ends of the diagonal are included. 0 is perfect, 0.5 the worst (Tran et al. 2020, doi
    10.1088/2632-2153/ab7e1a).
    """
    x = np.concatenate([[0.0], levels, [1.0]])
    gap = np.concatenate([[0.0], observed - levels, [0.0]])
    left, right, width = gap[:-1], gap[1:], np.diff(x)
    same = np.sign(left) * np.sign(right) >= 0
    total = np.abs(left) + np.abs(right)
    crossing = (left**2 + right**2) / np.where(total > 0, total, 1.0)
    return float((width * np.where(same, total, crossing)).sum() / 2)


def ence(true_error: Floats, mean_square: Floats) -> float:
    """Return the expected normalized calibration error.

    Mean over ten bins of equal size by predicted error of |RMV - RMSE| / RMV (Levi et al. 2022,
    doi 10.3390/s22155540); RMV is the root of the mean of ``mean_square`` (n,), the second moment
    of the predicted error.
    """
    order = np.argsort(mean_square, kind="stable")
    values = []
    for rows in np.array_split(order, min(10, len(order))):
        predicted = np.sqrt(mean_square[rows].mean())
        values.append(abs(predicted - np.sqrt((true_error[rows] ** 2).mean())) / predicted)
    return float(np.mean(values))


def sparsification(true_error: Floats, ranked_by: Floats) -> Floats:
    """Mean error of what remains when the rows largest in ``ranked_by`` are removed.

    (n,) float64, after removing 0, 1, ..., n - 1 rows; error units.
    """
    order = np.argsort(ranked_by, kind="stable")
    out: Floats = (np.cumsum(true_error[order]) / np.arange(1, len(order) + 1))[::-1]
    return out


def ause(true_error: Floats, ranked_by: Floats) -> float:
    """Area under the sparsification error: the curve minus the oracle's, over the mean error.

    Ilg et al. 2018, doi 10.1007/978-3-030-01234-2_40. 0 is the order of the true errors themselves.
    """
    mean = true_error.mean()
    if mean == 0:
        return 0.0
    gap = sparsification(true_error, ranked_by) - sparsification(true_error, true_error)
    return float(gap.mean() / mean)


@dataclass
class Reliability:
    """Predicted against observed probability by bins of equal size."""

    predicted: Floats  # (n_bins,)
    observed: Floats  # (n_bins,)
    n: Integers  # (n_bins,), rows per bin

    @property
    def error(self) -> float:
        """Expected calibration error: the weighted mean of |predicted - observed|."""
        return float((self.n * np.abs(self.predicted - self.observed)).sum() / self.n.sum())


def reliability(uncertainty: Floats, exceeded: Bools) -> Reliability:
    """Compare predicted probabilities (n,) with what happened (n,), in ten bins of equal size."""
    order = np.argsort(uncertainty, kind="stable")
    bins = np.array_split(order, min(10, len(order)))
    return Reliability(
        np.array([uncertainty[rows].mean() for rows in bins]),
        np.array([exceeded[rows].mean() for rows in bins]),
        np.array([len(rows) for rows in bins]),
    )
