"""Scores and true errors to a calibration artifact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.atomic import check_target
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.write import create_artifact
from ltau_cli.core import calibration as cal
from ltau_cli.errors import ComputeError
from ltau_cli.readers.arrays import Place
from ltau_cli.readers.truth import read_true_errors
from ltau_cli.stages.shards import refuse_shard

Floats = npt.NDArray[np.float64]


def run(
    scores: Path,
    true_errors: str,
    output: Path,
    *,
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
    true_errors : str
        True errors (n,) or (n, 3) of the scored rows.
    output : Path
        The calibration artifact.
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
        The summary with the metrics before and after, on rows that the fit did not see.

    Raises
    ------
    InputError
        If the true errors cannot be used or do not match.
    ComputeError
        If there is too little to fit on.
    """
    check_target(output, force=force)
    place = Place.parse(true_errors)
    with open_artifact(scores, "scores") as artifact, Hasher() as hasher:
        hasher.add("scores", scores, "scores")
        hasher.add("true errors", place.path, "true errors", key=place.key)
        refuse_shard(artifact)  # the rows to leave out later are counted in the whole
        n = artifact.sizes["n_queries"]
        truth = read_true_errors(place, n, str(scores))
        expected = artifact.read("expected_error").astype(np.float64)
        uncertainty = artifact.read("uncertainty").astype(np.float64)
        thresholds = artifact.read("thresholds")
        structure = artifact.read("structure") if artifact.has("structure") else None
        if not (truth > 0).any():
            raise ComputeError(f"{place}: every true error is 0; there is nothing to calibrate on")
        fit = cal.split_rows(structure, n, fit_fraction=fit_fraction, seed=seed)
        held = ~fit
        wanted = np.array(sorted(set(levels)), dtype=np.float64)
        scales = np.array([
            cal.threshold_scale(truth[fit], uncertainty[fit, j], threshold)
            for j, threshold in enumerate(thresholds)
        ])  # fmt: skip
        error_scale = cal.error_scale(truth[fit], expected[fit])
        ratios = np.array([cal.conformal_ratio(truth[fit], expected[fit], p) for p in wanted])
        summary = {
            "n_fit": int(fit.sum()),
            "n_heldout": int(held.sum()),
            "n_structures": None if structure is None else len(np.unique(structure)),
            "k": artifact.parameters["k"],
            "thresholds": thresholds,
            "threshold_scale": scales,
            "error_scale": error_scale,
            "levels": wanted,
            "bound_ratio": ratios,
            "heldout": {
                "mean_true_error": float(truth[held].mean()),
                "mean_expected_error": float(expected[held].mean()),
                "mean_calibrated_error": float(error_scale * expected[held].mean()),
                "rank_correlation": cal.rank_correlation(expected[held], truth[held]),
                "thresholds": [
                    _threshold_metrics(truth[held], uncertainty[held, j], threshold, scales[j])
                    for j, threshold in enumerate(thresholds)
                ],
                "quantiles": [
                    {"level": level, "coverage": float((truth[held] <= quantile[held]).mean())}
                    for level, quantile in zip(
                        artifact.read("quantile_levels"), artifact.read("quantiles").T, strict=True
                    )
                ],
                "bounds": [
                    {
                        "level": level,
                        "coverage": float((truth[held] <= ratio * expected[held]).mean()),
                        "mean_bound": float(ratio * expected[held].mean()),
                    }
                    for level, ratio in zip(wanted, ratios, strict=True)
                ],
            },
        }  # fmt: skip
        descriptors = [record for record in artifact.inputs if record["role"] == "descriptors"]
        with create_artifact(output, "calibration", units=artifact.units, force=force) as writer:
            writer.put("thresholds", thresholds)
            writer.put("threshold_scale", scales)
            writer.put("error_scale", [error_scale])
            writer.put("levels", wanted)
            writer.put("bound_ratio", ratios)
            writer.put("fit_row", np.flatnonzero(fit), compress=True)
            writer.put("heldout_row", np.flatnonzero(held), compress=True)
            writer.put("heldout_true_error", truth[held])
            writer.put("heldout_expected_error", expected[held])
            writer.put("heldout_uncertainty", uncertainty[held])
            writer.finish(
                parameters={"levels": wanted, "fit_fraction": fit_fraction, "seed": seed},
                inputs=hasher.records() + descriptors,
                summary=summary,
                model_fingerprint=artifact.model_fingerprint,
            )
    return summary | {"units": artifact.units}


def _threshold_metrics(
    truth: Floats, uncertainty: Floats, threshold: float, scale: float
) -> dict[str, float]:
    """Predicted against observed P(error > threshold), before and after the threshold is scaled."""
    before = cal.reliability(uncertainty, truth > threshold)
    after = cal.reliability(uncertainty, truth > scale * threshold)
    return {
        "threshold": threshold,
        "scale": scale,
        "predicted": float(uncertainty.mean()),
        "observed_before": float((truth > threshold).mean()),
        "observed_after": float((truth > scale * threshold).mean()),
        "calibration_error_before": before.error,
        "calibration_error_after": after.error,
    }
