"""What a stage tells when it is done: printed, given by ``--json``, and stored in its artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from ltau_cli.plain import Between, Count, Positive, Share, to_plain, told_fields

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
    """What is told of an artifact when it is made, and stored in it.

    Attributes
    ----------
    output : Path
    units : str
        Error units.
    """

    output: Path
    units: str

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
    warnings: list[str]


@dataclass(frozen=True, repr=False, kw_only=True)
class IngestResult(CheckUp, ArtifactResult):
    """The check-up of a log.

    Attributes
    ----------
    format : str
        What the log was taken for.
    notes : dict of str to int
        What the readers counted.
    """

    format: str
    notes: dict[str, Count]


@dataclass(frozen=True, repr=False, kw_only=True)
class DescribeResult(ArtifactResult):
    """What was described.

    Attributes
    ----------
    n_atoms, n_frames, n_isolated, width : int
        Atoms and frames described, frames of isolated atoms left out, columns of the descriptors.
    layer : int or None
        Of the network, from 1.
    references : dict of str to str
        Names of the references in the frames.
    n_without_forces : int
        Frames without reference forces.
    mean_force_error : float
        Mean norm of predicted minus reference force, in ``units``.
    mean_energy_error : float
        Mean \\|predicted - reference\\| per atom, eV.
    up_to_date : bool
        Whether there was nothing to do.
    """

    n_atoms: Positive
    n_frames: Positive
    n_isolated: Count
    width: Positive
    layer: int | None
    references: dict[str, str]
    n_without_forces: Count
    mean_force_error: float | None = None
    mean_energy_error: float | None = None
    up_to_date: bool = False


@dataclass(frozen=True, repr=False, kw_only=True)
class SearchTrials(Result):
    """How near a search comes to the truth in trials.

    Attributes
    ----------
    recall : float
        Share of the neighbors that are found.
    lost : float
        Share of the trials that miss more than half of them.
    too_long : float
        Largest excess of a mean neighbor distance over the true one, 0.1 being 10 %.
    """

    recall: float
    lost: float
    too_long: float


@dataclass(frozen=True, repr=False, kw_only=True)
class IndexResult(Result):
    """A search structure, and what was measured of it; of several shards the worst.

    Attributes
    ----------
    leaves, epsilon : int, float
        Effort of ``nndescent``.
    trials_k : int
        Neighbors of the trials.
    """

    kind: Literal["exact", "cells", "nndescent"]
    n_cells: Count | None = None
    leaves: Annotated[int, Between(1, 1 << 16)] | None = None
    epsilon: Annotated[float, Between(0)] | None = None
    trials_k: Positive | None = None
    in_domain: SearchTrials | None = None
    out_of_domain: SearchTrials | None = None
    shards: list[IndexResult] = field(default_factory=list)


@dataclass(frozen=True, repr=False, kw_only=True)
class FitResult(ArtifactResult):
    """What was fitted.

    Attributes
    ----------
    n_samples, n_never_logged, n_points, width : int
        Logged samples, those without a logged error, distinct points, columns of the descriptors.
    thresholds, mean_uncertainty : list of float
        Error units, and the share of the errors above.
    mean_error : float
        Over all samples and epochs (error units).
    underflow_share, overflow_share : float
        Errors outside the bins.
    loo_distance, loo_rank_correlation : float
        Mean leave-one-out neighbor distance; rank correlation of a sample's mean error and its
        neighbors'.
    index : IndexResult
    trials : list of dict
        What was compared to choose the settings, the best first; it is not stored.
    """

    n_samples: Count
    n_never_logged: Count
    n_points: Count
    width: Count
    k: Positive
    thresholds: list[float]
    mean_error: float
    mean_uncertainty: list[float]
    underflow_share: Share
    overflow_share: Share
    loo_distance: float
    loo_rank_correlation: float | None
    index: IndexResult
    trials: list[dict[str, Any]] = field(default_factory=list)


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
    """How like the scored rows those are that were calibrated on.

    Attributes
    ----------
    what : {"structures", "rows"}
        What a draw is.
    beyond_share : float
        Share of the rows that lie farther from the training set than all that was fitted on, by
        the distance of their structure if the calibration uses that.
    n_draws, effective_draws : int, float
        Draws that were fitted on, and what they are worth when they are weighted to look like the
        scored ones.
    doubtful_levels : list of float
        The levels whose bound needs more than that.
    """

    what: Literal["structures", "rows"]
    beyond_share: Share
    n_draws: Positive
    effective_draws: Annotated[float, Between(0)]
    doubtful_levels: list[Share]


@dataclass(frozen=True, repr=False, kw_only=True)
class ScoreResult(ArtifactResult):
    """What is told of all scored rows.

    Attributes
    ----------
    n_rows, n_structures, k : int
    thresholds, mean_uncertainty : list of float
        Error units, and the mean probability of an error above.
    levels, mean_bound : list of float
        Coverage levels and the mean error bound; empty without a calibration.
    mean_expected_error, mean_calibrated_error : float
        Error units; the latter with a calibration only.
    mean_calibrated_uncertainty : list of float
        With a calibration only; ``mean_uncertainty`` is the plain one.
    mean_neighbor_distance, mean_relative_distance : float
    flagged_share, flagged_below : float
        Share of the rows with a p-value below.
    riskiest : list of RiskyRow
        The rows with the largest errors.
    likeness : Likeness
        With a calibration only.
    up_to_date : bool
        Whether there was nothing to do.
    """

    n_rows: Count
    n_structures: Count
    k: Positive
    thresholds: list[float]
    mean_uncertainty: list[float]
    levels: list[float]
    mean_bound: list[float]
    mean_expected_error: float
    mean_neighbor_distance: float
    mean_relative_distance: float
    flagged_share: Share
    flagged_below: float
    riskiest: Annotated[list[RiskyRow], Between(1)]
    mean_calibrated_error: float | None = None
    mean_calibrated_uncertainty: list[float] | None = None
    likeness: Likeness | None = None
    up_to_date: bool = False


@dataclass(frozen=True, repr=False, kw_only=True)
class ShardResult(Result):
    """What is told of a shard: its pieces are there.

    Attributes
    ----------
    output : Path
        Beside which they are kept.
    first, last : int
        Rows ``first..last`` of the file.
    n_rows : int
        Rows of the file.
    """

    output: Path
    first: int
    last: int
    n_rows: int


@dataclass(frozen=True, repr=False, kw_only=True)
class Metrics(Result):
    """How the predicted errors of some rows compare with the true ones.

    Attributes
    ----------
    mean_true_error, mean_predicted_error, error_ratio : float
        Error units; predicted over true.
    rank_correlation, rank_correlation_interval
        Spearman's, and its 95 % interval.
    rank_correlation_within_groups : float
        Mean over groups, where there are groups.
    coverage, mean_width : dict of str to float
        Share of the true errors under the bound, and mean bound (error units), by level; with a
        calibration only, like the next three.
    miscalibration_area, ence, crps : float
    ause : float
        See :mod:`ltau_cli.core.calibration.metrics`.
    """

    n_rows: Positive
    mean_true_error: float
    mean_predicted_error: float
    error_ratio: float | None
    rank_correlation: float | None
    rank_correlation_interval: list[float] | None
    ause: float
    rank_correlation_within_groups: float | None = None
    coverage: dict[str, float] = field(default_factory=dict)
    mean_width: dict[str, float] = field(default_factory=dict)
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
    """Predicted against true errors of some rows.

    Attributes
    ----------
    rank_ceiling : float or None
        Best rank correlation that any predictor could reach, where rows are atoms of structures.
    predictors : dict of str to Metrics
        Of ``ltau``, and of each baseline that it must beat.
    groups, distance_bins : list
        Metrics of ``ltau`` in each part that has rows.
    """

    rank_ceiling: float | None
    predictors: dict[str, Metrics]
    groups: list[GroupMetrics]
    distance_bins: list[BinMetrics]

    @property
    def own(self) -> Metrics:
        """Metrics of ``ltau``."""
        return self.predictors[CALIBRATED]


@dataclass(frozen=True, repr=False, kw_only=True)
class EvaluateResult(Evaluation):
    """How the scores of one set compare with its true errors.

    Attributes
    ----------
    set : str
        Name of the scores.
    n_rows, n_left_out : int
        Rows judged, and those that a calibration was fitted on.
    units : str
        Error units.
    flagged_share, flagged_below : float
        Share of the rows with a p-value below.
    roc_auc : float
        Of the p-value against the user's labels.
    """

    set: str
    n_rows: int
    n_left_out: int
    units: str
    flagged_share: float
    flagged_below: float
    roc_auc: float | None = None

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
    """P(error > threshold) against what happened, before and after calibration.

    Attributes
    ----------
    threshold, scale : float
        Error units, and what the method ``threshold`` scales it by.
    predicted, observed : float
        Mean plain probability, and share of the true errors above.
    calibration_error_before, calibration_error_after : float
        Expected calibration error.
    """

    threshold: float
    scale: float
    predicted: float
    observed: float
    calibration_error_before: float
    calibration_error_after: float


@dataclass(frozen=True, repr=False, kw_only=True)
class HeldOut(Evaluation):
    """The same of rows that the fit did not see, beside the plain predictions."""

    mean_expected_error: float
    thresholds: list[ThresholdCheck]
    quantiles: list[QuantileCoverage]


@dataclass(frozen=True, repr=False, kw_only=True)
class MethodScore(Result):
    """Cross-validated CRPS of a method, and its standard error over draws (error units)."""

    crps: float
    standard_error: float | None


@dataclass(frozen=True, repr=False, kw_only=True)
class CalibrateResult(ArtifactResult):
    """What was fitted, and how it does on rows that the fit did not see.

    Attributes
    ----------
    method : str
    mean_pvalues : list of float
        Mean ood p-value of each set, its draws counting once: 1/2 for rows that are drawn like the
        training set, more for rows that are closer.
    in_training_share : float
        Share of the rows whose descriptors are those of a training sample.
    compared : dict of str to MethodScore
        The methods that were compared, where they were.
    n_fit, n_heldout : int
        Rows fitted on and checked on.
    n_sets : int
    n_structures : int or None
    n_draws : int
        Draws fitted on: structures if nothing else is known, rows if not even they are.
    missing_draws : dict
        How many more each level needs that is above what these can tell.
    k : int
        Neighbors of the scores.
    cutoff : float or None
        Of the neighbors whose distances were averaged (Å), if the scores know frames.
    exponents : dict
        Of the power law, by feature.
    levels : list of float
    bound_groups : list of labels
        Groups with bounds of their own.
    heldout : HeldOut
    """

    method: str
    mean_pvalues: list[float]
    in_training_share: Share
    n_fit: Count
    n_heldout: Count
    n_sets: Positive
    n_structures: int | None
    n_draws: Count
    missing_draws: dict[str, int]
    k: Positive
    cutoff: Annotated[float, Between(0)] | None
    exponents: dict[str, float]
    levels: list[float]
    bound_groups: list[str | int]
    heldout: HeldOut
    compared: dict[str, MethodScore] = field(default_factory=dict)


@dataclass(frozen=True, repr=False, kw_only=True)
class ChosenFrame(Result):
    """A frame of the pool, by its number from 0, and what it counts by."""

    frame: int
    value: float


@dataclass(frozen=True, repr=False, kw_only=True)
class SelectResult(Result):
    """The chosen frames.

    Attributes
    ----------
    output : Path
    n, wanted, n_frames, n_in_bounds : int
        Frames chosen, asked for, in the pool, and within the trust bounds.
    rows_are_frames : bool
        Whether nothing says which rows belong together.
    column, by, trust_low, trust_high
        See :class:`ltau_cli.settings.SelectSettings`.
    units : str
        Of the column.
    pool_min, pool_max, mean_in_bounds, min, max, mean : float
        What frames count by: in the pool, within the bounds, and of the chosen.
    chosen : list of ChosenFrame
        In the order of choice.
    mean_distance, random_distance : float
        Between the chosen, and between random frames; with descriptors only.
    """

    output: Path
    n: int
    wanted: int
    n_frames: int
    rows_are_frames: bool
    n_in_bounds: int
    column: str
    by: str | float
    trust_low: float | None
    trust_high: float | None
    units: str
    pool_min: float
    pool_max: float
    mean_in_bounds: float
    min: float
    max: float
    mean: float
    chosen: list[ChosenFrame]
    mean_distance: float | None = None
    random_distance: float | None = None


@dataclass(frozen=True, repr=False, kw_only=True)
class NearSample(Result):
    """A training sample near another one, with the lower quartile of its errors."""

    sample: int
    distance: float
    lower_quartile: float


@dataclass(frozen=True, repr=False, kw_only=True)
class Suspect(Result):
    """A sample whose errors stay high where those of its neighbors do not.

    Attributes
    ----------
    lower_quartile, neighbors_lower_quartile : float
        Of its errors over the epochs, and the mean of its neighbors' (error units).
    score : float
        Robust standard deviations above them.
    nearest : list of NearSample
    """

    sample: int
    lower_quartile: float
    neighbors_lower_quartile: float
    score: float
    nearest: list[NearSample]
    structure: int | None = None


@dataclass(frozen=True, repr=False, kw_only=True)
class WeightsResult(Result):
    """What was written, and the suspects.

    Attributes
    ----------
    output : Path
    per, emphasis, temperature, floor, ceiling, keep
        See :class:`ltau_cli.settings.WeightSettings`; those that were used.
    threshold : float
        Error units.
    units : str
    n, n_never_logged : int
        Samples or structures.
    uncertainty_mean, uncertainty_std : float
    min, max, mean, effective_size : float
        Of the weights.
    n_at_floor, n_at_ceiling : int
    n_kept : int
    kept_uncertainty_mean : float
        Of the keep-list.
    suspects : list of Suspect
        The worst of ``n_suspects``, with their nearest training samples.
    outlier : float
        Robust standard deviations from which on a sample is suspect.
    """

    output: Path
    per: str
    emphasis: str
    threshold: float
    units: str
    n: int
    n_never_logged: int
    uncertainty_mean: float
    uncertainty_std: float
    temperature: float | None = None
    floor: float | None = None
    ceiling: float | None = None
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    n_at_floor: int | None = None
    n_at_ceiling: int | None = None
    effective_size: float | None = None
    keep: float | None = None
    n_kept: int | None = None
    kept_uncertainty_mean: float | None = None
    outlier: float | None = None
    n_suspects: int | None = None
    suspects: list[Suspect] | None = None


@dataclass(frozen=True, repr=False, kw_only=True)
class ExportResult(Result):
    """What was written.

    Attributes
    ----------
    output : Path
    format : str
    columns : list of str
    unit : {"rows", "frames"}
    n, of : int
        Rows or frames that were written, and that there are.
    rows_are_frames : bool
        With model-devi: whether nothing says which rows belong together.
    """

    output: Path
    format: str
    columns: list[str]
    unit: str
    n: int
    of: int
    rows_are_frames: bool | None = None


@dataclass(frozen=True, repr=False, kw_only=True)
class CheckpointsResult(Result):
    """The log that was made of checkpoints.

    Attributes
    ----------
    output : Path
        Folder with a file ``force_errors_epoch_E.npy`` per epoch: what ``ltau ingest`` reads.
    n_atoms, n_frames, n_checkpoints : int
        Atoms and frames evaluated; checkpoints that are there.
    epochs : list of int
        In the log.
    mean_force_error : list of float
        Of each of these, eV/Å.
    n_new : int
        Epochs that were not there before.
    """

    output: Path
    n_atoms: int
    n_frames: int
    n_checkpoints: int
    epochs: list[int]
    mean_force_error: list[float]
    n_new: int


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
