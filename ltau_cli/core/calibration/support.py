"""How far a calibration can speak for other rows: those it was fitted on may not look like them."""

import numpy as np

from ltau_cli.array_types import Floats, Integers
from ltau_cli.core.calibration.maps import Rows
from ltau_cli.core.calibration.model import Calibration
from ltau_cli.core.structures import Block
from ltau_cli.results import Likeness

LARGEST = 1000  # draws that are kept
TOO_CLOSE = 0.05  # a mean p-value by so much above the half of uniform ones, and by three
_ERRORS = 3.0  # standard errors, is no chance and large enough to matter
_STEPS = 100
_RIDGE = 1e-4  # so that there is an end where no weights could match the mean


def describe_draws(rows: Rows, floors: Floats) -> Floats:
    """Say where each draw that was fitted on lies, to tell later what is like it, (n, 4) float64.

    Geometric mean of the relative distance and of the expected error in each draw, largest
    distance (of the structure, where the rows know that), and how many draws this one stands
    for: of more than :data:`LARGEST` so many are chosen, evenly by distance, the nearest and
    the farthest too. ``floors`` are those of :class:`ltau_cli.core.calibration.maps.ErrorMap`.
    """
    draw, n = rows.draw, np.bincount(rows.draw)
    distance = rows.log("relative_distance", floors[1])
    largest = np.full(len(n), -np.inf)
    far = rows.log("structure_distance", floors[2]) if rows.by_structure else distance
    np.maximum.at(largest, draw, far)
    error = np.bincount(draw, rows.log("expected_error", floors[0])) / n
    logs = [np.bincount(draw, distance) / n, error, largest, np.zeros(len(n))]
    found = np.exp(np.stack(logs, axis=1))
    found = found[np.lexsort(found.T[::-1])]
    kept = found[np.unique(np.linspace(0, len(n) - 1, min(len(n), LARGEST)).round().astype(int))]
    kept[:, 3] = len(n) / len(kept)
    kept[-1, 2] = found[:, 2].max()
    out: Floats = kept
    return out


def draws_needed(level: float) -> int:
    """Smallest number of draws of which a conformal bound of this level can be made."""
    return int(np.ceil(level / (1 - level) - 1e-9))


class LikenessTotals:
    """Compare scored rows with those a calibration was fitted on, block by block.

    With 0 structures they are not known, and every row is a draw.
    """

    def __init__(self, calibration: Calibration, n_structures: int) -> None:
        self.calibration = calibration
        self.total = np.zeros((n_structures or 1, 2))
        self.n = np.zeros(n_structures or 1)
        self.by_structure = n_structures > 0
        self.n_beyond = 0
        self.local = False

    def add(self, block: Block) -> None:
        """Add rows, one after the other, so that the result does not depend on the blocks."""
        floors = self.calibration.predictor.map.floors
        logs = [
            np.log(np.maximum(block[name].astype(np.float64), floor))
            for name, floor in (("relative_distance", floors[1]), ("expected_error", floors[0]))
        ]
        place = block["structure"] if self.by_structure else np.zeros(len(logs[0]), dtype=np.int64)
        np.add.at(self.total, place, np.stack(logs, axis=1))
        np.add.at(self.n, place, 1)
        farthest = self.calibration.draws[:, 2].max()
        self.local = "local_distance" in block
        far = block["local_distance" if self.local else "relative_distance"]
        self.n_beyond += int((far > farthest).sum())

    def result(self) -> Likeness:
        """Return what is told of it."""
        own, draws = self.calibration, self.calibration.draws
        n, there = self.n.sum(), self.n > 0
        means = self.total[there] / self.n[there, None]
        beyond = self.n_beyond
        if own.predictor.map.needs_structures and not self.local:
            beyond = self.n[there] @ (means[:, 0] > np.log(draws[:, 2].max()))
        n_scored = len(means) if self.by_structure else int(n)
        n_draws = float(draws[:, 3].sum())
        share = effective_share(np.log(draws[:, :2]), means.mean(axis=0), n_scored, n_draws)
        return Likeness(
            what="structures" if self.by_structure else "rows",
            beyond_share=float(beyond / n),
            n_draws=round(n_draws),
            effective_draws=share * n_draws,
            doubtful_levels=[
                float(p) for p in own.levels if draws_needed(p) > share * n_draws + 1e-9
            ],
        )


def effective_share(draws: Floats, mean: Floats, n_scored: int, n_draws: float) -> float:
    """Effective share of draws (n, d) that are weighted so that their mean is that of scored ones.

    The weights exp(beta' x) are the density ratio of the scored and the fitted draws (of which
    weighted conformal prediction makes its bounds, Tibshirani et al. 2019, arXiv 1904.06060), as a
    logistic classifier with linear terms has it; they follow from the means (d,) alone (entropy
    balancing, Hainmueller 2012, doi 10.1093/pan/mpr025). Of the difference of the means, what
    chance makes of so few draws is left out (James and Stein 1961). The share is
    (sum w)^2 / (n sum w^2), in (0, 1].
    """
    spread = draws.std(axis=0)
    x = (draws - draws.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    away = (mean - draws.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    covariance = x.T @ x / len(x) + _RIDGE * np.eye(x.shape[1])
    square = float(away @ np.linalg.solve(covariance, away))
    chance = x.shape[1] * (1 / n_scored + 1 / n_draws)
    away *= max(0.0, 1 - chance / square) if square > 0 else 0.0
    beta = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        weight = np.exp(x @ beta - (x @ beta).max())
        weight /= weight.sum()
        centered = x - weight @ x
        slope = away - weight @ x - _RIDGE * beta
        curvature = centered.T @ (weight[:, None] * centered) + _RIDGE * np.eye(len(beta))
        step = np.linalg.solve(curvature, slope)
        step /= max(1.0, float(np.abs(step).max()))
        beta += step
        if np.abs(step).max() < 1e-8:
            break
    return float(1 / (len(x) * (weight**2).sum()))


def too_close(pvalue: Floats, draw: Integers) -> tuple[float, bool]:
    """Whether rows are closer to the training set than its samples are to one another.

    The p-values (n,) of rows that are drawn like the training set are uniform; see
    :func:`ltau_cli.core.domain.ood_pvalue`. Each draw counts once. Returns the mean p-value, and
    whether it is above 1/2 by more than chance and :data:`TOO_CLOSE`.
    """
    means = np.bincount(draw, pvalue) / np.bincount(draw)
    mean = float(means.mean())
    error = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else np.inf
    return mean, mean - _ERRORS * error > 0.5 + TOO_CLOSE
