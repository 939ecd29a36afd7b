"""What a stage tells when it is done: printed, given by ``--json``, and stored in its artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from ltau_cli.epochs import EpochRange
from ltau_cli.plain import Between, Count, Positive, Share, to_plain, told_fields
from ltau_cli.settings import Scale, Weighting

CALIBRATED = "ltau"  # among the predictors


@dataclass(frozen=True, repr=False, kw_only=True)
class Result:
    """Fields of plain Python values; those with a default are told where they have another."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are told, as JSON has them."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    def __repr__(self) -> str:
        told = {f.name: value for f, value in told_fields(self)}
        width = max(map(len, told))
        lines = (f"  {name.ljust(width)}  {_short(value)}" for name, value in told.items())
        return "\n".join([type(self).__name__, *lines])


def _short(value: Any) -> str:
    """Show a value on one line."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Result):
        return "{" + ", ".join(f.name for f, _ in told_fields(value)) + "}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(map(str, value)) + "}"
    if not isinstance(value, list | tuple):
        return str(value)
    nested = (Result, list, Mapping)
    shown = ["..." if isinstance(entry, nested) else _short(entry) for entry in value[:6]]
    return "[" + ", ".join(shown) + (f", ... {len(value):,} in all]" if len(value) > 6 else "]")


@dataclass(frozen=True, repr=False, kw_only=True)
class ArtifactResult(Result):
    """What is told of an artifact when it is made, and stored in it."""

    output: Path
    units: Annotated[str, "Error units."]

    def stored(self) -> dict[str, Any]:
        """Return what the summary in the artifact holds: all but what the file says by itself."""
        told = self.to_dict()
        return {name: told[name] for name in told if name not in ("output", "units")}


@dataclass(frozen=True, repr=False, kw_only=True)
class LoggedEpochs(Result):
    """The epochs of one run; ``gaps`` are those that a regular log would have, 100 at most."""

    n_epochs: Count
    first: int
    last: int
    gaps: list[int]


@dataclass(frozen=True, repr=False, kw_only=True)
class CheckUp(Result):
    """What is in an error log, and in ``warnings`` what looks wrong with it, one line each."""

    n_samples: Count
    n_epochs: Count
    n_runs: Count
    runs: list[LoggedEpochs]
    n_missing: Count
    missing_by_epoch: Annotated[list[Count], Between(1)]
    n_never_logged: Count
    n_constant: Count
    n_zero: Count
    n_infinite: Count
    n_duplicated_ids: Count
    smallest_positive: float | None
    largest: float | None
    mean_first: float | None
    mean_last: float | None
    mean_by_epoch: list[float | None]
    trimmed_first: Annotated[float, Between(0), "Without the largest 1 %."] | None = None
    trimmed_last: Annotated[float, Between(0), "Without the largest 1 %."] | None = None
    warnings: list[str]


@dataclass(frozen=True, repr=False, kw_only=True)
class IngestResult(CheckUp, ArtifactResult):
    """The check-up of a log."""

    format: Annotated[str, "What the log was taken for."]
    notes: Annotated[dict[str, Count], "What the readers counted."]
    offsets: Annotated[dict[str, float], "Of each element, taken out of errors of energies."] = (
        field(default_factory=dict)
    )


@dataclass(frozen=True, repr=False, kw_only=True)
class DescribeResult(ArtifactResult):
    """What was described."""

    n_atoms: Positive
    n_frames: Positive
    n_isolated: Annotated[Count, "Frames of isolated atoms, which are left out."]
    width: Annotated[Positive, "Columns of the descriptors."]
    layer: Annotated[int | None, "Of the network, from 1."]
    references: Annotated[dict[str, str], "Names of the references in the frames."]
    n_without_forces: Annotated[Count, "Frames without reference forces."]
    heads: Annotated[dict[str, int], "Frames by head, of a network of several."]
    mean_force_error: Annotated[float | None, "Mean norm of the force errors, in ``units``."] = None
    mean_energy_error: Annotated[float | None, "Per atom, eV."] = None
    kept_epochs: Annotated[list[int], "Epochs of the weights of the trajectory."] = field(
        default_factory=list
    )
    up_to_date: Annotated[bool, "Whether there was nothing to do."] = False


@dataclass(frozen=True, repr=False, kw_only=True)
class SearchTrials(Result):
    """How near a search comes to the truth in trials."""

    recall: Annotated[float, "Share of the neighbors that are found."]
    lost: Annotated[float, "Share of the trials that miss more than half of them."]
    too_long: Annotated[float, "Largest excess of a mean neighbor distance, 0.1 being 10 %."]


@dataclass(frozen=True, repr=False, kw_only=True)
class IndexResult(Result):
    """A search structure, and what was measured of it; of several shards the worst."""

    kind: Literal["exact", "cells", "nndescent"]
    n_cells: Count | None = None
    leaves: Annotated[int, Between(1, 1 << 16)] | None = None  # effort, as epsilon
    epsilon: Annotated[float, Between(0)] | None = None
    trials_k: Annotated[Positive | None, "Neighbors of the trials."] = None
    in_domain: SearchTrials | None = None
    out_of_domain: SearchTrials | None = None
    shards: list[IndexResult] = field(default_factory=list)


@dataclass(frozen=True, repr=False, kw_only=True)
class Choice(Result):
    """One setting of the knobs that ``--tune`` chooses."""

    scale: Scale
    k: Positive
    weighting: Weighting
    epochs: EpochRange


@dataclass(frozen=True, repr=False, kw_only=True)
class Trial(Result):
    """How a choice did by cross-validation."""

    choice: Choice
    crps: Annotated[float, "Error units."]
    rank_correlation: float | None


@dataclass(frozen=True, repr=False, kw_only=True)
class FitResult(ArtifactResult):
    """What was fitted."""

    n_samples: Annotated[Count, "Logged ones."]
    n_never_logged: Annotated[Count, "Samples without a logged error."]
    n_points: Annotated[Count, "Distinct descriptors."]
    width: Annotated[Count, "Columns of the descriptors."]
    k: Positive
    thresholds: Annotated[list[float], "Error units."]
    mean_error: Annotated[float, "Over all samples and epochs (error units)."]
    mean_uncertainty: Annotated[list[float], "Share of the errors above each threshold."]
    underflow_share: Annotated[Share, "Errors below the bins."]
    overflow_share: Annotated[Share, "Errors above the bins."]
    loo_distance: Annotated[float, "Mean leave-one-out neighbor distance."]
    loo_rank_correlation: Annotated[float | None, "Of a sample's mean error and its neighbors'."]
    index: IndexResult
    network_rank_correlation: Annotated[
        float | None, "Of the last logged errors and the described network's own."
    ] = None
    trimmed_error: Annotated[float, "Mean error without the 1 % of the samples with most."] = 0.0
    averaged: Annotated[bool, "Whether descriptors are means over the rows of a sample."] = False
    trials: Annotated[list[Trial], "Of ``--tune``, the best first."] = field(default_factory=list)


@dataclass(frozen=True, repr=False, kw_only=True)
class RiskyRow(Result):
    """One of the rows with the largest errors, with what is known of it."""

    row: Count
    expected_error: float
    relative_distance: float
    ood_pvalue: float
    structure: int | None = None
    calibrated_error: float | None = None
    uncertainty: float | None = None
    calibrated_uncertainty: float | None = None


@dataclass(frozen=True, repr=False, kw_only=True)
class Likeness(Result):
    """How like the scored rows those are that were calibrated on."""

    what: Annotated[Literal["structures", "rows"], "What a draw is."]
    beyond_share: Annotated[Share, "Rows farther away than all that was fitted on."]
    n_draws: Annotated[Positive, "That were fitted on."]
    effective_draws: Annotated[float, Between(0), "Weighted to look like the scored."]
    doubtful_levels: Annotated[list[Share], "Whose bound needs more than that."]


@dataclass(frozen=True, repr=False, kw_only=True)
class ScoreResult(ArtifactResult):
    """What is told of all scored rows."""

    n_rows: Count
    n_structures: Count
    k: Positive
    thresholds: Annotated[list[float], "Error units."]
    mean_uncertainty: Annotated[list[float], "Mean probability of an error above each."]
    levels: Annotated[list[float], "Of the error bounds; empty without a calibration."]
    mean_bound: Annotated[list[float], "Error units."]
    mean_expected_error: Annotated[float, "Error units."]
    mean_neighbor_distance: float
    mean_relative_distance: float
    flagged_share: Annotated[Share, "Share of the rows that are out of domain."]
    flagged_below: Annotated[float, "p-value of these, where it can be so small."]
    riskiest: Annotated[list[RiskyRow], Between(1), "The rows with the largest errors."]
    trimmed_expected_error: Annotated[float, "Mean without the largest 1 %."] = 0.0
    mean_calibrated_error: float | None = None
    trimmed_calibrated_error: Annotated[float | None, "Mean without the largest 1 %."] = None
    least_pvalue: Annotated[Share, "The smallest that there can be."] = 0.0
    mean_calibrated_uncertainty: list[float] | None = None
    likeness: Annotated[Likeness | None, "With a calibration only."] = None
    unseen_groups: Annotated[list[str], "Groups without a calibration row."] = field(
        default_factory=list
    )
    up_to_date: Annotated[bool, "Whether there was nothing to do."] = False


@dataclass(frozen=True, repr=False, kw_only=True)
class ShardResult(Result):
    """What is told of a shard: its pieces are there."""

    output: Annotated[Path, "Beside which they are kept."]
    first: Annotated[int, "Rows ``first..last`` of the file."]
    last: int
    n_rows: Annotated[int, "Rows of the file."]


@dataclass(frozen=True, repr=False, kw_only=True)
class Metrics(Result):
    """How the predicted errors of some rows compare with the true ones."""

    n_rows: Positive
    mean_true_error: Annotated[float, "Error units."]
    mean_predicted_error: float
    error_ratio: Annotated[float | None, "Predicted over true."]
    rank_correlation: Annotated[float | None, "Spearman's."]
    rank_correlation_interval: Annotated[list[float] | None, "Of 95 %."]
    ause: Annotated[float, "See :mod:`ltau_cli.core.calibration.metrics`."]
    rank_correlation_within_groups: float | None = None
    coverage: dict[str, float] = field(default_factory=dict)  # share under the bound, by level
    mean_width: dict[str, float] = field(default_factory=dict)  # mean bound, by level
    miscalibration_area: float | None = None
    ence: float | None = None
    crps: float | None = None

    def headline(self) -> dict[str, float]:
        """Return the numbers by the names that a condition may use, such as ``coverage90``."""
        found = {f"coverage{100 * float(level):g}": v for level, v in self.coverage.items()}
        found |= {f"width{100 * float(level):g}": v for level, v in self.mean_width.items()}
        values = {f.name: value for f, value in told_fields(self)}
        return found | {name: v for name, v in values.items() if isinstance(v, float | int)}


@dataclass(frozen=True, repr=False, kw_only=True)
class GroupMetrics(Metrics):
    """The same of the rows of a group."""

    group: str | int


@dataclass(frozen=True, repr=False, kw_only=True)
class BinMetrics(Metrics):
    """The same of the rows with a relative distance ``from_`` one ``to`` another; None is open."""

    from_: float
    to: float | None


@dataclass(frozen=True, repr=False, kw_only=True)
class Evaluation(Result):
    """Predicted against true errors of some rows."""

    rank_ceiling: Annotated[float | None, "The best possible, where rows are atoms."]
    predictors: Annotated[dict[str, Metrics], "Of ``ltau`` and the baselines."]
    groups: Annotated[list[GroupMetrics], "Of ``ltau``, in each group that has rows."]
    distance_bins: list[BinMetrics]

    def __post_init__(self) -> None:
        if CALIBRATED not in self.predictors:  # of a damaged artifact
            raise ValueError(f"predictors.{CALIBRATED} is missing")

    @property
    def own(self) -> Metrics:
        """Metrics of ``ltau``."""
        return self.predictors[CALIBRATED]


@dataclass(frozen=True, repr=False, kw_only=True)
class EvaluateResult(Evaluation):
    """How the scores of one set compare with its true errors."""

    set: Annotated[str, "Name of the scores."]
    n_rows: int
    n_left_out: Annotated[int, "Rows that a calibration was fitted on."]
    units: Annotated[str, "Error units."]
    flagged_share: Annotated[float, "Share of the rows that are out of domain."]
    flagged_below: Annotated[float, "p-value of these, where it can be so small."]
    least_pvalue: Annotated[float, "The smallest that there can be."]
    roc_auc: Annotated[float | None, "Of the p-value against the user's labels."] = None

    def headline(self) -> dict[str, float]:
        """Return the numbers that a condition may name, such as ``coverage90``."""
        shares = {"flagged_share": self.flagged_share, "roc_auc": self.roc_auc}
        return self.own.headline() | {k: v for k, v in shares.items() if v is not None}


@dataclass(frozen=True, repr=False, kw_only=True)
class QuantileCoverage(Result):
    """Share of the true errors under the plain quantile of a level."""

    level: Share
    coverage: Share


@dataclass(frozen=True, repr=False, kw_only=True)
class ThresholdCheck(Result):
    """P(error > threshold) against what happened, before and after calibration."""

    threshold: Annotated[float, "Error units."]
    scale: Annotated[float, "What the method ``threshold`` scales it by."]
    predicted: Annotated[float, "Mean plain probability."]
    observed: Annotated[float, "Share of the true errors above."]
    calibration_error_before: Annotated[float, "Expected calibration error."]
    calibration_error_after: float


@dataclass(frozen=True, repr=False, kw_only=True)
class HeldOut(Evaluation):
    """The same of rows that the fit did not see, beside the plain predictions."""

    mean_expected_error: float
    thresholds: list[ThresholdCheck]
    quantiles: list[QuantileCoverage]
    trimmed_expected_error: Annotated[float, "Means without the largest 1 %: plain, ..."] = 0.0
    trimmed_calibrated_error: float = 0.0
    trimmed_true_error: float = 0.0


@dataclass(frozen=True, repr=False, kw_only=True)
class MethodScore(Result):
    """Cross-validated CRPS of a method, and its standard error over draws (error units)."""

    crps: float
    standard_error: float | None


@dataclass(frozen=True, repr=False, kw_only=True)
class CalibrateResult(ArtifactResult):
    """What was fitted, and how it does on rows that the fit did not see."""

    method: str
    mean_pvalues: Annotated[list[float], "1/2: drawn like the training set; more: closer."]
    in_training_share: Annotated[Share, "Rows with the descriptors of a training sample."]
    n_fit: Annotated[Count, "Rows fitted on."]
    n_heldout: Annotated[Count, "Rows checked on."]
    n_sets: Positive
    n_structures: int | None
    n_draws: Annotated[Count, "Structures if nothing else is known, else rows."]
    missing_draws: Annotated[dict[str, int], "How many more a level needs."]
    k: Positive
    cutoff: Annotated[float, Between(0)] | None  # Å; of the averaged neighbor distances
    prior: Annotated[str, "Of which rows the exponents start from."]
    exponents: Annotated[dict[str, float], "Of the power law, by feature."]
    levels: list[float]
    bound_groups: Annotated[list[str | int], "Groups with bounds of their own."]
    heldout: HeldOut
    compared: dict[str, MethodScore] = field(default_factory=dict)


@dataclass(frozen=True, repr=False, kw_only=True)
class ChosenFrame(Result):
    """A frame of the pool, by its number from 0, and what it counts by."""

    frame: int
    value: float


@dataclass(frozen=True, repr=False, kw_only=True)
class SelectResult(Result):
    """The chosen frames."""

    output: Path
    n: Annotated[int, "Frames chosen."]
    wanted: Annotated[int, "Frames asked for."]
    n_frames: Annotated[int, "Of the pool."]
    rows_are_frames: Annotated[bool, "Nothing says which rows belong together."]
    n_in_bounds: Annotated[int, "Within the trust bounds."]
    column: str
    by: str | float
    trust_low: float | None
    trust_high: float | None
    units: Annotated[str, "Of the column."]
    pool_min: Annotated[float, "Of what the frames of the pool count by."]
    pool_max: float
    mean_in_bounds: Annotated[float, "Of those within the bounds."]
    min: Annotated[float, "Of the chosen."]
    max: float
    mean: float
    chosen: Annotated[list[ChosenFrame], "In the order of choice."]
    mean_distance: Annotated[float | None, "Between the chosen; with descriptors only."] = None
    random_distance: Annotated[float | None, "Between random frames."] = None


@dataclass(frozen=True, repr=False, kw_only=True)
class NearSample(Result):
    """A training sample near another one, with the lower quartile of its errors."""

    sample: int
    distance: float
    lower_quartile: float


@dataclass(frozen=True, repr=False, kw_only=True)
class Suspect(Result):
    """A sample whose errors stay high where those of its neighbors do not."""

    sample: int
    lower_quartile: Annotated[float, "Of its errors over the epochs (error units)."]
    neighbors_lower_quartile: Annotated[float, "Mean of its neighbors'."]
    score: Annotated[float, "Robust standard deviations above them."]
    nearest: list[NearSample]
    structure: int | None = None


@dataclass(frozen=True, repr=False, kw_only=True)
class WeightsResult(Result):
    """What was written, and the suspects."""

    output: Path
    per: str
    emphasis: str
    threshold: Annotated[float, "Error units."]
    units: str
    n: Annotated[int, "Samples or structures."]
    n_never_logged: int
    uncertainty_mean: float
    uncertainty_std: float
    temperature: float | None = None
    floor: float | None = None
    ceiling: float | None = None
    min: Annotated[float | None, "Of the weights, as the next."] = None
    max: float | None = None
    mean: float | None = None
    n_at_floor: int | None = None
    n_at_ceiling: int | None = None
    effective_size: float | None = None
    keep: float | None = None
    n_kept: int | None = None
    kept_uncertainty_mean: Annotated[float | None, "Of the keep-list."] = None
    outlier: Annotated[float | None, "Robust standard deviations of a suspect."] = None
    n_suspects: int | None = None
    suspects: Annotated[list[Suspect] | None, "The worst of ``n_suspects``."] = None


@dataclass(frozen=True, repr=False, kw_only=True)
class ExportResult(Result):
    """What was written."""

    output: Path
    format: str
    columns: list[str]
    unit: str
    n: Annotated[int, "Rows or frames written."]
    of: Annotated[int, "Rows or frames that there are."]
    rows_are_frames: bool | None = None


@dataclass(frozen=True, repr=False, kw_only=True)
class CheckpointsResult(Result):
    """The log that was made of checkpoints."""

    output: Annotated[Path, "Folder with a file per epoch: what ``ltau ingest`` reads."]
    n_atoms: int
    n_frames: int
    n_checkpoints: int
    epochs: Annotated[list[int], "In the log."]
    mean_force_error: Annotated[list[float], "Of each of these, eV/Å."]
    n_new: Annotated[int, "Epochs that were not there before."]


@dataclass(frozen=True, repr=False, kw_only=True)
class CompileResult(Result):
    """Where the compiled loops are kept, how long it took (s), and whether they were there."""

    folder: str
    seconds: float
    were_there: bool


@dataclass(frozen=True, repr=False, kw_only=True)
class DatasetInfo(Result):
    """A dataset of an artifact."""

    shape: list[int]
    dims: list[str]
    dtype: str
    units: str
    description: str


@dataclass(frozen=True, repr=False, kw_only=True)
class InfoResult(Result):
    """What an artifact is, what it holds, and what was told when it was made."""

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
    datasets: dict[str, DatasetInfo]


@dataclass(frozen=True, repr=False, kw_only=True)
class BarsSet(Result):
    """What the bounds of some frames are worth."""

    name: str
    mean_bound: Annotated[float, "Of 90 %, error units."]
    flagged_share: Annotated[float | None, "Share of the atoms that are out of domain."]
    unseen: Annotated[list[str], "Elements without a calibration row."]
    nominal: Annotated[bool, "Whether the bound rests on the fitted law alone."]
    coverage: Annotated[float | None, "Share of the true errors under the bound."]
    mean_true_error: float | None
    rank_correlation: float | None


@dataclass(frozen=True, repr=False, kw_only=True)
class BarsResult(Result):
    """Error bars of a network that others trained."""

    output: Annotated[Path, "Folder of model.h5, calibration.h5 and scores."]
    units: str
    n_frames: Annotated[Positive, "Labeled ones."]
    n_draws: Annotated[Positive, "Of the labeled frames."]
    n_kinds: Annotated[Count, "That were left out one at a time; 0 if there is one only."]
    exponents: Annotated[dict[str, float], "Of the fitted law."]
    sets: list[BarsSet]
    verdict: Annotated[list[str], "A line for each set."]
