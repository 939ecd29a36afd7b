"""Per-structure aggregates of per-row values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


class StructureTotals:
    """Sum, largest and smallest of one quantity per structure, added row by row.

    Rows are added one after the other, so the result does not depend on how they are cut into
    blocks.

    Parameters
    ----------
    n_structures, n_columns : int
        Shape of the aggregates.
    """

    def __init__(self, n_structures: int, n_columns: int = 1) -> None:
        self.total = np.zeros((n_structures, n_columns))
        self.largest = np.full((n_structures, n_columns), -np.inf)
        self.smallest = np.full((n_structures, n_columns), np.inf)

    def add(self, structure: npt.NDArray[np.int64], values: Values) -> None:
        """Add rows: ``structure`` (n,) int64 and ``values`` (n,) or (n, n_columns) float64."""
        columns = values.reshape(len(values), -1)
        np.add.at(self.total, structure, columns)
        np.maximum.at(self.largest, structure, columns)
        np.minimum.at(self.smallest, structure, columns)
