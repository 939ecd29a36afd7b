"""One descriptor file, open, and what is to be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli import __version__
from ltau_cli.artifacts.parts import stamps_of
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.scores import Header
from ltau_cli.core.calibration.apply import Calibrator
from ltau_cli.core.scoring import Scorer
from ltau_cli.readers.descriptors import Descriptors
from ltau_cli.readers.place import Place
from ltau_cli.settings import ScoreSettings
from ltau_cli.stages.cluster import Cluster


@dataclass(frozen=True)
class Job:
    """One descriptor file to score.

    Attributes
    ----------
    descriptors : str
        Descriptors (n_queries, d), or a described artifact.
    output : Path
        The scores artifact, or ``-`` for CSV on standard output.
    natoms : str, optional
        Atoms per structure.
    group : str, optional
        Label of each row, such as its species.
    frames : str, optional
        The frames whose atoms the rows are, instead of ``natoms``.
    features : dict of str to str, optional
        Features of the user's own by name: (n_queries,) numbers, at least 0, in an array file or an
        extxyz column; an empty place is the array of that name beside the descriptors.
    """

    descriptors: str
    output: Path
    natoms: str | None = None
    group: str | None = None
    features: Mapping[str, str] = field(default_factory=dict)
    frames: str | None = None


@dataclass(frozen=True)
class Shared:
    """What all jobs of a call have in common."""

    model_path: Path
    settings: ScoreSettings
    scorer: Scorer
    block_rows: int
    units: str
    hasher: Hasher  # of the model and the calibration
    calibrator: Calibrator | None
    fit_hash: npt.NDArray[np.int64] | None  # of the rows that the calibration was fitted on
    cutoff: float | None  # Å, where distances are averaged around each atom
    cluster: Cluster | None


@dataclass(frozen=True)
class Work:
    """One descriptor file, open, and what is to be done with it."""

    job: Job
    shared: Shared
    source: Descriptors
    structure: npt.NDArray[np.int64] | None
    frames: Path | None  # where the atoms stand, if that is known
    labels: dict[str, npt.NDArray[Any]]  # group and sample_id of each row, where they are known
    features: npt.NDArray[np.float32]  # (n, n_features) of the user's own
    header: Header
    hasher: Hasher  # of the descriptors and what belongs to them

    def inputs(self) -> list[dict[str, Any]]:
        """Wait for the hashes; one record per input."""
        return self.hasher.records() + self.shared.hasher.records()


def identify(work: Work) -> dict[str, Any]:
    """All that the rows depend on, without reading whole files."""
    files = [work.source.source.place]
    if work.shared.settings.calibration is not None:
        files.append(Place(work.shared.settings.calibration))
    return {
        "ltau_version": __version__,
        "model_fingerprint": work.shared.scorer.model.fingerprint,
        "parameters": work.header.parameters,
        "n_rows": work.header.n,
        "files": stamps_of(files),
    }
