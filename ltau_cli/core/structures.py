"""Per-structure aggregates of per-row values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class StructureTotals:
    """Sum and largest of one quantity per structure, added row by row.

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

    def add(self, structure: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> None:
        """Add rows: ``structure`` (n,) int64 and ``values`` (n,) or (n, n_columns)."""
        columns = values.reshape(len(values), -1)
        np.add.at(self.total, structure, columns)
        np.maximum.at(self.largest, structure, columns)
