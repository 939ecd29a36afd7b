"""Maps from what scores say of a row to its calibrated mean error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from ltau_cli.array_types import Array, Floats, Integers
from ltau_cli.core.trajectory import TRAJECTORY

FEATURES = (
    "expected_error", "relative_distance", "structure_distance", "neighbor_distance",
    "far_structure", "far_row", "last_epoch_error", "far_table_row",
)  # fmt: skip

ERRORS = ("expected_error", "last_epoch_error")


@dataclass(frozen=True)
class Belief:
    """An exponent before it has seen a calibration row, and its standard deviation over models."""

    mean: float
    spread: float


# Mean and standard deviation over models, see `python -m scorecard.prior` and docs/calibration.md;
# docs/scorecard.md has other models, which these were not chosen on. A feature of SOURCE has the
# exponent beyond :data:`FAR`, its source the one before. :func:`name_prior` chooses.
PRIORS: Mapping[str, Mapping[str, Belief]] = {
    "trained": {
        "expected_error": Belief(1.1, 0.2),
        "relative_distance": Belief(0.5, 0.25),
        "structure_distance": Belief(1.7, 0.6),
        "far_structure": Belief(0.7, 0.35),
    },
    "trained, by row": {
        "expected_error": Belief(1.2, 0.25),
        "relative_distance": Belief(1.6, 0.4),
        "far_row": Belief(0.6, 0.35),
    },
    "trained, trajectory": {
        "expected_error": Belief(0.75, 0.25),
        "relative_distance": Belief(0.4, 0.2),
        "structure_distance": Belief(1.4, 0.5),
        "far_structure": Belief(0.6, 0.3),
        TRAJECTORY: Belief(0.4, 0.3),
    },
    "trained, by row, trajectory": {
        "expected_error": Belief(0.7, 0.3),
        "relative_distance": Belief(1.2, 0.3),
        "far_row": Belief(0.5, 0.3),
        TRAJECTORY: Belief(0.45, 0.3),
    },
    "labeled": {  # errors of frames that a network was not trained on
        "expected_error": Belief(1.0, 0.3),
        "relative_distance": Belief(0.4, 0.3),
        "structure_distance": Belief(0.5, 0.3),
        "far_structure": Belief(-0.4, 0.3),
    },
    "table": {
        "expected_error": Belief(0.4, 0.4),
        "last_epoch_error": Belief(0.4, 0.4),
        "relative_distance": Belief(0.4, 0.4),
        "far_table_row": Belief(1.4, 0.6),
    },
}
# A feature of the user's own: a committee of two had 0.23 to 0.29, others may have more or none.
PRIOR_OF_USER = Belief(0.25, 0.5)
SEVERAL_SETS = 1.0  # spread of the exponents of distances where the rows come from several sets
# No power law holds exactly: its logarithm may be off by this much (one standard deviation) within
# the calibration rows. So the exponents never rest on them alone, however many there are. But for
# rows of a table, which are independent: enough of them decide.
MISFIT = 0.15
_STEPS = 100
_LEAST = 1e-6  # penalty, so that a feature that does not vary has an exponent
# A feature below this share of its median over the calibration rows counts as that share: an atom
# in a perfect crystal has an expected error of 0, one that was trained on has a distance of 0, and
# neither says that the error is 0. The medians of the models at hand are far above.
FLOORS = {"relative_distance": 0.1, "structure_distance": 0.1, "neighbor_distance": 0.1}
FLOOR = 0.01  # of the others
# The features that bend the law, where errors were seen to grow more slowly (of tables: faster):
# these distances, with `FAR` as their smallest value and `FARTHEST` as the largest. Beyond it the
# exponent is that of the source again.
SOURCE = {
    "far_structure": "structure_distance",
    "far_row": "relative_distance",
    "far_table_row": "relative_distance",
}
FAR = {"far_structure": 1.5, "far_row": 2.0, "far_table_row": 1.25}
FARTHEST = {"far_table_row": 5.0}
# No power law holds for ever: a network that knows nothing is off by about the size of the forces.
# In the law of atoms, distances above these count as these: on the development systems errors grow
# no more there, and no bar can become absurd.
SATURATED = {
    "relative_distance": 5.0, "structure_distance": 3.0, "far_structure": 3.0, "far_row": 5.0,
}  # fmt: skip
DISTANCES = {*FLOORS, *SOURCE}


@dataclass(frozen=True)
class Rows:
    """What the scores say of n rows."""

    expected_error: Floats  # (n,), error units
    relative_distance: Floats  # (n,)
    neighbor_distance: Floats  # (n,)
    # (n,): geometric mean of the relative distances in the row's structure
    structure_distance: Floats | None = None
    structure: Integers | None = None  # (n,)
    group: Array | None = None  # (n,) labels
    # (n,) labels: rows that were drawn together, such as the structures of one trajectory
    draws: Array | None = None
    # (n,): set that the row came from, where there are several
    dataset: Integers | None = None
    # (n,): expected error by the last epoch alone, in error units
    last_epoch_error: Floats | None = None
    # dict of str to (n,) float64: features of the user's own, at least 0
    own: Mapping[str, Floats] = field(default_factory=dict)
    is_trained: bool = True  # the log is that of a training, not the errors of a trained network
    is_table: bool = False  # the rows are no atoms: each is independent of the others

    def __len__(self) -> int:
        return len(self.expected_error)

    def take(self, rows: Array) -> Rows:
        """Return some of the rows."""
        arrays = {name: getattr(self, name) for name in PER_ROW}
        return replace(
            self,
            **{name: None if v is None else v[rows] for name, v in arrays.items()},  # type: ignore[arg-type]
            own={name: v[rows] for name, v in self.own.items()},
        )

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all features: :data:`FEATURES`, then the user's own."""
        return (*FEATURES, *self.own)

    def feature(self, name: str) -> Floats | None:
        """Values of a feature; None if they are not known."""
        return self.own[name] if name in self.own else getattr(self, SOURCE.get(name, name), None)

    @property
    def draw(self) -> Integers:
        """Which rows were drawn together, else structure, else row; (n,), from 0."""
        label = self.structure if self.draws is None else self.draws
        if label is None:
            return np.arange(len(self))
        place: Integers = np.unique(label, return_inverse=True)[1]
        return place

    @property
    def weight(self) -> Floats:
        """Weight of each row, (n,) with sum 1: every set the same, in it every draw the same."""
        draw = self.draw
        one = np.zeros(len(self), dtype=np.int64) if self.dataset is None else self.dataset
        total = np.zeros(len(self))
        for name in np.unique(one):
            own = one == name
            _, place, n = np.unique(draw[own], return_inverse=True, return_counts=True)
            total[own] = 1 / n[place]
            total[own] /= total[own].sum()
        out: Floats = total / total.sum()
        return out

    @property
    def by_structure(self) -> bool:
        """Whether the mean distance of a structure says more than that of the row itself."""
        if self.structure_distance is None:
            return False
        return self.structure is None or len(np.unique(self.structure)) < len(self)

    def log(self, feature: str, floor: float) -> Floats:
        """Logarithm of a feature; values below ``floor`` count as that."""
        values = self.feature(feature)
        if values is None:
            raise ValueError(f"{feature} is not known")
        out: Floats = np.log(np.clip(values, floor, FARTHEST.get(feature)))
        return out

    def logs(self, features: Sequence[str], floors: Floats, *, of_table: bool) -> Floats:
        """Logarithms of the features of a law, (n, n_features); of atoms they saturate."""
        most = {} if of_table else SATURATED
        columns = [
            np.minimum(self.log(feature, floor), np.log(most.get(feature, np.inf)))
            for feature, floor in zip(features, floors, strict=True)
        ]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self), 0))

    def floors(self) -> Floats:
        """Smallest value that counts of each of the features, (n_features,), above 0."""
        found = np.ones(len(self.features))
        for i, feature in enumerate(self.features):
            values = self.feature(feature)
            values = np.zeros(0) if values is None else values[values > 0]
            if feature in SOURCE:
                found[i] = FAR[feature]
            elif len(values):
                found[i] = FLOORS.get(feature, FLOOR) * np.median(values)
        return found


PER_ROW = [one.name for one in fields(Rows) if one.name[:3] not in ("own", "is_")]


def join_rows(sets: Sequence[Rows]) -> Rows:
    """Put the rows of several sets, which know the same of them, one after the other.

    Structures and draws of two sets differ.
    """

    def numbered(labels: Sequence[Array | None]) -> Integers | None:
        found, n = [], 0
        for label in labels:
            if label is None:
                return None
            names, place = np.unique(label, return_inverse=True)
            found.append(place + n)
            n += len(names)
        return np.concatenate(found)

    def joined(name: str) -> Array | None:
        values = [getattr(rows, name) for rows in sets]
        return None if any(v is None for v in values) else np.concatenate(values)

    return replace(
        sets[0],
        **{name: joined(name) for name in PER_ROW}  # type: ignore[arg-type]
        | {
            "structure": numbered([rows.structure for rows in sets]),
            "draws": numbered([rows.draws for rows in sets]),
            "dataset": np.repeat(np.arange(len(sets)), [len(rows) for rows in sets]),
        },
        own={name: np.concatenate([rows.own[name] for rows in sets]) for name in sets[0].own},
    )


@dataclass(frozen=True)
class ErrorMap:
    """log E = coefficients[0] + sum_f coefficients[1 + f] log(feature f)."""

    coefficients: Floats  # (1 + n_features,): the constant, then the exponents of :data:`FEATURES`
    floors: Floats  # (n_features,): features below these count as these
    # (n_features,): mean logarithm of the features over the rows that were fitted on
    center: Floats
    covariance: Floats  # (n_features, n_features): of the exponents: what is not known of them
    features: tuple[str, ...] = FEATURES  # their names: :data:`FEATURES`, then the user's own

    @property
    def used(self) -> set[str]:
        """Features that rows must know."""
        used = (self.coefficients[1:] != 0) | (np.diag(self.covariance) != 0)
        return {name for name, is_used in zip(self.features, used, strict=True) if is_used}

    def exponents(self) -> dict[str, float]:
        """Return the exponents that are not 0, by feature."""
        pairs = zip(self.features, self.coefficients[1:], strict=True)
        return {name: float(value) for name, value in pairs if value != 0}

    @property
    def needs_structures(self) -> bool:
        """Whether rows must say which structure they belong to."""
        return not self.used.isdisjoint(("structure_distance", "far_structure"))

    def apply(self, rows: Rows) -> Floats:
        """Calibrated mean error of each row, (n,) in error units."""
        used = np.flatnonzero(self.coefficients[1:])
        total = self.coefficients[0] + self._logs(rows, used) @ self.coefficients[1 + used]
        return np.asarray(np.exp(total))

    def spread(self, rows: Rows) -> Floats:
        """How far the logarithm of :meth:`apply` is in doubt, (n,): one standard deviation."""
        used = np.flatnonzero(np.diag(self.covariance))
        away = self._logs(rows, used) - self.center[used]
        square = np.einsum("ij,jk,ik->i", away, self.covariance[np.ix_(used, used)], away)
        return np.asarray(np.sqrt(np.maximum(square, 0.0)))

    def _logs(self, rows: Rows, used: Integers) -> Floats:
        names = [self.features[i] for i in used]
        return rows.logs(names, self.floors[used], of_table="far_table_row" in self.used)


def power_law(rows: Rows, **exponents: float) -> ErrorMap:
    """Return the map E = prod_f feature_f ** exponent_f, with the floors of some rows."""
    names, floors = rows.features, rows.floors()
    values, n = [0.0, *(exponents.get(feature, 0.0) for feature in names)], len(names)
    return ErrorMap(np.array(values), floors, np.zeros(n), np.zeros((n, n)), names)


def fit_scale(rows: Rows, true_error: Floats) -> ErrorMap:
    """E = s * expected error with the mean error matched."""
    return _scaled(power_law(rows, expected_error=1.0), rows, true_error)


def fit_constant(rows: Rows, true_error: Floats) -> ErrorMap:
    """E = mean true error, whatever the row: a baseline."""
    return _scaled(power_law(rows), rows, true_error)


def fit_neighbor_distance(rows: Rows, true_error: Floats) -> ErrorMap:
    """E = s * neighbor distance ** e, without any logged error: a baseline."""
    return fit_power_law(rows, true_error, {"neighbor_distance": Belief(0.0, np.inf)})


def name_prior(rows: Rows) -> str:
    """Name the prior of :data:`PRIORS` for some rows."""
    if rows.is_table:
        return "table"
    if not rows.is_trained and rows.by_structure:
        return "labeled"
    own = rows.own.get(TRAJECTORY, np.zeros(0))
    kind = "trained" + ", by row" * (not rows.by_structure)
    return kind + ", trajectory" * bool((own > 0).any())


def fit_distance(rows: Rows, true_error: Floats, *, error: str | None = None) -> ErrorMap:
    """Fit log E = a + b log m + c log r + g log R + h log max(R, FAR), and the user's own features.

    So the exponent of R is g up to FAR, g + h beyond, and 0 beyond :data:`SATURATED` (of tables g
    beyond FARTHEST). m is the expected error, r the relative distance and R the mean of r over the
    row's structure; without structures (or where every structure is a row) r takes the place of R.
    The exponents are drawn toward those that held for other models (:data:`PRIORS`), because
    calibration sets are drawn near the training set: they say little about the exponents of
    distances, which far away decide everything. Where the rows come from several sets, they do. Of
    a table, the error of the last epoch stands beside m. One ``error`` may take the place of both.
    """
    prior = dict(PRIORS[name_prior(rows)])
    if error is not None:
        of_errors = [prior.pop(f) for f in ERRORS if f in prior]
        joint = Belief(sum(belief.mean for belief in of_errors), of_errors[0].spread)
        prior = {error: joint} | prior
    if rows.dataset is not None and np.ptp(rows.dataset) > 0:
        prior = {
            f: b if f in ERRORS else Belief(b.mean, max(b.spread, SEVERAL_SETS))
            for f, b in prior.items()
        }
    own = [f for f, values in rows.own.items() if (values > 0).any()]
    prior |= {f: PRIOR_OF_USER for f in own if f not in prior}
    return fit_power_law(rows, true_error, prior, misfit=0.0 if rows.is_table else MISFIT)


def fit_last_epoch(rows: Rows, true_error: Floats) -> ErrorMap:
    """Fit as :func:`fit_distance`, with the expected error of the last epoch alone: a baseline."""
    return fit_distance(rows, true_error, error="last_epoch_error")


def fit_power_law(
    rows: Rows, true_error: Floats, prior: Mapping[str, Belief], none: Sequence[str] = (),
    *, misfit: float = MISFIT,
) -> ErrorMap:  # fmt: skip
    """Fit a penalized Gamma regression with log link to n rows by Fisher scoring.

    The exponents maximize their posterior: prior times the likelihood of the rows, of which every
    draw counts as one observation with the variance of true over predicted error, and all together
    never for more than the ``misfit`` of the law allows. The prior names the features of the law;
    with an infinite spread it says nothing. Those in ``none`` get the exponent 0. ``true_error``
    (n,) is in error units.
    """
    floors, weight, names = rows.floors(), rows.weight, list(prior)
    free = [i for i, f in enumerate(names) if f not in none]
    if not free:
        return fit_constant(rows, true_error)
    place = np.array([rows.features.index(f) for f in names])
    logs = rows.logs(names, floors[place], of_table="far_table_row" in prior)
    to_coefficients = _to_coefficients(names)
    center = weight @ logs
    of_all = (logs - center) @ to_coefficients
    away = of_all[:, free]
    information = of_all.T @ (weight[:, None] * of_all)
    mean = np.array([belief.mean for belief in prior.values()])[free]
    precision = np.array([max(belief.spread**-2.0, _LEAST) for belief in prior.values()])
    n = int(rows.draw.max()) + 1
    exponents = mean.copy()
    for _ in range(_STEPS):
        ratio = true_error * np.exp(-away @ exponents)
        ratio /= weight @ ratio
        variance = max(float(weight @ (ratio - 1) ** 2) / n + misfit**2, _LEAST)
        penalty = np.maximum(variance * precision[free], _LEAST)
        slope = away.T @ (weight * (ratio - 1)) - penalty * (exponents - mean)
        step = np.linalg.solve(information[np.ix_(free, free)] + np.diag(penalty), slope)
        step /= max(1.0, float(np.abs(step).max()))
        exponents += step
        if np.abs(step).max() < 1e-8:
            break
    falling = [names[i] for i in np.array(free)[exponents < 0] if names[i] in DISTANCES]
    if falling:  # errors do not shrink with a distance
        return fit_power_law(rows, true_error, prior, [*none, falling[0]], misfit=misfit)
    coefficients = (to_coefficients[:, free] @ exponents).tolist()
    found = power_law(rows, **dict(zip(names, coefficients, strict=True)))
    # an exponent that was set to 0 is no better known than another
    posterior = np.linalg.inv(information / variance + np.diag(precision))
    known = [i for i, f in enumerate(names) if f not in ERRORS and np.isfinite(prior[f].spread)]
    of_distances = to_coefficients[:, known]
    found.covariance[np.ix_(place, place)] = (
        of_distances @ posterior[np.ix_(known, known)] @ of_distances.T
    )
    found.center[place] = np.where(of_distances.any(axis=1), center, 0.0)
    return _scaled(found, rows, true_error)


def _to_coefficients(names: Sequence[str]) -> Floats:
    """Matrix (n, n): R^g up to FAR and R^f beyond has the coefficients g and h = f - g."""
    matrix = np.eye(len(names))
    for far, source in SOURCE.items():
        if far in names and source in names:
            matrix[names.index(far), names.index(source)] = -1.0
    return matrix


def _scaled(error_map: ErrorMap, rows: Rows, true_error: Floats) -> ErrorMap:
    """Scale a power law so that true over predicted error is 1 on average."""
    coefficients = error_map.coefficients.copy()
    coefficients[0] += np.log(rows.weight @ (true_error / error_map.apply(rows)))
    return replace(error_map, coefficients=coefficients)
