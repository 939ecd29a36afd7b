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
from ltau_cli.core.calibration.predicted import Predicted

FEATURES_OF_OLD = (4, 6)  # of format version 1 and 2
BASELINES = ("constant", "neighbor distance", GROUP_MEAN)  # of version 1 and 2, in this order


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

    def predicted(self) -> Predicted:
        """Return the calibrated error distributions of the held-out rows."""
        calibration, mean = self.calibration(), self.read("heldout_calibrated_error")
        own = calibration.predictor
        spread = self.read("heldout_spread") if self.has("heldout_spread") else np.zeros(len(mean))
        return Predicted(
            mean.astype(np.float64), spread.astype(np.float64), self.read("heldout_cell"),
            own.ratio_quantiles, RATIO_LEVELS, own.bound_ratio, calibration.levels,
        )  # fmt: skip

    def calibrated_uncertainty(self) -> Floats:
        """Return P(error > threshold) of the held-out rows, (n_heldout, n_thresholds) float64."""
        name = "heldout_calibrated_uncertainty"
        if self.has(name):
            return self.read(name).astype(np.float64)
        return self.predicted().exceedance(self.read("thresholds"))  # format version 1

    def fitted_on(self) -> FittedOn:
        """Return which rows were fitted on."""
        return FittedOn(
            self.read("fit_hash") if self.has("fit_hash") else None, self._rows_of_files()
        )

    def _rows_of_files(self) -> list[tuple[dict[str, Any], npt.NDArray[np.int64]]]:
        self.input("descriptors")  # there is one at least
        rows, start, found = self.read("fit_row"), 0, []
        for record in self.inputs:
            if record["role"] == "descriptors":
                stop = start + record["rows"]
                found.append((record, rows[(rows >= start) & (rows < stop)] - start))
                start = stop
        return found


@dataclass(frozen=True)
class FittedOn:
    """Rows that a calibration was fitted on.

    Attributes
    ----------
    hashes : (n,) int64 or None
        Of their descriptors, increasing; None in files of an older ltau.
    files : list of (dict, (m,) int64)
        The record of each file that was scored, and its rows.
    """

    hashes: npt.NDArray[np.int64] | None
    files: list[tuple[dict[str, Any], npt.NDArray[np.int64]]]


@dataclass(frozen=True)
class CheckedRows:
    """The rows that a calibration was checked on.

    Attributes
    ----------
    row : (n,) int64
        Rows of the scores.
    rows : Rows
        What the scores say of them.
    true_error : (n,) float64
        Error units.
    uncertainty, calibrated_uncertainty : (n, n_thresholds) float64
        As scored, and as scores with this calibration have it.
    predicted : Predicted
        The calibrated error distributions.
    """

    row: npt.NDArray[np.int64]
    rows: Rows
    true_error: Floats
    uncertainty: Floats
    calibrated_uncertainty: Floats
    predicted: Predicted


def write_calibration(
    writer: ArtifactWriter,
    calibration: Calibration,
    fit_row: npt.NDArray[np.int64],
    fit_hash: npt.NDArray[np.int64] | None,
    checked: CheckedRows,
) -> None:
    """Write the maps, the rows they were fitted on, and those they were checked on."""
    for name, numbers in to_datasets(calibration).items():
        writer.put(name, numbers)
    writer.put("levels", calibration.levels)
    writer.put("thresholds", calibration.thresholds)
    writer.put("threshold_scale", calibration.threshold_scale)
    writer.put("fit_row", fit_row, compress=True)
    if fit_hash is not None:
        writer.put("fit_hash", np.unique(fit_hash))
    writer.put("heldout_row", checked.row, compress=True)
    writer.put("heldout_true_error", checked.true_error)
    writer.put("heldout_expected_error", checked.rows.expected_error)
    writer.put("heldout_calibrated_error", checked.predicted.mean)
    writer.put("heldout_spread", checked.predicted.spread)
    writer.put("heldout_relative_distance", checked.rows.relative_distance)
    if checked.rows.group is not None:
        writer.put("heldout_group", checked.rows.group, compress=True)
    writer.put("heldout_cell", checked.predicted.cell, compress=True)
    writer.put("heldout_uncertainty", checked.uncertainty)
    writer.put("heldout_calibrated_uncertainty", checked.calibrated_uncertainty)


def to_datasets(calibration: Calibration, prefix: str = "") -> dict[str, npt.NDArray[Any]]:
    """Return what :func:`read_calibration` needs, by dataset name."""
    own, cells = calibration.predictor, calibration.cells
    baselines = list(calibration.baselines.values())
    found = {
        "coefficients": own.map.coefficients,
        "knots": own.map.knots,
        "feature_floors": own.map.floors,
        "exponent_center": own.map.center,
        "exponent_covariance": own.map.covariance,
        "user_features": np.array(own.map.features[len(FEATURES) :], dtype=np.str_),
        "bound_ratio": own.bound_ratio,
        "ratio_quantiles": own.ratio_quantiles,
        "draws": calibration.draws,
        "bound_groups": cells.groups,
        "distance_edges": cells.distance_edges,
        "groups": calibration.groups,
        "group_error": calibration.group_error,
        "baselines/names": np.array(list(calibration.baselines)),
        "baselines/exponent_center": np.stack([b.map.center for b in baselines]),
        "baselines/exponent_covariance": np.stack([b.map.covariance for b in baselines]),
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

    features = (*FEATURES, *read("user_features").tolist())
    n_features = len(read("feature_floors"))
    # version 1 has none of the features that bend the law, version 2 no last epoch
    missing = len(features) - n_features
    certain = np.zeros((n_features, n_features))

    def error_map(coefficients: Floats, knots: Floats, center: Floats, doubt: Floats) -> ErrorMap:
        return ErrorMap(
            np.pad(coefficients, (0, missing)), knots,
            np.pad(read("feature_floors"), (0, missing), constant_values=1),
            np.pad(center, (0, missing)), np.pad(doubt, (0, missing)), features,
        )  # fmt: skip

    coefficients = read("baselines/coefficients")
    n_baselines = len(BASELINES) if len(read("groups")) else len(BASELINES) - 1
    names = read("baselines/names", BASELINES[:n_baselines]).tolist()
    center = read("baselines/exponent_center", np.zeros((len(names), n_features)))
    doubt = read("baselines/exponent_covariance", np.zeros((len(names), n_features, n_features)))
    plain = prefix == ""
    cells = Cells(read("bound_groups"), read("distance_edges"))
    sizes = {
        "coefficients": n_features + 1,
        "baselines/coefficients": len(names),
        "bound_ratio": (len(cells.groups) + 1) * cells.n_bins,
        "group_error": len(read("groups")) + 1,
    }
    for name, size in sizes.items():
        if len(read(name)) != size:
            raise damaged(artifact.path, f"dataset {prefix}{name} has size {len(read(name))}")
    old = artifact.attributes["format_version"] < 3
    if (
        n_features not in (FEATURES_OF_OLD if old else (len(features),))
        or coefficients.shape[1] != n_features + 1
    ):
        raise damaged(artifact.path, f"dataset {prefix}feature_floors has size {n_features}")
    bounds, quantiles = read("baselines/bound_ratio"), read("baselines/ratio_quantiles")
    baselines = {
        name: Predictor(
            error_map(coefficients[i], np.zeros((2, 0)), center[i], doubt[i]),
            bounds[i : i + 1], quantiles[i : i + 1],
        )
        for i, name in enumerate(names)
    }  # fmt: skip
    if quantiles.shape[1] != len(RATIO_LEVELS):
        raise damaged(artifact.path, f"its ratio_quantiles are not {len(RATIO_LEVELS)} levels")
    draws = read("draws", np.zeros((0, 4)))
    if draws.shape[1] != 4:
        raise damaged(artifact.path, f"dataset {prefix}draws has {draws.shape[1]} columns, not 4")
    levels = artifact.read("levels")
    if plain:
        _check_heldout(artifact, levels)
    elif "calibration_method" not in artifact.parameters:
        raise damaged(artifact.path, "parameter calibration_method is missing")
    return Calibration(
        method=artifact.parameters["method" if plain else "calibration_method"],
        levels=levels,
        cells=cells,
        draws=draws,
        predictor=Predictor(
            error_map(
                read("coefficients"),
                read("knots", np.zeros((2, 0))),
                read("exponent_center", certain[0]),
                read("exponent_covariance", certain),
            ),
            read("bound_ratio"),
            read("ratio_quantiles"),
        ),
        baselines=baselines,
        groups=read("groups"),
        group_error=read("group_error"),
        thresholds=artifact.read("thresholds"),
        threshold_scale=read("threshold_scale") if plain else np.zeros(0),
    )


def _check_heldout(artifact: Artifact, levels: Floats) -> None:
    """Check that the metrics of all parts of the held-out rows are there for every level."""
    held = artifact.summary["heldout"]
    names = {f"{level:g}" for level in levels}
    for part in (held["predictors"]["ltau"], *held["groups"], *held["distance_bins"]):
        if not (names <= set(part["coverage"]) and names <= set(part["mean_width"])):
            raise damaged(artifact.path, "its summary lacks the coverage at one of its levels")
