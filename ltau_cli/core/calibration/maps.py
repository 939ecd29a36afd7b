"""Maps from what scores say of a row to its calibrated mean error."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FEATURES = ("expected_error", "relative_distance", "structure_distance", "neighbor_distance")
# Exponents of the power law before it has seen a calibration row, and how far (one standard
# deviation) they are expected to differ between models and materials; docs/calibration.md says
# which models these were measured on. One structure counts as one observation.
PRIOR_WITH_STRUCTURES = {"expected_error": 1.0, "relative_distance": 0.6, "structure_distance": 2.0}
PRIOR_BY_ROW = {"expected_error": 1.0, "relative_distance": 1.3}
PRIOR_SPREAD = 0.3
_PASSES = 3
_LEAST = 1e-6  # penalty, so that a feature that does not vary has an exponent
# A feature below this share of its median over the calibration rows counts as that share: an atom
# in a perfect crystal has an expected error of 0, one that was trained on has a distance of 0, and
# neither says that the error is 0. The medians of the models at hand are far above.
FLOORS = {"expected_error": 0.01, "relative_distance": 0.1, "structure_distance": 0.1,
          "neighbor_distance": 0.1}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """What the scores say of n rows.

    Attributes
    ----------
    expected_error : (n,) float64
        Error units.
    relative_distance, neighbor_distance : (n,) float64
    structure_distance : (n,) float64 or None
        Geometric mean of the relative distances in the row's structure.
    structure : (n,) int64 or None
    group : (n,) labels or None
    """

    expected_error: Floats
    relative_distance: Floats
    neighbor_distance: Floats
    structure_distance: Floats | None = None
    structure: npt.NDArray[np.int64] | None = None
    group: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.expected_error)

    def take(self, rows: npt.NDArray[Any]) -> Rows:
        """Return some of the rows."""
        return Rows(*(None if v is None else v[rows] for v in vars(self).values()))  # type: ignore[arg-type]

    def log(self, feature: str, floor: float) -> Floats:
        """Logarithm of a feature; values below ``floor`` count as that."""
        values = getattr(self, feature)
        if values is None:
            raise ValueError(f"{feature} is not known")
        out: Floats = np.log(np.maximum(values, floor))
        return out

    def floors(self) -> Floats:
        """Smallest value that counts of each of :data:`FEATURES`, (n_features,), above 0."""
        found = np.ones(len(FEATURES))
        for i, feature in enumerate(FEATURES):
            values = getattr(self, feature)
            values = np.zeros(0) if values is None else values[values > 0]
            if len(values):
                found[i] = FLOORS[feature] * np.median(values)
        return found


@dataclass(frozen=True)
class ErrorMap:
    """log E = coefficients[0] + sum_f coefficients[1 + f] log(feature f); or a table.

    Attributes
    ----------
    coefficients : (1 + n_features,) float64
        The constant, then the exponents of :data:`FEATURES`.
    knots : (2, n_knots) float64
        Expected errors and calibrated errors, linear in between; empty for a power law.
    floors : (n_features,) float64
        Features below these count as these.
    """

    coefficients: Floats
    knots: Floats
    floors: Floats

    @property
    def needs_structures(self) -> bool:
        """Whether rows must say which structure they belong to."""
        return bool(self.coefficients[1 + FEATURES.index("structure_distance")] != 0)

    def apply(self, rows: Rows) -> Floats:
        """Calibrated mean error of each row, (n,) in error units."""
        if self.knots.size:
            return np.asarray(np.interp(rows.expected_error, self.knots[0], self.knots[1]))
        total = np.full(len(rows), self.coefficients[0])
        for feature, exponent, floor in zip(
            FEATURES, self.coefficients[1:], self.floors, strict=True
        ):
            if exponent != 0:
                total += exponent * rows.log(feature, floor)
        out: Floats = np.exp(total)
        return out


def power_law(floors: Floats, **exponents: float) -> ErrorMap:
    """Return the map E = prod_f feature_f ** exponent_f."""
    values = [0.0, *(exponents.get(feature, 0.0) for feature in FEATURES)]
    return ErrorMap(np.array(values), np.zeros((2, 0)), floors)


def fit_scale(rows: Rows, true_error: Floats) -> ErrorMap:
    """E = s * expected error with the mean error matched."""
    return _scaled(power_law(rows.floors(), expected_error=1.0), rows, true_error)


def fit_constant(rows: Rows, true_error: Floats) -> ErrorMap:
    """E = mean true error, whatever the row: a baseline."""
    return _scaled(power_law(rows.floors()), rows, true_error)


def fit_neighbor_distance(rows: Rows, true_error: Floats) -> ErrorMap:
    """E = s * neighbor distance ** e, without any logged error: a baseline."""
    return _fit_power_law(rows, true_error, {"neighbor_distance": 0.0}, strength=0.0)


def fit_distance(rows: Rows, true_error: Floats) -> ErrorMap:
    """Fit log E = a + b log m + c log r + g log R by a penalized Gamma regression with log link.

    m is the expected error, r the relative distance and R the mean of r over the row's structure
    (without structures: R is left out). The exponents are drawn toward those that held for other
    models (:data:`PRIOR_WITH_STRUCTURES`), because calibration sets are drawn near the training
    set: they say little about the exponents of distances, which far away decide everything.
    """
    prior = PRIOR_BY_ROW if rows.structure_distance is None else PRIOR_WITH_STRUCTURES
    found = _scaled(power_law(rows.floors(), **prior), rows, true_error)
    n = len(rows) if rows.structure is None else len(np.unique(rows.structure))
    for _ in range(_PASSES):  # a dispersion around a prior that is far off would hold on to it
        dispersion = float(np.var(true_error / found.apply(rows)))
        strength = dispersion / (n * PRIOR_SPREAD**2)
        found = _fit_power_law(rows, true_error, prior, strength=strength)
    return found


def fit_isotonic(rows: Rows, true_error: Floats) -> ErrorMap:
    """E as any function that grows with the expected error (scikit-learn's isotonic regression)."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(rows.expected_error, true_error)
    lowest = float(true_error[true_error > 0].min())
    knots = np.array([fitted.X_thresholds_, np.maximum(fitted.y_thresholds_, lowest)])
    return replace(power_law(rows.floors()), knots=knots)


def _fit_power_law(
    rows: Rows, true_error: Floats, prior: dict[str, float], *, strength: float
) -> ErrorMap:
    """Fit by scikit-learn; errors over their prior prediction, so that it shrinks to the prior."""
    from sklearn.linear_model import GammaRegressor

    floors = rows.floors()
    start = _scaled(power_law(floors, **prior), rows, true_error)
    ratio = true_error / start.apply(rows)
    features = np.stack([rows.log(f, floors[FEATURES.index(f)]) for f in prior], axis=1)
    center = features.mean(axis=0)
    alpha = max(strength, _LEAST)
    model = GammaRegressor(alpha=alpha, solver="newton-cholesky", tol=1e-8, max_iter=1000)
    model.fit(features - center, np.maximum(ratio, 1e-6 * ratio.mean()))
    exponents = {f: p + float(d) for (f, p), d in zip(prior.items(), model.coef_, strict=True)}
    return _scaled(power_law(floors, **exponents), rows, true_error)


def _scaled(error_map: ErrorMap, rows: Rows, true_error: Floats) -> ErrorMap:
    """Scale a power law so that true over predicted error is 1 on average, row by row."""
    coefficients = error_map.coefficients.copy()
    coefficients[0] += np.log(np.mean(true_error / error_map.apply(rows)))
    return replace(error_map, coefficients=coefficients)
