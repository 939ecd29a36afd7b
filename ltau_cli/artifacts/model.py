"""The model artifact: error CDFs of the training samples and the search for their neighbors."""

import itertools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Floats, Integers, Singles
from ltau_cli.artifacts.read import Artifact, damaged, open_artifact
from ltau_cli.artifacts.write import ArtifactWriter, BlockWriter
from ltau_cli.core.compile import is_compiled
from ltau_cli.core.scoring import Model
from ltau_cli.core.search import graph
from ltau_cli.core.search import neighbors as nn
from ltau_cli.core.search.cells import CELL_ARRAYS, CellSearcher, ExactSearcher
from ltau_cli.core.search.points import Points
from ltau_cli.core.search.scaling import Scaling
from ltau_cli.core.search.shards import OneShard, Shard, Shards
from ltau_cli.errors import ArtifactError
from ltau_cli.results import FitResult, IndexResult

log = logging.getLogger("ltau")

NEVER_LOGGED = -1  # point of a sample without a logged error
COMPILE_SECONDS = 20
SLAB_BYTES = 4 << 20  # of counts, read at a time
ReadRows = Callable[[str, int | None, int | None], Array]


class ModelFile(Artifact):
    """An open model artifact."""

    kind = "model"
    summary: FitResult

    def load(self) -> Model:
        """Read the model and wake its search structure; nothing is unpickled.

        Of a model in shards, descriptors, counts and search structures stay in the file.
        """
        multiplicity = self.read("multiplicity")
        point = self.read("point")
        logged = point >= 0
        loo_distance = self.read("loo_distance")
        if not np.array_equal(
            np.bincount(point[logged], minlength=len(multiplicity)), multiplicity
        ):
            raise damaged(self.path, "datasets point and multiplicity do not fit each other")
        if not np.array_equal(np.isnan(loo_distance), ~logged):
            raise damaged(self.path, "datasets point and loo_distance do not fit each other")
        edges, thresholds = self.read("bin_edges"), self.read("thresholds")
        if not np.isin(thresholds, edges).all():
            raise damaged(self.path, "datasets thresholds and bin_edges do not fit each other")
        k = int(self.summary.k)
        if k >= np.count_nonzero(logged):
            raise damaged(self.path, f"k in its summary, {k}, is not below its number of samples")
        transform = self.has("descriptor_transform")
        sharded = self.has("shard_start")
        return Model(
            edges=edges,
            thresholds=thresholds,
            counts=_counts_in_file(self) if sharded else self.read("counts"),
            mean_error=self.read("mean_error"),
            max_error=self.read("max_error"),
            last_epoch_error=self.read("last_epoch_error"),
            uncertainty=self.read("uncertainty"),
            multiplicity=multiplicity,
            shards=_open_shards(self),
            scaling=Scaling(
                self.read("descriptor_shift"),
                self.read("descriptor_transform") if transform else None,
                self.parameters["metric"],
            ),
            points=Points(np.zeros(0, dtype=np.int64), point[logged], multiplicity),
            loo_distance=loo_distance[logged],
            loo_share=lambda k: self.read("loo_share", k - 1, k)[0][logged],
            loo_group=self.read("loo_group")[logged] if self.has("loo_group") else None,
            k=k,
            weighting=self.parameters["weighting"],
            fingerprint=self.model_fingerprint or "",
        )

    def of_samples(self, values: Array) -> Floats:
        """Spread values of the points, (n_points,), over the samples; NaN where never logged."""
        point = self.read("point")
        return np.where(point == NEVER_LOGGED, np.nan, values[point].astype(np.float64))


def load_model(path: str | os.PathLike[str]) -> Model:
    """Read a model into memory, to score arrays with a :class:`ltau_cli.core.scoring.Scorer`.

    Parameters
    ----------
    path : path
        The model.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        If there is no such file.
    ArtifactError
        If it is no model, damaged, or in shards: those stay in their file.
    """
    with open_artifact(Path(path), ModelFile) as artifact:
        if artifact.has("shard_start"):
            raise ArtifactError(
                f"{path} is in shards, which are read from the file while it is open",
                hint="score with ltau score, or open it: open_artifact(path) and .load()",
            )
        model = artifact.load()
        # of which a model with its file open reads one row
        share = artifact.read("loo_share")[:, artifact.read("point") >= 0]
        model.loo_share = lambda k: share[k - 1]
        return model


@dataclass
class PooledPoints:
    """What the logged errors say of each point, and which sample belongs to which."""

    mean_error: Singles  # (n_points,), error units
    max_error: Singles  # (n_points,), error units
    last_epoch_error: Singles  # (n_points,): mean of the last logged errors
    uncertainty: Singles  # (n_points, n_thresholds)
    multiplicity: Integers  # (n_points,)
    # (n_samples,): :data:`NEVER_LOGGED` where a sample was never logged
    of_sample: Integers


def write_grid(writer: ArtifactWriter, edges: Floats, thresholds: Floats) -> None:
    """Write the bin edges and the thresholds (error units)."""
    writer.put("bin_edges", edges)
    writer.put("thresholds", thresholds)


def create_counts(
    writer: ArtifactWriter, n_points: int, n_edges: int, dtype: np.dtype[Any], *, sharded: bool
) -> BlockWriter:
    """Create the counts, (n_points, n_edges + 1), of a type that holds the largest."""
    # A shard's counts are read by ranges of points, for which compressed chunks are slow.
    return writer.create("counts", (n_points, n_edges + 1), dtype=dtype, compress=not sharded)


def write_points(writer: ArtifactWriter, points: PooledPoints) -> None:
    """Write what is known of each point, and the point of each sample."""
    writer.put("mean_error", points.mean_error)
    writer.put("max_error", points.max_error)
    writer.put("last_epoch_error", points.last_epoch_error)
    writer.put("uncertainty", points.uncertainty)
    writer.put("multiplicity", points.multiplicity, compress=True)
    writer.put("point", points.of_sample, compress=True)


def write_scaling(writer: ArtifactWriter, scaling: Scaling) -> None:
    """Write how descriptors are scaled before distances are measured."""
    writer.put("descriptor_shift", scaling.shift)
    if scaling.transform is not None:
        writer.put("descriptor_transform", scaling.transform)


def write_index(writer: ArtifactWriter, arrays: Mapping[str, Array], shard: int | None) -> None:
    """Write the arrays of a search structure: the only one, or that of a shard."""
    for name, values in arrays.items():
        writer.put(_index_folder(shard) + name, values)


def write_leave_one_out(
    writer: ArtifactWriter,
    distance: Singles,
    expected_error: Singles,
    share: npt.NDArray[np.float16],
    group: Integers | None,
) -> None:
    """Write the leave-one-out reference of every sample; NaN where never logged.

    See :class:`ltau_cli.core.search.loo.LeaveOneOut`.
    """
    writer.put("loo_distance", distance, compress=True)
    writer.put("loo_expected_error", expected_error, compress=True)
    writer.put("loo_share", np.ascontiguousarray(share.T))
    if group is not None:
        writer.put("loo_group", group, compress=True)


def _index_folder(shard: int | None) -> str:
    return "index/" if shard is None else f"index/{shard}/"


class StoredShards:
    """The shards of a model file, of which one at a time is read.

    ``read(name, start, stop)`` gives rows of a dataset of the model; ``point_start`` are the first
    points of the shards, and the number of points; ``indexes`` what the summary says of each.
    """

    def __init__(
        self,
        read: ReadRows,
        point_start: Sequence[int],
        indexes: Sequence[IndexResult],
        *,
        width: int,
    ) -> None:
        self._read = read
        self._start = point_start
        self._indexes = indexes
        self.width = width
        self.count = len(indexes)
        # A shard and as many rows take about the same memory.
        self.rows = max(b - a for a, b in itertools.pairwise(point_start))

    def load(self, number: int) -> Shard:
        """Read a shard."""
        first = self._start[number]
        descriptors = self.descriptors(first, self._start[number + 1])
        try:
            searcher = _wake_searcher(self._read, number, self._indexes[number], descriptors)
        except ValueError as error:
            raise ArtifactError(
                f"the model is damaged: shard {number}, {error}", hint="fit it again"
            ) from error
        return Shard(first, descriptors, searcher)

    def descriptors(self, start: int, stop: int) -> Singles:
        """Read the descriptors of points ``start..stop``."""
        return self._read("descriptors", start, stop)


def _open_shards(artifact: ModelFile) -> Shards:
    index = artifact.summary.index
    indexes = index.shards if artifact.has("shard_start") else [index]
    for one in indexes:
        if one.kind == "nndescent" and None in (one.leaves, one.epsilon):
            raise damaged(artifact.path, f"attribute summary does not tell all of index {one.kind}")
    if artifact.has("shard_start"):
        start = [int(first) for first in artifact.read("shard_start")]
        sizes = [b - a for a, b in itertools.pairwise(start)]
        if (
            len(sizes) != len(indexes)
            or (start[0], start[-1]) != (0, artifact.sizes["n_points"])
            or min(sizes) < 1
            or any(artifact.sizes.get(f"n_points_{i}", n) != n for i, n in enumerate(sizes))
        ):
            raise damaged(artifact.path, "dataset shard_start does not fit the shards")
        width = artifact.sizes["d_search"]
        return StoredShards(artifact.read, start, indexes, width=width)
    descriptors = artifact.read("descriptors")
    try:
        searcher = _wake_searcher(artifact.read, None, index, descriptors)
    except ValueError as error:
        raise damaged(artifact.path, f"dataset index/{error}") from error
    return OneShard(descriptors, searcher)


def _wake_searcher(
    read: ReadRows, shard: int | None, index: IndexResult, descriptors: Singles
) -> nn.Searcher:
    if index.kind == "exact":
        return ExactSearcher(descriptors)
    if index.kind == "cells":
        arrays = {name: read(_index_folder(shard) + name, None, None) for name in CELL_ARRAYS}
        searcher = CellSearcher(descriptors, arrays)
        searcher.check()
        return searcher
    arrays = {name: read(_index_folder(shard) + name, None, None) for name in graph.GRAPH_ARRAYS}
    return graph.GraphSearcher(
        descriptors, arrays, leaves=index.leaves or 1, epsilon=index.epsilon or 0.0
    )


def _counts_in_file(artifact: ModelFile) -> Callable[[Integers], Array]:
    """Return a reader of the counts of some points, whose numbers increase."""
    dataset = artifact.dataset("counts")
    width = dataset.shape[1]
    slab = max(1, SLAB_BYTES // (width * dataset.dtype.itemsize))

    def read(points: Integers) -> Array:
        out = np.empty((len(points), width), dataset.dtype)
        done = 0
        while done < len(points):
            first = int(points[done])
            stop = int(np.searchsorted(points, first + slab))
            own = points[done:stop]
            out[done:stop] = artifact.read("counts", first, int(own[-1]) + 1)[own - first]
            done = stop
        return out

    return read


def announce_compilation() -> None:
    """Say so if the inner loops have to be compiled, which happens once per kind of machine."""
    if not is_compiled("ltau_cli", "share_places"):
        log.warning(
            "compiling the inner loops: about %d s, once on this machine (ltau compile does it "
            "ahead)", COMPILE_SECONDS,
        )  # fmt: skip
