"""A model in memory, with a calibration where there is one, and what scores with them hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Floats, Integers, Singles
from ltau_cli.artifacts.attributes import Kept, Origin, Target, find_target
from ltau_cli.artifacts.calibration import CalibrationFile, to_datasets
from ltau_cli.artifacts.model import ModelFile, announce_compilation
from ltau_cli.artifacts.provenance import hash_rows
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import row_dtype, to_rows
from ltau_cli.core.calibration.apply import Calibrator
from ltau_cli.core.calibration.model import Calibration
from ltau_cli.core.scoring import Model, Scorer
from ltau_cli.core.trajectory import TRAJECTORY
from ltau_cli.errors import ArtifactError, UsageError, warn
from ltau_cli.settings import ScoreSettings


@dataclass(frozen=True)
class Loaded:
    """A model, with a calibration where there is one."""

    path: Path  # of the model
    settings: ScoreSettings
    scorer: Scorer
    dtype: np.dtype[Any]  # of a scored row, as it is stored
    width: int  # columns of the descriptors
    units: str  # error units
    origin: Origin | None  # where the descriptors came from
    target: Target  # what the errors are of
    knows_structures: bool = False  # of the training set
    calibrator: Calibrator | None = None
    # (n,): hashes of the rows that the calibration was fitted on
    fit_hash: Integers | None = None
    # how far around an atom distances are averaged, Å; None averages over whole structures
    cutoff: float | None = None
    kept: Kept | None = None  # weights of the trajectory that the calibration was fitted with

    @classmethod
    def of(cls, artifact: ModelFile, settings: ScoreSettings, threads: int) -> Loaded:
        """Load the model and the calibration."""
        announce_compilation()
        model, path = artifact.load(), artifact.path
        k = _check_k(settings.k, model, path)
        limits = np.array(sorted(set(settings.thresholds)) or model.thresholds, dtype=np.float64)
        calibrator, fit_hash, cutoff, kept = None, None, settings.cutoff, None
        if settings.calibration is not None:
            with open_artifact(settings.calibration, CalibrationFile) as fitted:
                _check_fit(fitted, settings, model, path, k)
                calibrator = Calibrator(fitted.calibration(), limits)
                fit_hash, cutoff = fitted.read("fit_hash"), fitted.summary.cutoff
                kept = fitted.parameters.get(TRAJECTORY)
        scorer = Scorer(
            model,
            k=k,
            thresholds=limits,
            quantiles=np.array(sorted(set(settings.quantiles)), dtype=np.float64),
            threshold_scale=_scale_thresholds(settings.calibration, calibrator),
            with_cdf=settings.with_cdf,
            threads=threads,
        )
        return cls(
            path, settings, scorer, row_dtype(scorer), int(artifact.sizes["d"]), artifact.units,
            artifact.parameters.get("origin"), find_target(artifact.parameters),
            artifact.parameters.get("structures", False),
            calibrator, fit_hash, cutoff, kept,
        )  # fmt: skip

    @property
    def calibration(self) -> Calibration | None:
        """The calibration."""
        return None if self.calibrator is None else self.calibrator.calibration

    @property
    def needs_structures(self) -> bool:
        """Whether the mean distances of whole structures count."""
        return self.calibration is not None and self.calibration.predictor.map.needs_structures

    def score(self, block: Singles) -> Array:
        """Score descriptors (n, d), before what takes all rows to know; (n,) of :attr:`dtype`."""
        return to_rows(self.scorer.score(block) | {"row_hash": hash_rows(block)}, self.dtype)

    def columns(self) -> dict[str, Array]:
        """Return what stands beside the rows: thresholds, levels, the calibration."""
        scorer = self.scorer
        columns = {"thresholds": scorer.thresholds, "quantile_levels": scorer.quantiles}
        if self.calibration is not None:
            columns |= {"levels": self.calibration.levels}
            columns |= to_datasets(self.calibration, "calibration/")
        if scorer.with_cdf:
            columns["cdf_edges"] = scorer.model.edges
        return columns


def _check_k(k: int | None, model: Model, path: Path) -> int:
    if k is None:
        return model.k
    if k >= model.n_samples:
        raise UsageError(
            f"-k {k} is not below the {model.n_samples:,} training samples of {path}",
            hint=f"use -k {max(1, model.n_samples - 1)} or less",
        )
    return k


def _check_fit(
    fitted: CalibrationFile, settings: ScoreSettings, model: Model, path: Path, k: int
) -> None:
    """Refuse a calibration of other scores than these will be."""
    if fitted.model_fingerprint != model.fingerprint:
        raise ArtifactError(
            f"{fitted.path} was fitted on scores of another model than {path}",
            hint="score the calibration rows with this model and run ltau calibrate again",
        )
    if fitted.summary.k != k:
        raise UsageError(
            f"{fitted.path} was fitted on scores with -k {fitted.summary.k}, these have -k {k}",
            hint="use the same -k, or calibrate again",
        )
    cutoff = fitted.summary.cutoff
    if settings.cutoff not in (None, cutoff):
        was = "without --cutoff" if cutoff is None else f"with --cutoff {cutoff:g}"
        raise UsageError(
            f"{fitted.path} was fitted on scores {was}, not {settings.cutoff:g}",
            hint="leave out --cutoff, or calibrate again",
        )


def _scale_thresholds(path: Path | None, calibrator: Calibrator | None) -> Floats | None:
    """Scale of each threshold, where the method calibrates by it; between thresholds linear."""
    if calibrator is None or calibrator.calibration.method != "threshold":
        return None
    known = calibrator.calibration
    for threshold in sorted(set(calibrator.thresholds) - set(known.thresholds)):
        warn(f"{path} has no threshold {threshold:g}; its scale is taken from the nearest ones")
    return np.interp(calibrator.thresholds, known.thresholds, known.threshold_scale)
