"""Scores and true errors to a calibration artifact."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.calibration import CheckedRows, write_calibration
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import ScoresFile
from ltau_cli.artifacts.write import create_artifact
from ltau_cli.core.calibration.evaluation import evaluate
from ltau_cli.core.calibration.fit import METHODS, Fitted, fit_calibration, split_rows
from ltau_cli.core.calibration.maps import FEATURES, Floats
from ltau_cli.core.calibration.metrics import Reliability, reliability
from ltau_cli.core.calibration.model import Calibration
from ltau_cli.errors import ComputeError, LtauWarning
from ltau_cli.output import check_target
from ltau_cli.stages.results import Result
from ltau_cli.stages.settings import CalibrateSettings
from ltau_cli.stages.true_errors import Truth, read_rows


@dataclass(frozen=True, repr=False)
class CalibrateResult(Result):
    """What was fitted, and how it does on rows that the fit did not see.

    Attributes
    ----------
    output : Path
    units : str
        Error units.
    method : str
    compared : dict
        CRPS of each method by cross-validation, and its standard error (error units).
    n_fit, n_heldout : int
        Rows fitted on and checked on.
    n_structures : int or None
    k : int
        Neighbors of the scores.
    exponents : dict
        Of the power law, by feature.
    levels : (n_levels,) float64
    bound_groups : (n_groups,) labels
        Groups with bounds of their own.
    heldout : dict
        Metrics; see :func:`ltau_cli.core.calibration.evaluation.evaluate`.
    """

    output: Path
    units: str
    method: str
    compared: dict[str, dict[str, float]]
    n_fit: int
    n_heldout: int
    n_structures: int | None
    k: int
    exponents: dict[str, float]
    levels: npt.NDArray[np.float64]
    bound_groups: npt.NDArray[Any]
    heldout: dict[str, Any]


def run(
    scores: str | os.PathLike[str],
    truth: Truth | str | os.PathLike[str],
    output: str | os.PathLike[str] = "calibration.h5",
    *,
    settings: CalibrateSettings | None = None,
    force: bool = False,
) -> CalibrateResult:
    """Fit the maps on one part of the structures and check them on the other.

    Parameters
    ----------
    scores : path
        Scores artifact, made without a calibration or with one (its plain values are used).
    truth : Truth or path
        True errors of the scored rows.
    output : path
        The calibration artifact.
    settings : CalibrateSettings
        How to calibrate.
    force : bool
        Replace an existing artifact.

    Returns
    -------
    CalibrateResult

    Raises
    ------
    InputError
        If the true errors or labels cannot be used or do not match.
    ComputeError
        If there is too little to fit on.
    """
    scores, output, truth = Path(scores), Path(output), Truth.at(truth)
    settings = settings or CalibrateSettings()
    check_target(output, force=force)
    with open_artifact(scores, ScoresFile) as artifact, Hasher() as hasher:
        hasher.add("scores", scores, "scores")
        artifact.require_whole()  # the rows to leave out later are counted in the whole
        true_errors = truth.read(artifact, hasher)
        rows = read_rows(artifact, true_errors, settings.group, hasher)
        values = true_errors.values
        if not (values > 0).any():
            raise ComputeError(
                f"{truth.place}: every true error is 0; there is nothing to calibrate on"
            )
        uncertainty = artifact.read("uncertainty").astype(np.float64)
        fit = split_rows(
            rows.structure, len(rows), fit_fraction=settings.fit_fraction, seed=settings.seed
        )
        fitted = fit_calibration(
            rows.take(fit),
            values[fit],
            methods=list(METHODS) if settings.method is None else [settings.method],
            levels=np.array(sorted(set(settings.levels)), dtype=np.float64),
            thresholds=artifact.read("thresholds"),
            uncertainty=uncertainty[fit],
            by_group=settings.group is not None,
            distance_bins=settings.distance_bins,
            seed=settings.seed,
        )
        _warn(fitted)
        calibration = fitted.calibration
        rest = rows.take(~fit)
        checked = CheckedRows(
            row=np.flatnonzero(~fit),
            rows=rest,
            true_error=values[~fit],
            calibrated_error=calibration.predictor.map.apply(rest),
            uncertainty=uncertainty[~fit],
            cell=calibration.cells.of(rest),
        )
        summary = {
            "method": calibration.method,
            "compared": fitted.compared,
            "n_fit": int(fit.sum()),
            "n_heldout": len(rest),
            "n_structures": None if rows.structure is None else len(np.unique(rows.structure)),
            "k": artifact.parameters["k"],
            "exponents": _exponents(calibration.predictor.map.coefficients),
            "levels": calibration.levels,
            "bound_groups": calibration.cells.groups,
            "heldout": _check(calibration, checked, artifact),
        }
        descriptors = [record for record in artifact.inputs if record["role"] == "descriptors"]
        with create_artifact(output, "calibration", units=artifact.units, force=force) as writer:
            write_calibration(writer, calibration, np.flatnonzero(fit), checked)
            writer.finish(
                parameters=asdict(settings)
                | {"method": calibration.method, "levels": calibration.levels},
                inputs=hasher.records() + descriptors,
                summary=summary,
                model_fingerprint=artifact.model_fingerprint,
            )
    return CalibrateResult(output=output, units=artifact.units, **summary)


def _check(calibration: Calibration, checked: CheckedRows, scores: ScoresFile) -> dict[str, Any]:
    """Compare the calibrated and the plain predictions of the held-out rows with their errors."""
    rows, true_error = checked.rows, checked.true_error
    quantiles = scores.read("quantiles")[checked.row]
    return evaluate(rows, true_error, calibration) | {
        "mean_expected_error": float(rows.expected_error.mean()),
        "thresholds": [
            of_threshold(
                calibration, j, true_error, checked.uncertainty, checked.calibrated_error,
                checked.cell,
            )[0]
            for j in range(len(calibration.thresholds))
        ],
        "quantiles": [
            {"level": level, "coverage": float((true_error <= quantile).mean())}
            for level, quantile in zip(
                scores.read("quantile_levels"), quantiles.T, strict=True
            )
        ],
    }  # fmt: skip


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
