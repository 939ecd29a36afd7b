"""What the JSON attributes of an artifact hold, as types; summaries are results.

Only what is read again is declared; more may stand there.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from ltau_cli.plain import Between, Count, Positive
from ltau_cli.settings import Method


class InputRecord(TypedDict):
    """A file that a stage read."""

    role: str
    file: str
    size: Count
    sha256: str


class ErrorsParameters(TypedDict):
    """How a log was read."""


class Origin(TypedDict):
    """What descriptors come from; those of two origins cannot be compared."""

    package: str
    layer: int | None
    network_sha256: str


class DescribedParameters(TypedDict):
    """How frames were described."""

    origin: Origin


class _ModelParameters(TypedDict):
    metric: Literal["euclidean", "cosine"]
    seed: Count
    weighting: Literal["uniform", "inverse-distance"]


class ModelParameters(_ModelParameters, total=False):
    """How a model was fitted."""

    origin: Origin


class _ScoresParameters(TypedDict):
    k: Positive


class ScoresParameters(_ScoresParameters, total=False):
    """How rows were scored."""

    calibration_method: Method
    cutoff: Annotated[float, Between(0)]


class CalibrationParameters(TypedDict):
    """How a calibration was fitted."""

    method: Method
