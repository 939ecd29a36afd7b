"""The calibration artifact: the fitted maps, and the held-out rows they were checked on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.read import Artifact, damaged
from ltau_cli.artifacts.write import ArtifactWriter
from ltau_cli.core.calibration.maps import FEATURES, ErrorMap, Floats, Rows
from ltau_cli.core.calibration.model import (
    GROUP_MEAN,
    RATIO_LEVELS,
    Calibration,
    Cells,
    Predictor,
)

BASELINES = ("constant", "neighbor distance", GROUP_MEAN)  # in the order they are stored


class CalibrationFile(Artifact):
    """An open calibration artifact."""

    kind = "calibration"

    def calibration(self) -> Calibration:
        """Return the fitted maps.

        Raises
        ------
        ArtifactError
            If they are damaged.
        """
        return read_calibration(self)


@dataclass(frozen=True)
class CheckedRows:
    """The rows that a calibration was checked on.

    Attributes
    ----------
    row : (n,) int64
        Rows of the scores.
    rows : Rows
        What the scores say of them.
    true_error, calibrated_error : (n,) float64
        Error units.
    uncertainty : (n, n_thresholds) float64
        As scored.
    cell : (n,) int64
        See :class:`ltau_cli.core.calibration.model.Cells`.
    """

    row: npt.NDArray[np.int64]
    rows: Rows
    true_error: Floats
    calibrated_error: Floats
    uncertainty: Floats
    cell: npt.NDArray[np.int64]


def write_calibration(
    writer: ArtifactWriter,
    calibration: Calibration,
    fit_row: npt.NDArray[np.int64],
    checked: CheckedRows,
) -> None:
    """Write the maps, the rows they were fitted on, and those they were checked on."""
    for name, numbers in to_datasets(calibration).items():
        writer.put(name, numbers)
    writer.put("levels", calibration.levels)
    writer.put("thresholds", calibration.thresholds)
    writer.put("threshold_scale", calibration.threshold_scale)
    writer.put("fit_row", fit_row, compress=True)
    writer.put("heldout_row", checked.row, compress=True)
    writer.put("heldout_true_error", checked.true_error)
    writer.put("heldout_expected_error", checked.rows.expected_error)
    writer.put("heldout_calibrated_error", checked.calibrated_error)
    writer.put("heldout_relative_distance", checked.rows.relative_distance)
    if checked.rows.group is not None:
        writer.put("heldout_group", checked.rows.group, compress=True)
    writer.put("heldout_cell", checked.cell, compress=True)
    writer.put("heldout_uncertainty", checked.uncertainty)


def to_datasets(calibration: Calibration, prefix: str = "") -> dict[str, npt.NDArray[Any]]:
    """Return what :func:`read_calibration` needs, by dataset name."""
    own, cells = calibration.predictor, calibration.cells
    baselines = list(calibration.baselines.values())
    found = {
        "coefficients": own.map.coefficients,
        "knots": own.map.knots,
        "feature_floors": own.map.floors,
        "bound_ratio": own.bound_ratio,
        "ratio_quantiles": own.ratio_quantiles,
        "bound_groups": cells.groups,
        "distance_edges": cells.distance_edges,
        "groups": calibration.groups,
        "group_error": calibration.group_error,
        "baselines/coefficients": np.stack([b.map.coefficients for b in baselines]),
        "baselines/bound_ratio": np.concatenate([b.bound_ratio for b in baselines]),
        "baselines/ratio_quantiles": np.concatenate([b.ratio_quantiles for b in baselines]),
    }
    return {prefix + name: values for name, values in found.items() if values.size}


def read_calibration(artifact: Artifact, prefix: str = "") -> Calibration:
    """Read a calibration from its artifact, or from scores made with it (``calibration/``).

    Raises
    ------
    ArtifactError
        If it is damaged.
    """

    def read(name: str, missing: Any = ()) -> npt.NDArray[Any]:
        there = artifact.has(prefix + name)
        return artifact.read(prefix + name) if there else np.asarray(missing)

    coefficients = read("baselines/coefficients")
    bounds, quantiles = read("baselines/bound_ratio"), read("baselines/ratio_quantiles")
    none, floors = np.zeros((2, 0)), read("feature_floors")
    baselines = {
        name: Predictor(
            ErrorMap(coefficients[i], none, floors), bounds[i : i + 1], quantiles[i : i + 1]
        )
        for i, name in enumerate(BASELINES[: len(coefficients)])
    }
    plain = prefix == ""
    cells = Cells(read("bound_groups"), read("distance_edges"))
    sizes = {
        "coefficients": len(FEATURES) + 1,
        "feature_floors": len(FEATURES),
        "baselines/coefficients": len(BASELINES) if len(read("groups")) else len(BASELINES) - 1,
        "bound_ratio": (len(cells.groups) + 1) * cells.n_bins,
        "group_error": len(read("groups")) + 1,
    }
    for name, size in sizes.items():
        if len(read(name)) != size:
            raise damaged(artifact.path, f"dataset {prefix}{name} has size {len(read(name))}")
    if quantiles.shape[1] != len(RATIO_LEVELS):
        raise damaged(artifact.path, f"its ratio_quantiles are not {len(RATIO_LEVELS)} levels")
    return Calibration(
        method=artifact.parameters["method" if plain else "calibration_method"],
        levels=artifact.read("levels"),
        cells=cells,
        predictor=Predictor(
            ErrorMap(read("coefficients"), read("knots", none), floors),
            read("bound_ratio"),
            read("ratio_quantiles"),
        ),
        baselines=baselines,
        groups=read("groups"),
        group_error=read("group_error"),
        thresholds=artifact.read("thresholds"),
        threshold_scale=read("threshold_scale") if plain else np.zeros(0),
    )
