"""The shards of a training set, built and searched by this process or by workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.model import StoredShards
from ltau_cli.artifacts.parts import Parts
from ltau_cli.artifacts.write import ArtifactWriter
from ltau_cli.core.search import graph
from ltau_cli.core.search.cells import CellSearcher, ExactSearcher, build_cells
from ltau_cli.core.search.graph import choose_effort
from ltau_cli.core.search.loo import GroupLeftOut, LeaveOneOutSearch, SampleLeftOut
from ltau_cli.core.search.neighbors import Searcher
from ltau_cli.core.search.points import Points
from ltau_cli.core.search.scaling import Scaling
from ltau_cli.core.search.shards import OneShard, Shards
from ltau_cli.core.search.trials import Trials, make_trials
from ltau_cli.errors import ComputeError
from ltau_cli.progress import Advance, Progress, silent
from ltau_cli.readers.descriptors import open_descriptors
from ltau_cli.readers.place import Place
from ltau_cli.settings import FitSettings
from ltau_cli.stages.cluster import Cluster, keep
from ltau_cli.stages.training_set import TrainingSet

messages = logging.getLogger("ltau")

# Points of a shard, the arrays of its search structure, and what is to be told of it.
BuiltShard = tuple[npt.NDArray[np.float32], Mapping[str, npt.NDArray[Any]], dict[str, Any]]
_NONE = np.zeros(0, dtype=np.int64)


class ShardWork(Protocol):
    """Who builds the shards and searches in them."""

    def build(self, progress: Progress) -> Iterator[BuiltShard]:
        """Yield the shards in order; each is in the artifact before the next is asked for."""

    def find(self, advance: Advance) -> Iterator[npt.NDArray[Any]]:
        """Yield what is found for the pairs of the leave-one-out search, in order.

        All shards are in the artifact by then.
        """


class WorkHere:
    """The work of this process.

    Parameters
    ----------
    artifact : ArtifactWriter
        From which the shards are read back, if they are many.
    training : TrainingSet
    search : LeaveOneOutSearch
    settings : FitSettings
    threads : int
    """

    def __init__(
        self,
        artifact: ArtifactWriter,
        training: TrainingSet,
        search: LeaveOneOutSearch,
        settings: FitSettings,
        threads: int,
    ) -> None:
        self._artifact = artifact
        self._training = training
        self._search = search
        self._settings = settings
        self._threads = threads
        self._shards: Shards | None = None

    def build(self, progress: Progress) -> Iterator[BuiltShard]:
        """See :class:`ShardWork`."""
        training, settings = self._training, self._settings
        summaries = []
        for number in range(training.count):
            unique = training.read_points(number)
            searcher, arrays, summary = _build_index(
                unique, self._search.k, settings, self._threads, progress
            )
            yield unique, arrays, summary
            summaries.append(summary)
            if training.count == 1:
                self._shards = OneShard(unique, searcher)
                return
            del unique, searcher, arrays  # before the next shard is read
        self._shards = StoredShards(
            self._artifact.read, training.point_start, summaries, width=training.scaling.width,
        )  # fmt: skip

    def find(self, advance: Advance) -> Iterator[npt.NDArray[Any]]:
        """See :class:`ShardWork`."""
        assert self._shards is not None, "they are built first"
        for start, stop in _blocks(self._search.n_pairs, self._shards.rows):
            yield self._search.find(self._shards, start, stop, threads=self._threads)
            advance(stop - start)


@dataclass(frozen=True)
class _ShardTask:
    """What a worker has to know to build a shard, or to search in all; the rest is in the parts.

    Attributes
    ----------
    descriptors : Place
    settings : FitSettings
    k : int
    grouped : bool
        Whether groups are left out.
    rows, n_pairs : int
        Pairs that are searched in one task, and in all.
    folder : Path
        Of the parts.
    """

    descriptors: Place
    settings: FitSettings
    k: int
    grouped: bool
    rows: int
    n_pairs: int
    folder: Path


class WorkOnCluster:
    """The work of the workers of a cluster.

    Parameters
    ----------
    training : TrainingSet
    search : LeaveOneOutSearch
    settings : FitSettings
    cluster : Cluster
    parts : Parts
        Where it is handed over.
    """

    def __init__(
        self,
        training: TrainingSet,
        search: LeaveOneOutSearch,
        settings: FitSettings,
        cluster: Cluster,
        parts: Parts,
    ) -> None:
        self._training = training
        self._cluster = cluster
        self._parts = parts
        place = training.source.source.place
        largest = max(np.diff(training.point_start))
        self._task = _ShardTask(
            replace(place, path=place.path.absolute()), settings, search.k,
            isinstance(search.left_out, GroupLeftOut),
            OneShard.rows if training.count == 1 else int(largest), search.n_pairs, parts.folder,
        )  # fmt: skip
        _hand_over(training, search, parts)

    def build(self, progress: Progress) -> Iterator[BuiltShard]:
        """See :class:`ShardWork`."""
        numbers = range(self._training.count)
        names = [f"shard/{number}" for number in numbers]
        with progress("building the shards", len(numbers)) as advance:
            for number in self._finish(_build_part, names, "shard", lambda _: advance(1)):
                summary, arrays = self._parts.load_json(f"shard/{number}")
                yield (
                    self._parts.load(f"descriptors/{number}"),
                    {name: self._parts.load(f"index/{number}/{name}") for name in arrays},
                    summary,
                )

    def find(self, advance: Advance) -> Iterator[npt.NDArray[Any]]:
        """See :class:`ShardWork`."""
        blocks = list(_blocks(self._task.n_pairs, self._task.rows))
        names = [f"found/{number}" for number in range(len(blocks))]

        def note(number: int) -> None:
            start, stop = blocks[number]
            advance(stop - start)

        for number in self._finish(_find_part, names, "the leave-one-out block", note):
            yield self._parts.load(names[number])

    def _finish(
        self,
        work: Callable[[_ShardTask, int, int], None],
        names: Sequence[str],
        what: str,
        note: Callable[[int], None],
    ) -> Iterator[int]:
        """Yield the numbers of the names in order, when the parts are there."""
        finished = {number for number, name in enumerate(names) if self._parts.has(name)}
        for number in finished:
            note(number)
        todo = [number for number in range(len(names)) if number not in finished]
        read = [self._task.descriptors.path]
        with closing(self._cluster.map(work, self._task, todo, what, read)) as coming:
            for number in range(len(names)):
                while number not in finished:
                    done = next(coming)
                    finished.add(done)
                    note(done)
                yield number


def _hand_over(training: TrainingSet, search: LeaveOneOutSearch, parts: Parts) -> None:
    """Write what the workers cannot tell from the inputs; an earlier call has written the same."""
    scaling, left_out = training.scaling, search.left_out
    arrays: dict[str, Any] = {
        "logged": training.logged,
        "first": training.points.first,
        "point_start": training.point_start,
        "shift": scaling.shift,
        "multiplicity": search.multiplicity,
        "error_of_point": search.error_of_point,
    }
    arrays |= {f"left_out/{f.name}": getattr(left_out, f.name) for f in fields(left_out)}
    if scaling.transform is not None:
        arrays["transform"] = scaling.transform
    for name, values in arrays.items():
        if not parts.has(name):
            parts.save(name, values)


def _build_part(task: _ShardTask, number: int, threads: int) -> None:
    """Build a shard on a worker."""
    parts = Parts(task.folder)
    start = parts.load("point_start").tolist()
    with open_descriptors(task.descriptors) as source:
        transform = parts.load("transform") if parts.has("transform") else None
        scaling = Scaling(parts.load("shift"), transform, task.settings.metric)
        points = Points(parts.load("first"), _NONE, _NONE)
        training = TrainingSet(source, scaling, parts.load("logged"), [], start, points, threads)
        unique = training.read_points(number)
    _, arrays, summary = _build_index(unique, task.k, task.settings, threads, silent)
    for name, values in arrays.items():
        parts.save(f"index/{number}/{name}", values)
    parts.save(f"descriptors/{number}", unique)
    parts.save_json(f"shard/{number}", [summary, list(arrays)])  # the last: now it is finished


def _find_part(task: _ShardTask, number: int, threads: int) -> None:
    """Search for a block of pairs on a worker; it keeps a model that is in one shard."""
    parts = Parts(task.folder)
    shards = keep(task, lambda _: _open_shards(task, parts))
    of = GroupLeftOut if task.grouped else SampleLeftOut
    arrays: Any = {field.name: parts.load(f"left_out/{field.name}") for field in fields(of)}
    search = LeaveOneOutSearch(
        of(**arrays), parts.load("multiplicity"), parts.load("error_of_point"), task.k,
        task.settings.weighting,
    )  # fmt: skip
    start, stop = list(_blocks(task.n_pairs, task.rows))[number]
    parts.save(f"found/{number}", search.find(shards, start, stop, threads=threads))


def _open_shards(task: _ShardTask, parts: Parts) -> Shards:
    """Open the shards that the workers have built."""
    start = parts.load("point_start").tolist()

    def read(name: str, first: int | None, last: int | None) -> npt.NDArray[Any]:
        if name != "descriptors":
            return np.array(parts.load(name))
        first, last = first or 0, start[-1] if last is None else last
        return np.concatenate([
            parts.load(f"descriptors/{i}")[max(first - own, 0) : max(last - own, 0)]
            for i, own in enumerate(start[:-1])
            if own < last and first < start[i + 1]
        ])  # fmt: skip

    summaries = [parts.load_json(f"shard/{i}")[0] for i in range(task.settings.shards)]
    width = parts.load("descriptors/0").shape[1]
    stored = StoredShards(read, start, summaries, width=width)
    if stored.count > 1:
        return stored
    shard = stored.load(0)
    return OneShard(shard.descriptors, shard.searcher)


def _blocks(n: int, rows: int) -> Iterator[tuple[int, int]]:
    """Cut a range into blocks."""
    for start in range(0, n, rows):
        yield start, min(start + rows, n)


def join_summaries(indexes: list[dict[str, Any]]) -> dict[str, Any]:
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
