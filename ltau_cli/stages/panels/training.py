"""Panels of logged errors: CDFs, trajectories and the map of training dynamics."""

import warnings
from functools import partial

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Floats, Integers, Singles
from ltau_cli.artifacts.errors import ErrorsFile
from ltau_cli.artifacts.model import ModelFile
from ltau_cli.artifacts.scores import ScoresFile
from ltau_cli.core.dynamics import count_burn_in, stay_hard
from ltau_cli.errors import ComputeError, UsageError
from ltau_cli.figures import training as figures
from ltau_cli.figures.style import CHOSEN, Panel, shorten
from ltau_cli.stages.panels.sources import SEED, NotGivenError, Sources

BLOCK_ROWS = 16_384
MAP_SAMPLES = 100_000  # that the cells of the map are made of


def cdf_panels(sources: Sources) -> list[Panel]:
    """Prepare error CDFs of the training set, and of chosen samples or scored rows."""
    models, scores = sources.of(ModelFile), sources.scores
    overall: dict[str, figures.Cdf] = {}
    rows: dict[str, figures.Cdf] = {}
    if models:
        edges = models[0].read("bin_edges")
        overall["the training set"] = edges, _mean_of_model(models[0])
    for artifact in scores:
        if not artifact.has("cdf"):
            raise NotGivenError(
                f"{artifact.path} holds no CDFs", hint="score again with --cdf, or plot the model"
            )
        edges = artifact.read("cdf_edges")
        plain = ", plain" if artifact.calibrated else ""  # the calibration has no CDF of its own
        name = f"all rows of {shorten(artifact.path.stem)}{plain}"
        overall[name] = edges, _mean_of_scores(artifact)
        order_by = artifact.read(artifact.error_column)
        for label, row in choose(sources.settings.rows, order_by, "row", artifact).items():
            rows[label] = edges, artifact.read("cdf", row, row + 1)[0].astype(np.float64)
    if models and not scores:
        rows = _rows_of_model(models[0], sources.settings.rows)
    first = models[0] if models else scores[0]
    threshold = float(first.read("thresholds")[0])
    draw = partial(
        figures.draw_cdf, overall=overall, rows=rows, threshold=threshold, units=first.units
    )
    return [Panel("cdf", draw)]


def choose(
    rows: tuple[int, ...],
    order_by: npt.NDArray[np.floating],
    what: str,
    artifact: ErrorsFile | ModelFile | ScoresFile,
) -> dict[str, int]:
    """Return the chosen rows by label: those that are named, or the lowest, median and highest.

    ``order_by`` (n,) is what these are of, without NaN; ``what`` is ``row`` or ``sample``.
    """
    if len(rows) > len(CHOSEN):
        raise UsageError(
            f"--rows names {len(rows)} {what}s; at most {len(CHOSEN)} can be told apart"
        )
    for row in rows:
        if row >= len(order_by):
            raise UsageError(
                f"--rows {row}: {artifact.path} has {len(order_by):,} {what}s, counted from 0"
            )
        if np.isnan(order_by[row]):
            raise UsageError(f"--rows {row}: that {what} of {artifact.path} was never logged")
    if rows:
        return {f"{what} {row}": row for row in rows}
    n = int(np.isfinite(order_by).sum())
    order = np.argsort(order_by, kind="stable")[:n]
    chosen = {"lowest": order[0], "median": order[n // 2], "highest": order[-1]}
    return {f"{label} ({what} {row})": int(row) for label, row in chosen.items()}


def _rows_of_model(model: ModelFile, rows: tuple[int, ...]) -> dict[str, figures.Cdf]:
    edges, point = model.read("bin_edges"), model.read("point")
    mean = model.of_samples(model.read("mean_error"))
    chosen = choose(rows, mean, "sample", model)
    return {
        label: (edges, _cumulate(model.read("counts", point[row], point[row] + 1))[0])
        for label, row in chosen.items()
    }


def _cumulate(counts: npt.NDArray[np.unsignedinteger]) -> Floats:
    """P(error <= edge) of each row of counts."""
    total = np.cumsum(counts, axis=1, dtype=np.float64)
    shares: Floats = total[:, :-1] / total[:, -1:]
    return shares


def _mean_of_model(model: ModelFile) -> Floats:
    """Mean of the CDFs of all training samples."""
    weights = model.read("multiplicity")
    total = np.zeros(len(model.read("bin_edges")))
    for start in range(0, len(weights), BLOCK_ROWS):
        stop = start + BLOCK_ROWS
        total += weights[start:stop] @ _cumulate(model.read("counts", start, stop))
    return np.asarray(total / weights.sum())


def _mean_of_scores(scores: ScoresFile) -> Floats:
    n = scores.n
    total = np.zeros(scores.sizes["n_edges"])
    for start in range(0, n, BLOCK_ROWS):
        total += scores.read("cdf", start, start + BLOCK_ROWS).sum(axis=0, dtype=np.float64)
    return np.asarray(total / n)


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
        for label, sample in choose(sources.settings.rows, mean_error, "sample", log).items()
    }
    means = log.read("epoch_mean")
    logged = log.sizes["n_samples"] - log.read("epoch_missing")
    total = np.bincount(place, np.nan_to_num(means) * logged, len(epochs))
    n = np.bincount(place, logged, len(epochs))
    there = n > 0
    mean = total[there] / n[there]
    fan = _fan(logged_errors.errors, place, np.flatnonzero(there))
    draw = partial(
        figures.draw_trajectories,
        epoch=epochs[there],
        mean=mean,
        fan=fan,
        rows={label: values[there] for label, values in rows.items()},
        burn_in=count_burn_in(mean),
        n=len(mean_error),
        n_drawn=len(logged_errors.drawn),
        n_runs=n_runs,
        units=log.units,
    )
    return [Panel("trajectories", draw)]


def _fan(errors: Singles, place: Integers, epochs: Integers) -> Floats:
    """Error quantiles over samples and runs at each epoch, (n_epochs, n_levels)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # none of the drawn samples was logged
        return np.stack([
            np.nanquantile(errors[place == epoch], figures.FAN) for epoch in epochs
        ])  # fmt: skip


def _mean_of_runs(log: ErrorsFile, sample: int, place: Integers, n: int) -> Floats:
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
    draw = partial(
        figures.draw_map,
        mean=dynamics.mean_error,
        deviation=dynamics.deviation,
        share=dynamics.share_under,
        hard=hard,
        drawn=drawn,
        n=len(logged),
        threshold=logged_errors.threshold,
        units=log.units,
    )
    return [Panel("map", draw)]
