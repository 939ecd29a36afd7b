"""An errors artifact and training descriptors to a model artifact."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.errors import KeptLog, last_mean
from ltau_cli.artifacts.model import (
    StoredShards,
    announce_search_compilation,
    graph_library_version,
)
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import Artifact, open_artifact
from ltau_cli.artifacts.write import ArtifactWriter, create_artifact, to_json
from ltau_cli.core.calibration.metrics import rank_correlation
from ltau_cli.core.histogram import Grid, default_range, make_edges, summarize_samples
from ltau_cli.core.search import graph
from ltau_cli.core.search import neighbors as nn
from ltau_cli.core.search.graph import choose_effort, trial_queries
from ltau_cli.core.search.loo import LeaveOneOut, leave_one_out
from ltau_cli.core.search.neighbors import Weighting
from ltau_cli.core.search.scaling import Metric, Scale
from ltau_cli.core.search.shards import OneShard, Shards
from ltau_cli.errors import ComputeError, InputError, UsageError
from ltau_cli.output import check_target
from ltau_cli.progress import Progress, silent
from ltau_cli.readers.descriptors import Descriptors, open_descriptors
from ltau_cli.readers.place import Place
from ltau_cli.stages.training_set import Training, read_training

messages = logging.getLogger("ltau")
NEVER_LOGGED = -1
DEFAULT_K = 30
Index = Literal["auto", "exact", "nndescent"]


@dataclass(frozen=True)
class Settings:
    """How to fit; all of it is recorded in the model.

    Attributes
    ----------
    bins : int
        Bins of the common grid.
    grid : {"log", "linear"}
        Their spacing.
    error_range : (float, float) or None
        Range of the grid in error units; None takes it from the data.
    thresholds : tuple of float
        Errors a user can live with, in error units; none takes the mean error of the last epoch.
    k : int
        Neighbors of the leave-one-out reference, and the default of ``score``; None takes 30, or
        all but one of the samples if there are fewer.
    weighting : {"uniform", "inverse-distance"}
        Weight of the neighbors' error distributions.
    burn_in : int
        Epochs left out at the start of each run.
    scale : {"none", "standard", "whiten"}
        Scaling of descriptors.
    metric : {"euclidean", "cosine"}
        Distance of descriptors.
    merge_within : float
        Merge training samples this close, in units of the scaled descriptors.
    loo : {"sample", "structure"}
        What is left out for the leave-one-out reference.
    index : {"auto", "exact", "nndescent"}
        Search structure.
    recall : float
        Share of the k nearest neighbors that an NN-descent search has to find.
    shards : int
        Parts of the training set with a search structure each, of which one at a time is in memory.
    seed : int
        Of NN-descent and its trial queries.
    """

    bins: int = 100
    grid: Grid = "log"
    error_range: tuple[float, float] | None = None
    thresholds: tuple[float, ...] = ()
    k: int | None = None
    weighting: Weighting = "uniform"
    burn_in: int = 0
    scale: Scale = "whiten"
    metric: Metric = "euclidean"
    merge_within: float = 0.0
    loo: Literal["sample", "structure"] = "sample"
    index: Index = "auto"
    recall: float = 0.99
    shards: int = 1
    seed: int = 0


def run(
    errors: Path,
    descriptors: str,
    output: Path,
    *,
    settings: Settings | None = None,
    threads: int = 1,
    force: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Fit the error CDFs of the training samples and index their descriptors.

    Parameters
    ----------
    errors : Path
        Errors artifact.
    descriptors : str
        Training descriptors (n_samples, d), in the order of the log.
    output : Path
        The model artifact.
    settings : Settings
        How to fit.
    threads : int
        Threads; the result does not depend on it.
    force : bool
        Replace an existing artifact.
    progress : Progress
        Shows the work.

    Returns
    -------
    dict
        The summary.

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
    check_target(output, force=force)
    chosen = settings or Settings()
    place = Place.parse(descriptors)
    with (
        open_artifact(errors, "errors") as log,
        open_descriptors(place) as source,
        Hasher() as hasher,
    ):
        hasher.add("errors", errors, "errors")
        hasher.add("descriptors", place.path, "descriptors", key=place.key)
        kept = KeptLog(log, chosen.burn_in)
        n_logged = kept.n_logged()
        k = chosen.k or min(DEFAULT_K, max(1, int(np.count_nonzero(n_logged)) - 1))
        chosen = replace(chosen, k=k)
        _check_sizes(source, n_logged, k, chosen.shards, errors)
        group = _loo_group(log, chosen, errors)
        limits, edges = _grid(kept, chosen)
        training = read_training(
            source, n_logged, shards=chosen.shards, scale=chosen.scale, metric=chosen.metric,
            merge_within=chosen.merge_within, threads=threads,
        )  # fmt: skip
        with create_artifact(output, "model", units=log.units, force=force) as artifact:
            artifact.put("bin_edges", edges)
            artifact.put("thresholds", limits)
            statistics = _count(kept, artifact, edges, limits, training, threads, progress)
            shards, index = _index_shards(artifact, training, k, chosen, progress)
            logged = training.logged
            sample_mean = statistics.sample_mean[logged]
            with progress("leave-one-out reference", len(logged)) as advance:
                loo = leave_one_out(
                    shards, training.points, sample_mean, None if group is None else group[logged],
                    k, weighting=chosen.weighting, threads=threads, advance=advance,
                )  # fmt: skip
            _write_samples(artifact, training, loo, group)
            parameters = asdict(chosen) | {
                "thresholds": limits,
                "error_range": [edges[0], edges[-1]],
                "index": index["kind"],
            }
            multiplicity = training.points.multiplicity
            summary = {
                "n_samples": len(logged),
                "n_never_logged": len(n_logged) - len(logged),
                "n_points": training.n_points,
                "width": source.width,
                "k": k,
                "thresholds": limits,
                "mean_error": float((statistics.mean_error * multiplicity).sum() / len(logged)),
                "mean_uncertainty": (statistics.uncertainty * multiplicity[:, None]).sum(axis=0)
                / len(logged),
                "underflow_share": statistics.n_underflow / statistics.n_errors,
                "overflow_share": statistics.n_overflow / statistics.n_errors,
                "loo_distance": float(loo.distance.mean(dtype=np.float64)),
                "loo_rank_correlation": rank_correlation(
                    loo.expected_error.astype(np.float64), sample_mean
                ),
                "index": index,
            }
            inputs = hasher.records()
            fingerprint = hashlib.sha256(
                to_json([parameters, inputs[1], log.parameters, log.inputs]).encode()
            ).hexdigest()
            artifact.finish(
                parameters=parameters,
                inputs=inputs,
                summary=summary,
                model_fingerprint=fingerprint,
            )
    return summary | {"units": log.units}


def _check_sizes(
    source: Descriptors, n_logged: npt.NDArray[np.int32], k: int, shards: int, errors: Path
) -> None:
    if source.n != len(n_logged):
        raise InputError(
            f"{source.source.place} has {source.n:,} rows, {errors} has {len(n_logged):,} samples",
            hint="give the descriptors of the very samples that were logged, in the same order",
        )
    n = int((n_logged > 0).sum())
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


def _spread(
    values: npt.NDArray[Any], at: npt.NDArray[np.int64], n: int, fill: float
) -> npt.NDArray[Any]:
    """Values of the logged samples among all ``n``."""
    out = np.full(n, fill, dtype=values.dtype)
    out[at] = values
    return out


def _loo_group(log: Artifact, settings: Settings, errors: Path) -> npt.NDArray[np.int64] | None:
    if settings.loo == "sample":
        return None
    if not log.has("structure"):
        raise InputError(
            f"{errors} does not say which structure a sample belongs to, which --loo structure "
            "needs",
            hint="ingest again with --natoms or --frames",
        )
    group: npt.NDArray[np.int64] = log.read("structure")
    return group


def _grid(
    kept: KeptLog, settings: Settings
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Thresholds and bin edges."""
    limits = np.array(sorted(set(settings.thresholds)) or [last_mean(kept.log)], dtype=np.float64)
    low, high = settings.error_range or default_range(
        smallest=_finite(kept.per_epoch("epoch_min"), np.nanmin),
        largest=_finite(kept.per_epoch("epoch_max"), np.nanmax),
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
    mean_error : (n_points,) float32
    uncertainty : (n_points, n_thresholds) float32
    n_errors, n_underflow, n_overflow : int
        Logged errors, and those outside the bins.
    """

    sample_mean: npt.NDArray[np.float64]
    mean_error: npt.NDArray[np.float32]
    uncertainty: npt.NDArray[np.float32]
    n_errors: int = 0
    n_underflow: int = 0
    n_overflow: int = 0


def _count(
    kept: KeptLog,
    artifact: ArtifactWriter,
    edges: npt.NDArray[np.float64],
    limits: npt.NDArray[np.float64],
    training: Training,
    threads: int,
    progress: Progress,
) -> _Statistics:
    """Stream the log once, pooling the samples of each point, and write what comes of it."""
    n_epochs, n = len(kept.rows), kept.n_samples
    n_points, multiplicity = training.n_points, training.points.multiplicity
    result = _Statistics(
        sample_mean=np.zeros(n),
        mean_error=np.zeros(n_points, dtype=np.float32),
        uncertainty=np.zeros((n_points, len(limits)), dtype=np.float32),
    )
    max_error = np.zeros(n_points, dtype=np.float32)
    point = _spread(training.points.of_sample, training.logged, n, NEVER_LOGGED)
    dtype = np.min_scalar_type(n_epochs * int(multiplicity.max()))
    counts = artifact.create(
        # A shard's counts are read by ranges of points, for which compressed chunks are slow.
        "counts", (n_points, len(edges) + 1), dtype=dtype, compress=training.count == 1
    )  # fmt: skip
    with progress("counting errors", n) as advance:
        for shard in range(training.count):
            first, last = training.point_start[shard : shard + 2]
            own = np.zeros((last - first, len(edges) + 1), dtype=dtype)
            mean_error = np.zeros(last - first)
            uncertainty = np.zeros((last - first, len(limits)))
            for start, stop in kept.blocks(*training.sample_start[shard : shard + 2]):
                part = summarize_samples(kept.read(start, stop), edges, limits, threads=threads)
                result.sample_mean[start:stop] = part.mean_error
                used = point[start:stop] != NEVER_LOGGED
                target = point[start:stop][used] - first
                pool(own, target, part.counts[used].astype(dtype, copy=False))
                pool(mean_error, target, part.mean_error[used])
                pool(uncertainty, target, part.uncertainty[used])
                np.maximum.at(max_error, target + first, part.max_error[used])
                advance(stop - start)
            samples = multiplicity[first:last]
            result.mean_error[first:last] = mean_error / samples
            result.uncertainty[first:last] = uncertainty / samples[:, None]
            result.n_errors += int(own.sum(dtype=np.int64))
            result.n_underflow += int(own[:, 0].sum(dtype=np.int64))
            result.n_overflow += int(own[:, -1].sum(dtype=np.int64))
            counts[first:last] = own
    artifact.put("mean_error", result.mean_error)
    artifact.put("max_error", max_error)
    artifact.put("uncertainty", result.uncertainty)
    artifact.put("multiplicity", multiplicity, compress=True)
    artifact.put("point", point, compress=True)
    return result


def pool(totals: npt.NDArray[Any], target: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> None:
    """Add ``values[i]`` to ``totals[target[i]]``, one after the other where targets repeat."""
    if (np.diff(target) > 0).all():
        totals[target] += values
    else:
        np.add.at(totals, target, values)


def _index_shards(
    artifact: ArtifactWriter, training: Training, k: int, settings: Settings, progress: Progress
) -> tuple[Shards, dict[str, Any]]:
    """Build and write the search structure of each shard; the shards and what is to be told."""
    many = training.count > 1
    if many:
        artifact.put("shard_start", training.point_start)
    artifact.put("descriptor_shift", training.scaling.shift)
    if training.scaling.transform is not None:
        artifact.put("descriptor_transform", training.scaling.transform)
    width, summaries = training.scaling.width, []
    descriptors = artifact.create("descriptors", (training.n_points, width))
    for number in range(training.count):
        first, last = training.point_start[number : number + 2]
        unique = training.read_points(number)
        descriptors[first:last] = unique
        searcher, arrays, summary = _build_index(unique, k, settings, progress)
        for name, values in arrays.items():
            artifact.put(f"index/{number}/{name}" if many else f"index/{name}", values)
        summaries.append(summary)
        if not many:
            return OneShard(unique, searcher), summary
        del unique, searcher, arrays  # before the next shard is read
    shards = StoredShards(
        artifact.read, training.point_start, summaries, width=width, seed=settings.seed
    )
    return shards, _join_summaries(summaries)


def _join_summaries(indexes: list[dict[str, Any]]) -> dict[str, Any]:
    """Summary of the indexes of all shards."""
    kinds = sorted({index["kind"] for index in indexes})
    joined: dict[str, Any] = {"kind": " and ".join(kinds), "shards": indexes}
    measured = [index for index in indexes if "recall" in index]
    if measured:
        worst = min(measured, key=lambda index: float(index["recall"]))
        joined |= {"recall": worst["recall"], "recall_k": worst["recall_k"]}
    return joined


def _write_samples(
    artifact: ArtifactWriter,
    training: Training,
    loo: LeaveOneOut,
    group: npt.NDArray[np.int64] | None,
) -> None:
    n = training.source.n
    for name, values in (
        ("loo_distance", loo.distance), ("loo_expected_error", loo.expected_error)
    ):  # fmt: skip
        artifact.put(name, _spread(values, training.logged, n, np.nan), compress=True)
    if group is not None:
        artifact.put("loo_group", group, compress=True)


def _build_index(
    unique: npt.NDArray[np.float32], k: int, settings: Settings, progress: Progress
) -> tuple[nn.Searcher, dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Build the search structure, raising its effort until the recall holds."""
    n, width = unique.shape
    auto_exact = settings.index == "auto" and nn.exact_is_sooner(n, width)
    if settings.index == "exact" or auto_exact or n <= graph.GRAPH_NEIGHBORS:
        return nn.ExactSearcher(unique), {}, {"kind": "exact"}
    messages.warning(
        "building an NN-descent index of %s points; it compiles for half a minute first", f"{n:,}"
    )
    announce_search_compilation()
    queries = trial_queries(unique, k, seed=settings.seed)
    with progress("building the NN-descent index", 1) as advance:
        for n_neighbors in (graph.GRAPH_NEIGHBORS, 2 * graph.GRAPH_NEIGHBORS):
            built = graph.build_graph(unique, seed=settings.seed, n_neighbors=n_neighbors)
            arrays, scalars = graph.graph_to_arrays(built)
            searcher, effort = choose_effort(unique, arrays, scalars, queries, k, settings.recall)
            if effort["recall"] >= settings.recall:
                break
        else:
            raise ComputeError(
                f"NN-descent finds {effort['recall']:.4f} of the {k} nearest neighbors, "
                f"less than --recall {settings.recall:g}",
                hint="use --index exact, or be content with a lower --recall",
            )
        advance(1)
    summary = {
        "kind": "nndescent",
        "library": "pynndescent",
        "library_version": graph_library_version(),
        "scalars": scalars,
        **effort,
        "recall_k": k,
    }
    return searcher, arrays, summary
