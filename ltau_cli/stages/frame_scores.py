"""Scores of one frame at a time, for programs that hold it in memory: what ltau score gives it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Floats, Singles
from ltau_cli.artifacts.calibration import CalibrationFile
from ltau_cli.artifacts.model import ModelFile
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.core.calibration.apply import to_single
from ltau_cli.core.calibration.model import Calibration
from ltau_cli.core.structures import Block, local_distance, log_structure_distance
from ltau_cli.core.trajectory import TRAJECTORY
from ltau_cli.errors import ArtifactError, InputError
from ltau_cli.readers.frames import neighbors_of
from ltau_cli.settings import ScoreSettings
from ltau_cli.stages.scoring.loaded import Loaded


@dataclass(frozen=True)
class FrameScores:
    """What is told of the atoms of a frame."""

    # (n_atoms,): calibrated error; without a calibration the expected error. Error units
    error: Singles
    bound: Singles  # (n_atoms, n_levels): error units; no columns without a calibration
    pvalue: Floats  # (n_atoms,): small means far from anything seen in training
    relative_distance: Singles  # (n_atoms,): about 1 inside the training set, larger outside


class FrameScorer:
    """A model and a calibration of it in memory, which score frames one by one.

    The number of neighbors is the calibration's; the numbers do not depend on the threads.
    """

    def __init__(self, model: Path, calibration: Path | None, *, threads: int = 1) -> None:
        self.path, self.calibration_path = model, calibration
        settings = ScoreSettings(k=_neighbors(calibration), quantiles=(), calibration=calibration)
        with open_artifact(model, ModelFile) as artifact:
            if artifact.has("shard_start"):
                raise ArtifactError(
                    f"{model} is in shards, which are read from the file for every frame",
                    hint="fit it again without --shards",
                )
            self._loaded = Loaded.of(artifact, settings, threads)
        self.width, self.units, self.origin = (
            self._loaded.width, self._loaded.units, self._loaded.origin
        )  # fmt: skip
        self.levels, self.kept = np.zeros(0), self._loaded.kept
        self.uses_trajectory = False
        if self._loaded.calibration is not None:
            self.levels = self._loaded.calibration.levels
            self._check_needs(self._loaded.calibration)

    def _check_needs(self, calibration: Calibration) -> None:
        from ase.data import atomic_numbers

        lacking = sorted(calibration.predictor.map.used & set(calibration.own_features))
        self.uses_trajectory = TRAJECTORY in lacking
        if lacking not in ([], [TRAJECTORY]):
            raise InputError(
                f"{self.calibration_path} uses the feature {lacking[0]}, which no frame tells",
                hint="calibrate again on scores without --feature",
            )
        groups = calibration.strata.groups.astype(np.str_).tolist()
        if groups and not atomic_numbers.keys() & set(groups):
            raise InputError(
                f"{self.calibration_path} has bounds for groups that are no chemical elements, "
                f"such as {groups[0]}",
                hint="calibrate with --group species, or without --group",
            )

    @property
    def least_pvalue(self) -> float:
        """Of an atom that is farther away than every training sample from the others."""
        return self._loaded.scorer.least_pvalue

    @property
    def usual_distance(self) -> float:
        """Median distance of a training sample from its neighbors, in the space of the search."""
        return float(np.median(self._loaded.scorer.loo_distance))

    def to_search_space(self, descriptors: Singles) -> Singles:
        """Scale descriptors (n, d) as the training set's are, so that their distances compare."""
        return self._loaded.scorer.model.scaling.apply(descriptors)

    def score(
        self, descriptors: Singles, frame: Any, trajectory: Floats | None = None
    ) -> FrameScores:
        """Score the atoms of a frame by their finite descriptors (n_atoms, d).

        The ``ase.Atoms`` tell species, and the neighbors of each atom where the calibration needs
        them. ``trajectory`` (n_atoms,) is needed where it ``uses_trajectory``.
        """
        loaded = self._loaded
        block: Block = {  # as ltau score stores it, before it calibrates
            name: values.astype(loaded.dtype[name].base)
            for name, values in loaded.scorer.score(descriptors).items()
        }
        far = block["ood_pvalue"], block["relative_distance"]
        if loaded.calibrator is None:
            return FrameScores(block["expected_error"], np.zeros((len(frame), 0), "f4"), *far)
        block["structure"] = np.zeros(len(frame), dtype=np.int64)
        block["group"] = np.array(frame.get_chemical_symbols(), dtype=np.str_)
        calibrator, log_distance = loaded.calibrator, None
        if trajectory is not None:
            block["features"] = trajectory.astype(np.float32)[:, None]  # as ltau score stores it
            calibrator = replace(calibrator, feature_names=(TRAJECTORY,))
        if loaded.cutoff is not None:
            pairs = neighbors_of(frame, loaded.cutoff)
            near = local_distance(block["relative_distance"], *pairs)
            block["local_distance"] = near.astype(np.float32)
        elif loaded.needs_structures:
            rows = (block["structure"], block["relative_distance"])
            log_distance = log_structure_distance([rows], 1)
        predicted = calibrator.predict(block, log_distance)
        return FrameScores(to_single(predicted.mean), to_single(predicted.bounds()), *far)

    def check(self, descriptors: Any, n_atoms: int, source: str) -> Singles:
        """Return descriptors as (n_atoms, d) float32."""
        try:
            found = np.asarray(descriptors, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{source} gives descriptors that are no array of numbers",
                hint="return an array (n_atoms, d)",
            ) from error
        if found.shape != (n_atoms, self.width):
            raise InputError(
                f"{source} gives descriptors of shape {found.shape} for {n_atoms} atoms; "
                f"{self.path} was fitted on {self.width} columns",
                hint="use the layer and the network that described the training set",
            )
        bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(bad):
            raise InputError(
                f"{source} gives descriptors that are NaN or infinite, first for atom {bad[0]}",
                hint="two atoms in one place, or a simulation that blew up?",
            )
        return found


def _neighbors(calibration: Path | None) -> int | None:
    """Return the number of neighbors that a calibration is for."""
    if calibration is None:
        return None
    with open_artifact(calibration, CalibrationFile) as artifact:
        return artifact.summary.k
