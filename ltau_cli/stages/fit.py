"""An errors artifact and training descriptors to a model artifact."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.atomic import check_target
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import Artifact, open_artifact
from ltau_cli.artifacts.write import create_artifact, to_json
from ltau_cli.core import neighbors as nn
from ltau_cli.core.histogram import Scale, default_range, make_edges, summarize_samples
from ltau_cli.core.points import Points, find_points
from ltau_cli.core.scoring import loo_distances
from ltau_cli.errors import InputError, UsageError
from ltau_cli.readers.arrays import Place
from ltau_cli.readers.descriptors import open_descriptors
from ltau_cli.stages.checkup import rows_of_runs
from ltau_cli.stages.model import graph_library_version
from ltau_cli.stages.progress import Progress, silent

NEVER_LOGGED = -1
Index = Literal["auto", "exact", "nndescent"]


def run(
    errors: Path,
    descriptors: str,
    output: Path,
    *,
    bins: int = 100,
    scale: Scale = "log",
    error_range: tuple[float, float] | None = None,
    thresholds: Sequence[float] = (),
    k: int = 10,
    index: Index = "auto",
    seed: int = 0,
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
    bins : int
        Bins of the common grid.
    scale : {"log", "linear"}
        Its spacing.
    error_range : (float, float), optional
        Its range in error units; default from the data.
    thresholds : sequence of float
        Errors a user can live with, in error units; default the mean error of the last epoch.
    k : int
        Neighbors of the leave-one-out reference, and the default of ``score``.
    index : {"auto", "exact", "nndescent"}
        Search structure.
    seed : int
        Of NN-descent.
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
    """
    check_target(output, force=force)
    place = Place.parse(descriptors)
    with open_artifact(errors, "errors") as log, Hasher() as hasher:
        hasher.add("errors", errors, "errors")
        hasher.add("descriptors", place.path, "descriptors", key=place.key)
        n_logged = log.read("n_logged")
        vectors = _read_descriptors(place, len(n_logged), errors)
        logged = np.flatnonzero(n_logged)
        n = len(logged)
        if k >= n:
            raise UsageError(
                f"-k {k} is not below the {n:,} training samples of {errors}",
                hint=f"use -k {max(1, n - 1)} or less",
            )
        limits = np.array(sorted(set(thresholds)) or [_last_mean(log)], dtype=np.float64)
        low, high = error_range or default_range(
            smallest=_finite(log.read("epoch_min"), np.nanmin),
            largest=_finite(log.read("epoch_max"), np.nanmax),
            threshold=float(limits[0]),
            scale=scale,
        )
        edges = make_edges(bins=bins, low=low, high=high, scale=scale, thresholds=limits)
        points = find_points(vectors[logged], n_logged[logged])
        unique = np.ascontiguousarray(vectors[logged[points.first]])
        point = np.full(len(n_logged), NEVER_LOGGED, dtype=np.int64)
        point[logged] = points.of_sample
        statistics = _count(log, edges, limits, points, point, threads, progress)
        kind = _choose_index(index, len(unique))
        searcher, index_arrays, index_summary = _build_index(kind, unique, seed, progress)
        with progress("leave-one-out distances", 1) as advance:
            loo = loo_distances(searcher, unique, points.multiplicity, k, threads=threads)
            advance(1)
        parameters = {
            "bins": bins, "scale": scale, "range": [low, high], "thresholds": limits,
            "k": k, "index": kind, "seed": seed,
        }  # fmt: skip
        summary = {
            "n_samples": n,
            "n_never_logged": len(n_logged) - n,
            "n_points": len(unique),
            "width": vectors.shape[1],
            "k": k,
            "thresholds": limits,
            "mean_error": float((statistics["mean_error"] * points.multiplicity).sum() / n),
            "mean_uncertainty": (
                statistics["uncertainty"] * points.multiplicity[:, None]
            ).sum(axis=0) / n,
            "underflow_share": _share(statistics["counts"][:, 0], statistics["counts"]),
            "overflow_share": _share(statistics["counts"][:, -1], statistics["counts"]),
            "loo_distance": float((loo * points.multiplicity).sum() / n),
            "index": index_summary,
        }  # fmt: skip
        inputs = hasher.records()
        fingerprint = hashlib.sha256(
            to_json([parameters, inputs[1], log.parameters, log.inputs]).encode()
        ).hexdigest()
        with create_artifact(output, "model", units=log.units, force=force) as artifact:
            artifact.put("bin_edges", edges)
            artifact.put("thresholds", limits)
            artifact.put("counts", statistics["counts"], compress=True)
            artifact.put("mean_error", statistics["mean_error"])
            artifact.put("max_error", statistics["max_error"])
            artifact.put("uncertainty", statistics["uncertainty"])
            artifact.put("multiplicity", points.multiplicity, compress=True)
            artifact.put("point", point, compress=True)
            artifact.put("descriptors", unique)
            artifact.put("loo_distance", loo)
            for name, values in index_arrays.items():
                artifact.put(f"index/{name}", values)
            artifact.finish(
                parameters=parameters,
                inputs=inputs,
                summary=summary,
                model_fingerprint=fingerprint,
            )
    return summary | {"units": log.units}


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
) -> dict[str, npt.NDArray[Any]]:
    """Stream the log once, pooling the samples of each point."""
    dataset = log.dataset("errors")
    n_epochs, n = dataset.shape
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
            used = point[start:stop] != NEVER_LOGGED
            target = point[start:stop][used]
            pool(counts, target, part.counts[used].astype(counts.dtype))
            pool(mean_error, target, part.mean_error[used])
            pool(uncertainty, target, part.uncertainty[used])
            np.maximum.at(max_error, target, part.max_error[used])
            advance(stop - start)
    return {
        "counts": counts,
        "mean_error": (mean_error / points.multiplicity).astype(np.float32),
        "uncertainty": (uncertainty / points.multiplicity[:, None]).astype(np.float32),
        "max_error": max_error,
    }


def pool(totals: npt.NDArray[Any], target: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> None:
    """Add ``values[i]`` to ``totals[target[i]]``, one after the other where targets repeat."""
    if (np.diff(target) > 0).all():
        totals[target] += values
    else:
        np.add.at(totals, target, values)


def _smallest_unsigned(n_epochs: int, points: Points) -> np.dtype[Any]:
    return np.min_scalar_type(n_epochs * int(points.multiplicity.max()))


def _choose_index(index: Index, n_points: int) -> nn.Kind:
    if index != "auto":
        return "exact" if n_points <= nn.GRAPH_NEIGHBORS else index
    return "exact" if n_points <= nn.EXACT_UP_TO else "nndescent"


def _build_index(
    kind: nn.Kind, unique: npt.NDArray[np.float32], seed: int, progress: Progress
) -> tuple[nn.Searcher, dict[str, npt.NDArray[Any]], dict[str, Any]]:
    if kind == "exact":
        return nn.ExactSearcher(unique), {}, {"kind": kind}
    with progress("building the NN-descent index (compiles for a minute first)", 1) as advance:
        arrays, scalars = nn.graph_to_arrays(nn.build_graph(unique, seed=seed))
        graph = nn.graph_from_arrays(unique, arrays, scalars)
        advance(1)
    summary = {
        "kind": kind,
        "library": "pynndescent",
        "library_version": graph_library_version(),
        "scalars": scalars,
    }
    return nn.GraphSearcher(unique, graph, nn.SEARCH_EPSILON), arrays, summary


def _share(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> float:
    return float(part.sum(dtype=np.int64) / whole.sum(dtype=np.int64))
