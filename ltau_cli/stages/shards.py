"""The shards of a training set, built and searched piece by piece."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from ltau_cli.array_types import Array, Singles
from ltau_cli.artifacts.model import StoredShards
from ltau_cli.core.search import graph
from ltau_cli.core.search.cells import CellSearcher, build_cells
from ltau_cli.core.search.graph import choose_effort
from ltau_cli.core.search.loo import GroupLeftOut, LeaveOneOutSearch, SampleLeftOut
from ltau_cli.core.search.points import Points
from ltau_cli.core.search.scaling import Scaling
from ltau_cli.core.search.shards import OneShard, Shards
from ltau_cli.core.search.trials import Trials, make_trials
from ltau_cli.errors import ComputeError
from ltau_cli.pieces.store import Piece, Store
from ltau_cli.pieces.workers import keep_open
from ltau_cli.plain import from_plain
from ltau_cli.readers.descriptors import open_descriptors
from ltau_cli.readers.place import Place
from ltau_cli.results import IndexResult, SearchTrials
from ltau_cli.settings import FitSettings
from ltau_cli.stages.training_set import TrainingSet

messages = logging.getLogger("ltau")

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class BuildShards:
    """The task of building the search structure of a shard."""

    descriptors: Place  # at an absolute path
    settings: FitSettings
    k: int
    what: ClassVar[str] = "shards"

    def open(self, store: Store, threads: int) -> TrainingSet:
        """Open the training set that was handed over."""

        def load(stack: contextlib.ExitStack) -> TrainingSet:
            told = store.load("training", 0, 1)
            source = stack.enter_context(open_descriptors(self.descriptors))
            if told["natoms"] is not None:
                source = source.averaged(told["natoms"])
            if told["rows"] is not None:
                source = source.ordered(told["rows"])
            scaling = Scaling(told["shift"], told["transform"], self.settings.metric)
            points, start = Points(told["first"], _NONE, _NONE), told["point_start"]
            return TrainingSet(source, scaling, told["logged"], [], start, points, threads)

        return keep_open("training", (self, store, threads), load)

    def make(self, training: TrainingSet, start: int, end: int) -> dict[str, Any]:
        """Build shard ``start``; the points of a single one are read again rather than stored."""
        assert end == start + 1, "one at a time is in memory"
        unique = training.read_points(start)
        arrays, summary = _build_index(unique, self.k, self.settings, training.threads)
        more = {"descriptors": unique} if training.count > 1 else {}
        return {**arrays, **more, "summary": summary.to_dict()}


@dataclass(frozen=True)
class SearchPairs:
    """The task of searching for pairs of the leave-one-out reference in all shards."""

    built: BuildShards
    grouped: bool  # whether groups are left out
    what: ClassVar[str] = "pairs"

    def open(self, store: Store, threads: int) -> tuple[Shards, LeaveOneOutSearch, int]:
        """Open the shards, and the search that was handed over."""

        def load(_stack: contextlib.ExitStack) -> tuple[Shards, LeaveOneOutSearch, int]:
            told = store.load("training", 0, 1)
            of = GroupLeftOut if self.grouped else SampleLeftOut
            left_out: Any = {field.name: told[field.name] for field in fields(of)}
            search = LeaveOneOutSearch(
                of(**left_out), told["multiplicity"], told["error_of_point"], self.built.k,
                self.built.settings.weighting,
            )  # fmt: skip
            return open_shards(store, self.built.open(store, threads)), search, threads

        return keep_open("search", (self, store, threads), load)

    def make(
        self, opened: tuple[Shards, LeaveOneOutSearch, int], start: int, end: int
    ) -> dict[str, Any]:
        """Search for pairs ``start..end``."""
        shards, search, threads = opened
        return {"rows": search.find(shards, start, end, threads=threads)}


def hand_over(store: Store, training: TrainingSet, search: LeaveOneOutSearch) -> None:
    """Store what workers cannot tell from the inputs."""
    left_out, scaling = search.left_out, training.scaling
    store.save("training", 0, 1, {
        "natoms": training.source.natoms,
        "rows": training.source.rows,
        "logged": training.logged,
        "first": training.points.first,
        "point_start": training.point_start,
        "shift": scaling.shift,
        "transform": scaling.transform,
        "multiplicity": search.multiplicity,
        "error_of_point": search.error_of_point,
        **{field.name: getattr(left_out, field.name) for field in fields(left_out)},
    })  # fmt: skip


def built_shards(store: Store, training: TrainingSet) -> Iterator[Piece]:
    """Yield the pieces of all shards, in order."""
    for number in range(training.count):
        yield store.load(BuildShards.what, number, number + 1)


def open_shards(store: Store, training: TrainingSet) -> Shards:
    """Open the shards that were built; one at a time is in memory."""
    pieces, start = list(built_shards(store, training)), training.point_start

    def read(name: str, first: int | None, last: int | None) -> Array:
        if name != "descriptors":  # index/NAME or index/NUMBER/NAME
            _, *number, array = name.split("/")
            return pieces[int(number[0]) if number else 0].read(array)
        if training.count == 1:
            return training.read_points(0)[first:last]
        first, last = first or 0, start[-1] if last is None else last
        return np.concatenate([
            piece.read("descriptors", max(first - own, 0), max(last - own, 0))
            for own, piece in zip(start, pieces, strict=False)
            if own < last
        ])  # fmt: skip

    summaries = [index_of(piece) for piece in pieces]
    stored = StoredShards(read, start, summaries, width=training.scaling.width)
    if stored.count > 1:
        return stored
    only = stored.load(0)
    return OneShard(only.descriptors, only.searcher)


def index_of(piece: Piece) -> IndexResult:
    """Return what was told of the index of a shard."""
    index: IndexResult = from_plain(piece["summary"], IndexResult)
    return index


def join_summaries(indexes: list[IndexResult]) -> IndexResult:
    """Summary of the indexes of all shards; of what was measured, the worst."""

    def worst(measured: list[SearchTrials]) -> SearchTrials | None:
        if not measured:
            return None
        return SearchTrials(
            recall=min(one.recall for one in measured),
            lost=max(one.lost for one in measured),
            too_long=max(one.too_long for one in measured),
        )

    return IndexResult(
        kind=indexes[0].kind,
        trials_k=indexes[0].trials_k,
        in_domain=worst([index.in_domain for index in indexes if index.in_domain]),
        out_of_domain=worst([index.out_of_domain for index in indexes if index.out_of_domain]),
        shards=indexes,
    )


def _build_index(
    unique: Singles, k: int, settings: FitSettings, threads: int
) -> tuple[dict[str, Array], IndexResult]:
    """Build the search structure, and measure it unless it is exact."""
    if settings.index == "exact":
        return {}, IndexResult(kind="exact")
    arrays = build_cells(unique, seed=settings.seed, threads=threads)
    if settings.index == "nndescent" and len(unique) > graph.GRAPH_NEIGHBORS:
        exact = CellSearcher(unique, arrays)
        trials = make_trials(unique, exact, k, seed=settings.seed, threads=threads)
        return _build_graph(unique, trials, settings, threads)
    return arrays, IndexResult(kind="cells", n_cells=len(arrays["cell_center"]))


def _build_graph(
    unique: Singles, trials: Trials, settings: FitSettings, threads: int
) -> tuple[dict[str, Array], IndexResult]:
    """Build the graph of NN-descent, raising its effort until the recall in domain holds."""
    k = trials.near.nearest.shape[1]
    messages.warning(
        "building an NN-descent index of %s points on one thread; it compiles for half a minute "
        "first",
        f"{len(unique):,}",
    )
    for n_neighbors in (graph.GRAPH_NEIGHBORS, 2 * graph.GRAPH_NEIGHBORS):
        arrays = graph.build_graph(unique, seed=settings.seed, n_neighbors=n_neighbors)
        searcher, effort = choose_effort(unique, arrays, trials, settings.recall, threads=threads)
        near, far = trials.measure(searcher, threads=threads)
        if near.recall >= settings.recall:
            return arrays, IndexResult(
                kind="nndescent",
                leaves=int(effort["leaves"]),
                epsilon=effort["epsilon"],
                in_domain=near,
                out_of_domain=far,
                trials_k=k,
            )
    raise ComputeError(
        f"NN-descent finds {near.recall:.4f} of the {k} nearest neighbors, "
        f"less than --recall {settings.recall:g}",
        hint="use --index cells, or be content with a lower --recall",
    )
