"""Scores against true errors on rows that no calibration was fitted on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.artifacts.read import open_artifact
from ltau_cli.core.calibration import rank_correlation
from ltau_cli.errors import ComputeError
from ltau_cli.readers.arrays import Place
from ltau_cli.readers.truth import read_true_errors
from ltau_cli.stages.score_summary import FLAGGED_BELOW


def run(scores: Path, true_errors: str) -> dict[str, Any]:
    """Compare the scores of one set with its true errors.

    Rows that the calibration in the scores was fitted on are left out.

    Parameters
    ----------
    scores : Path
        Scores artifact.
    true_errors : str
        True errors (n,) or (n, 3) of the scored rows.

    Returns
    -------
    dict
        Errors in error units; ``coverage`` maps each level to the share of rows under its bound.

    Raises
    ------
    InputError
        If the true errors cannot be used or do not match.
    ComputeError
        If no row is left.
    """
    with open_artifact(scores, "scores") as artifact:
        n = artifact.sizes["n_queries"]
        truth = read_true_errors(Place.parse(true_errors), n, str(scores))
        used = np.zeros(n, dtype=bool)
        if artifact.has("in_calibration"):
            used = artifact.read("in_calibration")
        rest = ~used
        if not rest.any():
            raise ComputeError(f"{scores}: the calibration was fitted on every row; none is left")
        truth = truth[rest]
        expected = artifact.read("expected_error")[rest].astype(np.float64)
        result = {
            "set": scores.stem,
            "n_rows": int(rest.sum()),
            "n_left_out": int(used.sum()),
            "units": artifact.units,
            "mean_true_error": float(truth.mean()),
            "mean_expected_error": float(expected.mean()),
            "rank_correlation": rank_correlation(expected, truth),
            "flagged_share": float((artifact.read("ood_pvalue")[rest] < FLAGGED_BELOW).mean()),
            "flagged_below": FLAGGED_BELOW,
        }
        if artifact.has("error_bound"):
            calibrated = artifact.read("calibrated_error")[rest].astype(np.float64)
            bounds = artifact.read("error_bound")[rest]
            covered = (truth[:, None] <= bounds).mean(axis=0)
            result["mean_calibrated_error"] = float(calibrated.mean())
            result["coverage"] = {
                f"{level:g}": float(share)
                for level, share in zip(artifact.read("levels"), covered, strict=True)
            }
        return result
