"""New descriptors and a model artifact to a scores artifact."""

from __future__ import annotations

import contextlib
import csv
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.atomic import check_target
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import Artifact, open_artifact
from ltau_cli.artifacts.write import ArtifactWriter, create_artifact
from ltau_cli.core.scoring import Block, Calibration, Model, Scorer
from ltau_cli.errors import ArtifactError, InputError, LtauWarning, UsageError
from ltau_cli.readers.arrays import Place
from ltau_cli.readers.descriptors import Descriptors, find_structures, open_descriptors
from ltau_cli.stages.model import load_model
from ltau_cli.stages.progress import Progress, silent
from ltau_cli.stages.score_summary import Summary

BLOCK_ROWS = 16_384
STDOUT = Path("-")


def run(
    descriptors: str,
    model: Path,
    output: Path,
    *,
    k: int | None = None,
    thresholds: Sequence[float] = (),
    quantiles: Sequence[float] = (0.5, 0.9, 0.95),
    natoms: str | None = None,
    calibration: Path | None = None,
    with_cdf: bool = False,
    block_rows: int = BLOCK_ROWS,
    threads: int = 1,
    force: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Score descriptors block by block.

    Parameters
    ----------
    descriptors : str
        Descriptors (n_queries, d) of the rows to score.
    model : Path
        Model artifact.
    output : Path
        The scores artifact, or ``-`` for CSV on standard output.
    k : int, optional
        Neighbors; default the model's.
    thresholds : sequence of float
        In error units; default the model's.
    quantiles : sequence of float
        Levels in (0, 1).
    natoms : str, optional
        Atoms per structure.
    calibration : Path, optional
        Calibration artifact of the same model.
    with_cdf : bool
        Also store each row's CDF.
    block_rows : int
        Rows per block; sets the memory, not the result.
    threads : int
        Threads; the result does not depend on it.
    force : bool
        Replace an existing artifact.
    progress : Progress
        Shows the rows.

    Returns
    -------
    dict
        The summary.

    Raises
    ------
    InputError, ArtifactError, UsageError, OutputError
        What is wrong with which file.
    """
    if output != STDOUT:
        check_target(output, force=force)
    place = Place.parse(descriptors)
    with contextlib.ExitStack() as stack:
        hasher = stack.enter_context(Hasher())
        artifact = stack.enter_context(open_artifact(model, "model"))
        source = stack.enter_context(open_descriptors(place))
        _check_width(source, artifact)
        hasher.add(
            "descriptors", place.path, "descriptors", key=source.source.place.key, rows=source.n
        )
        hasher.add("model", model, "model")
        counts = None if natoms is None else Place.parse(natoms)
        structure = find_structures(source.source.place, counts, source.n)
        if counts is not None:
            hasher.add("natoms", counts.path, "natoms", key=counts.key)
        fitted = load_model(artifact)
        k = _check_k(k, fitted, model)
        limits = np.array(sorted(set(thresholds)) or fitted.thresholds, dtype=np.float64)
        calibrated: Calibration | None = None
        fitted_on: dict[str, Any] = {}
        if calibration is not None:
            hasher.add("calibration", calibration, "calibration")
            calibrated, fitted_on = _load_calibration(calibration, fitted, model, k, limits)
        scorer = Scorer(
            fitted,
            k=k,
            thresholds=limits,
            quantiles=np.array(sorted(set(quantiles)), dtype=np.float64),
            calibration=calibrated,
            with_cdf=with_cdf,
            threads=threads,
        )
        summary = Summary(scorer, source.n, structure)
        with progress("scoring", source.n) as advance:
            blocks = _score_blocks(scorer, source, block_rows, summary, advance)
            if output == STDOUT:
                write_csv(blocks, scorer, structure)
                return summary.result() | {"units": artifact.units}
            with create_artifact(output, "scores", units=artifact.units, force=force) as writer:
                _write_blocks(writer, blocks, source.n)
                _write_rest(writer, scorer, structure, summary)
                inputs = hasher.records()
                if calibrated is not None:
                    used = np.zeros(source.n, dtype=bool)
                    if same_rows(inputs[0], fitted_on["descriptors"]):
                        used[fitted_on["rows"]] = True
                    writer.put("in_calibration", used, compress=True)
                writer.finish(
                    parameters={
                        "k": scorer.k,
                        "thresholds": scorer.thresholds,
                        "quantiles": scorer.quantiles,
                        "cdf": with_cdf,
                    },
                    inputs=inputs,
                    summary=summary.result(),
                    model_fingerprint=fitted.fingerprint,
                )
    return summary.result() | {"units": artifact.units}


def _score_blocks(
    scorer: Scorer, source: Descriptors, rows: int, summary: Summary, advance: Any
) -> Iterator[tuple[int, Block]]:
    for start, block in source.blocks(rows):
        result = scorer.score(block)
        summary.add(start, result)
        advance(len(block))
        yield start, result


def _write_blocks(writer: ArtifactWriter, blocks: Iterator[tuple[int, Block]], n: int) -> None:
    datasets: dict[str, Any] = {}
    for start, block in blocks:
        for name, values in block.items():
            if name not in datasets:
                datasets[name] = writer.create(name, (n, *values.shape[1:]))
            datasets[name][start : start + len(values)] = values


def _write_rest(
    writer: ArtifactWriter,
    scorer: Scorer,
    structure: npt.NDArray[np.int64] | None,
    summary: Summary,
) -> None:
    writer.put("thresholds", scorer.thresholds)
    writer.put("quantile_levels", scorer.quantiles)
    if scorer.calibration is not None:
        writer.put("levels", scorer.calibration.levels)
    if scorer.with_cdf:
        writer.put("cdf_edges", scorer.model.edges)
    if structure is None:
        return
    n_samples = np.bincount(structure)
    totals = summary.per_structure
    writer.put("structure", structure, compress=True)
    writer.put("structures/n_samples", n_samples)
    writer.put("structures/expected_error_mean", totals["expected_error"].total[:, 0] / n_samples)
    writer.put("structures/expected_error_max", totals["expected_error"].largest[:, 0])
    writer.put("structures/uncertainty_mean", totals["uncertainty"].total / n_samples[:, None])
    writer.put("structures/uncertainty_max", totals["uncertainty"].largest)
    writer.put(
        "structures/relative_distance_mean", totals["relative_distance"].total[:, 0] / n_samples
    )
    writer.put("structures/out_of_domain_share", totals["out_of_domain"].total[:, 0] / n_samples)


def write_csv(
    blocks: Iterator[tuple[int, Block]],
    scorer: Scorer,
    structure: npt.NDArray[np.int64] | None,
) -> None:
    """Write one line per row to standard output as the blocks come in."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    labels: dict[str, Any] = {
        "uncertainty": scorer.thresholds,
        "calibrated_uncertainty": scorer.thresholds,
        "quantiles": scorer.quantiles,
        "error_bound": scorer.calibration.levels if scorer.calibration else (),
        "cdf": scorer.model.edges,
    }
    for start, block in blocks:
        if start == 0:
            header = ["row"] + (["structure"] if structure is not None else [])
            for name in block:
                header += _columns(name, labels.get(name))
            writer.writerow(header)
        n = len(block["expected_error"])
        rows = np.concatenate([values.reshape(n, -1) for values in block.values()], axis=1)
        for i, row in enumerate(rows):
            first = [start + i] + ([int(structure[start + i])] if structure is not None else [])
            writer.writerow(first + [f"{value:.7g}" for value in row])


def _columns(name: str, labels: Sequence[float] | None) -> list[str]:
    """Column names of a quantity; a single threshold needs no label."""
    if labels is None or (len(labels) == 1 and name.endswith("uncertainty")):
        return [name]
    return [f"{name.removesuffix('s')}_{label:.6g}" for label in labels]


def _check_width(source: Descriptors, artifact: Artifact) -> None:
    width = artifact.sizes["d"]
    if source.width != width:
        raise InputError(
            f"{source.source.place} has {source.width} columns, {artifact.path} was fitted on "
            f"{width}",
            hint="compute the descriptors with the same layer of the same trained network",
        )


def _check_k(k: int | None, model: Model, path: Path) -> int:
    if k is None:
        return model.k
    if k >= model.n_samples:
        raise UsageError(
            f"-k {k} is not below the {model.n_samples:,} training samples of {path}",
            hint=f"use -k {max(1, model.n_samples - 1)} or less",
        )
    return k


def same_rows(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two input records name the same rows of the same file."""
    return all(one.get(name) == other.get(name) for name in ("sha256", "key", "rows"))


def _load_calibration(
    path: Path, model: Model, model_path: Path, k: int, thresholds: Iterable[float]
) -> tuple[Calibration, dict[str, Any]]:
    """Read the maps, and which rows of which descriptors they were fitted on."""
    with open_artifact(path, "calibration") as artifact:
        if artifact.model_fingerprint != model.fingerprint:
            raise ArtifactError(
                f"{path} was fitted on scores of another model than {model_path}",
                hint="score the calibration rows with this model and run ltau calibrate again",
            )
        if artifact.summary["k"] != k:
            raise UsageError(
                f"{path} was fitted on scores with -k {artifact.summary['k']}, these have -k {k}",
                hint="use the same -k, or calibrate again",
            )
        for threshold in set(thresholds) - set(artifact.read("thresholds")):
            warnings.warn(
                f"{path} has no threshold {threshold:g}; its scale is taken from the nearest ones",
                LtauWarning,
                stacklevel=2,
            )
        source = next(record for record in artifact.inputs if record["role"] == "descriptors")
        maps = Calibration(
            levels=artifact.read("levels"),
            bound_ratio=artifact.read("bound_ratio"),
            error_scale=float(artifact.read("error_scale")[0]),
            thresholds=artifact.read("thresholds"),
            threshold_scale=artifact.read("threshold_scale"),
        )
        return maps, {"descriptors": source, "rows": artifact.read("fit_row")}
