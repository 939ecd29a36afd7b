"""A calibration to plain datasets, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.read import Artifact, damaged
from ltau_cli.core.calibration.maps import FEATURES, ErrorMap
from ltau_cli.core.calibration.model import (
    GROUP_MEAN,
    RATIO_LEVELS,
    Calibration,
    Cells,
    Predictor,
)

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
