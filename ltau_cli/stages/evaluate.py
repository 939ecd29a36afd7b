"""Scores against true errors on rows that no calibration was fitted on."""

import os
from pathlib import Path
from typing import Any

from ltau_cli.array_types import Array, Bools
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import ScoresFile
from ltau_cli.core.calibration.evaluation import evaluate, evaluate_plain
from ltau_cli.core.domain import FLAGGED_BELOW, out_of_domain
from ltau_cli.results import EvaluateResult
from ltau_cli.settings import EvaluateSettings, documented
from ltau_cli.stages.true_errors import read_judged_rows, read_ood_labels, read_truth


@documented
def run(
    scores: str | os.PathLike[str],
    truth: str | os.PathLike[str],
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
    truth : path
        True errors of the scored rows.

    Raises
    ------
    InputError
        If the true errors or labels cannot be used or do not match.
    ComputeError
        If no row is left.
    """
    settings = EvaluateSettings.of(settings, options)
    scores = Path(scores)
    with open_artifact(scores, ScoresFile) as artifact, Hasher() as hasher:
        errors = read_truth(truth, settings, artifact, hasher)
        judged = read_judged_rows(artifact, errors, settings.group, settings.draws, hasher)
        pvalue, least = artifact.read("ood_pvalue")[judged.rest], artifact.summary.least_pvalue
        area = None
        if settings.ood_labels is not None:
            labels = read_ood_labels(settings.ood_labels, artifact, judged.rest)
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
            flagged_share=float(out_of_domain(pvalue, judged.rows.relative_distance, least).mean()),
            flagged_below=FLAGGED_BELOW,
            least_pvalue=least,
            roc_auc=area,
            **vars(metrics),
        )


def roc_auc(labels: Bools, pvalue: Array) -> float:
    """Area under the ROC curve of the p-value against the user's own labels."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, -pvalue))
