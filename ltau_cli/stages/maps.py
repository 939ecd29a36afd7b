"""A calibration to plain datasets, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.read import Artifact
from ltau_cli.core.calibration import GROUP_MEAN, Calibration, Cells, Predictor
from ltau_cli.core.maps import ErrorMap

BASELINES = ("constant", "neighbor distance", GROUP_MEAN)  # in the order they are stored


def to_datasets(calibration: Calibration, prefix: str = "") -> dict[str, npt.NDArray[Any]]:
    """Return what :func:`from_artifact` needs, by dataset name."""
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


def from_artifact(artifact: Artifact, prefix: str = "") -> Calibration:
    """Read a calibration from its artifact, or from scores made with it (``calibration/``)."""

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
    return Calibration(
        method=artifact.parameters["method" if plain else "calibration_method"],
        levels=artifact.read("levels"),
        cells=Cells(read("bound_groups"), read("distance_edges")),
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
