"""The calibration that scores are made with: read, and checked against the rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.calibration import CalibrationFile
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import in_order
from ltau_cli.core.calibration.apply import Calibrator
from ltau_cli.core.scoring import Model
from ltau_cli.errors import ArtifactError, InputError, LtauWarning, UsageError
from ltau_cli.readers.place import Place
from ltau_cli.settings import ScoreSettings
from ltau_cli.stages.scoring.work import Shared


def check_calibration(
    shared: Shared,
    place: Place,
    frames: Path | None,
    structure: npt.NDArray[np.int64] | None,
    labels: Mapping[str, npt.NDArray[Any]],
    features: Mapping[str, npt.NDArray[np.float32]],
) -> None:
    """Refuse rows that do not come with what a cutoff and the calibration need to know of them."""
    path = shared.settings.calibration
    if shared.cutoff is not None and frames is None:
        of = "" if path is None else f" of {path}"
        raise InputError(
            f"the cutoff{of} needs to know where the atoms of {place} stand",
            hint="give their frames: --frames FILE",
        )
    if shared.calibrator is None:
        return
    calibration = shared.calibrator.calibration
    if calibration.predictor.map.needs_structures:
        if structure is None:
            raise InputError(
                f"{path} uses each structure's mean distance, but {place} does not "
                "say which structure a row belongs to",
                hint="give --natoms or --frames, or calibrate on scores without structures",
            )
        if shared.settings.part is not None and not in_order(structure):
            raise InputError(
                f"{place}: the rows of a structure do not stand together, so --shard would cut it",
                hint="score the file in one call, or sort its rows by structure",
            )
    lacking = sorted(calibration.predictor.map.used & set(calibration.own_features) - set(features))
    if lacking:
        raise InputError(
            f"{path} uses the feature {lacking[0]} of each row, which {place} comes without",
            hint=f"give it: --feature {lacking[0]}=FILE, made as for the calibration",
        )
    if len(calibration.cells.groups) and "group" not in labels:
        raise InputError(
            f"{path} has bounds for each group, but {place} does not say which group "
            "a row belongs to",
            hint="give the labels with --group, such as the species of each atom",
        )
    known = calibration.cells.groups.astype(np.str_)
    if len(known) and not np.isin(labels["group"].astype(np.str_), known).any():
        warnings.warn(
            f"no row of {place} is in a group that has bounds of its own in {path}; "
            "the bounds of all are used",
            LtauWarning,
            stacklevel=2,
        )


def threshold_scale(calibrator: Calibrator | None) -> npt.NDArray[np.float64] | None:
    """Scale of each threshold, where the method calibrates by it; between thresholds linear."""
    if calibrator is None or calibrator.calibration.method != "threshold":
        return None
    calibration = calibrator.calibration
    return np.interp(calibrator.thresholds, calibration.thresholds, calibration.threshold_scale)


def load_calibration(
    settings: ScoreSettings,
    model: Model,
    model_path: Path,
    k: int,
    thresholds: npt.NDArray[np.float64],
) -> tuple[Calibrator | None, npt.NDArray[np.int64] | None, float | None]:
    """Read the maps, the hashes of the rows that they were fitted on, and their cutoff."""
    path = settings.calibration
    if path is None:
        return None, None, None
    with open_artifact(path, CalibrationFile) as artifact:
        if artifact.model_fingerprint != model.fingerprint:
            raise ArtifactError(
                f"{path} was fitted on scores of another model than {model_path}",
                hint="score the calibration rows with this model and run ltau calibrate again",
            )
        if artifact.summary.k != k:
            raise UsageError(
                f"{path} was fitted on scores with -k {artifact.summary.k}, these have -k {k}",
                hint="use the same -k, or calibrate again",
            )
        calibration = artifact.calibration()
        new = set(thresholds) - set(calibration.thresholds)
        for threshold in sorted(new) if calibration.method == "threshold" else ():
            warnings.warn(
                f"{path} has no threshold {threshold:g}; its scale is taken from the nearest ones",
                LtauWarning,
                stacklevel=2,
            )
        cutoff = artifact.summary.cutoff
        if settings.cutoff not in (None, cutoff):
            fitted = "without --cutoff" if cutoff is None else f"with --cutoff {cutoff:g}"
            raise UsageError(
                f"{path} was fitted on scores {fitted}, not {settings.cutoff:g}",
                hint="leave out --cutoff, or calibrate again",
            )
        return Calibrator(calibration, thresholds), artifact.read("fit_hash"), cutoff
