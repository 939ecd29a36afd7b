"""What an artifact is and how it was made."""

import os
from pathlib import Path

from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.schema import ERROR_UNITS
from ltau_cli.artifacts.views import VIEWS
from ltau_cli.results import DatasetInfo, InfoResult


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
            datasets[spec.name] = DatasetInfo(
                shape=list(dataset.shape),
                dims=list(spec.dims),
                dtype=str(dataset.dtype),
                units=artifact.units if spec.units == ERROR_UNITS else spec.units,
                description=spec.description,
            )
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
