"""What the user is told about all scored rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.core.calibration.support import LikenessTotals
from ltau_cli.core.structures import Block, StructureTotals
from ltau_cli.results import RiskyRow, ScoreResult

FLAGGED_BELOW = 0.01  # ood_pvalue of a row that counts as out of domain
_SUMMED = (
    "expected_error", "calibrated_error", "neighbor_distance", "relative_distance", "uncertainty",
    "calibrated_uncertainty", "error_bound",
)  # fmt: skip
_EXCEEDS = ("calibrated_uncertainty", "uncertainty")  # the first that is there is told
_SHOWN = ("expected_error", "calibrated_error", "relative_distance", "ood_pvalue")


class Summary:
    """Totals and riskiest of n rows, collected block by block.

    ``thresholds`` and ``levels`` are those of the columns of ``uncertainty`` and ``error_bound``;
    with 0 structures nothing is aggregated; ``likeness`` compares the rows with those of the
    calibration.
    """

    n_riskiest = 5

    def __init__(
        self,
        n: int,
        *,
        k: int,
        thresholds: npt.NDArray[np.float64],
        levels: npt.NDArray[np.float64],
        n_structures: int,
        likeness: LikenessTotals | None = None,
    ) -> None:
        self.n = n
        self.likeness = likeness
        self.k = k
        self.thresholds = thresholds
        self.levels = levels
        self.totals: dict[str, Any] = dict.fromkeys(_SUMMED, 0.0)
        self.flagged = 0
        self.riskiest: list[RiskyRow] = []
        self.n_structures = n_structures
        self.n_samples = np.zeros(n_structures, dtype=np.int64)
        self.per_structure = {
            "expected_error": StructureTotals(n_structures),
            "uncertainty": StructureTotals(n_structures, len(thresholds)),
            "relative_distance": StructureTotals(n_structures),
            "out_of_domain": StructureTotals(n_structures),
        }
        if len(levels):
            self.per_structure |= {
                "calibrated_error": StructureTotals(n_structures),
                "error_bound": StructureTotals(n_structures, len(levels)),
                "calibrated_uncertainty": StructureTotals(n_structures, len(thresholds)),
            }

    def add(self, start: int, block: Block) -> None:
        """Add the rows from ``start`` on, with their ``structure`` if it is known."""
        for name in set(self.totals) & set(block):
            self.totals[name] = _running_sum(self.totals[name], block[name])
        if self.likeness is not None:
            self.likeness.add(block)
        flagged = block["ood_pvalue"] < FLAGGED_BELOW
        self.flagged += int(flagged.sum())
        risk = "calibrated_error" if "calibrated_error" in block else "expected_error"
        exceeds = next(name for name in _EXCEEDS if name in block)
        order = np.argsort(-block[risk], kind="stable")[: self.n_riskiest]
        structure = block.get("structure")
        rows = [
            RiskyRow(
                row=start + int(i),
                structure=None if structure is None else int(structure[i]),
                **{name: float(block[name][i]) for name in _SHOWN if name in block},
                **{exceeds: float(block[exceeds][i, 0])},
            )
            for i in order
        ]
        if structure is not None and self.n_structures:
            np.add.at(self.n_samples, structure, 1)
            for name, values in {**block, "out_of_domain": flagged}.items():
                if name in self.per_structure:
                    self.per_structure[name].add(structure, values)
        ranked = sorted(self.riskiest + rows, key=lambda row: (-getattr(row, risk), row.row))
        self.riskiest = ranked[: self.n_riskiest]

    def result(self, output: Path, units: str) -> ScoreResult:
        """Return what is told of the rows so far: of an artifact, with its error units."""
        means = {name: np.asarray(total / self.n).tolist() for name, total in self.totals.items()}
        calibrated = len(self.levels) > 0
        return ScoreResult(
            output=output,
            units=units,
            n_rows=self.n,
            n_structures=self.n_structures,
            k=self.k,
            thresholds=self.thresholds.tolist(),
            mean_uncertainty=means["uncertainty"],
            levels=self.levels.tolist(),
            mean_bound=means["error_bound"] if calibrated else [],
            flagged_share=self.flagged / self.n,
            flagged_below=FLAGGED_BELOW,
            riskiest=self.riskiest,
            mean_expected_error=means["expected_error"],
            mean_neighbor_distance=means["neighbor_distance"],
            mean_relative_distance=means["relative_distance"],
            mean_calibrated_error=means["calibrated_error"] if calibrated else None,
            mean_calibrated_uncertainty=means["calibrated_uncertainty"] if calibrated else None,
            likeness=None if self.likeness is None else self.likeness.result(),
        )


def _running_sum(total: Any, values: npt.NDArray[Any]) -> Any:
    """Add one row after the other, so that the sums do not depend on the blocks."""
    first = np.broadcast_to(np.float64(total), (1, *values.shape[1:]))
    return np.cumsum(np.concatenate([first, values]), axis=0)[-1]
