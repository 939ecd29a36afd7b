"""Scores and true errors to a calibration artifact."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.calibration import to_datasets
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import refuse_shard
from ltau_cli.artifacts.write import create_artifact
from ltau_cli.core.calibration.evaluation import evaluate
from ltau_cli.core.calibration.fit import METHODS, Fitted, fit_calibration, split_rows
from ltau_cli.core.calibration.maps import FEATURES, Floats, Method
from ltau_cli.core.calibration.metrics import Reliability, reliability
from ltau_cli.core.calibration.model import Calibration
from ltau_cli.errors import ComputeError, LtauWarning
from ltau_cli.output import check_target
from ltau_cli.stages.true_errors import Truth, read_rows


def run(
    scores: Path,
    truth: Truth,
    output: Path,
    *,
    method: Method | None = None,
    group: str | None = None,
    distance_bins: int = 1,
    levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    fit_fraction: float = 0.5,
    seed: int = 0,
    force: bool = False,
) -> dict[str, Any]:
    """Fit the maps on one part of the structures and check them on the other.

    Parameters
    ----------
    scores : Path
        Scores artifact, made without a calibration or with one (its plain values are used).
    truth : Truth
        True errors of the scored rows.
    output : Path
        The calibration artifact.
    method : str, optional
        A key of :data:`ltau_cli.core.calibration.model.METHODS`; None takes the best by
        cross-validation over the structures of the fit.
    group : str, optional
        Give each group bounds of its own: a file of labels, or ``species`` or ``group``.
    distance_bins : int
        Bins of relative distance with bounds of their own.
    levels : sequence of float
        Coverage levels in (0, 1).
    fit_fraction : float
        Share of the structures to fit on.
    seed : int
        Of the choice of structures.
    force : bool
        Replace an existing artifact.

    Returns
    -------
    dict
        The summary; ``heldout`` holds the metrics on rows that the fit did not see.

    Raises
    ------
    InputError
        If the true errors or labels cannot be used or do not match.
    ComputeError
        If there is too little to fit on.
    """
    check_target(output, force=force)
    with open_artifact(scores, "scores") as artifact, Hasher() as hasher:
        hasher.add("scores", scores, "scores")
        refuse_shard(artifact)  # the rows to leave out later are counted in the whole
        true_errors = truth.read(artifact, hasher)
        rows = read_rows(artifact, true_errors, group, hasher)
        values = true_errors.values
        if not (values > 0).any():
            raise ComputeError(
                f"{truth.place}: every true error is 0; there is nothing to calibrate on"
            )
        uncertainty = artifact.read("uncertainty").astype(np.float64)
        fit = split_rows(rows, fit_fraction=fit_fraction, seed=seed)
        held = ~fit
        fitted = fit_calibration(
            rows.take(fit),
            values[fit],
            methods=list(METHODS) if method is None else [method],
            levels=np.array(sorted(set(levels)), dtype=np.float64),
            thresholds=artifact.read("thresholds"),
            uncertainty=uncertainty[fit],
            by_group=group is not None,
            distance_bins=distance_bins,
            seed=seed,
        )
        _warn(fitted)
        calibration = fitted.calibration
        rest = rows.take(held)
        mean = calibration.predictor.map.apply(rest)
        cell = calibration.cells.of(rest)
        summary = {
            "method": calibration.method,
            "compared": fitted.compared,
            "n_fit": int(fit.sum()),
            "n_heldout": int(held.sum()),
            "n_structures": None if rows.structure is None else len(np.unique(rows.structure)),
            "k": artifact.parameters["k"],
            "exponents": _exponents(calibration.predictor.map.coefficients),
            "levels": calibration.levels,
            "bound_groups": calibration.cells.groups,
            "heldout": evaluate(rest, values[held], calibration) | {
                "mean_expected_error": float(rest.expected_error.mean()),
                "thresholds": [
                    of_threshold(calibration, j, values[held], uncertainty[held], mean, cell)[0]
                    for j in range(len(calibration.thresholds))
                ],
                "quantiles": [
                    {"level": level, "coverage": float((values[held] <= quantile[held]).mean())}
                    for level, quantile in zip(
                        artifact.read("quantile_levels"), artifact.read("quantiles").T, strict=True
                    )
                ],
            },
        }  # fmt: skip
        descriptors = [record for record in artifact.inputs if record["role"] == "descriptors"]
        with create_artifact(output, "calibration", units=artifact.units, force=force) as writer:
            for name, numbers in to_datasets(calibration).items():
                writer.put(name, numbers)
            writer.put("levels", calibration.levels)
            writer.put("thresholds", calibration.thresholds)
            writer.put("threshold_scale", calibration.threshold_scale)
            writer.put("fit_row", np.flatnonzero(fit), compress=True)
            writer.put("heldout_row", np.flatnonzero(held), compress=True)
            writer.put("heldout_true_error", values[held])
            writer.put("heldout_expected_error", rest.expected_error)
            writer.put("heldout_calibrated_error", mean)
            writer.put("heldout_relative_distance", rest.relative_distance)
            if rest.group is not None:
                writer.put("heldout_group", rest.group, compress=True)
            writer.put("heldout_cell", cell, compress=True)
            writer.put("heldout_uncertainty", uncertainty[held])
            writer.finish(
                parameters={
                    "method": calibration.method,
                    "group": group,
                    "distance_bins": distance_bins,
                    "levels": calibration.levels,
                    "fit_fraction": fit_fraction,
                    "seed": seed,
                },
                inputs=hasher.records() + descriptors,
                summary=summary,
                model_fingerprint=artifact.model_fingerprint,
            )
    return summary | {"units": artifact.units}


def of_threshold(
    calibration: Calibration,
    column: int,
    truth: Floats,
    uncertainty: Floats,
    mean: Floats,
    cell: npt.NDArray[np.int64],
) -> tuple[dict[str, float], Reliability, Reliability]:
    """Compare the predicted P(error > threshold) with what happened, before and after.

    With ``--method threshold`` the uncertainty stays and the threshold is scaled; with every other
    method the threshold stays and the uncertainty is calibrated.

    Parameters
    ----------
    calibration : Calibration
    column : int
        Number of the threshold.
    truth, mean : (n,) float64
        True and calibrated errors.
    uncertainty : (n, n_thresholds) float64
    cell : (n,) int64

    Returns
    -------
    (dict, Reliability, Reliability)
        The numbers, and the two curves.
    """
    threshold = float(calibration.thresholds[column])
    scale = float(calibration.threshold_scale[column])
    plain = uncertainty[:, column]
    before = reliability(plain, truth > threshold)
    if calibration.method == "threshold":
        after = reliability(plain, truth > scale * threshold)
    else:
        limits = calibration.thresholds[column : column + 1]
        after = reliability(
            calibration.predictor.exceedance(mean, cell, limits)[:, 0], truth > threshold
        )
    numbers = {
        "threshold": threshold,
        "scale": scale,
        "predicted": float(plain.mean()),
        "observed": float((truth > threshold).mean()),
        "calibration_error_before": before.error,
        "calibration_error_after": after.error,
    }
    return numbers, before, after


def _exponents(coefficients: Floats) -> dict[str, float]:
    """Return the exponents that are not 0, by feature."""
    pairs = zip(FEATURES, coefficients[1:], strict=True)
    return {name: float(value) for name, value in pairs if value != 0}


def _warn(fitted: Fitted) -> None:
    small = fitted.small_groups
    if small:
        names = ", ".join(map(str, small[:5])) + (", ..." if len(small) > 5 else "")
        warnings.warn(
            f"{len(small)} group{'s' if len(small) > 1 else ''} with too few rows for their own "
            f"bounds share the bounds of all: {names}",
            LtauWarning,
            stacklevel=3,
        )
