"""The typed view of every kind of artifact."""

import os
from contextlib import AbstractContextManager
from pathlib import Path

from ltau_cli.artifacts import read
from ltau_cli.artifacts.calibration import CalibrationFile
from ltau_cli.artifacts.described import DescribedFile
from ltau_cli.artifacts.errors import ErrorsFile
from ltau_cli.artifacts.model import ModelFile
from ltau_cli.artifacts.read import Artifact
from ltau_cli.artifacts.scores import ScoresFile

VIEWS = (ErrorsFile, ModelFile, ScoresFile, CalibrationFile, DescribedFile)


def open_artifact(path: str | os.PathLike[str]) -> AbstractContextManager[Artifact]:
    """Open an artifact of any kind, checked: ``with open_artifact("model.h5") as model``.

    Parameters
    ----------
    path : path
        The artifact.

    Returns
    -------
    context manager
        Of the view that fits: ErrorsFile, ModelFile, ScoresFile, CalibrationFile or
        DescribedFile.

    Raises
    ------
    InputError
        If there is no such file.
    ArtifactError
        If it is not HDF5, not of ltau, or damaged.
    """
    return read.open_artifact(Path(path), *VIEWS)
