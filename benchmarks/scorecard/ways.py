"""Every way to get an error bar. All see the same training set and calibration frames.

A way is prepared once per network (:attr:`Way.prepare`), then calibrated on some atoms of the first
set (:attr:`Way.calibrate`), which gives :class:`Bars` for all sets.

Ways that give a score u > 0 are calibrated alike: the ratios error / u of the calibration atoms
give the expected error, the distribution, and the bounds, these by split-conformal prediction with
the frames as draws, which is how ltau makes its own (``weighted_quantiles``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from calibration import LEVELS, Scored, prepare, threshold_scale

from ltau_cli.core.calibration.fit import TRIED, fit_calibration, weighted_quantiles
from ltau_cli.core.calibration.maps import Rows
from ltau_cli.core.calibration.model import Calibration
from ltau_cli.core.calibration.support import LikenessTotals
from ltau_cli.core.trajectory import TRAJECTORY
from ltau_cli.settings import KEPT, FitSettings, Method
from scorecard.cases import Case, Flags, Floats, Judged

BOUNDS = np.array([0.5, 0.9, 0.95])
NEIGHBORS = 10  # of Hu et al. 2022 and of the published LTAU
TINY = 1e-12


@dataclass(frozen=True)
class Bars:
    """Predicted error distributions of n atoms.

    Attributes
    ----------
    mean : (n,) float64
        Expected error.
    quantiles : (n, 100) float64
        At ``LEVELS``.
    bounds : (n, 3) float64
        At :data:`BOUNDS`.
    nominal : bool or None
        Whether the way itself calls its 90 % bound nominal, where it can tell.
    """

    mean: Floats
    quantiles: Floats
    bounds: Floats
    nominal: bool | None = None

    def take(self, rows: Flags) -> Bars:
        return Bars(self.mean[rows], self.quantiles[rows], self.bounds[rows], self.nominal)


@dataclass(frozen=True)
class Way:
    """One way.

    Attributes
    ----------
    says : str
        What it is, for the page.
    trainings : int
        Networks that have to be trained.
    prepare : callable
        Of a case; what it returns goes to ``calibrate``.
    calibrate : callable
        Of what was prepared, the case, the calibration atoms and the number of the split.
    evaluations : int or None
        Of networks for each new frame; None is as many as were trained.
    """

    says: str
    trainings: int
    prepare: Callable[[Case], Any]
    calibrate: Callable[[Any, Case, Flags, int], dict[str, Bars]]
    evaluations: int | None = None


# ltau -------------------------------------------------------------------------------------------


def score_ltau(case: Case, settings: FitSettings | None = None) -> dict[str, Scored]:
    """Ingest, fit and score."""
    with tempfile.TemporaryDirectory() as work:
        return prepare(case.folder, list(case.sets), Path(work), settings or FitSettings(), "model")


def score_published(case: Case) -> dict[str, Scored]:
    return score_ltau(case, FitSettings(k=NEIGHBORS, scale="none"))


def rows_of(
    case: Case, change: Callable[[Rows, Judged], Rows] = lambda rows, _: rows
) -> dict[str, Rows]:
    return {
        name: change(replace(scored.rows, own={}), case.sets[name])
        for name, scored in score_ltau(case).items()
    }


def without_structures(rows: Rows, _: Judged) -> Rows:
    return replace(rows, structure=None, structure_distance=None)


def with_trajectory(rows: Rows, judged: Judged) -> Rows:
    return replace(rows, own={TRAJECTORY: np.asarray(judged.trajectory)})


def with_committee(rows: Rows, judged: Judged) -> Rows:
    return replace(rows, own={"spread": committee_spread(judged, 2)})


def calibrate_ltau(
    rows: Mapping[str, Rows],
    case: Case,
    chosen: Flags,
    seed: int,
    baseline: str | None = None,
    methods: Sequence[Method] = TRIED,
) -> dict[str, Bars]:
    """As ``ltau calibrate`` does, or one of the baselines that it fits beside."""
    near = next(iter(rows.values()))
    fitted = fit_calibration(
        near.take(chosen), case.near.error[chosen], methods=methods, levels=BOUNDS,
        thresholds=np.zeros(0), seed=seed,
    ).calibration  # fmt: skip
    bars = {}
    for name, of_set in rows.items():
        predicted = fitted.predict(of_set, baseline)
        quantiles = np.concatenate([values for _, values in predicted.quantiles()])
        nominal = None if baseline else is_nominal(fitted, of_set)
        bars[name] = Bars(predicted.mean, quantiles, predicted.bounds(), nominal)
    return bars


def is_nominal(fitted: Calibration, rows: Rows) -> bool:
    """Whether ``ltau score`` calls the 90 % bound of these rows nominal."""
    n_structures = 0 if rows.structure is None else int(rows.structure.max()) + 1
    likeness = LikenessTotals(fitted, n_structures)
    names = ("relative_distance", "expected_error", *("structure",) * (n_structures > 0))
    likeness.add({name: getattr(rows, name) for name in names})
    return bool(BOUNDS[1] in likeness.result().doubtful_levels)


def calibrate_published(
    scored: Mapping[str, Scored], case: Case, chosen: Flags, seed: int
) -> dict[str, Bars]:
    """Scale the threshold (Vita et al.); the bounds are quantiles of the scaled mixture."""
    near = next(iter(scored.values()))
    threshold = float(near.thresholds[0])
    scale = threshold_scale(near.true_error[chosen], near.uncertainty[chosen, 0], threshold)
    bars = {}
    for name, of_set in scored.items():
        quantiles = scale * of_set.quantiles
        bounds = np.array([np.interp(BOUNDS, LEVELS, row) for row in quantiles])
        bars[name] = Bars(scale * of_set.rows.expected_error, quantiles, bounds)
    return bars


# Scores -----------------------------------------------------------------------------------------


def committee_spread(judged: Judged, n: int) -> Floats:
    """Standard deviation of the forces of n networks, all components together, (n_atoms,)."""
    return np.asarray(np.sqrt(np.stack(judged.forces[:n]).var(axis=0, ddof=1).sum(axis=1)))


def score_committee(case: Case, n: int) -> dict[str, Floats]:
    return {name: committee_spread(judged, n) for name, judged in case.sets.items()}


def score_last_layer(case: Case) -> dict[str, Floats]:
    """Mahalanobis length of the last layer's features, a constant among them (LLPR)."""

    def with_bias(x: Floats) -> Floats:
        return np.column_stack([x, np.ones(len(x))])

    train = with_bias(case.train_descriptors)
    covariance = train.T @ train / len(train)
    covariance += 1e-6 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    inverse = np.linalg.inv(covariance)
    found = {}
    for name, judged in case.sets.items():
        x = with_bias(judged.descriptors)
        found[name] = np.sqrt(np.einsum("ni,ij,nj->n", x, inverse, x))
    return found


def score_mixture(case: Case) -> dict[str, Floats]:
    """Mahalanobis distance from the nearest Gaussian of the atom's species.

    Up to four Gaussians for each species, as many as the Bayesian information criterion wants.
    """
    from sklearn.mixture import GaussianMixture

    fitted = {}
    for species in np.unique(case.train_species):
        own = case.train_descriptors[case.train_species == species]
        floor = 1e-6 * own.var(axis=0).mean() + TINY
        tried = [
            GaussianMixture(n, reg_covar=floor, random_state=0).fit(own)
            for n in (1, 2, 4) if n == 1 or len(own) > 20 * n * own.shape[1] / 4
        ]  # fmt: skip
        fitted[species] = min(tried, key=lambda mixture: mixture.bic(own))

    def distance(x: Floats, species: str) -> Floats:
        mixture = fitted[species]
        away = x[:, None] - mixture.means_
        return np.asarray(
            np.sqrt(np.einsum("nci,cij,ncj->nc", away, mixture.precisions_, away)).min(axis=1)
        )

    def of_set(judged: Judged) -> Floats:
        out = np.zeros(len(judged.error))
        for species in fitted:
            own = judged.species == species
            out[own] = distance(judged.descriptors[own], species) if own.any() else 0
        return out

    return {name: of_set(judged) for name, judged in case.sets.items()}


def score_latent_distance(case: Case) -> dict[str, Floats]:
    """Mean distance to the nearest training atoms (Hu et al., doi 10.1088/2632-2153/aca7b1)."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=NEIGHBORS).fit(case.train_descriptors)
    return {
        name: search.kneighbors(judged.descriptors)[0].mean(axis=1)
        for name, judged in case.sets.items()
    }


def score_llpr(case: Case) -> dict[str, Floats]:
    """The package's own: the spread of the forces of its ensemble of last layers."""
    return {name: np.asarray(judged.llpr) for name, judged in case.sets.items()}


def calibrate_score(
    score: Mapping[str, Floats], case: Case, chosen: Flags, seed: int
) -> dict[str, Bars]:
    near = next(iter(score.values()))
    floor = max(0.01 * float(np.median(near[chosen])), TINY)  # a score of 0 is no error of 0
    ratio = case.near.error[chosen] / np.maximum(near[chosen], floor)
    weight, n = frame_weight(case, chosen)
    bounds = weighted_quantiles(ratio, BOUNDS, weight, n)
    quantiles = weighted_quantiles(ratio, LEVELS, weight, None)
    bars = {}
    for name, values in score.items():
        own = np.maximum(values, floor)[:, None]
        bars[name] = Bars(own[:, 0] * float(weight @ ratio), own * quantiles, own * bounds)
    return bars


@dataclass
class Column:
    """A regressor, fitted as scikit-learn sees it, that returns a column times a factor."""

    factor: float = 1.0
    n_features_in_: int = 1

    def fit(self, x: Floats, y: Floats) -> Column:
        return self

    def predict(self, x: Floats) -> Floats:
        return self.factor * np.asarray(x)[:, 0]


def calibrate_mapie(
    score: Mapping[str, Floats], case: Case, chosen: Flags, seed: int
) -> dict[str, Bars]:
    """MAPIE's split-conformal prediction of an error: none is expected, the score is its size.

    Every atom is a draw of its own, frames are not known.
    """
    from mapie.conformity_scores import ResidualNormalisedScore
    from mapie.regression import SplitConformalRegressor

    near = next(iter(score.values()))
    edge = 1 / (chosen.sum() - 0.5)  # MAPIE refuses levels that so few atoms cannot tell
    mapie = SplitConformalRegressor(
        Column(0.0),
        confidence_level=np.clip([*LEVELS, *BOUNDS], edge, 1 - edge),
        conformity_score=ResidualNormalisedScore(Column(), prefit=True),
    ).conformalize(near[chosen, None], case.near.error[chosen])
    bars = {}
    for name, values in score.items():
        upper = mapie.predict_interval(values[:, None])[1][:, 1]
        quantiles, bounds = np.split(upper, [len(LEVELS)], axis=1)
        bars[name] = Bars(quantiles.mean(axis=1), quantiles, bounds)
    return bars


def calibrate_learned(_: None, case: Case, chosen: Flags, seed: int) -> dict[str, Bars]:
    """MAPIE's split-conformal prediction, with sizes of errors that half of the rows teach."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    random = np.random.default_rng(seed)
    learn = np.zeros(len(chosen), dtype=bool)
    learn[random.permutation(np.flatnonzero(chosen))[: chosen.sum() // 2]] = True
    trees = HistGradientBoostingRegressor(loss="gamma", max_iter=50, random_state=0)
    trees.fit(case.near.descriptors[learn], np.maximum(case.near.error[learn], TINY))
    score = {name: trees.predict(judged.descriptors) for name, judged in case.sets.items()}
    return calibrate_mapie(score, case, chosen & ~learn, seed)


def frame_weight(case: Case, chosen: Flags) -> tuple[Floats, int]:
    """Weight of each calibration atom, every frame alike, with sum 1; number of frames."""
    _, place, size = np.unique(case.near.structure[chosen], return_inverse=True, return_counts=True)
    return 1 / size[place] / len(size), len(size)


# Quantile regression ----------------------------------------------------------------------------


def score_boosting(case: Case) -> dict[str, Floats]:
    """Quantiles of the error at :data:`BOUNDS`, (n, 3), learned from the training errors."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    known = np.isfinite(case.last_error)
    columns = []
    for level in BOUNDS:
        trees = HistGradientBoostingRegressor(
            loss="quantile", quantile=level, max_iter=100, random_state=0
        ).fit(case.train_descriptors[known], case.last_error[known])
        columns.append([trees.predict(judged.descriptors) for judged in case.sets.values()])
    return {name: np.stack(of_set, axis=1)
            for name, *of_set in zip(case.sets, *columns, strict=True)}  # fmt: skip


def calibrate_boosting(
    quantiles: Mapping[str, Floats], case: Case, chosen: Flags, seed: int
) -> dict[str, Bars]:
    """Each bound is its own quantile, scaled conformally; the median gives all else."""
    by_level = [
        calibrate_score({name: values[:, i] for name, values in quantiles.items()}, case, chosen, 0)
        for i in range(len(BOUNDS))
    ]
    return {
        name: replace(
            bars, bounds=np.stack([found[name].bounds[:, i] for i, found in enumerate(by_level)], 1)
        )
        for name, bars in by_level[0].items()
    }


# All --------------------------------------------------------------------------------------------

LTAU, ON_THE_WAY, LLPR, MAPIE = (
    "ltau",
    "ltau, trajectory",
    "LLPR (metatrain)",
    "latent distance, MAPIE",
)
LEARNED = "learned errors, MAPIE"
OF_ATOMS = ("ltau, no structures", "mean of the species")  # nothing else for the rows of a table
WAYS = {
    LTAU: Way("its defaults", 1, rows_of, calibrate_ltau),
    ON_THE_WAY: Way(
        f"`ltau describe --trajectory`: {KEPT} weights that were kept during the training", 1,
        partial(rows_of, change=with_trajectory), calibrate_ltau, 1 + KEPT,
    ),
    "ltau, no structures": Way(
        "atoms that are not known to belong together", 1,
        partial(rows_of, change=without_structures), calibrate_ltau,
    ),
    "ltau, method scale": Way(
        "`--method scale`: without the distances", 1, rows_of,
        partial(calibrate_ltau, methods=["scale"]),
    ),
    "ltau, last epoch": Way(
        "the errors of the last epoch alone", 1, rows_of,
        partial(calibrate_ltau, baseline="last epoch"),
    ),
    "ltau, committee of two": Way(
        "the spread of two networks as `--feature`", 2,
        partial(rows_of, change=with_committee), calibrate_ltau,
    ),
    "published LTAU": Way(
        "k = 10, descriptors as they are, a scaled threshold (doi 10.1088/2632-2153/adb4b9)", 1,
        score_published, calibrate_published,
    ),
    "ensemble of two": Way("spread of the predictions, scaled", 2,
                           partial(score_committee, n=2), calibrate_score),
    "ensemble of four": Way("spread of the predictions, scaled", 4,
                            partial(score_committee, n=4), calibrate_score),
    "last layer (LLPR)": Way(
        "Mahalanobis length of our descriptors, scaled (doi 10.1088/2632-2153/ad805f)", 1,
        score_last_layer, calibrate_score,
    ),
    LLPR: Way(
        "spread of the forces of its ensemble of last layers, scaled", 1,
        score_llpr, calibrate_score,
    ),
    "Gaussian mixture": Way(
        "Mahalanobis distance from the nearest Gaussian of the species, as GRACE's γ, scaled", 1,
        score_mixture, calibrate_score,
    ),
    "latent distance": Way(
        "mean distance to 10 training samples, scaled (doi 10.1088/2632-2153/aca7b1)", 1,
        score_latent_distance, calibrate_score,
    ),
    MAPIE: Way(
        "the same, by `SplitConformalRegressor` of MAPIE, for which every row is a draw", 1,
        score_latent_distance, calibrate_mapie,
    ),
    LEARNED: Way(
        "gradient boosting on descriptors learns the errors of half of the calibration rows, in "
        "MAPIE's `ResidualNormalisedScore`", 1, lambda case: None, calibrate_learned,
    ),
    "quantile boosting": Way(
        "gradient boosting on descriptors learns the training errors; scaled", 1,
        score_boosting, calibrate_boosting,
    ),
    "constant": Way("the same bar for all", 1, rows_of,
                    partial(calibrate_ltau, baseline="constant")),
    "mean of the species": Way("the same bar for all atoms of a species", 1, rows_of,
                               partial(calibrate_ltau, baseline="group mean")),
}  # fmt: skip


def ways_for(case: Case) -> dict[str, Way]:
    """Those for which there are enough networks, and what else they need."""
    there = {
        ON_THE_WAY: all(judged.trajectory is not None for judged in case.sets.values()),
        LLPR: all(judged.llpr is not None for judged in case.sets.values()),
        MAPIE: find_spec("mapie") is not None,
        LEARNED: case.near.is_table and find_spec("mapie") is not None,
        **dict.fromkeys(OF_ATOMS, not case.near.is_table),
    }
    return {
        name: way
        for name, way in WAYS.items()
        if way.trainings <= max(1, case.members) and there.get(name, True)
    }
