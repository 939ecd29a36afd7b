"""An errors artifact and training descriptors to a model artifact."""

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Floats, Integers
from ltau_cli.artifacts.attributes import Origin, find_target
from ltau_cli.artifacts.described import find_origin
from ltau_cli.artifacts.errors import ChosenEpochs, ErrorsFile
from ltau_cli.artifacts.model import (
    NEVER_LOGGED,
    PooledPoints,
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
from ltau_cli.core.histogram import default_range, last_errors, make_edges, summarize_samples
from ltau_cli.core.search.loo import GroupLeftOut, LeaveOneOutSearch
from ltau_cli.core.search.shards import OneShard
from ltau_cli.core.summary import trimmed_mean
from ltau_cli.core.threads import available_threads
from ltau_cli.errors import InputError, UsageError, warn
from ltau_cli.matching import next_structure
from ltau_cli.output import check_target
from ltau_cli.pieces.store import Store, open_store, stamps_of
from ltau_cli.pieces.workers import Workers, make_pieces, open_workers
from ltau_cli.progress import Progress, silent
from ltau_cli.readers.descriptors import Descriptors, open_descriptors
from ltau_cli.readers.place import Place
from ltau_cli.results import FitResult, IndexResult
from ltau_cli.settings import DEFAULT_K, FitSettings, documented
from ltau_cli.stages import tune
from ltau_cli.stages.shards import (
    BuildShards,
    SearchPairs,
    built_shards,
    hand_over,
    index_of,
    join_summaries,
    open_shards,
)
from ltau_cli.stages.training_set import Samples, TrainingSet, read_training_set

messages = logging.getLogger("ltau")

# Rank correlation of the last logged errors with the network's own, and what that of the errors of
# the next structure is less: measured in docs/inputs.md.
LEAST_AGREEMENT, LEAST_GAIN = 0.3, 0.05
FEW, MANY = 100, 1000  # samples whose rank correlation may be anything, or is within 0.03


@documented
def run(
    errors: str | os.PathLike[str],
    descriptors: str | os.PathLike[str],
    output: str | os.PathLike[str] = "model.h5",
    *,
    settings: FitSettings | None = None,
    threads: int | None = None,
    workers: str | int | None = None,
    force: bool = False,
    progress: Progress = silent,
    **options: Any,
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

    Raises
    ------
    InputError
        If the descriptors cannot be used or do not match the log.
    UsageError
        If ``k`` is not below the number of samples, there are more shards than samples, or the grid
        is empty.
    ComputeError
        If NN-descent cannot reach the recall, or the workers fail.
    """
    settings = FitSettings.of(settings, options)
    errors, output = Path(errors), Path(output)
    held_out = [*(settings.held_out or ()), settings.held_out_natoms, settings.held_out_frames]
    if any(held_out) and not settings.tune:
        raise UsageError("--held-out is for --tune", hint="add --tune")
    check_target(output, force=force, inputs=[errors, descriptors, settings.natoms, *held_out])
    trials = []
    if settings.tune:
        trials = tune.run(errors, descriptors, settings, threads=threads, progress=progress)
        settings = replace(settings, **vars(trials[0].choice))
    place = Place.parse(os.fspath(descriptors))
    origin = find_origin(place)
    with (
        open_artifact(errors, ErrorsFile) as log,
        open_descriptors(place) as source,
        Hasher() as hasher,
        open_workers(workers, threads, read=[place.path], write=[output]) as pool,
    ):
        hasher.add("errors", errors, "errors")
        hasher.add("descriptors", place.path, "descriptors", key=place.key)
        if settings.natoms is not None:
            counts = Place.parse(settings.natoms)
            hasher.add("natoms", counts.path, "natoms", key=counts.key)
        fitted = _fit(
            log, source, origin, output, settings, hasher, pool,
            threads=threads or available_threads(), force=force, progress=progress,
        )  # fmt: skip
        return replace(fitted, trials=trials)


def _fit(
    log: ErrorsFile,
    source: Descriptors,
    origin: Origin | None,
    output: Path,
    asked: FitSettings,
    hasher: Hasher,
    workers: Workers,
    *,
    threads: int,
    force: bool,
    progress: Progress,
) -> FitResult:
    announce_compilation()
    epochs = log.choose(asked.epochs)
    natoms = None if asked.natoms is None else Place.parse(asked.natoms)
    samples = Samples.of(epochs, source, natoms)
    n = int(np.count_nonzero(samples.n_logged))
    k = asked.k or min(DEFAULT_K, max(1, n - 1))
    chosen = replace(asked, k=k)
    _check_sizes(n, k, chosen.shards, log.path)
    group = None if chosen.loo == "sample" else _structure(samples, log.path)
    limits, edges = _grid(epochs, chosen)
    training = read_training_set(
        samples.source, samples.n_logged, shards=chosen.shards, scale=chosen.scale,
        metric=chosen.metric, merge_within=chosen.merge_within, threads=threads,
    )  # fmt: skip
    place = samples.source.source.place
    files = stamps_of([Place(log.path), place])
    with (
        open_store(output, {"files": files, "settings": chosen.recorded()}) as store,
        create_artifact(output, "model", units=log.units, force=force) as artifact,
    ):
        write_grid(artifact, edges, limits)
        statistics = _count(epochs, artifact, edges, limits, training, threads, progress)
        agreement = _compare_errors(statistics.last_error, samples, log.path)
        if statistics.n_errors != samples.n_logged.sum(dtype=np.int64):
            raise damaged(log.path, "datasets errors and n_logged do not fit each other")
        sample_mean = statistics.sample_mean[training.logged]
        search = LeaveOneOutSearch.of(
            training.points, sample_mean, None if group is None else group[training.logged], k,
            chosen.weighting,
        )  # fmt: skip
        built = BuildShards(replace(place, path=place.path.absolute()), chosen, k)
        found = _build_and_search(training, search, store, built, workers, threads, progress)
        # From here on pieces make room for what is written, so that the disk holds nothing twice.
        index = _write_index(artifact, training, store)
        loo = search.to_samples(found)
        distance, expected, share = (
            training.of_all(values, np.nan)
            for values in (loo.distance, loo.expected_error, loo.share)
        )
        write_leave_one_out(artifact, distance, expected, share, group)
        parameters = (
            chosen.recorded()
            | {"thresholds": limits, "error_range": [edges[0], edges[-1]], "index": index.kind}
            | ({} if origin is None else {"origin": origin})
            | find_target(log.parameters)
            | {"n_epochs": log.shape[0]}
            | ({"averaged": True} if samples.source.natoms is not None else {})
            | ({} if samples.structure is None else {"structures": True})
        )
        points = statistics.points
        exceeding = (points.uncertainty * points.multiplicity[:, None]).sum(axis=0) / n
        result = FitResult(
            output=output,
            units=log.units,
            n_samples=n,
            n_never_logged=samples.n_never_logged,
            n_points=training.n_points,
            width=samples.source.width,
            k=k,
            thresholds=limits.tolist(),
            mean_error=float((points.mean_error * points.multiplicity).sum() / n),
            trimmed_error=trimmed_mean(sample_mean),
            mean_uncertainty=exceeding.tolist(),
            underflow_share=statistics.n_underflow / statistics.n_errors,
            overflow_share=statistics.n_overflow / statistics.n_errors,
            loo_distance=float(loo.distance.mean(dtype=np.float64)),
            loo_rank_correlation=rank_correlation(
                loo.expected_error.astype(np.float64), sample_mean
            ),
            network_rank_correlation=agreement,
            index=index,
            averaged=samples.source.natoms is not None,
        )
        inputs = hasher.records()
        artifact.finish(
            parameters=parameters,
            inputs=inputs,
            summary=result.stored(),
            model_fingerprint=_fingerprint(parameters, inputs[1], log),
        )
    return result


def _compare_errors(logged: Floats, samples: Samples, log: Path) -> float | None:
    """Rank correlation of the last logged errors, (n_samples,), with the described network's own.

    None where these are not known; NaN is left out of either. A warning says so where they have
    little to do with each other, or as little as with those of the next structure: then atoms of
    one site are alike, no more.
    """
    described = samples.own_error
    if described is None:
        return None
    both = np.isfinite(logged) & np.isfinite(described)
    n, found = int(both.sum()), rank_correlation(logged[both], described[both])
    if found is None or n < FEW:
        return found
    little = found < LEAST_AGREEMENT
    if samples.structure is not None and n >= MANY:
        following = next_structure(samples.structure)
        both &= (following >= 0) & np.isfinite(described[following])
        shifted = rank_correlation(logged[both], described[following[both]])
        little |= shifted is not None and found < shifted + LEAST_GAIN
    if little:
        warn(
            f"the last errors in {log} and those of the network in "
            f"{samples.source.source.place.path} have a rank correlation of {found:.2f} only: the "
            "rows are in another order, or the log is of another training"
        )
    return found


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


def _structure(samples: Samples, log: Path) -> Integers:
    if samples.structure is None:
        raise InputError(
            f"{log} does not say which structure a sample belongs to, which --loo structure needs",
            hint="ingest again with --natoms or --frames, or give natoms beside the descriptors",
        )
    return samples.structure


def _grid(epochs: ChosenEpochs, settings: FitSettings) -> tuple[Floats, Floats]:
    """Thresholds and bin edges."""
    limits = np.array(
        sorted(set(settings.thresholds)) or [epochs.log.default_threshold()], dtype=np.float64
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


def _finite(values: Floats, reduce: Any) -> float:
    return float(reduce(values)) if np.isfinite(values).any() else 0.0


@dataclass
class _Statistics:
    """What is kept in memory of the errors."""

    # (n_samples,): mean error of each sample; 0 where it was never logged
    sample_mean: Floats
    last_error: Floats
    points: PooledPoints
    n_errors: int = 0  # logged errors, and those outside the bins
    n_underflow: int = 0
    n_overflow: int = 0


def _count(
    epochs: ChosenEpochs,
    artifact: ArtifactWriter,
    edges: Floats,
    limits: Floats,
    training: TrainingSet,
    threads: int,
    progress: Progress,
) -> _Statistics:
    """Stream the log once, pooling the samples of each point, and write what comes of it."""
    n, n_points, multiplicity = epochs.n_samples, training.n_points, training.points.multiplicity
    points = PooledPoints(
        mean_error=np.zeros(n_points, dtype=np.float32),
        max_error=np.zeros(n_points, dtype=np.float32),
        last_epoch_error=np.zeros(n_points, dtype=np.float32),
        uncertainty=np.zeros((n_points, len(limits)), dtype=np.float32),
        multiplicity=multiplicity,
        of_sample=training.of_all(training.points.of_sample, NEVER_LOGGED),
    )
    result = _Statistics(np.zeros(n), np.full(n, np.nan), points)
    dtype = np.min_scalar_type(len(epochs.rows) * int(multiplicity.max()))
    counts = create_counts(artifact, n_points, len(edges), dtype, sharded=training.count > 1)
    with progress("counting errors", n) as advance:
        for shard in range(training.count):
            first, last = training.point_start[shard : shard + 2]
            own = np.zeros((last - first, len(edges) + 1), dtype=dtype)
            mean_error = np.zeros(last - first)
            uncertainty = np.zeros((last - first, len(limits)))
            last_error = np.zeros(last - first)
            for start, stop in epochs.blocks(*training.sample_start[shard : shard + 2]):
                errors = epochs.read(start, stop)
                part = summarize_samples(errors, edges, limits, threads=threads)
                result.sample_mean[start:stop] = part.mean_error
                used = points.of_sample[start:stop] != NEVER_LOGGED
                target = points.of_sample[start:stop][used] - first
                pool(own, target, part.counts[used].astype(dtype, copy=False))
                pool(mean_error, target, part.mean_error[used])
                pool(uncertainty, target, part.uncertainty[used])
                own_last = last_errors(errors, epochs.runs)[used]
                result.last_error[start:stop][used] = own_last
                pool(last_error, target, own_last)
                np.maximum.at(points.max_error, target + first, part.max_error[used])
                advance(stop - start)
            samples = multiplicity[first:last]
            points.mean_error[first:last] = mean_error / samples
            points.last_epoch_error[first:last] = last_error / samples
            points.uncertainty[first:last] = uncertainty / samples[:, None]
            result.n_errors += int(own.sum(dtype=np.int64))
            result.n_underflow += int(own[:, 0].sum(dtype=np.int64))
            result.n_overflow += int(own[:, -1].sum(dtype=np.int64))
            counts[first:last] = own
    write_points(artifact, points)
    return result


def pool(totals: Array, target: Integers, values: Array) -> None:
    """Add ``values[i]`` to ``totals[target[i]]``, one after the other where targets repeat."""
    if (np.diff(target) > 0).all():
        totals[target] += values
    else:
        np.add.at(totals, target, values)


def _write_index(artifact: ArtifactWriter, training: TrainingSet, store: Store) -> IndexResult:
    """Write the search structure of each shard; return what is to be told of them."""
    many = training.count > 1
    if many:
        artifact.put("shard_start", training.point_start)
    write_scaling(artifact, training.scaling)
    descriptors = artifact.create("descriptors", (training.n_points, training.scaling.width))
    summaries = []
    for number, piece in enumerate(built_shards(store, training)):
        points = slice(*training.point_start[number : number + 2])
        descriptors[points] = piece["descriptors"] if many else training.read_points(0)
        names = [name for name in piece.names if name != "descriptors"]
        write_index(artifact, {n: piece.read(n) for n in names}, number if many else None)
        summaries.append(index_of(piece))
        store.remove(BuildShards.what, number, number + 1)
    return join_summaries(summaries) if many else summaries[0]


def _build_and_search(
    training: TrainingSet,
    search: LeaveOneOutSearch,
    store: Store,
    built: BuildShards,
    workers: Workers,
    threads: int,
    progress: Progress,
) -> Array:
    """Build all shards and search them for the pairs; return what is found for these."""
    if workers.elsewhere:
        hand_over(store, training, search)
    read = [built.descriptors.path]
    with progress("building the index", training.count) as advance:
        make_pieces(
            workers, store, built, training.count, 1, opened=training, read=read, advance=advance
        )
    task = SearchPairs(built, isinstance(search.left_out, GroupLeftOut))
    size = OneShard.rows if training.count == 1 else int(max(np.diff(training.point_start)))
    opened = None if workers.elsewhere else (open_shards(store, training), search, threads)
    with progress("leave-one-out reference", search.n_pairs) as advance:
        make_pieces(
            workers, store, task, search.n_pairs, size, opened=opened, read=read, advance=advance
        )
    del opened  # before all that was found is in memory
    found = np.empty(search.n_pairs, search.dtype)
    done = 0
    for block in store.blocks(task.what, size):
        found[done : done + len(block)] = block
        done += len(block)
    for start, end in store.ranges(task.what):
        store.remove(task.what, start, end)
    return found
