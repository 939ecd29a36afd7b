"""An artifact to a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.atomic import check_target, replace_atomically
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import Artifact, open_artifact
from ltau_cli.core.metrics import rank_correlation
from ltau_cli.errors import InputError, UsageError
from ltau_cli.figures import cdf, parity, reliability
from ltau_cli.figures.style import save_figure
from ltau_cli.stages.calibrate import of_threshold
from ltau_cli.stages.known import Truth
from ltau_cli.stages.maps import from_artifact

FORMATS = ("png", "pdf", "svg")
BLOCK_POINTS = 65_536


def run(
    kind: str | None,
    path: Path,
    output: Path,
    *,
    true_errors: str | None = None,
    force: bool = False,
) -> Path:
    """Draw one figure.

    Parameters
    ----------
    kind : {"reliability", "parity", "cdf"} or None
        None takes the kind that fits the artifact.
    path : Path
        The artifact.
    output : Path
        Figure file; its ending sets the format.
    true_errors : str, optional
        True errors of the rows of a scores artifact, for ``parity``.
    force : bool
        Replace an existing file.

    Returns
    -------
    Path
        The figure.

    Raises
    ------
    UsageError
        If the ending is unknown or the kind needs true errors.
    """
    check_target(output, force=force)
    file_format = output.suffix.lower().lstrip(".")
    if file_format not in FORMATS:
        raise UsageError(
            f"cannot tell the format of {output}", hint="end it in " + ", ".join(FORMATS)
        )
    with open_artifact(path) as artifact:
        chosen = kind or _DEFAULT_KIND.get(artifact.kind)
        draw = _DRAW.get((chosen or "", artifact.kind))
        if draw is None:
            fitting = sorted({of for name, of in _DRAW if chosen in (None, name)})
            raise UsageError(
                f"no {chosen or 'figure'} can be drawn from {path}, which is of kind "
                f"{artifact.kind}",
                hint="give an artifact of kind " + " or ".join(fitting),
            )
        figure = draw(artifact, true_errors)
        with replace_atomically(output, force=force) as temporary:
            save_figure(figure, temporary, file_format)
    return output


def _reliability(artifact: Artifact, _true_errors: str | None) -> Any:
    calibration = from_artifact(artifact)
    numbers, before, after = of_threshold(
        calibration,
        0,
        artifact.read("heldout_true_error").astype(np.float64),
        artifact.read("heldout_uncertainty").astype(np.float64),
        artifact.read("heldout_calibrated_error").astype(np.float64),
        artifact.read("heldout_cell"),
    )
    return reliability.draw(
        (before.predicted, before.observed, before.n),
        (after.predicted, after.observed, after.n),
        threshold=numbers["threshold"],
        scale=numbers["scale"] if calibration.method == "threshold" else 1.0,
        errors=(before.error, after.error),
        units=artifact.units,
    )


def _parity_calibration(artifact: Artifact, _true_errors: str | None) -> Any:
    expected = artifact.read("heldout_expected_error").astype(np.float64)
    return _parity(artifact, expected, artifact.read("heldout_true_error").astype(np.float64))


def _parity_scores(artifact: Artifact, true_errors: str | None) -> Any:
    if true_errors is None:
        raise UsageError(
            f"parity of {artifact.path} needs its true errors",
            hint="give them with --true FILE, or plot the calibration artifact",
        )
    with Hasher() as hasher:
        truth = Truth(true_errors).read(artifact, hasher).values
    return _parity(artifact, artifact.read("expected_error").astype(np.float64), truth)


def _parity(
    artifact: Artifact, expected: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]
) -> Any:
    correlation = rank_correlation(expected, truth)
    return parity.draw(expected, truth, rank_correlation=correlation, units=artifact.units)


def _cdf_model(artifact: Artifact, _true_errors: str | None) -> Any:
    weights = artifact.read("multiplicity")
    overall = np.zeros(artifact.sizes["n_bins"] + 1)
    for start in range(0, len(weights), BLOCK_POINTS):
        own = _cdfs_of_points(artifact, start, start + BLOCK_POINTS)
        overall += weights[start : start + BLOCK_POINTS] @ own
    mean_error = artifact.read("mean_error")
    rows = {i: _cdfs_of_points(artifact, i, i + 1)[0] for i in _chosen(mean_error).values()}
    return _cdf(artifact, artifact.read("bin_edges"), overall / weights.sum(), rows, mean_error)


def _cdfs_of_points(artifact: Artifact, start: int, stop: int) -> npt.NDArray[np.float64]:
    """CDFs at the bin edges of points ``start..stop``."""
    own = np.cumsum(artifact.read("counts", start, stop), axis=1, dtype=np.float64)
    cdfs: npt.NDArray[np.float64] = own[:, :-1] / own[:, -1:]
    return cdfs


def _cdf_scores(artifact: Artifact, _true_errors: str | None) -> Any:
    if not artifact.has("cdf"):
        raise InputError(
            f"{artifact.path} holds no CDFs", hint="score again with --cdf, or plot the model"
        )
    own = artifact.read("cdf").astype(np.float64)
    edges = artifact.read("cdf_edges")
    return _cdf(artifact, edges, own.mean(axis=0), own, artifact.read("expected_error"))


def _cdf(
    artifact: Artifact,
    edges: npt.NDArray[np.float64],
    overall: npt.NDArray[np.float64],
    own: Mapping[int, npt.NDArray[np.float64]] | npt.NDArray[np.float64],
    order_by: npt.NDArray[np.float32],
) -> Any:
    chosen = _chosen(order_by)
    name = "point" if artifact.kind == "model" else "row"
    rows = {f"{label} ({name} {i})": own[i] for label, i in chosen.items()}
    threshold = float(artifact.read("thresholds")[0])
    return cdf.draw(edges, overall, rows, threshold=threshold, units=artifact.units)


def _chosen(order_by: npt.NDArray[np.float32]) -> dict[str, int]:
    """Rows to show."""
    order = np.argsort(order_by, kind="stable")
    return {
        "lowest": int(order[0]), "median": int(order[len(order) // 2]), "highest": int(order[-1])
    }  # fmt: skip


_DRAW: dict[tuple[str, str], Callable[[Artifact, str | None], Any]] = {
    ("reliability", "calibration"): _reliability,
    ("parity", "calibration"): _parity_calibration,
    ("parity", "scores"): _parity_scores,
    ("cdf", "model"): _cdf_model,
    ("cdf", "scores"): _cdf_scores,
}
_DEFAULT_KIND = {"calibration": "reliability", "model": "cdf", "scores": "cdf"}
KINDS = tuple(sorted({kind for kind, _ in _DRAW}))
