"""What an artifact is and how it was made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.schema import ERROR_UNITS
from ltau_cli.artifacts.views import VIEWS
from ltau_cli.results import ArtifactResult, Result


@dataclass(frozen=True, repr=False, kw_only=True)
class InfoResult(Result):
    """What an artifact is; ``datasets`` tells shape, dimensions, dtype, units of each."""

    file: str
    kind: str
    description: str
    made_by: str
    created: str
    format_version: int
    units: str
    bytes: int
    model_fingerprint: str | None
    parameters: dict[str, Any]
    inputs: list[dict[str, Any]]
    summary: ArtifactResult
    datasets: dict[str, dict[str, Any]]


def run(path: str | os.PathLike[str]) -> InfoResult:
    """Describe any artifact.

    Parameters
    ----------
    path : path
        The artifact.

    Returns
    -------
    InfoResult

    Raises
    ------
    InputError, ArtifactError
        If it is not a usable artifact.
    """
    path = Path(path)
    with open_artifact(path, *VIEWS) as artifact:
        datasets = {}
        for spec in artifact.present():
            dataset = artifact.dataset(spec.name)
            datasets[spec.name] = {
                "shape": list(dataset.shape),
                "dims": list(spec.dims),
                "dtype": str(dataset.dtype),
                "units": artifact.units if spec.units == ERROR_UNITS else spec.units,
                "description": spec.description,
            }
        attributes = artifact.attributes
        return InfoResult(
            file=str(path),
            kind=artifact.kind,
            description=artifact.spec.description,
            made_by=f"ltau {artifact.spec.made_by}, version {attributes['ltau_version']}",
            created=attributes["created"],
            format_version=int(attributes["format_version"]),
            units=artifact.units,
            bytes=path.stat().st_size,
            model_fingerprint=artifact.model_fingerprint,
            parameters=artifact.parameters,
            inputs=artifact.inputs,
            summary=artifact.summary,
            datasets=datasets,
        )
