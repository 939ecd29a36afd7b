"""What the user is told about all scored rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.core.scoring import Block, Scorer
from ltau_cli.core.structures import StructureTotals

FLAGGED_BELOW = 0.01  # ood_pvalue of a row that counts as out of domain
_MEANS = ("expected_error", "calibrated_error", "neighbor_distance", "relative_distance")
_SHOWN = ("expected_error", "calibrated_error", "relative_distance", "ood_pvalue")


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
        self.totals = dict.fromkeys(_MEANS, 0.0)
        self.above = np.zeros(len(scorer.thresholds))
        self.levels = np.zeros(0) if scorer.calibration is None else scorer.calibration.levels
        self.bounds = np.zeros(len(self.levels))
        self.flagged = 0
        self.riskiest: list[dict[str, Any]] = []
        self.structure = structure
        self.n_structures = 0 if structure is None else int(structure.max()) + 1
        self.per_structure = {
            "expected_error": StructureTotals(self.n_structures),
            "uncertainty": StructureTotals(self.n_structures, len(scorer.thresholds)),
            "relative_distance": StructureTotals(self.n_structures),
            "out_of_domain": StructureTotals(self.n_structures),
        }

    def add(self, start: int, block: Block) -> None:
        """Add the rows from ``start`` on."""
        for name in set(self.totals) & set(block):
            self.totals[name] = _running_sum(self.totals[name], block[name])
        for column in range(len(self.above)):
            self.above[column] = _running_sum(self.above[column], block["uncertainty"][:, column])
        for column in range(len(self.bounds)):
            self.bounds[column] = _running_sum(self.bounds[column], block["error_bound"][:, column])
        flagged = block["ood_pvalue"] < FLAGGED_BELOW
        self.flagged += int(flagged.sum())
        order = np.argsort(-block["expected_error"], kind="stable")[: self.n_riskiest]
        rows: list[dict[str, Any]] = [
            {
                "row": start + int(i),
                **{name: float(block[name][i]) for name in _SHOWN if name in block},
                "uncertainty": float(block["uncertainty"][i, 0]),
            }
            for i in order
        ]
        if self.structure is not None:
            part = self.structure[start : start + len(block["expected_error"])]
            for row in rows:
                row["structure"] = int(self.structure[row["row"]])
            for name, totals in self.per_structure.items():
                totals.add(part, flagged if name == "out_of_domain" else block[name])
        ranked = sorted(self.riskiest + rows, key=lambda row: (-row["expected_error"], row["row"]))
        self.riskiest = ranked[: self.n_riskiest]

    def result(self) -> dict[str, Any]:
        """Return the summary so far."""
        means = {f"mean_{name}": total / self.n for name, total in self.totals.items()}
        if len(self.levels) == 0:
            del means["mean_calibrated_error"]
        return {
            "n_queries": self.n,
            "n_structures": self.n_structures,
            "k": self.k,
            "thresholds": self.thresholds,
            "mean_uncertainty": self.above / self.n,
            "levels": self.levels,
            "mean_bound": self.bounds / self.n,
            "flagged_share": self.flagged / self.n,
            "flagged_below": FLAGGED_BELOW,
            "riskiest": self.riskiest,
        } | means


def _running_sum(total: float, values: npt.NDArray[np.float64]) -> float:
    """Add one value after the other, so that the sum does not depend on the blocks."""
    return float(np.cumsum(np.concatenate([[total], values]))[-1])
