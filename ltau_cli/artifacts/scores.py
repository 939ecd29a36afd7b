"""The scores artifact: the same bytes wherever its rows come from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Bools
from ltau_cli.artifacts.calibration import read_calibration
from ltau_cli.artifacts.read import Artifact
from ltau_cli.artifacts.schema import SCORES
from ltau_cli.artifacts.write import ArtifactWriter, as_stored, create_artifact
from ltau_cli.core.calibration.model import Calibration
from ltau_cli.core.calibration.support import LikenessTotals
from ltau_cli.core.scoring import Scorer
from ltau_cli.core.structures import Block
from ltau_cli.core.summary import Summary
from ltau_cli.errors import ComputeError
from ltau_cli.matching import Known
from ltau_cli.results import ScoreResult

ROW_DIM = "n_rows"
WRITE_ROWS = 16_384  # rows written at a time: the layout of the file depends on it
PER_ROW = tuple(spec.name for spec in SCORES.datasets if spec.dims[0] == ROW_DIM)
_COMPRESSED = ("structure", "in_training", "in_calibration", "group", "sample_id")


class ScoresFile(Artifact):
    """An open scores artifact."""

    kind = "scores"
    summary: ScoreResult

    @property
    def n(self) -> int:
        """Rows."""
        return self.sizes[ROW_DIM]

    @property
    def calibrated(self) -> bool:
        """Whether the scores were made with a calibration."""
        return self.has("calibration/coefficients")

    @property
    def error_column(self) -> str:
        """Name of the calibrated errors, without a calibration of the expected ones."""
        return "calibrated_error" if self.calibrated else "expected_error"

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the user's own features."""
        return tuple(self.read("feature_names").tolist()) if self.has("features") else ()

    def told(self) -> Known:
        """Return what the scores say of their rows."""
        names = ("sample_id", "structure", "group", "reference_norm")
        labels = {name: self.read(name) for name in names if self.has(name)}
        if self.has("structures/fingerprint"):
            of_rows = labels.get("structure", slice(None))
            labels["fingerprint"] = self.read("structures/fingerprint")[of_rows]
        return Known(self.path, self.n, labels)

    def calibration(self) -> Calibration | None:
        """Return the calibration that the scores were made with."""
        return read_calibration(self, "calibration/") if self.calibrated else None

    def rows_to_judge(self) -> Bools:
        """Choose the rows, (n,) bool, that the calibration in the scores was not fitted on."""
        if not self.has("in_calibration"):
            return np.ones(self.n, dtype=bool)
        rest: Bools = ~self.read("in_calibration")
        if not rest.any():
            raise ComputeError(
                f"{self.path}: the calibration was fitted on every row; none is left"
            )
        return rest


@dataclass(frozen=True)
class Header:
    """All that a scores artifact holds beside its rows."""

    n: int
    n_structures: int  # structures to aggregate; 0 leaves that out
    # datasets without rows: thresholds, quantile_levels, levels, cdf_edges and the calibration
    columns: Mapping[str, Array]
    calibration: Calibration | None
    label_dtypes: Mapping[str, np.dtype[Any]]  # of the label datasets, as stored
    parameters: Mapping[str, Any]
    units: str
    model_fingerprint: str
    least_pvalue: float  # that there can be
    unseen_groups: Sequence[str] = ()  # of the rows, that no calibration row was of

    def start_summary(self) -> Summary:
        """Return the summary of no rows yet."""
        likeness = None
        if self.calibration is not None:
            likeness = LikenessTotals(self.calibration, self.n_structures)
        return Summary(
            self.n,
            k=self.parameters["k"],
            thresholds=self.columns["thresholds"],
            levels=self.columns.get("levels", np.zeros(0)),
            n_structures=self.n_structures,
            least_pvalue=self.least_pvalue,
            likeness=likeness,
            unseen_groups=self.unseen_groups,
        )


def row_dtype(scorer: Scorer) -> np.dtype[Any]:
    """One row of scores just as the artifact stores it: little-endian fields, fixed width."""
    sizes = {
        "n_thresholds": len(scorer.thresholds),
        "n_quantiles": len(scorer.quantiles),
        "n_edges": len(scorer.model.edges),
    }
    scaled = scorer.threshold_scale is not None
    optional = (
        *("calibrated_uncertainty",) * scaled, *("cdf",) * scorer.with_cdf,
    )  # fmt: skip
    return np.dtype([
        (spec.name, np.dtype(spec.dtype).newbyteorder("<"), tuple(sizes[d] for d in spec.dims[1:]))
        for spec in SCORES.datasets
        if spec.dims[0] == ROW_DIM and (spec.required or spec.name in optional)
    ])  # fmt: skip


def to_rows(block: Block, dtype: np.dtype[Any]) -> Array:
    """Cast the datasets of a block to rows (n,) of ``dtype``."""
    assert set(block) == set(dtype.names or ()), "a dataset has no place in the row"
    rows = np.empty(len(block["expected_error"]), dtype)
    for name, values in block.items():
        rows[name] = values
    return rows


def to_block(rows: Array) -> Block:
    """Return the datasets of structured rows."""
    return {name: rows[name] for name in rows.dtype.names or ()}


def write_scores(
    output: Path,
    header: Header,
    blocks: Iterator[Block],
    *,
    inputs: Callable[[], Sequence[Mapping[str, Any]]],
    force: bool,
) -> ScoreResult:
    """Stream all rows into a scores artifact, with the summary and the aggregates over them.

    Every block but the last has ``WRITE_ROWS`` rows. ``inputs()`` gives the record of each input,
    waiting for what is not known yet.
    """
    summary = header.start_summary()
    with create_artifact(output, "scores", units=header.units, force=force) as writer:
        datasets: dict[str, Any] = {}
        done = 0
        for block in blocks:
            m = len(block["expected_error"])
            for name in filter(block.__contains__, PER_ROW):
                if name not in datasets:
                    datasets[name] = writer.create(
                        name,
                        (header.n, *block[name].shape[1:]),
                        dtype=header.label_dtypes.get(name),
                        compress=name in _COMPRESSED,
                    )
                datasets[name][done : done + m] = as_stored(block[name])
            summary.add(done, block)
            done += m
        for spec in SCORES.datasets:  # in one order, wherever the columns come from
            if spec.name in header.columns:
                writer.put(spec.name, header.columns[spec.name])
        if header.n_structures:
            _write_structures(writer, summary)
        result = summary.result(output, header.units)
        writer.finish(
            parameters=header.parameters,
            inputs=inputs(),
            summary=result.stored(),
            model_fingerprint=header.model_fingerprint,
        )
    return result


def _write_structures(writer: ArtifactWriter, summary: Summary) -> None:
    n_samples = summary.n_samples
    writer.put("structures/n_samples", n_samples)
    for name, totals in summary.per_structure.items():
        mean = totals.total / n_samples[:, None]
        found = {f"{name}_mean": mean, f"{name}_max": totals.largest, f"{name}_share": mean}
        for dataset, values in found.items():
            spec = SCORES.by_name.get(f"structures/{dataset}")
            if spec is not None:
                writer.put(spec.name, values if len(spec.dims) > 1 else values[:, 0])
