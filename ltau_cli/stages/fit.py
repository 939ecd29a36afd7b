"""An errors artifact and training descriptors to a model artifact."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.atomic import check_target
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import Artifact, open_artifact
from ltau_cli.artifacts.write import create_artifact, to_json
from ltau_cli.core import neighbors as nn
from ltau_cli.core.histogram import Grid, default_range, make_edges, summarize_samples
from ltau_cli.core.loo import leave_one_out
from ltau_cli.core.metrics import rank_correlation
from ltau_cli.core.points import Points, find_points
from ltau_cli.core.recall import choose_effort, trial_queries
from ltau_cli.core.scaling import Metric, Scale, fit_scaling
from ltau_cli.errors import ComputeError, InputError, UsageError
from ltau_cli.readers.arrays import Place
from ltau_cli.readers.descriptors import open_descriptors
from ltau_cli.stages.checkup import rows_of_runs
from ltau_cli.stages.model import announce_search_compilation, graph_library_version
from ltau_cli.stages.progress import Progress, silent

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
    seed : int
        Of NN-descent and its trial queries.
    """

    bins: int = 100
    grid: Grid = "log"
    error_range: tuple[float, float] | None = None
    thresholds: tuple[float, ...] = ()
    k: int | None = None
    scale: Scale = "whiten"
    metric: Metric = "euclidean"
    merge_within: float = 0.0
    loo: Literal["sample", "structure"] = "sample"
    index: Index = "auto"
    recall: float = 0.99
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
        If ``k`` is not below the number of samples, or the grid is empty.
    ComputeError
        If NN-descent cannot reach the recall.
    """
    check_target(output, force=force)
    chosen = settings or Settings()
    place = Place.parse(descriptors)
    with open_artifact(errors, "errors") as log, Hasher() as hasher:
        hasher.add("errors", errors, "errors")
        hasher.add("descriptors", place.path, "descriptors", key=place.key)
        n_logged = log.read("n_logged")
        vectors = _read_descriptors(place, len(n_logged), errors)
        logged = np.flatnonzero(n_logged)
        n = len(logged)
        if n < 2:
            raise InputError(
                f"{errors} has a single sample, which has no neighbor",
                hint="one column of a log is one sample: ltau info shows its shape",
            )
        k = min(DEFAULT_K, n - 1) if chosen.k is None else chosen.k
        chosen = replace(chosen, k=k)
        if k >= n:
            raise UsageError(
                f"-k {k} is not below the {n:,} training samples of {errors}",
                hint=f"use -k {max(1, n - 1)} or less",
            )
        group = _loo_group(log, chosen, errors)
        limits, edges = _grid(log, chosen)
        scaling = fit_scaling(vectors[logged], scale=chosen.scale, metric=chosen.metric)
        scaled = scaling.apply(vectors[logged], threads=threads)
        points = find_points(scaled, n_logged[logged], merge_within=chosen.merge_within)
        unique = np.ascontiguousarray(scaled[points.first])
        point = _spread(points.of_sample, logged, len(n_logged), NEVER_LOGGED)
        statistics, sample_mean = _count(log, edges, limits, points, point, threads, progress)
        searcher, index_arrays, index_summary = _build_index(unique, k, chosen, progress)
        with progress("leave-one-out reference", 1) as advance:
            loo = leave_one_out(
                searcher, unique, points, sample_mean[logged],
                None if group is None else group[logged], k, threads=threads,
            )  # fmt: skip
            advance(1)
        counts, multiplicity = statistics["counts"], points.multiplicity
        parameters = asdict(chosen) | {
            "thresholds": limits,
            "error_range": [edges[0], edges[-1]],
            "index": index_summary["kind"],
        }
        summary = {
            "n_samples": n,
            "n_never_logged": len(n_logged) - n,
            "n_points": len(unique),
            "width": vectors.shape[1],
            "k": k,
            "thresholds": limits,
            "mean_error": float((statistics["mean_error"] * multiplicity).sum() / n),
            "mean_uncertainty": (statistics["uncertainty"] * multiplicity[:, None]).sum(axis=0) / n,
            "underflow_share": _share(counts[:, 0], counts),
            "overflow_share": _share(counts[:, -1], counts),
            "loo_distance": float(loo.distance.mean(dtype=np.float64)),
            "loo_rank_correlation": rank_correlation(
                loo.expected_error.astype(np.float64), sample_mean[logged]
            ),
            "index": index_summary,
        }
        inputs = hasher.records()
        fingerprint = hashlib.sha256(
            to_json([parameters, inputs[1], log.parameters, log.inputs]).encode()
        ).hexdigest()
        with create_artifact(output, "model", units=log.units, force=force) as artifact:
            artifact.put("bin_edges", edges)
            artifact.put("thresholds", limits)
            artifact.put("counts", counts, compress=True)
            artifact.put("mean_error", statistics["mean_error"])
            artifact.put("max_error", statistics["max_error"])
            artifact.put("uncertainty", statistics["uncertainty"])
            artifact.put("multiplicity", multiplicity, compress=True)
            artifact.put("point", point, compress=True)
            artifact.put("descriptor_shift", scaling.shift)
            if scaling.transform is not None:
                artifact.put("descriptor_transform", scaling.transform)
            artifact.put("descriptors", unique)
            for name, values in (
                ("loo_distance", loo.distance), ("loo_expected_error", loo.expected_error)
            ):  # fmt: skip
                artifact.put(name, _spread(values, logged, len(n_logged), np.nan), compress=True)
            if group is not None:
                artifact.put("loo_group", group, compress=True)
            for name, values in index_arrays.items():
                artifact.put(f"index/{name}", values)
            artifact.finish(
                parameters=parameters,
                inputs=inputs,
                summary=summary,
                model_fingerprint=fingerprint,
            )
    return summary | {"units": log.units}


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
    log: Artifact, settings: Settings
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Thresholds and bin edges."""
    limits = np.array(sorted(set(settings.thresholds)) or [_last_mean(log)], dtype=np.float64)
    low, high = settings.error_range or default_range(
        smallest=_finite(log.read("epoch_min"), np.nanmin),
        largest=_finite(log.read("epoch_max"), np.nanmax),
        threshold=float(limits[0]),
        grid=settings.grid,
    )
    edges = make_edges(
        bins=settings.bins, low=low, high=high, grid=settings.grid, thresholds=limits
    )
    return limits, edges


def _read_descriptors(place: Place, n: int, errors: Path) -> npt.NDArray[np.float32]:
    with open_descriptors(place) as source:
        if source.n != n:
            raise InputError(
                f"{source.source.place} has {source.n:,} rows, {errors} has {n:,} samples",
                hint="give the descriptors of the very samples that were logged, in the same order",
            )
        return source.all()


def _last_mean(log: Artifact) -> float:
    """Mean error over the training set at the last epoch, the model's MAE; the mean over runs."""
    means = log.read("epoch_mean")
    rows = rows_of_runs(log.read("epoch"), log.read("run"))
    return float(np.mean([means[own][np.isfinite(means[own])][-1] for own in rows]))


def _finite(values: npt.NDArray[np.float64], reduce: Any) -> float:
    return float(reduce(values)) if np.isfinite(values).any() else 0.0


def _count(
    log: Artifact,
    edges: npt.NDArray[np.float64],
    limits: npt.NDArray[np.float64],
    points: Points,
    point: npt.NDArray[np.int64],
    threads: int,
    progress: Progress,
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.float64]]:
    """Stream the log once, pooling the samples of each point; also the mean of each sample."""
    dataset = log.dataset("errors")
    n_epochs, n = dataset.shape
    sample_mean = np.zeros(n)
    n_points = len(points.first)
    counts = np.zeros((n_points, len(edges) + 1), dtype=_smallest_unsigned(n_epochs, points))
    mean_error = np.zeros(n_points)
    uncertainty = np.zeros((n_points, len(limits)))
    max_error = np.zeros(n_points, dtype=np.float32)
    block = dataset.chunks[1]
    with progress("counting errors", n) as advance:
        for start in range(0, n, block):
            stop = min(start + block, n)
            part = summarize_samples(dataset[:, start:stop], edges, limits, threads=threads)
            sample_mean[start:stop] = part.mean_error
            used = point[start:stop] != NEVER_LOGGED
            target = point[start:stop][used]
            pool(counts, target, part.counts[used].astype(counts.dtype, copy=False))
            pool(mean_error, target, part.mean_error[used])
            pool(uncertainty, target, part.uncertainty[used])
            np.maximum.at(max_error, target, part.max_error[used])
            advance(stop - start)
    statistics = {
        "counts": counts,
        "mean_error": (mean_error / points.multiplicity).astype(np.float32),
        "uncertainty": (uncertainty / points.multiplicity[:, None]).astype(np.float32),
        "max_error": max_error,
    }
    return statistics, sample_mean


def pool(totals: npt.NDArray[Any], target: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> None:
    """Add ``values[i]`` to ``totals[target[i]]``, one after the other where targets repeat."""
    if (np.diff(target) > 0).all():
        totals[target] += values
    else:
        np.add.at(totals, target, values)


def _smallest_unsigned(n_epochs: int, points: Points) -> np.dtype[Any]:
    return np.min_scalar_type(n_epochs * int(points.multiplicity.max()))


def _build_index(
    unique: npt.NDArray[np.float32], k: int, settings: Settings, progress: Progress
) -> tuple[nn.Searcher, dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Build the search structure, raising its effort until the recall holds."""
    n, width = unique.shape
    auto_exact = settings.index == "auto" and nn.exact_is_sooner(n, width)
    if settings.index == "exact" or auto_exact or n <= nn.GRAPH_NEIGHBORS:
        return nn.ExactSearcher(unique), {}, {"kind": "exact"}
    messages.warning(
        "building an NN-descent index of %s points; it compiles for half a minute first", f"{n:,}"
    )
    announce_search_compilation()
    queries = trial_queries(unique, k, seed=settings.seed)
    with progress("building the NN-descent index", 1) as advance:
        for n_neighbors in (nn.GRAPH_NEIGHBORS, 2 * nn.GRAPH_NEIGHBORS):
            graph = nn.build_graph(unique, seed=settings.seed, n_neighbors=n_neighbors)
            arrays, scalars = nn.graph_to_arrays(graph)
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


def _share(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> float:
    return float(part.sum(dtype=np.int64) / whole.sum(dtype=np.int64))
