"""The calibration artifact: the fitted maps, and the held-out rows they were checked on."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Floats, Integers
from ltau_cli.artifacts.read import Artifact, damaged
from ltau_cli.artifacts.write import ArtifactWriter
from ltau_cli.core.calibration.maps import FEATURES, ErrorMap, Rows
from ltau_cli.core.calibration.model import RATIO_LEVELS, Calibration, Predictor, Strata
from ltau_cli.core.calibration.predicted import Predicted
from ltau_cli.results import CalibrateResult


class CalibrationFile(Artifact):
    """An open calibration artifact."""

    kind = "calibration"
    summary: CalibrateResult

    def calibration(self) -> Calibration:
        """Return the fitted maps."""
        return read_calibration(self)

    def predicted(self) -> Predicted:
        """Return the calibrated error distributions of the held-out rows."""
        calibration = self.calibration()
        own = calibration.predictor
        return Predicted(
            self.read("heldout_calibrated_error").astype(np.float64),
            self.read("heldout_spread").astype(np.float64),
            self.read("heldout_stratum"),
            own.ratio_quantiles, RATIO_LEVELS, own.bound_ratio, calibration.levels,
        )  # fmt: skip

    def calibrated_uncertainty(self) -> Floats:
        """Return P(error > threshold) of the held-out rows, (n_heldout, n_thresholds) float64."""
        return self.read("heldout_calibrated_uncertainty").astype(np.float64)


@dataclass(frozen=True)
class CheckedRows:
    """The rows that a calibration was checked on."""

    row: Integers  # (n,): rows of the scores
    rows: Rows  # what the scores say of them
    true_error: Floats  # (n,), error units
    uncertainty: Floats  # (n, n_thresholds): as scored
    calibrated_uncertainty: Floats  # the same, as scores with this calibration have it
    predicted: Predicted  # the calibrated error distributions


def write_calibration(
    writer: ArtifactWriter,
    calibration: Calibration,
    fit_row: Integers,
    fit_hash: Integers,
    checked: CheckedRows,
) -> None:
    """Write the maps, the rows they were fitted on, and those they were checked on."""
    for name, numbers in to_datasets(calibration).items():
        writer.put(name, numbers)
    writer.put("levels", calibration.levels)
    writer.put("thresholds", calibration.thresholds)
    writer.put("threshold_scale", calibration.threshold_scale)
    writer.put("fit_row", fit_row, compress=True)
    writer.put("fit_hash", np.unique(fit_hash))
    writer.put("heldout_row", checked.row, compress=True)
    writer.put("heldout_true_error", checked.true_error)
    writer.put("heldout_expected_error", checked.rows.expected_error)
    writer.put("heldout_calibrated_error", checked.predicted.mean)
    writer.put("heldout_spread", checked.predicted.spread)
    writer.put("heldout_relative_distance", checked.rows.relative_distance)
    if checked.rows.group is not None:
        writer.put("heldout_group", checked.rows.group, compress=True)
    writer.put("heldout_stratum", checked.predicted.stratum, compress=True)
    writer.put("heldout_uncertainty", checked.uncertainty)
    writer.put("heldout_calibrated_uncertainty", checked.calibrated_uncertainty)


def to_datasets(calibration: Calibration, prefix: str = "") -> dict[str, Array]:
    """Return what :func:`read_calibration` needs, by dataset name."""
    own, strata = calibration.predictor, calibration.strata
    baselines = list(calibration.baselines.values())
    found = {
        "coefficients": own.map.coefficients,
        "feature_floors": own.map.floors,
        "exponent_center": own.map.center,
        "exponent_covariance": own.map.covariance,
        "user_features": np.array(own.map.features[len(FEATURES) :], dtype=np.str_),
        "bound_ratio": own.bound_ratio,
        "ratio_quantiles": own.ratio_quantiles,
        "draws": calibration.draws,
        "bound_groups": strata.groups,
        "distance_edges": strata.distance_edges,
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
    """Read a calibration from its artifact, or from scores made with it (``calibration/``)."""

    def read(name: str, missing: Any = ()) -> Array:
        there = artifact.has(prefix + name)
        return artifact.read(prefix + name) if there else np.asarray(missing)

    features = (*FEATURES, *read("user_features").tolist())
    floors = read("feature_floors")
    coefficients = read("baselines/coefficients")
    center, doubt = read("baselines/exponent_center"), read("baselines/exponent_covariance")
    plain = prefix == ""
    strata = Strata(read("bound_groups"), read("distance_edges"))
    sizes = {
        "feature_floors": len(features),
        "coefficients": len(features) + 1,
        "bound_ratio": (len(strata.groups) + 1) * strata.n_bins,
        "group_error": len(read("groups")) + 1,
    }
    for name, size in sizes.items():
        if len(read(name)) != size:
            raise damaged(artifact.path, f"dataset {prefix}{name} has size {len(read(name))}")
    bounds, quantiles = read("baselines/bound_ratio"), read("baselines/ratio_quantiles")
    baselines = {
        name: Predictor(
            ErrorMap(coefficients[i], floors, center[i], doubt[i], features),
            bounds[i : i + 1], quantiles[i : i + 1],
        )
        for i, name in enumerate(read("baselines/names").tolist())
    }  # fmt: skip
    if quantiles.shape[1] != len(RATIO_LEVELS):
        raise damaged(artifact.path, f"its ratio_quantiles are not {len(RATIO_LEVELS)} levels")
    levels = artifact.read("levels")
    if plain:
        _check_heldout(artifact, levels)
    elif "calibration_method" not in artifact.parameters:
        raise damaged(artifact.path, "parameter calibration_method is missing")
    return Calibration(
        method=artifact.parameters["method" if plain else "calibration_method"],
        levels=levels,
        strata=strata,
        draws=read("draws"),
        predictor=Predictor(
            ErrorMap(
                read("coefficients"),
                floors,
                read("exponent_center"),
                read("exponent_covariance"),
                features,
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
    held = artifact.summary.heldout
    names = {f"{level:g}" for level in levels}
    for part in (held.own, *held.groups, *held.distance_bins):
        if not (names <= set(part.coverage) and names <= set(part.mean_width)):
            raise damaged(artifact.path, "its summary lacks the coverage at one of its levels")
