"""Calibrated errors, bounds and probabilities from scores, fitted on rows of known error."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ltau_cli.array_types import Array, Floats, Integers
from ltau_cli.core.calibration.maps import FEATURES, ErrorMap, Rows
from ltau_cli.core.calibration.predicted import Predicted
from ltau_cli.settings import Method

RATIO_LEVELS: Floats = (np.arange(100) + 0.5) / 100


@dataclass(frozen=True)
class Strata:
    """Which rows share their bounds: groups of the user, and bins of the relative distance."""

    groups: Array  # (n_groups,) labels: increasing; empty without groups
    distance_edges: Floats  # (n_bins - 1,): inner edges of the bins, increasing

    def of(self, rows: Rows) -> Integers:
        """Stratum of each row, (n,) int64: each group's bins, then the bins of no known group."""
        group = np.full(len(rows), len(self.groups))
        if len(self.groups) and rows.group is not None:
            names, wanted = self.groups.astype(np.str_), rows.group.astype(np.str_)  # 8 is "8"
            order = np.argsort(names)
            place = order[np.minimum(np.searchsorted(names[order], wanted), len(names) - 1)]
            group = np.where(names[place] == wanted, place, group)
        return np.asarray(group * self.n_bins + self.bins(rows), dtype=np.int64)

    @property
    def n_bins(self) -> int:
        """Bins of the relative distance."""
        return len(self.distance_edges) + 1

    def bins(self, rows: Rows) -> Integers:
        """Bin of each row, (n,) int64, the nearest first."""
        return np.searchsorted(self.distance_edges, rows.relative_distance, side="right")


@dataclass(frozen=True)
class Predictor:
    """A predicted error distribution: a mean for each row, times the distribution of the ratio."""

    map: ErrorMap  # gives the mean, and how far it is in doubt
    bound_ratio: Floats  # (n_strata, n_levels): conformal bounds of true over mean error
    # (n_strata, 100): quantiles of true over mean error at :data:`RATIO_LEVELS`
    ratio_quantiles: Floats


@dataclass(frozen=True)
class Calibration:
    """All that is fitted."""

    method: Method  # a key of :data:`METHODS`
    levels: Floats  # (n_levels,): coverage levels of the bounds
    strata: Strata
    # (n, 4): what was fitted on, see :func:`ltau_cli.core.calibration.support.describe_draws`
    draws: Floats
    predictor: Predictor
    # ``constant``, ``neighbor distance`` and, with groups, ``group mean``, which the method must
    # beat; where the scores know it, ``last epoch``: the method without the rest of the trajectory.
    # They have no strata
    baselines: Mapping[str, Predictor]
    # (n_groups,) labels: groups of the calibration rows, increasing; empty without groups
    groups: Array
    group_error: Floats  # (n_groups + 1,): mean true error of each group, and of all rows
    thresholds: Floats  # (n_thresholds,), error units
    threshold_scale: Floats  # (n_thresholds,): the scale that makes their uncertainty hold

    @property
    def own_features(self) -> tuple[str, ...]:
        """Names of the user's own features that the rows came with."""
        return self.predictor.map.features[len(FEATURES) :]

    def predict(self, rows: Rows, baseline: str | None = None) -> Predicted:
        """Predict the error distribution of each row, after a baseline if one is named."""
        own = self.predictor if baseline is None else self.baselines[baseline]
        if baseline == GROUP_MEAN:
            mean = self.group_error[Strata(self.groups, np.zeros(0)).of(rows)]
        else:
            mean = own.map.apply(rows)
        stratum = self.strata.of(rows) if baseline is None else np.zeros(len(rows), dtype=np.int64)
        return Predicted(
            mean, own.map.spread(rows), stratum, own.ratio_quantiles, RATIO_LEVELS, own.bound_ratio,
            self.levels,
        )  # fmt: skip


GROUP_MEAN = "group mean"
LAST_EPOCH = "last epoch"
