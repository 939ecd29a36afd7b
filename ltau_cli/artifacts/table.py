"""The rows of a scores artifact as a table of named columns, read in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Bools
from ltau_cli.artifacts.schema import SCORES
from ltau_cli.artifacts.scores import PER_ROW, WRITE_ROWS, ScoresFile
from ltau_cli.core.conditions import Condition, check_columns
from ltau_cli.core.structures import Block
from ltau_cli.progress import Advance


@dataclass(frozen=True)
class ScoreTable:
    """The columns of each dataset of scores, the labels first; rows where all conditions hold."""

    artifact: ScoresFile
    names: Names
    conditions: tuple[Condition, ...] = ()

    @classmethod
    def open(cls, artifact: ScoresFile, where: Sequence[str] = ()) -> ScoreTable:
        """Name the columns and parse the conditions."""
        labels = {name: artifact.read(name) for name in LABELS.values() if artifact.has(name)}
        there = [spec.name for spec in artifact.present() if spec.name in SHOWN]
        first = [name for name in LEADING if name in there]
        names = ["row", *first, *(name for name in there if name not in first)]
        text = [name for name in first if artifact.dataset(name).dtype.kind == "S"]
        conditions = tuple(Condition.parse(condition, text) for condition in where)
        table = cls(artifact, name_columns(names, labels), conditions)
        check_columns([c.column for c in conditions], table.columns, artifact.path)
        return table

    @property
    def columns(self) -> list[str]:
        """All columns, in order."""
        return [name for names in self.names.values() for name in names]

    @property
    def n(self) -> int:
        """Rows."""
        return self.artifact.n

    def dtype(self, column: str) -> np.dtype[Any]:
        """Return the dtype of a column."""
        if column == "row":
            return np.dtype(np.int64)
        dataset = next(name for name, columns in self.names.items() if column in columns)
        found: np.dtype[Any] = self.artifact.dataset(dataset).dtype
        return np.dtype(f"U{found.itemsize}") if found.kind == "S" else found

    def read(self, start: int, stop: int, wanted: Sequence[str]) -> Columns:
        """Read the columns ``wanted``, and those of the conditions, of rows ``start..stop``."""
        needed = {*wanted, *(condition.column for condition in self.conditions)}
        names = {name: c for name, c in self.names.items() if needed & set(c)}
        block = {name: self.artifact.read(name, start, stop) for name in names if name != "row"}
        if "row" in names:
            block["row"] = np.arange(start, stop)
        return to_columns(block, names)

    def kept(self, columns: Columns) -> Bools:
        """Return (n,) bool: where all conditions hold in a block that :meth:`read` gave."""
        keep = np.ones(len(next(iter(columns.values()))), dtype=bool)
        for condition in self.conditions:
            keep &= condition.holds(columns)
        return keep

    def blocks(
        self, wanted: Sequence[str], advance: Advance = lambda _steps: None
    ) -> Iterator[Columns]:
        """Yield the kept rows of the columns ``wanted``, block by block."""
        for start in range(0, self.n, WRITE_ROWS):
            stop = min(start + WRITE_ROWS, self.n)
            columns = self.read(start, stop, wanted)
            keep = self.kept(columns)
            yield {name: columns[name][keep] for name in wanted}
            advance(stop - start)


# The dataset that labels the columns of the two-dimensional ones.
LABELS = {
    "n_thresholds": "thresholds",
    "n_quantiles": "quantile_levels",
    "n_levels": "levels",
    "n_edges": "cdf_edges",
    "n_own_features": "feature_names",
}
SHOWN = tuple(name for name in PER_ROW if name not in ("row_hash", "reference_norm"))
ROW_LABELS = ("structure", "group", "sample_id")
# Shown before the plain numbers.
LEADING = (*ROW_LABELS, "calibrated_error", "error_bound", "calibrated_uncertainty")
Names = dict[str, list[str]]
Columns = dict[str, Array]


def name_columns(datasets: Iterable[str], labels: Mapping[str, Sequence[float] | Array]) -> Names:
    """Columns of each dataset: ``quantiles`` has ``quantile_0.5``, ``quantile_0.9`` and so on.

    ``datasets`` are named as in the scores artifact, or ``row``; ``labels`` are those of
    :data:`LABELS` that are there.
    """
    names: Names = {}
    for dataset in datasets:
        name = dataset.rpartition("/")[2]
        spec = SCORES.by_name.get(dataset)
        if spec is None or len(spec.dims) == 1:
            names[dataset] = [name]
            continue
        values = labels[LABELS[spec.dims[1]]]
        if spec.dims[1] == "n_thresholds" and len(values) == 1:  # needs no label
            names[dataset] = [name]
        else:
            texts = [v if isinstance(v, str) else f"{v:.6g}" for v in values]
            names[dataset] = [f"{name.removesuffix('s')}_{text}" for text in texts]
    return names


def to_columns(block: Block, names: Names) -> Columns:
    """Split the datasets (n, ...) of a block into columns (n,)."""
    columns: Columns = {}
    for dataset, of_dataset in names.items():
        values = block[dataset].reshape(len(block[dataset]), -1)
        columns |= {name: values[:, j] for j, name in enumerate(of_dataset)}
    return columns
