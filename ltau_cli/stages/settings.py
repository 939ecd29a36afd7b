"""The options of the stages and their defaults; imports nothing heavy, as help texts show them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from ltau_cli.core.choices import (
    QUANTILES,
    Emphasis,
    Grid,
    Index,
    LeftOut,
    Method,
    Metric,
    Scale,
    Weighting,
)

DEFAULT_K = 30
ExportFormat = Literal["csv", "tsv", "jsonl", "npz", "extxyz", "model-devi"]


@dataclass(frozen=True)
class _Settings:
    """Options that may name files, by text too."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if "Path" in str(field.type) and isinstance(value, str):
                object.__setattr__(self, field.name, Path(value))


@dataclass(frozen=True)
class DescribeSettings(_Settings):
    """How to describe frames.

    Attributes
    ----------
    device : str or None
        As PyTorch has it, such as ``cuda:1``; None takes a GPU if there is one.
    layer : int or None
        Layer of the model, from 1, whose features are the descriptors; None takes the last.
    batch_size : int
        Frames that the model gets at a time.
    reference : str or None
        Name of the reference forces in the frames; None takes a common one.
    isolated : bool
        Keep frames of isolated atoms (``config_type=IsolatedAtom``).
    every : int
        Of checkpoints, evaluate every ``every``-th, counted from the last.
    """

    device: str | None = None
    layer: int | None = None
    batch_size: int = 16
    reference: str | None = None
    isolated: bool = False
    every: int = 1


@dataclass(frozen=True)
class FitSettings(_Settings):
    """How to fit; all of it is recorded in the model.

    Attributes
    ----------
    bins : int
        Bins of the common grid.
    grid : {"log", "linear"}
        Their spacing.
    error_range : (float, float) or None
        Range of the grid in error units; None takes it from the data.
    thresholds : tuple of float
        Errors a user can live with, in error units; none takes the mean error of the last epoch.
    k : int
        Neighbors of the leave-one-out reference, and the default of ``score``; None takes
        :data:`DEFAULT_K`, or all but one of the samples if there are fewer.
    weighting : {"uniform", "inverse-distance"}
        Weight of the neighbors' error distributions.
    burn_in : int
        Epochs left out at the start of each run.
    scale : {"none", "standard", "whiten"}
        Scaling of descriptors.
    metric : {"euclidean", "cosine"}
        Distance of descriptors.
    merge_within : float
        Merge training samples this close, in units of the scaled descriptors.
    loo : {"sample", "structure"}
        What is left out for the leave-one-out reference.
    index : {"auto", "cells", "exact", "nndescent"}
        Search structure; auto takes cells.
    search_factor : float
        How many times too long a neighbor distance may be that a search in cells finds; 1 is
        exact.
    recall : float
        Share of the k nearest neighbors that an NN-descent search has to find.
    shards : int
        Parts of the training set with a search structure each, of which one at a time is in memory.
    seed : int
        Of the cells, of NN-descent and of trial queries.
    """

    bins: int = 100
    grid: Grid = "log"
    error_range: tuple[float, float] | None = None
    thresholds: tuple[float, ...] = ()
    k: int | None = None
    weighting: Weighting = "uniform"
    burn_in: int = 0
    scale: Scale = "whiten"
    metric: Metric = "euclidean"
    merge_within: float = 0.0
    loo: LeftOut = "sample"
    index: Index = "auto"
    search_factor: float = 1.0
    recall: float = 0.99
    shards: int = 1
    seed: int = 0


@dataclass(frozen=True)
class ScoreSettings(_Settings):
    """How to score.

    Attributes
    ----------
    k : int or None
        Neighbors; None takes the model's.
    thresholds : tuple of float
        In error units; none takes the model's.
    quantiles : tuple of float
        Levels in (0, 1).
    calibration : Path or None
        Calibration artifact of the same model.
    cutoff : float or None
        Average the distances of the atoms that are so near (Å), in frames, instead of those of a
        whole structure. None takes the calibration's.
    with_cdf : bool
        Also store each row's CDF.
    part : (int, int) or None
        Score part I of N of the rows of each file, I from 0.
    block_rows : int or None
        Rows per block; sets the memory, not the result. None takes what suits the model.
    """

    k: int | None = None
    thresholds: tuple[float, ...] = ()
    quantiles: tuple[float, ...] = QUANTILES
    calibration: Path | None = None
    cutoff: float | None = None
    with_cdf: bool = False
    part: tuple[int, int] | None = None
    block_rows: int | None = None


@dataclass(frozen=True)
class CalibrateSettings(_Settings):
    """How to calibrate.

    Attributes
    ----------
    method : str or None
        None takes ``distance``, or with several sets the best by cross-validation.
    group : str or None
        Give each group bounds of its own: a file of labels, or ``species`` or ``group``.
    draws : tuple of str
        For each set a file that says which rows, or structures, were drawn together.
    distance_bins : int
        Bins of relative distance with bounds of their own.
    levels : tuple of float
        Coverage levels in (0, 1).
    fit_fraction : float
        Share of the structures to fit on.
    seed : int
        Of the choice of structures.
    """

    method: Method | None = None
    group: str | None = None
    draws: tuple[str, ...] = ()
    distance_bins: int = 1
    levels: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)
    fit_fraction: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class ExportSettings(_Settings):
    """What to export, and how.

    Attributes
    ----------
    file_format : str or None
        None tells it by the ending of the output; CSV on standard output.
    columns : tuple of str or None
        Columns to write, in this order; None takes all.
    where : tuple of str
        Conditions such as ``ood_pvalue < 0.01`` that must all hold for a row to be written. A
        frame is written if they hold for any of its rows.
    frames : Path or None
        The user's frames, for extxyz.
    every : int
        Steps between frames, for model-devi.
    """

    file_format: ExportFormat | None = None
    columns: tuple[str, ...] | None = None
    where: tuple[str, ...] = ()
    frames: Path | None = None
    every: int = 1


@dataclass(frozen=True)
class SelectSettings(_Settings):
    """How to choose frames.

    Attributes
    ----------
    column : str or None
        What the uncertainty of an atom is; None takes ``calibrated_error``, or ``expected_error``
        without a calibration.
    by : {"max", "mean"} or float
        The uncertainty of a frame from those of its atoms; a float is a quantile.
    trust_low, trust_high : float or None
        Choose among frames with ``trust_low <= uncertainty < trust_high`` only.
    descriptors : str or None
        The descriptors that were scored; without them the most uncertain frames are chosen.
    frames : Path or None
        Frames of the pool.
    chosen_frames : Path or None
        Extxyz file that gets copies of the chosen frames.
    """

    column: str | None = None
    by: str | float = "max"
    trust_low: float | None = None
    trust_high: float | None = None
    descriptors: str | None = None
    frames: Path | None = None
    chosen_frames: Path | None = None


@dataclass(frozen=True)
class WeightSettings(_Settings):
    """How to weigh.

    Attributes
    ----------
    emphasis : {"hard", "easy"}
        What gets the larger weights, or is kept.
    per : {"sample", "structure"}
        What gets a weight. The uncertainty of a structure is the mean of its samples'.
    threshold : float or None
        Threshold of the uncertainty, one of the model's; None takes its first.
    temperature, floor, ceiling : float
        See :func:`ltau_cli.core.weights.weigh`.
    keep : float or None
        Share to keep, in (0, 1]: a keep-list instead of weights.
    suspects : int
        Suspects to list at most; 0 looks for none, which needs no search.
    natoms : str or None
        File with the samples of each structure. Without it, the structures are those that ``fit``
        left out together, if it did.
    """

    emphasis: Emphasis = "hard"
    per: LeftOut = "sample"
    threshold: float | None = None
    temperature: float = 3.0
    floor: float = 0.1
    ceiling: float = 10.0
    keep: float | None = None
    suspects: int = 10
    natoms: str | None = None


@dataclass(frozen=True)
class PlotSettings(_Settings):
    """What to draw, and how.

    Attributes
    ----------
    group : str or None
        Labels of the rows of the scores: a file, or ``species`` or ``group`` for those in there.
    ood_labels : str or None
        File that says of each row whether it is out of domain (1) or not (0).
    rows : tuple of int
        Samples or rows to draw, from 0.
    style : Path or None
        Style file of matplotlib.
    data : Path or None
        CSV file that gets what was drawn; ``-`` is standard output.
    """

    group: str | None = None
    ood_labels: str | None = None
    rows: tuple[int, ...] = ()
    style: Path | None = None
    data: Path | None = None


@dataclass(frozen=True)
class ClusterSettings(_Settings):
    """Where tasks are worked on; one of the first three is given.

    Attributes
    ----------
    scheduler : str or None
        Address of a Dask scheduler.
    scheduler_file : Path or None
        File in which a Dask scheduler says its address.
    workers : int or None
        Processes of this machine.
    threads : int or None
        Threads of a task; None takes those of its worker, or shares the CPUs among the processes.
    """

    scheduler: str | None = None
    scheduler_file: Path | None = None
    workers: int | None = None
    threads: int | None = None
