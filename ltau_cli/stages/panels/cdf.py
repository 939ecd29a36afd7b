"""Panels of error CDFs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.errors import ErrorsFile
from ltau_cli.artifacts.model import ModelFile
from ltau_cli.artifacts.scores import ScoresFile
from ltau_cli.errors import UsageError
from ltau_cli.figures import cdf as cdf_figure
from ltau_cli.figures.style import Panel, shorten
from ltau_cli.stages.panels.sources import NotGivenError, Sources

BLOCK_ROWS = 16_384

Floats = npt.NDArray[np.float64]


def cdf_panels(sources: Sources) -> list[Panel]:
    """Prepare error CDFs of the training set, and of chosen samples or scored rows."""
    models, scores = sources.of(ModelFile), sources.scores
    overall: dict[str, cdf_figure.Cdf] = {}
    rows: dict[str, cdf_figure.Cdf] = {}
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
        order_by = artifact.read("calibrated_error" if plain else "expected_error")
        for label, row in choose(sources.rows, order_by, "row", artifact).items():
            rows[label] = edges, artifact.read("cdf", row, row + 1)[0].astype(np.float64)
    if models and not scores:
        rows = _rows_of_model(models[0], sources.rows)
    first = models[0] if models else scores[0]
    threshold = float(first.read("thresholds")[0])
    return [
        Panel(
            "cdf",
            lambda axes: cdf_figure.draw(
                axes, overall, rows, threshold=threshold, units=first.units
            ),
        )
    ]


def choose(
    rows: tuple[int, ...],
    order_by: npt.NDArray[np.floating],
    what: str,
    artifact: ErrorsFile | ModelFile | ScoresFile,
) -> dict[str, int]:
    """Return the chosen rows by label: those that are named, or the lowest, median and highest.

    Parameters
    ----------
    rows : tuple of int
        What the user named, maybe nothing.
    order_by : (n,) float
        What the lowest, median and highest are of; NaN is left out.
    what : str
        ``row`` or ``sample``.
    artifact : Artifact
        Where they are.

    Raises
    ------
    UsageError
        If there is no such row, or too many are named.
    """
    if len(rows) > cdf_figure.MOST_ROWS:
        raise UsageError(
            f"--rows names {len(rows)} {what}s; at most {cdf_figure.MOST_ROWS} can be told apart"
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


def _rows_of_model(model: ModelFile, rows: tuple[int, ...]) -> dict[str, cdf_figure.Cdf]:
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
