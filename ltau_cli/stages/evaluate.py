"""Scores against true errors on rows that no calibration was fitted on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.calibration import from_artifact
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import Artifact, open_artifact
from ltau_cli.artifacts.scores import ROW_DIM, rows_to_judge
from ltau_cli.core.calibration.evaluation import CALIBRATED, evaluate, evaluate_plain
from ltau_cli.core.summary import FLAGGED_BELOW
from ltau_cli.errors import InputError
from ltau_cli.readers.labels import check_count, read_label_column
from ltau_cli.readers.place import Place
from ltau_cli.stages.true_errors import Truth, read_rows


def run(
    scores: Path, truth: Truth, *, group: str | None = None, ood_labels: str | None = None
) -> dict[str, Any]:
    """Compare the scores of one set with its true errors.

    Rows that the calibration in the scores was fitted on are left out.

    Parameters
    ----------
    scores : Path
        Scores artifact.
    truth : Truth
        True errors of the scored rows.
    group : str, optional
        Labels of the rows: a file, or ``species`` or ``group`` for those in the scores.
    ood_labels : str, optional
        File that says of each row whether it is out of domain (1) or not (0).

    Returns
    -------
    dict
        ``set``, ``n_rows``, ``n_left_out``, ``units``, ``flagged_share``, ``roc_auc`` with
        ``ood_labels``, and the metrics (see :func:`ltau_cli.core.calibration.evaluation.evaluate`).

    Raises
    ------
    InputError
        If the true errors or labels cannot be used or do not match.
    ComputeError
        If no row is left.
    """
    with open_artifact(scores, "scores") as artifact, Hasher() as hasher:
        true_errors = truth.read(artifact, hasher)
        rows = read_rows(artifact, true_errors, group, hasher)
        rest = rows_to_judge(artifact)
        pvalue = artifact.read("ood_pvalue")[rest]
        result: dict[str, Any] = {
            "set": scores.stem,
            "n_rows": int(rest.sum()),
            "n_left_out": int((~rest).sum()),
            "units": artifact.units,
            "flagged_share": float((pvalue < FLAGGED_BELOW).mean()),
            "flagged_below": FLAGGED_BELOW,
        }
        if ood_labels is not None:
            result["roc_auc"] = _roc_auc(artifact, Place.parse(ood_labels), pvalue, rest)
        values, left = true_errors.values[rest], rows.take(rest)
        if artifact.has("calibration/coefficients"):
            return result | evaluate(left, values, from_artifact(artifact, "calibration/"))
        return result | evaluate_plain(left, values)


def headline(result: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of one set that a condition may name, such as ``coverage90``."""
    own = dict(result["predictors"][CALIBRATED])
    found = {f"coverage{100 * float(level):g}": v for level, v in own.pop("coverage", {}).items()}
    found |= {f"width{100 * float(level):g}": v for level, v in own.pop("mean_width", {}).items()}
    own |= {name: result[name] for name in ("flagged_share", "roc_auc") if name in result}
    return found | {name: v for name, v in own.items() if isinstance(v, float | int)}


def read_ood_labels(
    artifact: Artifact, place: Place, rest: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Read which rows of scores are out of domain, labeled 1, and which are not, labeled 0.

    Parameters
    ----------
    artifact : Artifact
        Scores.
    place : Place
        One label for each row.
    rest : (n_queries,) bool
        Rows to return the labels of.

    Raises
    ------
    InputError
        If there are other labels than 0 and 1, or only one of them.
    """
    labels = read_label_column(place)
    check_count(labels, artifact.sizes[ROW_DIM], place, str(artifact.path), "rows")
    names = labels[rest].astype(np.str_)  # 1 in .npy, "1" in .txt
    if np.unique(names).tolist() != ["0", "1"]:
        raise InputError(
            f"{place}: out-of-domain labels must be 0 and 1, and both must occur",
            hint="1 for a row that is out of domain, 0 for one that is not",
        )
    flags: npt.NDArray[np.bool_] = names == "1"
    return flags


def _roc_auc(
    artifact: Artifact, place: Place, pvalue: npt.NDArray[Any], rest: npt.NDArray[np.bool_]
) -> float:
    """Area under the ROC curve of the p-value against the user's own labels."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(read_ood_labels(artifact, place, rest), -pvalue))
