"""All metrics of a calibrated set: overall, by group, by distance, and of the baselines."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.core.calibration.maps import Floats, Rows
from ltau_cli.core.calibration.metrics import (
    ause,
    measure,
    rank_ceiling,
    rank_correlation,
    rank_interval,
    rank_within,
)
from ltau_cli.core.calibration.model import Calibration
from ltau_cli.core.calibration.predicted import Predicted

CALIBRATED = "ltau"
DISTANCE_EDGES = (1.25, 1.5, 2.0, 3.0)  # of relative distance


def evaluate(
    rows: Rows,
    true_error: Floats,
    calibration: Calibration,
    *,
    labels: npt.NDArray[Any] | None = None,
) -> dict[str, Any]:
    """Measure the calibrated errors of n rows, and what they must beat.

    Parameters
    ----------
    rows : Rows
    true_error : (n,) float64
        Error units.
    calibration : Calibration
        Fitted on other rows.
    labels : (n,) labels, optional
        Groups to tell apart; those that chose the bounds by default.

    Returns
    -------
    dict
        ``rank_ceiling`` is the best rank correlation that any predictor could reach, where the
        rows are atoms of structures;
        ``predictors`` maps ``ltau`` and each baseline to its metrics (see
        :func:`ltau_cli.core.calibration.metrics.measure`); ``groups`` and ``distance_bins`` list
        the metrics of ``ltau`` in each part that has rows.
    """
    own = calibration.predict(rows)
    labels, draw = rows.group if labels is None else labels, rows.draw
    predictors = {CALIBRATED: own} | {
        name: calibration.predict(rows, name) for name in calibration.baselines
    }

    def of(predicted: Predicted, part: npt.NDArray[np.bool_] | None = None) -> dict[str, Any]:
        return measure(true_error, predicted, draw=draw, group=labels, rows=part)

    groups, bins = [], []
    if labels is not None:
        for name in np.unique(labels):
            groups.append({"group": name.item()} | of(own, labels == name))
    edges = (0.0, *DISTANCE_EDGES, np.inf)
    for low, high in itertools.pairwise(edges):
        part = (rows.relative_distance >= low) & (rows.relative_distance < high)
        if part.any():
            bins.append({"from": low, "to": high} | of(own, part))
    return {
        "rank_ceiling": _ceiling(rows, true_error),
        "predictors": {name: of(predicted) for name, predicted in predictors.items()},
        "groups": groups,
        "distance_bins": bins,
    }


def evaluate_plain(
    rows: Rows, true_error: Floats, *, labels: npt.NDArray[Any] | None = None
) -> dict[str, Any]:
    """Measure the expected errors themselves, without a calibration; see :func:`evaluate`."""
    expected = rows.expected_error
    plain = {
        "n_rows": len(rows),
        "mean_true_error": float(true_error.mean()),
        "mean_predicted_error": float(expected.mean()),
        "error_ratio": float(expected.mean() / max(true_error.mean(), np.finfo(float).tiny)),
        "rank_correlation": rank_correlation(expected, true_error),
        "rank_correlation_interval": rank_interval(expected, true_error, rows.draw),
        "ause": ause(true_error, expected),
    }
    if labels is not None:
        plain["rank_correlation_within_groups"] = rank_within(expected, true_error, labels)
    return {
        "rank_ceiling": _ceiling(rows, true_error),
        "predictors": {CALIBRATED: plain},
        "groups": [],
        "distance_bins": [],
    }


def _ceiling(rows: Rows, true_error: Floats) -> float | None:
    """Best rank correlation, where the rows are atoms, so that the errors are norms of vectors."""
    return rank_ceiling(true_error) if rows.by_structure else None
