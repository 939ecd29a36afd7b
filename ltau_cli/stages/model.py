"""Read the artifacts that scoring needs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.read import Artifact
from ltau_cli.core import neighbors as nn
from ltau_cli.core.scoring import Model
from ltau_cli.errors import LtauWarning


def load_model(artifact: Artifact) -> Model:
    """Read a model artifact and wake its search structure; nothing is unpickled."""
    descriptors = artifact.read("descriptors")
    return Model(
        edges=artifact.read("bin_edges"),
        thresholds=artifact.read("thresholds"),
        counts=artifact.read("counts"),
        mean_error=artifact.read("mean_error"),
        max_error=artifact.read("max_error"),
        uncertainty=artifact.read("uncertainty"),
        multiplicity=artifact.read("multiplicity"),
        descriptors=descriptors,
        loo_distance=artifact.read("loo_distance"),
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
        graph = nn.build_graph(descriptors, seed=int(artifact.parameters["seed"]))
        arrays, scalars = nn.graph_to_arrays(graph)
    graph = nn.graph_from_arrays(descriptors, arrays, scalars)
    return nn.GraphSearcher(descriptors, graph, nn.SEARCH_EPSILON)


def graph_library_version() -> str:
    """Version of pynndescent, without importing it."""
    from importlib.metadata import version

    return version("pynndescent")
