"""What the JSON attributes of an artifact hold, as types, and the check that they do.

Only what is read again is declared; more may stand there.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, TypedDict, Union, get_args, get_origin, get_type_hints

from ltau_cli.artifacts.rules import Within

Count = Annotated[int, Within(0)]
Positive = Annotated[int, Within(1)]
Share = Annotated[float, Within(0, 1)]
Method = Literal["distance", "scale", "isotonic", "threshold"]


class InputRecord(TypedDict):
    """A file that a stage read."""

    role: str
    file: str
    size: Count
    sha256: str


class ErrorsParameters(TypedDict):
    """How a log was read; ``ltau ingest --append`` keeps to it."""

    format: str | None
    quantity: Literal["forces", "energy"] | None
    norm: Literal["l2", "l1", "max", "rms"]
    missing: list[float]
    columns: dict[str, str]
    reference: str | None
    prediction: str | None
    epochs: tuple[int | None, int | None, int | None]
    every: Positive
    allow_missing: bool


class LoggedRun(TypedDict):
    """What the check-up says of a run."""

    n_epochs: Count
    first: int
    last: int
    gaps: list[int]


class ErrorsSummary(TypedDict):
    """The check-up of a log."""

    n_samples: Count
    n_epochs: Count
    n_runs: Count
    runs: list[LoggedRun]
    format: str
    n_missing: Count
    missing_by_epoch: Annotated[list[Count], Within(1)]
    n_never_logged: Count
    n_zero: Count
    smallest_positive: float | None
    largest: float | None
    mean_first: float | None
    mean_last: float | None
    mean_by_epoch: list[float | None]
    notes: dict[str, Count]
    warnings: list[str]


class Origin(TypedDict):
    """What descriptors come from; those of two origins cannot be compared."""

    package: str
    layer: int | None
    model_sha256: str


class DescribedParameters(TypedDict):
    """How frames were described."""

    origin: Origin


class DescribedSummary(TypedDict):
    """What was described."""

    n_atoms: Positive
    n_frames: Positive
    n_isolated: Count


class _ModelParameters(TypedDict):
    metric: Literal["euclidean", "cosine"]
    seed: Count
    weighting: Literal["uniform", "inverse-distance"]


class ModelParameters(_ModelParameters, total=False):
    """How a model was fitted."""

    origin: Origin


class ExactIndex(TypedDict):
    """No search structure."""

    kind: Literal["exact"]


class GraphIndex(TypedDict):
    """An NN-descent graph."""

    kind: Literal["nndescent"]
    leaves: Annotated[int, Within(1, 1 << 16)]
    epsilon: Annotated[float, Within(0)]


class CellIndex(TypedDict):
    """Cells of points."""

    kind: Literal["cells"]
    factor: Annotated[float, Within(1)]


Index = ExactIndex | CellIndex | GraphIndex


class ShardIndexes(TypedDict):
    """The search structures of the shards."""

    shards: list[Index]


class ModelSummary(TypedDict):
    """What is needed to search a model."""

    k: Positive
    index: Index | ShardIndexes


class Part(TypedDict):
    """Which rows of a whole a part holds."""

    index: Count
    count: Positive
    n_rows: Positive
    first: Count
    last: Count
    n_structures: Count


class _ScoresParameters(TypedDict):
    k: Positive


class ScoresParameters(_ScoresParameters, total=False):
    """How rows were scored."""

    shard: Part
    calibration_method: Method
    cutoff: Annotated[float, Within(0)]


class Riskiest(TypedDict):
    """One of the rows with the largest errors."""

    row: Count
    expected_error: float
    relative_distance: float
    ood_pvalue: float


class Likeness(TypedDict):
    """How like the scored rows those are that were calibrated on."""

    what: Literal["structures", "rows"]
    beyond_share: Share
    n_draws: Positive
    effective_draws: Annotated[float, Within(0)]
    doubtful_levels: list[Share]


class _ScoresSummary(TypedDict):
    n_queries: Count
    n_structures: Count
    k: Positive
    thresholds: list[float]
    mean_uncertainty: list[float]
    levels: list[float]
    mean_bound: list[float]
    flagged_share: Share
    flagged_below: float
    mean_expected_error: float
    mean_relative_distance: float
    riskiest: Annotated[list[Riskiest], Within(1)]


class ScoresSummary(_ScoresSummary, total=False):
    """What is told of a result that is up to date."""

    likeness: Likeness


class CalibrationParameters(TypedDict):
    """How a calibration was fitted."""

    method: Method


class Coverage(TypedDict):
    """How often the bounds of some rows hold, by level."""

    n_rows: Positive
    mean_true_error: float
    coverage: dict[str, float]
    mean_width: dict[str, float]


class GroupCoverage(Coverage):
    """The same for a group."""

    group: str | int


# "from" is no name of Python's
DistanceBin = TypedDict("DistanceBin", {"from": float, "to": float | None})


class CoverageOfBin(Coverage, DistanceBin):
    """The same for a bin of relative distance."""


class Predictors(TypedDict):
    """The metrics of the calibrated errors; baselines may stand beside them."""

    ltau: Coverage


class Quantile(TypedDict):
    """How often a plain quantile holds."""

    level: Share
    coverage: Share


class HeldOut(TypedDict):
    """The metrics on rows that the fit did not see."""

    predictors: Predictors
    groups: list[GroupCoverage]
    distance_bins: list[CoverageOfBin]
    quantiles: list[Quantile]


class CalibrationSummary(TypedDict):
    """What figures and ``ltau score`` read of a calibration."""

    k: Positive
    cutoff: Annotated[float, Within(0)] | None
    heldout: HeldOut


def parse(text: Any, of: Any) -> Any:
    """Read JSON that must be of a type.

    Raises
    ------
    ValueError
        Naming the place of the first thing that is not.
    """
    value = json.loads(text, parse_constant=_refuse_constant)
    for wrong in _faults(value, of, ""):
        raise ValueError(wrong)
    return value


def fault_of(value: Any, of: Any) -> str | None:
    """Return the first thing that is not as a type says, as ``place is not ...``."""
    return next(_faults(value, of, ""), None)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _faults(value: Any, of: Any, place: str) -> Iterator[str]:
    """Yield what is wrong with a value, as ``place is not ...``."""
    origin, arguments = get_origin(of), get_args(of)
    if origin is Annotated:
        inner, rule = arguments
        faults = list(_faults(value, inner, place))
        size = len(value) if isinstance(value, list) and not faults else value
        if not faults and not (rule.low <= size and (rule.high is None or size <= rule.high)):
            faults = [f"{place} is not {rule}"]
        yield from faults
    elif origin in (Union, types.UnionType):
        if all(any(_faults(value, one, place)) for one in arguments):
            yield f"{place} is not as it should be"
    elif origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            yield f"{place} is not one of " + ", ".join(arguments)
    elif origin is list:
        yield from _faults_of_list(value, [*arguments] * _length(value), place)
    elif origin is tuple:
        yield from _faults_of_list(value, arguments, place)
    elif origin is dict or hasattr(of, "__required_keys__"):
        yield from _faults_of_object(value, of, place)
    elif not _is_plain(value, of):
        yield f"{place} is not {'null' if of is types.NoneType else of.__name__}"


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _faults_of_list(value: Any, of: Any, place: str) -> Iterator[str]:
    if not isinstance(value, list) or len(value) != len(of):
        yield f"{place} is not a list" + (f" of {len(of)}" if isinstance(value, list) else "")
        return
    for number, (entry, kind) in enumerate(zip(value, of, strict=True)):
        yield from _faults(entry, kind, f"{place}[{number}]")


def _faults_of_object(value: Any, of: Any, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place} is not an object"
        return
    if get_origin(of) is dict:
        kinds, required = dict.fromkeys(value, get_args(of)[1]), frozenset[str]()
    else:
        kinds, required = _hints(of), of.__required_keys__
    for name, kind in kinds.items():
        inside = f"{place}.{name}".lstrip(".")
        if name in value:
            yield from _faults(value[name], kind, inside)
        elif name in required:
            yield f"{inside} is missing"


@cache
def _hints(of: Any) -> dict[str, Any]:
    return get_type_hints(of, include_extras=True)


def _is_plain(value: Any, of: Any) -> bool:
    if of is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and abs(value) < math.inf
    if of is int:  # what an int64 holds
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
    return isinstance(value, of)
