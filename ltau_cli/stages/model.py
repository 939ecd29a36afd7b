"""Read the artifacts that scoring needs."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.read import Artifact
from ltau_cli.core import neighbors as nn
from ltau_cli.core.compile import is_compiled
from ltau_cli.core.points import Points
from ltau_cli.core.scaling import Scaling
from ltau_cli.core.scoring import Model
from ltau_cli.errors import LtauWarning

log = logging.getLogger("ltau")


def load_model(artifact: Artifact) -> Model:
    """Read a model artifact and wake its search structure; nothing is unpickled."""
    descriptors = artifact.read("descriptors")
    multiplicity = artifact.read("multiplicity")
    point = artifact.read("point")
    logged = point >= 0
    transform = artifact.has("descriptor_transform")
    return Model(
        edges=artifact.read("bin_edges"),
        thresholds=artifact.read("thresholds"),
        counts=artifact.read("counts"),
        mean_error=artifact.read("mean_error"),
        max_error=artifact.read("max_error"),
        uncertainty=artifact.read("uncertainty"),
        multiplicity=multiplicity,
        descriptors=descriptors,
        scaling=Scaling(
            artifact.read("descriptor_shift"),
            artifact.read("descriptor_transform") if transform else None,
            artifact.parameters["metric"],
        ),
        points=Points(np.zeros(0, dtype=np.int64), point[logged], multiplicity),
        loo_distance=artifact.read("loo_distance")[logged],
        loo_group=artifact.read("loo_group")[logged] if artifact.has("loo_group") else None,
        k=int(artifact.summary["k"]),
        searcher=_load_searcher(artifact, descriptors),
        fingerprint=artifact.model_fingerprint or "",
    )


def _load_searcher(artifact: Artifact, descriptors: npt.NDArray[np.float32]) -> nn.Searcher:
    index: dict[str, Any] = artifact.summary["index"]
    if index["kind"] == "exact":
        return nn.ExactSearcher(descriptors)
    arrays = {
        spec.name.removeprefix("index/"): artifact.read(spec.name)
        for spec in artifact.present()
        if spec.name.startswith("index/")
    }
    scalars, version = index["scalars"], graph_library_version()
    if index["library_version"] != version:
        warnings.warn(
            f"{artifact.path}: its index was built by pynndescent {index['library_version']}, "
            f"this is {version}; building it again (run ltau fit once more to keep the result)",
            LtauWarning,
            stacklevel=2,
        )
        seed, neighbors = int(artifact.parameters["seed"]), int(scalars["n_neighbors"])
        graph = nn.build_graph(descriptors, seed=seed, n_neighbors=neighbors)
        arrays, scalars = nn.graph_to_arrays(graph)
    announce_search_compilation()
    graph = nn.graph_from_arrays(descriptors, arrays, scalars, leaves=int(index["leaves"]))
    return nn.GraphSearcher(descriptors, graph, float(index["epsilon"]))


def announce_search_compilation() -> None:
    """Say so if the search functions have to be compiled, which happens once per machine."""
    if not is_compiled("pynndescent", "search"):
        log.warning("compiling the neighbor search; this takes a minute, once on this machine")


def graph_library_version() -> str:
    """Version of pynndescent, without importing it."""
    from importlib.metadata import version

    return version("pynndescent")
