"""Panels of an error log: trajectories and the map of training dynamics."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.errors import ErrorsFile
from ltau_cli.core.dynamics import count_burn_in, stay_hard
from ltau_cli.errors import ComputeError
from ltau_cli.figures import map as map_figure
from ltau_cli.figures import trajectories as trajectories_figure
from ltau_cli.figures.style import Panel
from ltau_cli.stages.panels.cdf import choose
from ltau_cli.stages.panels.sources import SEED, Sources

MAP_SAMPLES = 100_000  # that the cells of the map are made of

Floats = npt.NDArray[np.float64]


def trajectories_panels(sources: Sources) -> list[Panel]:
    """Prepare error against epoch."""
    log = sources.one(ErrorsFile)
    logged_errors = sources.logged
    mean_error = logged_errors.dynamics.mean_error
    if not np.isfinite(mean_error).any():
        raise ComputeError(f"{log.path} holds no error: every value is missing")
    epochs, place = np.unique(log.read("epoch"), return_inverse=True)
    n_runs = len(np.unique(log.read("run")))
    rows = {
        label: _mean_of_runs(log, sample, place, len(epochs))
        for label, sample in choose(sources.rows, mean_error, "sample", log).items()
    }
    means = log.read("epoch_mean")
    logged = log.sizes["n_samples"] - log.read("epoch_missing")
    total = np.bincount(place, np.nan_to_num(means) * logged, len(epochs))
    n = np.bincount(place, logged, len(epochs))
    there = n > 0
    mean = total[there] / n[there]
    fan = _fan(logged_errors.errors, place, np.flatnonzero(there))
    return [
        Panel(
            "trajectories",
            lambda axes: trajectories_figure.draw(
                axes, epochs[there], mean, fan,
                {label: values[there] for label, values in rows.items()},
                burn_in=count_burn_in(mean), n=len(mean_error), n_drawn=len(logged_errors.drawn),
                n_runs=n_runs, units=log.units,
            ),
        )
    ]  # fmt: skip


def _fan(
    errors: npt.NDArray[np.float32], place: npt.NDArray[np.int64], epochs: npt.NDArray[np.int64]
) -> Floats:
    """Error quantiles over samples and runs at each epoch, (n_epochs, n_levels)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # none of the drawn samples was logged
        return np.stack([
            np.nanquantile(errors[place == epoch], trajectories_figure.FAN) for epoch in epochs
        ])  # fmt: skip


def _mean_of_runs(log: ErrorsFile, sample: int, place: npt.NDArray[np.int64], n: int) -> Floats:
    """Mean error of a sample over the runs at each epoch, (n,); NaN where it is missing."""
    values = log.dataset("errors")[:, sample].astype(np.float64)
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        means: Floats = np.bincount(place[there], values[there], n) / np.bincount(
            place[there], minlength=n
        )
    return means


def map_panels(sources: Sources) -> list[Panel]:
    """Prepare the mean error of each sample against its variability."""
    log = sources.one(ErrorsFile)
    logged_errors = sources.logged
    dynamics = logged_errors.dynamics
    logged = np.flatnonzero(np.isfinite(dynamics.mean_error))
    if not len(logged):
        raise ComputeError(f"{log.path} holds no error: every value is missing")
    drawn = logged
    if len(logged) > MAP_SAMPLES:
        generator = np.random.default_rng(SEED)
        drawn = np.sort(generator.choice(logged, MAP_SAMPLES, replace=False))
    hard = np.flatnonzero(stay_hard(dynamics))
    return [
        Panel(
            "map",
            lambda axes: map_figure.draw(
                axes, dynamics.mean_error, dynamics.deviation, dynamics.share_under, hard,
                drawn, n=len(logged), threshold=logged_errors.threshold, units=log.units,
            ),
        )
    ]  # fmt: skip
