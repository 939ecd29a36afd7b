"""Scores as named columns, with the same names wherever rows are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.schema import SCORES
from ltau_cli.core.scoring import Block

# The dataset that labels the columns of the two-dimensional ones.
LABELS = {
    "n_thresholds": "thresholds",
    "n_quantiles": "quantile_levels",
    "n_levels": "levels",
    "n_edges": "cdf_edges",
}

ROW_LABELS = ("structure", "group", "sample_id")  # shown before the numbers

Names = dict[str, list[str]]
Columns = dict[str, npt.NDArray[Any]]


def name_columns(
    datasets: Iterable[str], labels: Mapping[str, Sequence[float] | npt.NDArray[np.float64]]
) -> Names:
    """Columns of each dataset: ``quantiles`` has ``quantile_0.5``, ``quantile_0.9`` and so on.

    Parameters
    ----------
    datasets : iterable of str
        Names as in the scores artifact, or ``row``.
    labels : dict of str to (n_columns,) float64
        ``thresholds``, ``quantile_levels``, ``levels`` and ``cdf_edges``, those that are there.

    Returns
    -------
    dict of str to list of str
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
            names[dataset] = [f"{name.removesuffix('s')}_{value:.6g}" for value in values]
    return names


def to_columns(block: Block, names: Names) -> Columns:
    """Split the datasets (n, ...) of a block into columns (n,)."""
    columns: Columns = {}
    for dataset, of_dataset in names.items():
        values = block[dataset].reshape(len(block[dataset]), -1)
        columns |= {name: values[:, j] for j, name in enumerate(of_dataset)}
    return columns
