"""What the JSON attributes of an artifact hold, as types; summaries are results.

Only what is read again is declared; more may stand there.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict, cast

from ltau_cli.plain import Between, Count, Positive
from ltau_cli.settings import Method, Metric, Quantity, Weighting


class InputRecord(TypedDict):
    """A file that a stage read."""

    role: str
    file: str
    size: Count
    sha256: str


class Origin(TypedDict):
    """What descriptors come from; those of two origins cannot be compared."""

    package: str
    layer: int | None
    network_sha256: str


class Kept(TypedDict):
    """Weights, kept during a training, that give a trajectory; two of others do not compare."""

    epochs: list[int]
    sha256: list[str]


class _DescribedParameters(TypedDict, total=False):
    trajectory: Kept


class DescribedParameters(_DescribedParameters):
    """How frames were described."""

    origin: Origin


class Target(TypedDict, total=False):
    """What errors are of."""

    quantity: Quantity | None  # what the errors are of, where that is known
    offsets: dict[str, float]  # of each element, taken out of errors of energies, in their units
    n_epochs: Count  # that were logged; of a network that others trained it is one
    averaged: bool  # whether a sample is a structure: its descriptors are averaged over its rows


def find_target(parameters: Mapping[str, Any]) -> Target:
    """Return what the errors of an artifact are of, from its parameters."""
    found = {name: parameters.get(name) for name in Target.__annotations__}
    return cast(Target, {name: value for name, value in found.items() if value is not None})


class ErrorsParameters(Target):
    """How a log was read."""


class _ModelParameters(Target, total=False):
    origin: Origin
    structures: bool  # whether the log or the training set knew them


class ModelParameters(_ModelParameters):
    """How a model was fitted."""

    metric: Metric
    seed: Count
    weighting: Weighting


class _ScoresParameters(Target, total=False):
    calibration_method: Method
    cutoff: Annotated[float, Between(0)]
    origin: Origin
    trajectory: Kept


class ScoresParameters(_ScoresParameters):
    """How rows were scored."""

    k: Positive


class _CalibrationParameters(TypedDict, total=False):
    trajectory: Kept


class CalibrationParameters(_CalibrationParameters):
    """How a calibration was fitted."""

    method: Method
