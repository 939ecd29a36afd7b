"""Read the artifacts that scoring needs."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.read import Artifact, damaged
from ltau_cli.core.compile import is_compiled
from ltau_cli.core.scoring import Model
from ltau_cli.core.search import graph
from ltau_cli.core.search import neighbors as nn
from ltau_cli.core.search.points import Points
from ltau_cli.core.search.scaling import Scaling
from ltau_cli.core.search.shards import OneShard, Shard, Shards
from ltau_cli.errors import LtauWarning

log = logging.getLogger("ltau")

SLAB_BYTES = 4 << 20  # of counts, read at a time
ReadRows = Callable[[str, int | None, int | None], npt.NDArray[Any]]


class StoredShards:
    """The shards of a model file, of which one at a time is read.

    Parameters
    ----------
    read : callable
        ``read(name, start, stop)`` gives rows ``start..stop`` of a dataset of the model.
    point_start : sequence of int
        First point of each shard, and the number of points.
    indexes : sequence of dict
        What the summary of the model says about the index of each shard.
    width : int
        Columns of the descriptors.
    seed : int
        Of an index that has to be built again.
    """

    def __init__(
        self,
        read: ReadRows,
        point_start: Sequence[int],
        indexes: Sequence[Mapping[str, Any]],
        *,
        width: int,
        seed: int,
    ) -> None:
        self._read = read
        self._start = point_start
        self._indexes = indexes
        self._seed = seed
        self.width = width
        self.count = len(indexes)
        # A shard and as many queries take about the same memory.
        self.rows = max(b - a for a, b in itertools.pairwise(point_start))

    def load(self, number: int) -> Shard:
        """Read a shard."""
        first = self._start[number]
        descriptors = self.descriptors(first, self._start[number + 1])
        searcher = _wake_searcher(
            self._read, f"index/{number}/", self._indexes[number], descriptors, self._seed
        )
        return Shard(first, descriptors, searcher)

    def descriptors(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Read the descriptors of points ``start..stop``."""
        return self._read("descriptors", start, stop)


def load_model(artifact: Artifact) -> Model:
    """Read a model artifact and wake its search structure; nothing is unpickled.

    Of a model in shards, descriptors, counts and search structures stay in the file.

    Raises
    ------
    ArtifactError
        If the model is damaged.
    """
    multiplicity = artifact.read("multiplicity")
    point = artifact.read("point")
    logged = point >= 0
    transform = artifact.has("descriptor_transform")
    sharded = artifact.has("shard_start")
    return Model(
        edges=artifact.read("bin_edges"),
        thresholds=artifact.read("thresholds"),
        counts=_counts_in_file(artifact) if sharded else artifact.read("counts"),
        mean_error=artifact.read("mean_error"),
        max_error=artifact.read("max_error"),
        uncertainty=artifact.read("uncertainty"),
        multiplicity=multiplicity,
        shards=_open_shards(artifact),
        scaling=Scaling(
            artifact.read("descriptor_shift"),
            artifact.read("descriptor_transform") if transform else None,
            artifact.parameters["metric"],
        ),
        points=Points(np.zeros(0, dtype=np.int64), point[logged], multiplicity),
        loo_distance=artifact.read("loo_distance")[logged],
        loo_group=artifact.read("loo_group")[logged] if artifact.has("loo_group") else None,
        k=int(artifact.summary["k"]),
        weighting=artifact.parameters.get("weighting", "uniform"),
        fingerprint=artifact.model_fingerprint or "",
    )


def _open_shards(artifact: Artifact) -> Shards:
    index: dict[str, Any] = artifact.summary["index"]
    seed = int(artifact.parameters["seed"])
    indexes = index.get("shards", [index])
    _warn_of_other_library(artifact, indexes)
    if any(one["kind"] == "nndescent" for one in indexes):
        announce_search_compilation()
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
        return StoredShards(artifact.read, start, indexes, width=width, seed=seed)
    descriptors = artifact.read("descriptors")
    return OneShard(descriptors, _wake_searcher(artifact.read, "index/", index, descriptors, seed))


def _wake_searcher(
    read: ReadRows,
    folder: str,
    index: Mapping[str, Any],
    descriptors: npt.NDArray[np.float32],
    seed: int,
) -> nn.Searcher:
    if index["kind"] == "exact":
        return nn.ExactSearcher(descriptors)
    scalars = index["scalars"]
    if index["library_version"] == graph_library_version():
        arrays = {name: read(folder + name, None, None) for name in graph.GRAPH_ARRAYS}
    else:
        neighbors = int(scalars["n_neighbors"])
        built = graph.build_graph(descriptors, seed=seed, n_neighbors=neighbors)
        arrays, scalars = graph.graph_to_arrays(built)
    prepared = graph.graph_from_arrays(descriptors, arrays, scalars, leaves=int(index["leaves"]))
    return graph.GraphSearcher(descriptors, prepared, float(index["epsilon"]), arrays)


def _warn_of_other_library(artifact: Artifact, indexes: Sequence[Mapping[str, Any]]) -> None:
    version = graph_library_version()
    others = {one.get("library_version", version) for one in indexes} - {version}
    if others:
        warnings.warn(
            f"{artifact.path}: its index was built by pynndescent {min(others)}, this is "
            f"{version}; building it again (run ltau fit once more to keep the result)",
            LtauWarning,
            stacklevel=2,
        )


def _counts_in_file(artifact: Artifact) -> Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]]:
    """Return a reader of the counts of some points, whose numbers increase."""
    dataset = artifact.dataset("counts")
    width = dataset.shape[1]
    slab = max(1, SLAB_BYTES // (width * dataset.dtype.itemsize))

    def read(points: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
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


def announce_search_compilation() -> None:
    """Say so if the search functions have to be compiled, which happens once per machine."""
    if not is_compiled("pynndescent", "search"):
        log.warning("compiling the neighbor search; this takes a minute, once on this machine")


def graph_library_version() -> str:
    """Version of pynndescent, without importing it."""
    from importlib.metadata import version

    return version("pynndescent")
