"""What a user can ask of each command: choices, defaults, ranges and helps, each said here only.

Options of the command line, keys of ``--config``, environment variables and the docs are made of
these classes. Nothing heavy is imported, as help texts show them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from inspect import formatannotation, get_annotations
from pathlib import Path
from typing import Any, Literal, TypeVar

from ltau_cli.epochs import ALL_EPOCHS, EpochRange, parse_epochs

Grid = Literal["log", "linear"]
Scale = Literal["none", "standard", "whiten"]
Metric = Literal["euclidean", "cosine"]
Weighting = Literal["uniform", "inverse-distance"]
Index = Literal["auto", "cells", "exact", "nndescent"]
LeftOut = Literal["sample", "structure"]
Method = Literal["distance", "scale", "threshold"]
Emphasis = Literal["hard", "easy"]
Quantity = Literal["forces", "energy"]
UNITS: Mapping[str, str] = {"forces": "eV/Å", "energy": "eV/atom"}  # of ASE, and so of all packages
Norm = Literal["l2", "l1", "max", "rms"]
ExportFormat = Literal["csv", "tsv", "jsonl", "npz", "extxyz", "model-devi"]

QUANTILES = (0.5, 0.9, 0.95)  # error quantiles that are predicted by default
DEFAULT_K = 30
KEPT = 4  # weights that a trajectory is made of
NO_ATOMS = "none"  # --natoms says so of rows that are no atoms of frames

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])
Kind = TypeVar("Kind", bound="Settings")


@dataclass(frozen=True)
class Option:
    """How a field of a settings class is given on the command line, and what its help tells."""

    help: str  # what it does
    flags: tuple[str, ...] = ()  # such as ``-m`` and ``--model``
    group: str = ""  # heading of the help that it stands under; empty for the first
    metavar: str = ""  # what the help calls its value; empty for a name by its type
    told: str = ""  # what the default is, where the value does not tell
    low: float | None = None  # bounds that a number may reach, and two
    high: float | None = None
    above: float | None = None  # that it may not
    below: float | None = None
    # text to value (of a mapping, to key and value) of what is no plain number, choice or path
    parse: Callable[[str], Any] | None = None

    def allows(self, number: float) -> bool:
        """Whether a number is within the bounds."""
        return (
            (self.low is None or number >= self.low)
            and (self.high is None or number <= self.high)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def range(self) -> str:
        """Tell the bounds in words; empty if there are none."""
        low, high, above, below = (
            "" if bound is None else f"{bound:,}"
            for bound in (self.low, self.high, self.above, self.below)
        )
        if low and high:
            return f"from {low} to {high}"
        if above and below:
            return f"between {above} and {below}"
        words = {"above": above, "at least": low, "at most": high, "below": below}
        return ", ".join(f"{word} {bound}" for word, bound in words.items() if bound)


def option(default: T, help: str, *flags: str, **more: Any) -> T:
    """Return a field with its default and the rest of :class:`Option`."""
    metadata = {"option": Option(help, flags, **more)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)  # type: ignore[return-value]
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """What was asked of a command; files may be named by text too."""

    def __init_subclass__(cls) -> None:
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        inherited = {name: one.type for name, one in cls.__dataclass_fields__.items()}
        types = inherited | cls.__annotations__
        lines = [f"{cls.__doc__}", "", "    Attributes", "    ----------"]
        for name, value in (own | cls.__dataclass_fields__).items():
            if "option" in value.metadata:
                lines += [f"    {name} : {types[name]}", f"        {value.metadata['option'].help}"]
        cls.__doc__ = "\n".join([*lines, "    "])

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if "Path" in str(one.type) and isinstance(value, str):
                object.__setattr__(self, one.name, Path(value))
            elif "Path" not in str(one.type) and isinstance(value, os.PathLike):
                object.__setattr__(self, one.name, os.fspath(value))
            elif isinstance(value, list):
                object.__setattr__(self, one.name, tuple(value))
            elif "Mapping" in str(one.type):
                object.__setattr__(self, one.name, dict(value))

    def recorded(self) -> dict[str, Any]:
        """Return what an artifact records: all but what it inherits, such as names in files."""
        return {name: getattr(self, name) for name in type(self).__annotations__}

    @classmethod
    def of(cls: type[Kind], settings: Kind | None, options: Mapping[str, Any]) -> Kind:
        """Return ``settings``, or the defaults, with ``options`` by name instead of theirs."""
        return replace(settings or cls(), **options)


# Parameters that many stages have, with what they are told to be.
_COMMON = {
    "settings": ("", "What is asked for; single settings may be given by name, too."),
    "threads": ("int", "Threads, all by default; the result does not depend on it."),
    "workers": (
        "str or int",
        "So many processes, or the address or file of a Dask scheduler; the result does not depend "
        "on it.",
    ),
    "force": ("bool", "Replace a result that is there."),
    "progress": ("Progress", "Shows the work."),
}


def documented(run: Function) -> Function:
    """Complete the docstring of a stage: the parameters that many have, and what it returns."""
    told, raises, rest = f"{run.__doc__}".partition("\n\n    Raises\n")
    kinds = get_annotations(run)
    for name, (kind, about) in _COMMON.items():
        if name in kinds:
            kind = kind or _name_of(kinds[name]).removesuffix(" | None")
            told += f"\n    {name} : {kind}\n        {about}"
    told += f"\n\n    Returns\n    -------\n    {_name_of(kinds['return'])}"
    run.__doc__ = told + raises + rest
    return run


def _name_of(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else formatannotation(annotation)
    return re.sub(r"[\w.]*\.", "", text)


def whole_number(text: str) -> int | None:
    """Read a whole number from 0 that an int64 holds; None if it is none."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= 18 else None


# fmt: off


@dataclass(frozen=True)
class FrameKeys(Settings):
    """Names of columns in frames."""

    reference: str | None = option(
        None, "Name of the reference values in frames.", "--reference-key", metavar="NAME",
        told="common names", group="Frames",
    )
    prediction: str | None = option(
        None, "Name of the predicted values in frames.", "--prediction-key", metavar="NAME",
        told="common names", group="Frames",
    )


def _column(text: str) -> tuple[str, str]:
    roles = ("epoch", "frame", "sample", "error", "run")
    role, equals, name = text.partition("=")
    if not equals or role not in roles or not name:
        raise ValueError(f"{text!r} is not ROLE=NAME with a role of {', '.join(roles)}")
    return role, name


@dataclass(frozen=True)
class LogOptions(FrameKeys):
    """How to read a log."""

    format: str | None = option(
        None, "Force a format; see --list-formats.", metavar="NAME", group="Log"
    )
    quantity: Quantity | None = option(None, "Which errors, where a log holds both.", group="Log")
    columns: Mapping[str, str] = option(
        {}, "Column of a table; roles: epoch, frame, sample, error, run; repeatable.", "--column",
        metavar="ROLE=NAME", parse=_column, group="Log",
    )
    epochs: EpochRange = option(
        ALL_EPOCHS, "Epochs to keep of each run, by number: 10: leaves out a burn-in of ten, -50: "
        "keeps the last fifty, ::5 every fifth.", metavar="START:STOP:STEP", parse=parse_epochs,
        told="all", group="Log",
    )
    norm: Norm = option("l2", "Norm of error vectors.", group="Log")
    missing: tuple[float, ...] = option(
        (), "Value that stands for 'not logged', besides NaN and infinity; repeatable.", group="Log"
    )
    def parameters(self) -> dict[str, Any]:
        """Return what an artifact records of them."""
        return {one.name: getattr(self, one.name) for one in fields(LogOptions)}


@dataclass(frozen=True)
class IngestSettings(LogOptions):
    """How to read a log, and what belongs to its samples."""

    units: str = option("", "Units of the errors, such as eV/Å; shown everywhere.", metavar="UNITS")
    allow_missing: bool = option(
        False, "Accept samples that were never logged (held out); they carry no weight."
    )
    frames: str | None = option(
        None, "The training frames, instead of --natoms: attaches structures and species.",
        metavar="FILE", group="Samples",
    )
    natoms: str | None = option(
        None, "Number of atoms of each frame: attaches structures.", metavar="FILE", group="Samples"
    )
    group: str | None = option(None, "Group label of each sample.", metavar="FILE", group="Samples")
    sample_id: str | None = option(
        None, "Your own name of each sample.", metavar="FILE", group="Samples"
    )
    magnitude: str | None = option(
        None, "The target's magnitude of each sample.", metavar="FILE", group="Samples"
    )


@dataclass(frozen=True)
class Resumable(Settings):
    """Whether to go on from results that are there."""

    resume: bool = option(
        False, "Skip a result that exists and is up to date; make it again if it is out of date."
    )


@dataclass(frozen=True)
class DescribeSettings(Resumable):
    """How to describe frames."""

    device: str | None = option(
        None, "Device of PyTorch.", metavar="NAME", told="cuda if there is one, else cpu"
    )
    reference: str | None = option(
        None, "Name of the reference forces in the frames; none: they have no reference.",
        "--reference-key", metavar="NAME|none",
        told="REF_forces, forces, ...",
    )
    layer: int | None = option(
        None, "Layer whose features are the descriptors, from 1.", low=1,
        told="the last; of MACE all"
    )
    trajectory: str | None = option(
        None, "Weights that were kept during the training, a folder of ltau record --keep or a "
        "pattern of checkpoints: how their forces differ from the final ones sharpens error bars.",
        metavar="FOLDER|PATTERN",
    )
    kept: int = option(
        KEPT, "Of these weights so many are evaluated, of the middle third of the training.",
        low=1,
    )
    batch_size: int = option(16, "Frames that the network gets at a time.", low=1)
    isolated: bool = option(False, "Keep frames of single atoms with config_type=IsolatedAtom.")
    heads: tuple[str, ...] = option(
        (), "Head of a network of several that evaluates the frames; repeatable: one for each "
        "file, in their order.", "--head", metavar="NAME", told="info['head'] of each frame",
    )
    epochs: EpochRange = option(
        ALL_EPOCHS, "Evaluate only checkpoints of these epochs, by number, and the last of them: "
        "::10 is every tenth epoch.", metavar="START:STOP:STEP", parse=parse_epochs, told="all",
    )


@dataclass(frozen=True)
class Tuning(Settings):
    """What is fitted, and how to choose some of the settings of ``fit``."""

    natoms: str | None = option(
        None, "Rows of the descriptors that each sample is the mean of, where a sample is a "
        "structure, as for energies.", metavar="FILE", told="as known beside the descriptors",
    )
    tune: bool = option(
        False, "Compare k, --weighting, --epochs and --scale by cross-validation and take the "
        "best.", group="Tuning",
    )
    held_out: tuple[str, str] | None = option(
        None, "Rows that were not trained on, for --tune.", metavar="DESCRIPTORS TRUE_ERRORS",
        group="Tuning", told="the training samples, each predicted by others",
    )
    held_out_natoms: str | None = option(
        None, "Number of atoms of each frame of --held-out.", metavar="FILE", group="Tuning"
    )
    held_out_frames: Path | None = option(
        None, "The frames of --held-out, instead.", group="Tuning"
    )


@dataclass(frozen=True)
class FitSettings(Tuning):
    """How to fit; all of it is recorded in the model, but how it was chosen."""

    thresholds: tuple[float, ...] = option(
        (), "Error you can live with, in error units; repeatable.", "--threshold", above=0,
        told="the mean error of the last epoch without its largest 1 %",
    )
    epochs: EpochRange = option(
        ALL_EPOCHS, "Epochs of each run to fit on, by number: 10: leaves out a burn-in of ten.",
        metavar="START:STOP:STEP", parse=parse_epochs, told="all",
    )
    bins: int = option(100, "Bins of the error grid.", low=1, high=100_000, group="Error grid")
    grid: Grid = option("log", "Spacing of the bins.", group="Error grid")
    error_range: tuple[float, float] | None = option(
        None, "Range of the bins.", "--range", metavar="LOW HIGH", told="from the data",
        group="Error grid",
    )
    k: int | None = option(
        None, "Nearest training samples to average over.", "-k", low=1, told=f"{DEFAULT_K}",
        group="Neighbors",
    )
    weighting: Weighting = option("uniform", "Weight of each neighbor's errors.", group="Neighbors")
    scale: Scale = option(
        "whiten", "Scaling of the descriptors before distances are measured.", group="Neighbors"
    )
    metric: Metric = option("euclidean", "Distance of descriptors.", group="Neighbors")
    merge_within: float = option(
        0.0, "Merge training samples in the same cell of a grid of this spacing (in units of the "
        "scaled descriptors): a smaller and faster model.", metavar="TOL", low=0, group="Neighbors",
    )
    loo: LeftOut = option(
        "sample", "Leave out each sample, or its whole structure, for the reference of the "
        "out-of-domain p-values.", group="Neighbors",
    )
    index: Index = option(
        "auto", "Search structure; auto takes cells, which find the very neighbors that exact "
        "finds by reading every point.", group="Search",
    )
    recall: float = option(
        0.99, "Share of the true neighbors that NN-descent has to find.", above=0, high=1,
        group="Search",
    )
    shards: int = option(
        1, "Cut the training set into this many parts with an index each; fit and score hold one "
        "of them in memory at a time, for training sets larger than memory.", low=1, group="Search",
    )
    seed: int = option(0, "Seed of the search structure.", low=0, group="Search")


def _shard(text: str) -> tuple[int, int]:
    index, count = map(whole_number, text.partition("/")[::2])
    if index is None or count is None:
        raise ValueError(f"{text!r} is not I/N, such as 0/8 for the first of 8 shards")
    if index >= count:
        raise ValueError(f"{text!r}: shards are counted from 0, so I is below N")
    return index, count


def _feature(text: str) -> tuple[str, str]:
    name, _, place = text.partition("=")
    return name, place


@dataclass(frozen=True)
class ScoreSettings(Resumable):
    """How to score."""

    calibration: Path | None = option(
        None, "Calibration artifact: also give calibrated errors and bounds."
    )
    thresholds: tuple[float, ...] = option(
        (), "Error you can live with; repeatable.", "--threshold", above=0, told="the model's"
    )
    quantiles: tuple[float, ...] = option(
        QUANTILES, "Error quantile to predict; repeatable.", "--quantile", above=0, below=1
    )
    k: int | None = option(
        None, "Nearest training samples to average over.", "-k", low=1, told="the model's"
    )
    with_cdf: bool = option(False, "Also store the error CDF of every row.", "--cdf")
    natoms: str | None = option(
        None, "Number of atoms of each frame: also score whole structures. none: rows are no "
        "atoms.", metavar="FILE", group="Structures",
    )
    frames: str | None = option(
        None, "The frames (extxyz, or a file of ltau describe) whose atoms the rows are, instead "
        "of --natoms.", metavar="FILE", group="Structures",
    )
    cutoff: float | None = option(
        None, "For large cells: average distances over the atoms so near, in Å, of --frames, "
        "instead of over the whole structure.", above=0, told="the calibration's",
        group="Structures",
    )
    group: str | None = option(
        None, "One label per row, such as its species, for calibration by group.", metavar="FILE",
        told="group or species beside the descriptors", group="Calibration",
    )
    features: Mapping[str, str] = option(
        {}, "A number for each row that grows with its error, such as the spread of a committee: "
        "the calibration learns what it is worth. Without FILE the array NAME beside the "
        "descriptors. Repeatable.", "--feature", metavar="NAME[=FILE]", parse=_feature,
        group="Calibration",
    )
    shard: tuple[int, int] | None = option(
        None, "Score only shard I, from 0, of N, beside others that score theirs; afterwards the "
        "same command without --shard makes the result.", metavar="I/N", parse=_shard,
        group="Speed",
    )
    block_rows: int | None = option(
        None, "Rows in memory at a time; changes no result.", low=1,
        told="16384, or with a model in shards as many as one of them has", group="Speed",
    )


@dataclass(frozen=True)
class CalibrateSettings(FrameKeys):
    """How to calibrate."""

    method: Method | None = option(
        None, "How to map expected to true errors.",
        told="distance; with several sets the best by cross-validation over the structures",
    )
    compare: bool = option(False, "Show the cross-validation of all methods.")
    levels: tuple[float, ...] = option(
        (0.5, 0.8, 0.9, 0.95), "Coverage of an error bound; repeatable.", "--level", above=0,
        below=1,
    )
    group: str | None = option(
        None, "Give each group bounds of its own: the labels in the scores or frames, or a file "
        "with one label per row.", metavar="species|FILE", group="Bounds",
    )
    draws: tuple[str, ...] = option(
        (), "Which rows, or structures, were drawn together, such as those of one trajectory: one "
        "label each. They then count once in the bounds. Once for each set, in their order.",
        metavar="FILE", group="Bounds",
    )
    distance_bins: int = option(
        1, "Give each of so many bins of relative distance bounds of its own.", low=1, high=20,
        group="Bounds",
    )
    fit_fraction: float = option(
        0.5, "Share of structures, or rows, to fit on; the others check the fit.", above=0, below=1,
        group="Held-out rows",
    )
    seed: int = option(
        0, "Seed of the random choice of what to fit on.", low=0, group="Held-out rows"
    )


@dataclass(frozen=True)
class BarsSettings(Settings):
    """How to make bars from labeled frames alone."""

    draws: str | None = option(
        None, "Which labeled frames were drawn together, such as those of one trajectory: a label "
        "for each.", metavar="FILE", told="each by itself",
    )
    reference: str | None = option(
        None, "Name of the reference forces in the frames.", "--reference-key", metavar="NAME",
        told="REF_forces, forces, ...",
    )


@dataclass(frozen=True)
class EvaluateSettings(FrameKeys):
    """What to compare with true errors."""

    group: str | None = option(
        None, "Labels of the rows of one set.", metavar="species|FILE", told="those in the scores"
    )
    draws: str | None = option(
        None, "Which rows, or structures, of one set were drawn together, such as those of one "
        "trajectory: one label each, for the interval of the rank correlation.", metavar="FILE",
    )
    ood_labels: str | None = option(
        None, "Which rows of one set are out of domain (1) and which not (0): gives the ROC AUC.",
        metavar="FILE",
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


@dataclass(frozen=True)
class ExportSettings(Settings):
    """What to export, and how; of structures those of which any row is to be written."""

    file_format: ExportFormat | None = option(
        None, "Format.", "--format", told="by the ending of the output; csv on standard output"
    )
    columns: tuple[str, ...] | None = option(
        None, "Columns to write, in this order.", metavar="A,B,...", parse=_names, told="all"
    )
    where: tuple[str, ...] = option(
        (), "Write only these rows, of extxyz and model-devi the frames with such a row; OP is < "
        "<= > >= == or !=, for text such as 'group == Cu' the last two. Repeatable: all must hold.",
        metavar="'COLUMN OP NUMBER'",
    )
    frames: Path | None = option(None, "The frames that were scored, for extxyz.")
    every: int = option(1, "Steps between the frames, for model-devi.", low=1)


def _statistic(text: str) -> str | float:
    if text in ("max", "mean"):
        return text
    try:
        p = float(text)
    except ValueError:
        p = 0.0
    if not 0 < p < 1:
        raise ValueError(f"{text!r} is neither max, mean nor a quantile such as 0.9")
    return p


@dataclass(frozen=True)
class SelectSettings(Settings):
    """How to choose frames."""

    descriptors: str | None = option(
        None, "The descriptors that were scored: choose frames that also differ from one another.",
        metavar="FILE",
    )
    frames: Path | None = option(None, "Frames of the pool, for --write.")
    chosen_frames: Path | None = option(
        None, "Also copy the chosen --frames to this extxyz file.", "--write"
    )
    by: str | float = option(
        "max", "What a frame counts by, of the errors of its atoms; P is a quantile such as 0.9.",
        metavar="max|mean|P", parse=_statistic, group="Errors",
    )
    column: str | None = option(
        None, "Column of the scores to take instead.", metavar="NAME",
        told="calibrated_error, or expected_error", group="Errors",
    )
    trust_low: float | None = option(
        None, "Choose no frame whose error is below this.", group="Errors"
    )
    trust_high: float | None = option(
        None, "Choose no frame whose error is this or above.", group="Errors"
    )


@dataclass(frozen=True)
class WeightSettings(Settings):
    """How to weigh training samples; see also :func:`ltau_cli.core.weights.weigh`."""

    emphasis: Emphasis = option(
        "hard", "Give the larger weights to what stays hard in training, or to what is easy."
    )
    per: LeftOut = option("sample", "What gets a weight: of a structure its mean.")
    natoms: str | None = option(
        None, "Number of samples of each structure.", metavar="FILE",
        told="as known to ltau fit --loo structure",
    )
    frames: Path | None = option(
        None, "The frames whose atoms the samples are, instead of --natoms.", metavar="FILE"
    )
    keep: float | None = option(
        None, "Write the numbers of this share, the hardest or the easiest, instead of weights.",
        metavar="SHARE", above=0, high=1,
    )
    suspects: int = option(
        10, "Show at most this many suspects of wrong labels; 0 looks for none.", low=0
    )
    threshold: float | None = option(
        None, "Threshold of the uncertainty, one of the model's.", above=0, told="its first",
        group="Weights",
    )
    temperature: float = option(
        3.0, "Standard deviations of the uncertainty that change a weight e-fold; low is strong.",
        low=0.001,  # below it a weight jumps within the rounding of an uncertainty
        group="Weights",
    )
    floor: float = option(0.1, "Smallest weight.", low=0, high=1, group="Weights")
    ceiling: float = option(10.0, "Largest weight.", low=1, group="Weights")


def _row_numbers(text: str) -> tuple[int, ...]:
    rows = dict.fromkeys(whole_number(part.strip()) for part in text.split(","))
    if None in rows:
        raise ValueError(f"{text!r} is not a list of row numbers from 0, such as 3,10,25")
    return tuple(row for row in rows if row is not None)


@dataclass(frozen=True)
class PlotSettings(FrameKeys):
    """What to draw, and how."""

    data: Path | None = option(None, "Also write what was drawn to this CSV file.")
    style: Path | None = option(None, "A style file of matplotlib.")
    rows: tuple[int, ...] = option(
        (), "Samples of trajectories, samples or scored rows of cdf, from 0.", metavar="I,J,...",
        parse=_row_numbers, told="those with the lowest, median and highest error",
    )
    group: str | None = option(
        None, "Labels of the rows of a scores artifact, with --true.", metavar="species|FILE",
        told="those in the scores", group="True errors",
    )
    ood_labels: str | None = option(
        None, "Which rows of a scores artifact are out of domain (1) and which not (0): adds the "
        "ROC curve to ood.", metavar="FILE", group="True errors",
    )
