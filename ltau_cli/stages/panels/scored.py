"""Panels of scores: distances from the training set, and trajectories."""

from functools import partial

import numpy as np

from ltau_cli.array_types import Singles
from ltau_cli.artifacts.model import ModelFile
from ltau_cli.artifacts.scores import ScoresFile
from ltau_cli.core.domain import FLAGGED_BELOW, least_pvalue, out_of_domain, rule_of_domain
from ltau_cli.core.selection import summarize
from ltau_cli.errors import UsageError
from ltau_cli.figures import scored as figures
from ltau_cli.figures.style import Panel, shorten
from ltau_cli.stages.panels.sources import NotGivenError, Sources
from ltau_cli.stages.true_errors import read_ood_labels


def ood_panels(sources: Sources) -> list[Panel]:
    """Prepare neighbor distances of the training set and of each scored file."""
    scores = sources.scores
    if not scores or not sources.of(ModelFile):
        there = sources.artifacts[0]
        raise NotGivenError(
            f"ood is drawn from a model and scores, {there.path} alone is not enough",
            hint="ltau plot ood model.h5 scores.h5",
        )
    model = sources.one(ModelFile)
    distance = model.read("loo_distance")
    training = np.sort(distance[np.isfinite(distance)])
    for artifact in scores:
        if artifact.model_fingerprint != model.model_fingerprint:
            raise UsageError(
                f"{artifact.path} was not scored with {model.path}",
                hint="give the model that the scores were made with",
            )
        if artifact.parameters["k"] != model.summary.k:
            raise UsageError(
                f"{artifact.path} was scored with -k {artifact.parameters['k']}, the distances of "
                f"{model.path} are of -k {model.summary.k}",
                hint="score with the model's own -k",
            )
    names = name_files(scores)
    files = {n: a.read("neighbor_distance") for n, a in zip(names, scores, strict=True)}
    least = least_pvalue(len(training))
    shares = {
        name: float(out_of_domain(a.read("ood_pvalue"), a.read("relative_distance"), least).mean())
        for name, a in zip(names, scores, strict=True)
    }
    draw = partial(
        figures.draw_distances,
        training=training,
        files=files,
        shares=shares,
        line=_line(training),
        pvalue=FLAGGED_BELOW,
        rule=rule_of_domain(least),
    )
    panels = [Panel("ood", draw)]
    if sources.settings.ood_labels is not None:
        panels.append(_roc_panel(scores[0], sources.settings.ood_labels))
    return panels


def _line(training: Singles) -> float | None:
    """Distance beyond which p = (1 + #{i : d_i >= d}) / (n + 1) is below the limit."""
    n = len(training)
    beyond = int(np.ceil(FLAGGED_BELOW * (n + 1) - 1)) - 1  # the most samples that are as far
    return float(training[n - beyond - 1]) if beyond >= 0 else None


def _roc_panel(scores: ScoresFile, labels_place: str) -> Panel:
    from sklearn.metrics import auc, roc_curve

    rest = scores.rows_to_judge()
    labels = read_ood_labels(labels_place, scores, rest)
    false, true, _ = roc_curve(labels, -scores.read("ood_pvalue")[rest])
    area = float(auc(false, true))
    return Panel("roc", partial(figures.draw_roc, false=false, true=true, auc=area, n=len(labels)))


def trace_panels(sources: Sources) -> list[Panel]:
    """Prepare the uncertainty along the frames of each scored file."""
    scores = sources.scores
    if not scores:
        sources.one(ScoresFile)
    calibrated = [artifact.calibrated for artifact in scores]
    if len(set(calibrated)) > 1:
        without = scores[calibrated.index(False)]
        raise UsageError(
            f"{without.path} was scored without a calibration, others with one",
            hint="score all of them alike",
        )
    units = {artifact.units for artifact in scores}
    if len(units) > 1:
        raise UsageError("the scores have different units: " + ", ".join(sorted(units)))
    column = scores[0].error_column
    names = name_files(scores)
    traces = [_trace(name, a, column) for name, a in zip(names, scores, strict=True)]
    threshold = float(scores[0].read("thresholds")[0])
    framed = any(artifact.has("structure") for artifact in scores)
    draw = partial(
        figures.draw_traces,
        traces=traces,
        threshold=threshold,
        label=column.replace("_", " "),
        unit="frame" if framed else "row",
        units=scores[0].units,
    )
    return [Panel("trace", draw)]


def _trace(name: str, artifact: ScoresFile, column: str) -> figures.Trace:
    values = artifact.read(column)
    if not artifact.has("structure"):
        rows = values.astype(np.float64)
        return figures.Trace(name, np.arange(len(rows)), rows, rows)
    frame, place = np.unique(artifact.read("structure"), return_inverse=True)
    median, worst = (summarize(place, values, len(frame), by) for by in (0.5, "max"))
    return figures.Trace(name, frame, median, worst)


def name_files(artifacts: list[ScoresFile]) -> list[str]:
    """Return a short name of each file that no other one has."""
    stems = [shorten(artifact.path.stem) for artifact in artifacts]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{stem} ({i})" for i, stem in enumerate(stems, start=1)]
