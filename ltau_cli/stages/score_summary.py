"""What the user is told about all scored rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.core.scoring import Block, Scorer
from ltau_cli.core.structures import StructureTotals

FLAGGED_BELOW = 0.01  # ood_pvalue of a row that counts as out of domain


class Summary:
    """Totals and riskiest rows, collected block by block.

    Parameters
    ----------
    scorer : Scorer
    n : int
        Rows in all.
    structure : (n,) int64 or None
        Structure of each row.
    """

    n_riskiest = 5

    def __init__(self, scorer: Scorer, n: int, structure: npt.NDArray[np.int64] | None) -> None:
        self.n = n
        self.k = scorer.k
        self.thresholds = scorer.thresholds
        self.totals = {"expected_error": 0.0, "neighbor_distance": 0.0, "relative_distance": 0.0}
        self.above = np.zeros(len(scorer.thresholds))
        self.flagged = 0
        self.riskiest: list[dict[str, Any]] = []
        self.structure = structure
        self.n_structures = 0 if structure is None else int(structure.max()) + 1
        self.per_structure = {
            "expected_error": StructureTotals(self.n_structures),
            "uncertainty": StructureTotals(self.n_structures, len(scorer.thresholds)),
            "relative_distance": StructureTotals(self.n_structures),
            "ood_pvalue": StructureTotals(self.n_structures),
        }

    def add(self, start: int, block: Block) -> None:
        """Add the rows from ``start`` on."""
        for name in self.totals:
            self.totals[name] = _running_sum(self.totals[name], block[name])
        for column in range(len(self.above)):
            self.above[column] = _running_sum(self.above[column], block["uncertainty"][:, column])
        self.flagged += int((block["ood_pvalue"] < FLAGGED_BELOW).sum())
        order = np.argsort(-block["expected_error"], kind="stable")[: self.n_riskiest]
        rows: list[dict[str, Any]] = [
            {
                "row": start + int(i),
                "expected_error": float(block["expected_error"][i]),
                "uncertainty": float(block["uncertainty"][i, 0]),
                "relative_distance": float(block["relative_distance"][i]),
                "ood_pvalue": float(block["ood_pvalue"][i]),
            }
            for i in order
        ]
        if self.structure is not None:
            part = self.structure[start : start + len(block["expected_error"])]
            for row in rows:
                row["structure"] = int(self.structure[row["row"]])
            for name, totals in self.per_structure.items():
                totals.add(part, block[name])
        ranked = sorted(self.riskiest + rows, key=lambda row: (-row["expected_error"], row["row"]))
        self.riskiest = ranked[: self.n_riskiest]

    def result(self) -> dict[str, Any]:
        """Return the summary so far."""
        means = {f"mean_{name}": total / self.n for name, total in self.totals.items()}
        return {
            "n_queries": self.n,
            "n_structures": self.n_structures,
            "k": self.k,
            "thresholds": self.thresholds,
            "mean_uncertainty": self.above / self.n,
            "flagged_share": self.flagged / self.n,
            "flagged_below": FLAGGED_BELOW,
            "riskiest": self.riskiest,
        } | means


def _running_sum(total: float, values: npt.NDArray[np.float64]) -> float:
    """Add one value after the other, so that the sum does not depend on the blocks."""
    return float(np.cumsum(np.concatenate([[total], values]))[-1])
