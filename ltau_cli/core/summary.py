"""What the user is told about all scored rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Floats
from ltau_cli.core.calibration.support import LikenessTotals
from ltau_cli.core.domain import FLAGGED_BELOW, out_of_domain
from ltau_cli.core.structures import Block, StructureTotals
from ltau_cli.results import RiskyRow, ScoreResult

BLOCK_ROWS = 1 << 18
TRIMMED = 0.01  # share of the values, the largest ones, that some means leave out
_SUMMED = (
    "expected_error", "calibrated_error", "neighbor_distance", "relative_distance", "uncertainty",
    "calibrated_uncertainty", "error_bound",
)  # fmt: skip
_EXCEEDS = ("calibrated_uncertainty", "uncertainty")  # the first that is there is told
_SHOWN = ("expected_error", "calibrated_error", "relative_distance", "ood_pvalue")


class TrimmedMean:
    """Mean of ``n`` values without the largest 1 %, one at least, so that no single one rules it.

    It does not depend on the blocks in which the values are added.
    """

    def __init__(self, n: int) -> None:
        self.total = 0.0
        self.n_out = min(max(1, int(TRIMMED * n)), n - 1)
        self.n_in = n - self.n_out
        self.largest = np.zeros(0)  # that are left out, increasing

    def add(self, values: Array) -> None:
        """Add some of the values."""
        self.total = _running_sum(self.total, values)
        if len(self.largest) == self.n_out > 0:
            values = values[values > self.largest[0]]
        both = np.sort(np.concatenate([self.largest, values.astype(np.float64)]))
        self.largest = both[max(0, len(both) - self.n_out) :]

    def result(self) -> float:
        """Return the mean, once all values are there."""
        return max(0.0, float(self.total - self.largest.sum())) / self.n_in


def trimmed_mean(values: Array) -> float:
    """Return the mean of values (n,) without the largest 1 %; NaN is left out."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan")
    mean = TrimmedMean(len(known))
    for start in range(0, len(known), BLOCK_ROWS):  # sums take memory
        mean.add(known[start : start + BLOCK_ROWS])
    return mean.result()


class Summary:
    """Totals and riskiest of n rows, collected block by block.

    ``thresholds`` and ``levels`` are those of the columns of ``uncertainty`` and ``error_bound``;
    with 0 structures nothing is aggregated; ``likeness`` compares the rows with those of the
    calibration; no p-value can be below ``least_pvalue``.
    """

    n_riskiest = 5

    def __init__(
        self,
        n: int,
        *,
        k: int,
        thresholds: Floats,
        levels: Floats,
        n_structures: int,
        least_pvalue: float,
        likeness: LikenessTotals | None = None,
        unseen_groups: Sequence[str] = (),
    ) -> None:
        self.n = n
        self.least_pvalue = least_pvalue
        self.trimmed = {name: TrimmedMean(n) for name in _SUMMED[:2]}
        self.likeness, self.unseen_groups = likeness, unseen_groups
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
        for name in set(self.trimmed) & set(block):
            self.trimmed[name].add(block[name])
        if self.likeness is not None:
            self.likeness.add(block)
        flagged = out_of_domain(block["ood_pvalue"], block["relative_distance"], self.least_pvalue)
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
        trimmed = {name: mean.result() for name, mean in self.trimmed.items()}
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
            least_pvalue=self.least_pvalue,
            riskiest=self.riskiest,
            mean_expected_error=means["expected_error"],
            mean_neighbor_distance=means["neighbor_distance"],
            mean_relative_distance=means["relative_distance"],
            trimmed_expected_error=trimmed["expected_error"],
            mean_calibrated_error=means["calibrated_error"] if calibrated else None,
            trimmed_calibrated_error=trimmed["calibrated_error"] if calibrated else None,
            mean_calibrated_uncertainty=means["calibrated_uncertainty"] if calibrated else None,
            likeness=None if self.likeness is None else self.likeness.result(),
            unseen_groups=list(self.unseen_groups),
        )


def _running_sum(total: Any, values: Array) -> Any:
    """Add one row after the other, so that the sums do not depend on the blocks."""
    first = np.broadcast_to(np.float64(total), (1, *values.shape[1:]))
    return np.cumsum(np.concatenate([first, values]), axis=0)[-1]
