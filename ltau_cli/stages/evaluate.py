"""Scores against true errors on rows that no calibration was fitted on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import ScoresFile
from ltau_cli.core.calibration.evaluation import CALIBRATED, evaluate, evaluate_plain
from ltau_cli.core.summary import FLAGGED_BELOW
from ltau_cli.errors import InputError
from ltau_cli.readers.labels import check_count, read_label_column
from ltau_cli.readers.place import Place
from ltau_cli.settings import EvaluateSettings
from ltau_cli.stages.results import Result, only_if_asked
from ltau_cli.stages.true_errors import Truth, read_judged_rows


@dataclass(frozen=True, repr=False)
class EvaluateResult(Result):
    """How the scores of one set compare with its true errors.

    Attributes
    ----------
    set : str
        Name of the scores.
    n_rows, n_left_out : int
        Rows judged, and those that a calibration was fitted on.
    units : str
        Error units.
    flagged_share, flagged_below : float
        Share of the rows with a p-value below.
    predictors : dict
        Metrics of ``ltau`` and of each baseline; see
        :func:`ltau_cli.core.calibration.evaluation.evaluate`.
    rank_ceiling : float or None
        Best rank correlation that any predictor could reach, where rows are atoms of structures.
    groups, distance_bins : list of dict
        Metrics of ``ltau`` in each part.
    roc_auc : float
        Of the p-value against the user's labels.
    """

    set: str
    n_rows: int
    n_left_out: int
    units: str
    flagged_share: float
    flagged_below: float
    rank_ceiling: float | None
    predictors: dict[str, dict[str, Any]]
    groups: list[dict[str, Any]]
    distance_bins: list[dict[str, Any]]
    roc_auc: float | None = only_if_asked()

    def headline(self) -> dict[str, float]:
        """Return the numbers that a condition may name, such as ``coverage90``."""
        shares = {"flagged_share": self.flagged_share, "roc_auc": self.roc_auc}
        return headline(self.predictors) | {k: v for k, v in shares.items() if v is not None}


def run(
    scores: str | os.PathLike[str],
    truth: Truth | str | os.PathLike[str],
    *,
    settings: EvaluateSettings | None = None,
    **options: Any,
) -> EvaluateResult:
    """Compare the scores of one set with its true errors.

    Rows that the calibration in the scores was fitted on are left out.

    Parameters
    ----------
    scores : path
        Scores artifact.
    truth : Truth or path
        True errors of the scored rows.
    settings : EvaluateSettings
        What to compare; single ones may be given by name.

    Returns
    -------
    EvaluateResult

    Raises
    ------
    InputError
        If the true errors or labels cannot be used or do not match.
    ComputeError
        If no row is left.
    """
    settings = EvaluateSettings.of(settings, options)
    scores, truth = Path(scores), Truth.at(truth, settings)
    with open_artifact(scores, ScoresFile) as artifact, Hasher() as hasher:
        judged = read_judged_rows(artifact, truth, settings.group, settings.draws, hasher)
        pvalue = artifact.read("ood_pvalue")[judged.rest]
        area = None
        if settings.ood_labels is not None:
            labels = read_ood_labels(artifact, Place.parse(settings.ood_labels), judged.rest)
            area = roc_auc(labels, pvalue)
        calibration = artifact.calibration()
        if calibration is None:
            metrics = evaluate_plain(judged.rows, judged.true_error, labels=judged.labels)
        else:
            metrics = evaluate(judged.rows, judged.true_error, calibration, labels=judged.labels)
        return EvaluateResult(
            set=scores.stem,
            n_rows=len(judged.rows),
            n_left_out=artifact.n - len(judged.rows),
            units=artifact.units,
            flagged_share=float((pvalue < FLAGGED_BELOW).mean()),
            flagged_below=FLAGGED_BELOW,
            roc_auc=area,
            **metrics,
        )


def headline(predictors: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the metrics of ``ltau`` by the names that a condition may use."""
    own = dict(predictors[CALIBRATED])
    found = {f"coverage{100 * float(level):g}": v for level, v in own.pop("coverage", {}).items()}
    found |= {f"width{100 * float(level):g}": v for level, v in own.pop("mean_width", {}).items()}
    return found | {name: v for name, v in own.items() if isinstance(v, float | int)}


def read_ood_labels(
    artifact: ScoresFile, place: Place, rest: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Read which rows of scores are out of domain, labeled 1, and which are not, labeled 0.

    Parameters
    ----------
    artifact : ScoresFile
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
    check_count(labels, artifact.n, place, str(artifact.path), "rows")
    names = labels[rest].astype(np.str_)  # 1 in .npy, "1" in .txt
    if np.unique(names).tolist() != ["0", "1"]:
        raise InputError(
            f"{place}: out-of-domain labels must be 0 and 1, and both must occur",
            hint="1 for a row that is out of domain, 0 for one that is not",
        )
    flags: npt.NDArray[np.bool_] = names == "1"
    return flags


def roc_auc(labels: npt.NDArray[np.bool_], pvalue: npt.NDArray[Any]) -> float:
    """Area under the ROC curve of the p-value against the user's own labels."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, -pvalue))
