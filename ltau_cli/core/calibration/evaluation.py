"""All metrics of a calibrated set: overall, by group, by distance, and of the baselines."""

import itertools

import numpy as np

from ltau_cli.array_types import Array, Bools, Floats
from ltau_cli.core.calibration.maps import Rows
from ltau_cli.core.calibration.metrics import measure, measure_plain, rank_ceiling
from ltau_cli.core.calibration.model import Calibration
from ltau_cli.core.calibration.predicted import Predicted
from ltau_cli.results import CALIBRATED, BinMetrics, Evaluation, GroupMetrics, Metrics

DISTANCE_EDGES = (1.25, 1.5, 2.0, 3.0)  # of relative distance


def evaluate(
    rows: Rows, true_error: Floats, calibration: Calibration, *, labels: Array | None = None
) -> Evaluation:
    """Measure the calibrated errors of n rows, and what they must beat.

    ``true_error`` (n,) is in error units, the calibration was fitted on other rows. ``labels``
    (n,) are groups to tell apart; those that chose the bounds by default.
    """
    own = calibration.predict(rows)
    labels, draw = rows.group if labels is None else labels, rows.draw
    predictors = {CALIBRATED: own} | {
        name: calibration.predict(rows, name) for name in calibration.baselines
    }

    def of(predicted: Predicted, part: Bools | None = None) -> Metrics:
        return measure(true_error, predicted, draw=draw, group=labels, rows=part)

    groups = [
        GroupMetrics(group=name.item(), **vars(of(own, labels == name)))
        for name in ([] if labels is None else np.unique(labels))
    ]
    bins = []
    for low, high in itertools.pairwise((0.0, *DISTANCE_EDGES, np.inf)):
        part = (rows.relative_distance >= low) & (rows.relative_distance < high)
        if part.any():
            to = None if high == np.inf else high
            bins.append(BinMetrics(from_=low, to=to, **vars(of(own, part))))
    return Evaluation(
        rank_ceiling=_ceiling(rows, true_error),
        predictors={name: of(predicted) for name, predicted in predictors.items()},
        groups=groups,
        distance_bins=bins,
    )


def evaluate_plain(rows: Rows, true_error: Floats, *, labels: Array | None = None) -> Evaluation:
    """Measure the expected errors themselves, without a calibration; see :func:`evaluate`."""
    plain = measure_plain(true_error, rows.expected_error, draw=rows.draw, group=labels)
    return Evaluation(
        rank_ceiling=_ceiling(rows, true_error),
        predictors={CALIBRATED: plain},
        groups=[],
        distance_bins=[],
    )


def _ceiling(rows: Rows, true_error: Floats) -> float | None:
    """Best rank correlation, where the rows are atoms, so that the errors are norms of vectors."""
    return rank_ceiling(true_error) if rows.by_structure else None
