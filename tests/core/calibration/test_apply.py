"""Calibrated columns, as they are stored."""

from types import SimpleNamespace

import numpy as np

from ltau_cli.core.calibration.apply import Calibrator
from ltau_cli.core.calibration.model import RATIO_LEVELS
from ltau_cli.core.calibration.predicted import Predicted


def test_what_float32_cannot_hold_is_its_largest_number():
    """An infinite bound would be called damaged when it is read."""
    predicted = Predicted(
        np.array([1e30, 1e200]), np.zeros(2), np.zeros(2, dtype=int), RATIO_LEVELS[None],
        RATIO_LEVELS, np.array([[1e10]]), np.array([0.9]),
    )  # fmt: skip
    calibration = SimpleNamespace(predict=lambda rows: predicted)
    names = ("expected_error", "relative_distance", "neighbor_distance", "last_epoch_error")
    block = dict.fromkeys(names, np.ones(2))
    (got,) = Calibrator(calibration, np.array([1.0])).columns([block], None)
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(got["calibrated_error"], np.float32([1e30, largest]))
    np.testing.assert_array_equal(got["error_bound"][:, 0], [largest, largest])
