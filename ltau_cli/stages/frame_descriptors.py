"""Where the descriptors of the frames of a simulation come from."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Floats
from ltau_cli.artifacts.attributes import Origin
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.errors import InputError, UsageError
from ltau_cli.packages.network import Features, NetworkName, find_in_calculator, parts_of
from ltau_cli.stages.frame_scores import FrameScorer
from ltau_cli.stages.trajectory import Trajectory

Function = Callable[[Any], npt.ArrayLike]


@dataclass(frozen=True)
class FrameDescriptors:
    """Descriptors of one frame after the other, and the name of their source for messages.

    ``describe(frame, evaluate)`` returns the descriptors (n_atoms, d) of an ``ase.Atoms``, which is
    not changed. ``evaluate`` lets the calculator evaluate the frame anew; it is called just once.
    """

    name: str
    describe: Callable[[Any, Callable[[], None]], npt.ArrayLike]


def _beside(name: str, function: Function) -> FrameDescriptors:
    """Evaluate a copy of the frame beside the calculator."""

    def describe(frame: Any, evaluate: Callable[[], None]) -> npt.ArrayLike:
        evaluate()
        return function(frame.copy())

    return FrameDescriptors(name, describe)


def _within(name: str, features: Features) -> FrameDescriptors:
    """Listen to the calculator's own network while it evaluates the frame."""

    def describe(_frame: Any, evaluate: Callable[[], None]) -> npt.ArrayLike:
        with features.listen() as heard:
            evaluate()
        if not heard:
            raise InputError(
                f"the network of {name} was not called when the calculator evaluated a frame",
                hint="name the network's file, as in descriptors='mace:FILE'",
            )
        found: npt.ArrayLike = heard[-1].cpu().numpy()
        return found

    return FrameDescriptors(name, describe)


def open_descriptors_of(
    source: str | Function | None, calculator: Any, model: Path, origin: Origin | None,
    device: str | None,
) -> FrameDescriptors:  # fmt: skip
    """Open a source of descriptors; see :class:`ltau_cli.live.Live`.

    None takes the package of the origin: where the descriptors that the model was fitted on come
    from. ``model`` is for messages, ``device`` for a network's file.
    """
    if source is None:
        if origin is None:
            raise UsageError(
                f"{model} does not say where the descriptors of its training set come from",
                hint="give descriptors=: a package such as 'mace', 'mace:FILE', or a function of "
                "atoms",
            )
        source = origin["package"]
    if callable(source):
        function = getattr(source, "__name__", type(source).__name__)
        return _beside(f"descriptors={function}", source)
    name = NetworkName.parse(source, "descriptors={!r}")
    same = origin is not None and origin["package"] == name.package
    layer = origin["layer"] if same and origin is not None else None
    if not name.file:
        features = find_in_calculator(name.package, calculator, layer)
        return _within(type(calculator).__name__, features)
    network = name.load(device=device, layer=layer)
    if origin is not None and not (same and _sha256(network.file) == origin["network_sha256"]):
        raise InputError(
            f"{source} is not the network that described the training set of {model}",
            hint="name the file that ltau describe was given, or fit again with this one",
        )
    return _beside(str(network.file), lambda frame: network([frame]).descriptors)


def open_trajectory(
    given: str | os.PathLike[str] | Function | None, descriptors: str | Function | None,
    calculator: Any, scorer: FrameScorer, device: str | None,
) -> Callable[[Any, Callable[[], Any]], Floats] | None:  # fmt: skip
    """Open what gives the trajectory (n_atoms,) of a frame and its forces, None where nobody asks.

    See :class:`ltau_cli.live.Live`.
    """
    path = scorer.calibration_path
    if not scorer.uses_trajectory:
        return None
    if given is None:
        raise InputError(
            f"{path} uses the trajectory of each prediction",
            hint="give trajectory=: the folder of ltau describe --trajectory",
        )
    if callable(given):
        function = given
        return lambda frame, _forces: np.asarray(function(frame.copy()), dtype=np.float64)
    if len(parts_of(calculator)) > 1:
        raise UsageError(
            "a trajectory compares forces of the network alone, not those of a sum of calculators",
            hint="give a function: trajectory=",
        )
    name = scorer.origin["package"] if scorer.origin else ""
    if isinstance(descriptors, str):
        name = descriptors
    kept = scorer.kept or {"epochs": [0], "sha256": []}
    network = NetworkName.parse(name if ":" in name else f"{name}:", "descriptors={!r}")
    found = Trajectory.open(network, os.fspath(given), len(kept["epochs"]), device)
    if scorer.kept not in (None, found.kept):
        raise InputError(
            f"{given} holds other weights than those that {path} was fitted with",
            hint="name the folder that ltau describe --trajectory was given",
        )
    return lambda frame, forces: found([frame], forces())


def _sha256(path: Path) -> str:
    with Hasher() as hasher:
        hasher.add("network", path, "network")
        return str(hasher.records()[0]["sha256"])
