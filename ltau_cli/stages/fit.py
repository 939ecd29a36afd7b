"""An errors artifact and training descriptors to a model artifact."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.attributes import Origin
from ltau_cli.artifacts.described import find_origin
from ltau_cli.artifacts.errors import ErrorsFile, LateEpochs
from ltau_cli.artifacts.model import (
    NEVER_LOGGED,
    PooledPoints,
    StoredShards,
    announce_compilation,
    create_counts,
    write_grid,
    write_index,
    write_leave_one_out,
    write_points,
    write_scaling,
)
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import damaged, open_artifact
from ltau_cli.artifacts.write import ArtifactWriter, create_artifact, to_json
from ltau_cli.core.calibration.metrics import rank_correlation
from ltau_cli.core.histogram import default_range, make_edges, summarize_samples
from ltau_cli.core.search import graph
from ltau_cli.core.search.cells import CellSearcher, ExactSearcher, build_cells
from ltau_cli.core.search.graph import choose_effort
from ltau_cli.core.search.loo import leave_one_out
from ltau_cli.core.search.neighbors import Searcher
from ltau_cli.core.search.shards import OneShard, Shards
from ltau_cli.core.search.trials import Trials, make_trials
from ltau_cli.core.threads import available_threads
from ltau_cli.errors import ComputeError, InputError, UsageError
from ltau_cli.output import check_target
from ltau_cli.progress import Progress, silent
from ltau_cli.readers.descriptors import Descriptors, find_structures, open_descriptors
from ltau_cli.readers.place import Place
from ltau_cli.stages.results import Result
from ltau_cli.stages.settings import DEFAULT_K, FitSettings
from ltau_cli.stages.training_set import TrainingSet, check_samples, read_training_set

messages = logging.getLogger("ltau")


@dataclass(frozen=True, repr=False)
class FitResult(Result):
    """What was fitted.

    Attributes
    ----------
    output : Path
    units : str
        Error units.
    n_samples, n_never_logged, n_points, width : int
        Logged samples, those without a logged error, distinct points, columns of the descriptors.
    thresholds, mean_uncertainty : (n_thresholds,) float64
        Error units, and the share of the errors above.
    mean_error : float
        Over all samples and epochs (error units).
    underflow_share, overflow_share : float
        Errors outside the bins.
    loo_distance, loo_rank_correlation : float
        Mean leave-one-out neighbor distance; rank correlation of a sample's mean error and its
        neighbors'.
    index : dict
        Kind of the search structure and what was measured of it.
    """

    output: Path
    units: str
    n_samples: int
    n_never_logged: int
    n_points: int
    width: int
    k: int
    thresholds: npt.NDArray[np.float64]
    mean_error: float
    mean_uncertainty: npt.NDArray[np.float64]
    underflow_share: float
    overflow_share: float
    loo_distance: float
    loo_rank_correlation: float | None
    index: dict[str, Any]


def run(
    errors: str | os.PathLike[str],
    descriptors: str | os.PathLike[str],
    output: str | os.PathLike[str] = "model.h5",
    *,
    settings: FitSettings | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> FitResult:
    """Fit the error CDFs of the training samples and index their descriptors.

    Parameters
    ----------
    errors : path
        Errors artifact.
    descriptors : path
        Training descriptors (n_samples, d), in the order of the log; or a described artifact.
    output : path
        The model artifact.
    settings : FitSettings
        How to fit.
    threads : int
        Threads, all by default; the result does not depend on it.
    force : bool
        Replace an existing artifact.
    progress : Progress
        Shows the work.

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        If the descriptors cannot be used or do not match the log.
    UsageError
        If ``k`` is not below the number of samples, there are more shards than samples, or the grid
        is empty.
    ComputeError
        If NN-descent cannot reach the recall.
    """
    errors, output = Path(errors), Path(output)
    threads = threads or available_threads()
    check_target(output, force=force, inputs=[errors, descriptors])
    place = Place.parse(os.fspath(descriptors))
    origin = find_origin(place)
    with (
        open_artifact(errors, ErrorsFile) as log,
        open_descriptors(place) as source,
        Hasher() as hasher,
    ):
        hasher.add("errors", errors, "errors")
        hasher.add("descriptors", place.path, "descriptors", key=place.key)
        summary = _fit(
            log, source, origin, output, settings or FitSettings(), hasher,
            threads=threads, force=force, progress=progress,
        )  # fmt: skip
        return FitResult(output=output, units=log.units, **summary)


def _fit(
    log: ErrorsFile,
    source: Descriptors,
    origin: Origin | None,
    output: Path,
    asked: FitSettings,
    hasher: Hasher,
    *,
    threads: int,
    force: bool,
    progress: Progress,
) -> dict[str, Any]:
    announce_compilation()
    epochs = log.after(asked.burn_in)
    n_logged = epochs.n_logged()
    check_samples(source, len(n_logged), log.path)
    n = int(np.count_nonzero(n_logged))
    k = asked.k or min(DEFAULT_K, max(1, n - 1))
    chosen = replace(asked, k=k)
    _check_sizes(n, k, chosen.shards, log.path)
    group = _loo_group(log, source, chosen)
    limits, edges = _grid(epochs, chosen)
    training = read_training_set(
        source, n_logged, shards=chosen.shards, scale=chosen.scale, metric=chosen.metric,
        merge_within=chosen.merge_within, threads=threads,
    )  # fmt: skip
    with create_artifact(output, "model", units=log.units, force=force) as artifact:
        write_grid(artifact, edges, limits)
        statistics = _count(epochs, artifact, edges, limits, training, threads, progress)
        if statistics.n_errors != n_logged.sum(dtype=np.int64):
            raise damaged(log.path, "datasets errors and n_logged do not fit each other")
        shards, index = _index_shards(artifact, training, k, chosen, threads, progress)
        sample_mean = statistics.sample_mean[training.logged]
        with progress("leave-one-out reference", n) as advance:
            loo = leave_one_out(
                shards, training.points, sample_mean,
                None if group is None else group[training.logged],
                k, weighting=chosen.weighting, threads=threads, advance=advance,
            )  # fmt: skip
        distance, expected, share = (
            training.of_all(values, np.nan)
            for values in (loo.distance, loo.expected_error, loo.share)
        )
        write_leave_one_out(artifact, distance, expected, share, group)
        parameters = (
            asdict(chosen)
            | {
                "thresholds": limits,
                "error_range": [edges[0], edges[-1]],
                "index": index["kind"],
            }
            | ({} if origin is None else {"origin": origin})
        )
        points = statistics.points
        summary = {
            "n_samples": n,
            "n_never_logged": len(n_logged) - n,
            "n_points": training.n_points,
            "width": source.width,
            "k": k,
            "thresholds": limits,
            "mean_error": float((points.mean_error * points.multiplicity).sum() / n),
            "mean_uncertainty": (points.uncertainty * points.multiplicity[:, None]).sum(axis=0) / n,
            "underflow_share": statistics.n_underflow / statistics.n_errors,
            "overflow_share": statistics.n_overflow / statistics.n_errors,
            "loo_distance": float(loo.distance.mean(dtype=np.float64)),
            "loo_rank_correlation": rank_correlation(
                loo.expected_error.astype(np.float64), sample_mean
            ),
            "index": index,
        }
        inputs = hasher.records()
        artifact.finish(
            parameters=parameters,
            inputs=inputs,
            summary=summary,
            model_fingerprint=_fingerprint(parameters, inputs[1], log),
        )
    return summary


def _fingerprint(
    parameters: Mapping[str, Any], descriptors: Mapping[str, Any], log: ErrorsFile
) -> str:
    """Return what is the same for models of the same inputs and options."""
    parts = to_json([parameters, descriptors, log.parameters, log.inputs])
    return hashlib.sha256(parts.encode()).hexdigest()


def _check_sizes(n: int, k: int, shards: int, errors: Path) -> None:
    if n < 2:
        raise InputError(
            f"{errors} has a single sample, which has no neighbor",
            hint="one column of a log is one sample: ltau info shows its shape",
        )
    if k >= n:
        raise UsageError(
            f"-k {k} is not below the {n:,} training samples of {errors}",
            hint=f"use -k {max(1, n - 1)} or less",
        )
    if shards > n:
        raise UsageError(
            f"--shards {shards} is more than the {n:,} training samples of {errors}",
            hint="a shard should fill a good part of the memory; see --shards in ltau fit -h",
        )


def _loo_group(
    log: ErrorsFile, source: Descriptors, settings: FitSettings
) -> npt.NDArray[np.int64] | None:
    if settings.loo == "sample":
        return None
    if log.has("structure"):
        return log.read("structure")
    group = find_structures(source, None)
    if group is None:
        raise InputError(
            f"{log.path} does not say which structure a sample belongs to, which --loo structure "
            "needs",
            hint="ingest again with --natoms or --frames, or give natoms beside the descriptors",
        )
    return group


def _grid(
    epochs: LateEpochs, settings: FitSettings
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Thresholds and bin edges."""
    limits = np.array(
        sorted(set(settings.thresholds)) or [epochs.log.last_mean()], dtype=np.float64
    )
    low, high = settings.error_range or default_range(
        smallest=_finite(epochs.per_epoch("epoch_min"), np.nanmin),
        largest=_finite(epochs.per_epoch("epoch_max"), np.nanmax),
        threshold=float(limits[0]),
        grid=settings.grid,
    )
    edges = make_edges(
        bins=settings.bins, low=low, high=high, grid=settings.grid, thresholds=limits
    )
    return limits, edges


def _finite(values: npt.NDArray[np.float64], reduce: Any) -> float:
    return float(reduce(values)) if np.isfinite(values).any() else 0.0


@dataclass
class _Statistics:
    """What is kept in memory of the errors.

    Attributes
    ----------
    sample_mean : (n_samples,) float64
        Mean error of each sample; 0 where it was never logged.
    points : PooledPoints
    n_errors, n_underflow, n_overflow : int
        Logged errors, and those outside the bins.
    """

    sample_mean: npt.NDArray[np.float64]
    points: PooledPoints
    n_errors: int = 0
    n_underflow: int = 0
    n_overflow: int = 0


def _count(
    epochs: LateEpochs,
    artifact: ArtifactWriter,
    edges: npt.NDArray[np.float64],
    limits: npt.NDArray[np.float64],
    training: TrainingSet,
    threads: int,
    progress: Progress,
) -> _Statistics:
    """Stream the log once, pooling the samples of each point, and write what comes of it."""
    n, n_points, multiplicity = epochs.n_samples, training.n_points, training.points.multiplicity
    points = PooledPoints(
        mean_error=np.zeros(n_points, dtype=np.float32),
        max_error=np.zeros(n_points, dtype=np.float32),
        uncertainty=np.zeros((n_points, len(limits)), dtype=np.float32),
        multiplicity=multiplicity,
        of_sample=training.of_all(training.points.of_sample, NEVER_LOGGED),
    )
    result = _Statistics(np.zeros(n), points)
    largest = len(epochs.rows) * int(multiplicity.max())
    dtype = np.min_scalar_type(largest)
    counts = create_counts(
        artifact, n_points, len(edges), largest=largest, sharded=training.count > 1
    )
    with progress("counting errors", n) as advance:
        for shard in range(training.count):
            first, last = training.point_start[shard : shard + 2]
            own = np.zeros((last - first, len(edges) + 1), dtype=dtype)
            mean_error = np.zeros(last - first)
            uncertainty = np.zeros((last - first, len(limits)))
            for start, stop in epochs.blocks(*training.sample_start[shard : shard + 2]):
                part = summarize_samples(epochs.read(start, stop), edges, limits, threads=threads)
                result.sample_mean[start:stop] = part.mean_error
                used = points.of_sample[start:stop] != NEVER_LOGGED
                target = points.of_sample[start:stop][used] - first
                pool(own, target, part.counts[used].astype(dtype, copy=False))
                pool(mean_error, target, part.mean_error[used])
                pool(uncertainty, target, part.uncertainty[used])
                np.maximum.at(points.max_error, target + first, part.max_error[used])
                advance(stop - start)
            samples = multiplicity[first:last]
            points.mean_error[first:last] = mean_error / samples
            points.uncertainty[first:last] = uncertainty / samples[:, None]
            result.n_errors += int(own.sum(dtype=np.int64))
            result.n_underflow += int(own[:, 0].sum(dtype=np.int64))
            result.n_overflow += int(own[:, -1].sum(dtype=np.int64))
            counts[first:last] = own
    write_points(artifact, points)
    return result


def pool(totals: npt.NDArray[Any], target: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> None:
    """Add ``values[i]`` to ``totals[target[i]]``, one after the other where targets repeat."""
    if (np.diff(target) > 0).all():
        totals[target] += values
    else:
        np.add.at(totals, target, values)


def _index_shards(
    artifact: ArtifactWriter,
    training: TrainingSet,
    k: int,
    settings: FitSettings,
    threads: int,
    progress: Progress,
) -> tuple[Shards, dict[str, Any]]:
    """Build and write the search structure of each shard; the shards and what is to be told."""
    many = training.count > 1
    if many:
        artifact.put("shard_start", training.point_start)
    write_scaling(artifact, training.scaling)
    width, summaries = training.scaling.width, []
    descriptors = artifact.create("descriptors", (training.n_points, width))
    for number in range(training.count):
        first, last = training.point_start[number : number + 2]
        unique = training.read_points(number)
        descriptors[first:last] = unique
        searcher, arrays, summary = _build_index(unique, k, settings, threads, progress)
        write_index(artifact, arrays, number if many else None)
        summaries.append(summary)
        if not many:
            return OneShard(unique, searcher), summary
        del unique, searcher, arrays  # before the next shard is read
    shards = StoredShards(artifact.read, training.point_start, summaries, width=width)
    return shards, _join_summaries(summaries)


def _join_summaries(indexes: list[dict[str, Any]]) -> dict[str, Any]:
    """Summary of the indexes of all shards; of what was measured, the worst."""
    first = indexes[0]
    joined: dict[str, Any] = {"kind": first["kind"], "shards": indexes}
    joined |= {name: first[name] for name in ("factor", "trials_k") if name in first}
    for where in ("in_domain", "out_of_domain"):
        measured = [index[where] for index in indexes if where in index]
        if measured:
            joined[where] = {
                "recall": min(one["recall"] for one in measured),
                "lost": max(one["lost"] for one in measured),
                "too_long": max(one["too_long"] for one in measured),
            }
    return joined


def _build_index(
    unique: npt.NDArray[np.float32],
    k: int,
    settings: FitSettings,
    threads: int,
    progress: Progress,
) -> tuple[Searcher, dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Build the search structure, and measure it unless it is exact."""
    if settings.index == "exact":
        return ExactSearcher(unique), {}, {"kind": "exact"}
    with progress("sorting the points into cells", 1) as advance:
        arrays = build_cells(unique, seed=settings.seed, threads=threads)
        advance(1)
    exact = CellSearcher(unique, arrays)
    if settings.index == "nndescent" and len(unique) > graph.GRAPH_NEIGHBORS:
        trials = make_trials(unique, exact, k, seed=settings.seed, threads=threads)
        return _build_graph(unique, trials, settings, threads, progress)
    factor = settings.search_factor
    summary = {"kind": "cells", "factor": factor, "n_cells": len(arrays["cell_center"])}
    if factor == 1:
        return exact, arrays, summary
    searcher = CellSearcher(unique, arrays, factor=factor)
    trials = make_trials(unique, exact, k, seed=settings.seed, threads=threads)
    return searcher, arrays, summary | trials.measure(searcher, threads=threads) | {"trials_k": k}


def _build_graph(
    unique: npt.NDArray[np.float32],
    trials: Trials,
    settings: FitSettings,
    threads: int,
    progress: Progress,
) -> tuple[Searcher, dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Build the graph of NN-descent, raising its effort until the recall in domain holds."""
    k = trials.near.nearest.shape[1]
    messages.warning(
        "building an NN-descent index of %s points on one thread; it compiles for half a minute "
        "first",
        f"{len(unique):,}",
    )
    with progress("building the NN-descent index", 1) as advance:
        for n_neighbors in (graph.GRAPH_NEIGHBORS, 2 * graph.GRAPH_NEIGHBORS):
            arrays = graph.build_graph(unique, seed=settings.seed, n_neighbors=n_neighbors)
            searcher, effort = choose_effort(
                unique, arrays, trials, settings.recall, threads=threads
            )
            measured = trials.measure(searcher, threads=threads)
            reached = measured["in_domain"]["recall"]
            if reached >= settings.recall:
                break
        else:
            raise ComputeError(
                f"NN-descent finds {reached:.4f} of the {k} nearest neighbors, "
                f"less than --recall {settings.recall:g}",
                hint="use --index cells, or be content with a lower --recall",
            )
        advance(1)
    return searcher, arrays, {"kind": "nndescent", **effort, **measured, "trials_k": k}
