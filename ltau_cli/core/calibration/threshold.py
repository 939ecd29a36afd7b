"""The calibration of the paper: one scale for all errors, found for a threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ltau_cli.array_types import Bools, Floats, Singles
from ltau_cli.core.calibration.metrics import reliability
from ltau_cli.core.calibration.model import Calibration
from ltau_cli.core.calibration.predicted import Predicted

TRIALS = 400


@dataclass(frozen=True)
class StoredCdf:
    """P(error <= edge) of n rows."""

    edges: Floats  # (n_edges,), error units, increasing
    values: Singles  # (n, n_edges)

    @classmethod
    def without(cls, n: int) -> StoredCdf:
        """Return what stands for CDFs that nobody needs."""
        return cls(np.zeros(0), np.zeros((n, 0), dtype=np.float32))

    def take(self, rows: Bools) -> StoredCdf:
        """Return some of the rows."""
        return StoredCdf(self.edges, self.values[rows])

    def above(self, threshold: float) -> Floats:
        """P(error > threshold) of each row, linear between the edges, (n,) float64."""
        place = int(np.searchsorted(self.edges, threshold))
        if place == len(self.edges):
            return np.asarray(1.0 - self.values[:, -1], dtype=np.float64)
        low = self.edges[place - 1] if place else 0.0
        below = self.values[:, place - 1] if place else np.zeros(len(self.values))
        way = (threshold - low) / (self.edges[place] - low)
        return np.asarray(1 - below - way * (self.values[:, place] - below), dtype=np.float64)


def find_threshold_scale(true_error: Floats, cdf: StoredCdf, threshold: float) -> float:
    """Scale s for which the mixture at ``threshold / s`` is the probability to exceed it.

    The true errors (n,) are taken for s times those of the mixture, and s for what gives the
    smallest calibration error (Vita et al., doi 10.1088/2632-2153/adb4b9), so that it holds for
    the very probabilities that scores have. Errors and the threshold, above 0, are in error units.
    """
    lowest = max(float(cdf.edges[0]), 1e-3 * threshold)
    trials = np.geomspace(
        threshold / max(cdf.edges[-1], 10 * threshold), threshold / lowest, TRIALS
    )
    exceeded = true_error > threshold
    errors = [reliability(cdf.above(threshold / s), exceeded).error for s in trials]
    return float(trials[int(np.argmin(errors))])


def calibrated_uncertainty(
    calibration: Calibration, predicted: Predicted, cdf: StoredCdf
) -> Floats:
    """P(error > threshold) as scores with the calibration have it, (n, n_thresholds) float64."""
    if calibration.method != "threshold":
        return predicted.exceedance(calibration.thresholds)
    pairs = zip(calibration.thresholds, calibration.threshold_scale, strict=True)
    return np.stack([cdf.above(threshold / scale) for threshold, scale in pairs], axis=1)
