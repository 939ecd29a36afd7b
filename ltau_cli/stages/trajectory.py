"""Weights that were kept during a training, and how their forces differ from the final ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Floats
from ltau_cli.artifacts.attributes import Kept
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.core.trajectory import trajectory_of
from ltau_cli.errors import InputError
from ltau_cli.packages.network import Network, NetworkName
from ltau_cli.packages.weights import FOLDER
from ltau_cli.readers.logs.numbered import NumberedFiles, by_epoch, has_number

_OF_LOGS = (".npy", ".npz")  # endings of what stands beside weights in the folder of a log


@dataclass(frozen=True)
class Trajectory:
    """Networks with weights that were kept during the training."""

    networks: tuple[Network, ...]
    kept: Kept  # which weights they are

    @classmethod
    def open(cls, name: NetworkName, given: str, number: int, device: str | None) -> Trajectory:
        """Load ``number`` of the weights in a folder, or of those that fit a pattern."""
        chosen = choose_kept(_find(name, given), number)
        with Hasher() as hasher:
            for path in chosen.files:
                files = sorted(path.rglob("*.*")) if path.is_dir() else ()
                hasher.add("kept weights", path, "network", files=files)
            networks = [name.load(device=device, weights=path) for path in chosen.files]
            hashes = [record["sha256"] for record in hasher.records()]
        return cls(tuple(networks), {"epochs": chosen.epochs, "sha256": hashes})

    def __call__(self, frames: Sequence[Any], forces: Floats | None) -> Floats:
        """How far off the kept weights are for each atom of some frames, (n_atoms,) in eV/Å.

        ``forces`` (n_atoms, 3) are those of the trained network.
        """
        kept = [network([frame.copy() for frame in frames]).forces for network in self.networks]
        if forces is None or any(one is None for one in kept):
            raise InputError("--trajectory needs forces, which the network does not give")
        return trajectory_of(forces, np.stack(kept))  # type: ignore[arg-type]


def _find(name: NetworkName, given: str) -> NumberedFiles:
    """Find the files of weights, by epoch."""
    folder = Path(given)
    if folder.is_dir():
        beside = folder / FOLDER  # of the folder of a log
        files = [
            path
            for path in sorted((beside if beside.is_dir() else folder).iterdir())
            if has_number(path) and path.suffix not in _OF_LOGS and not path.name.startswith(".")
        ]
    else:
        files = NetworkName(name.package, given).checkpoints() or [Path(given)]
    if not files:
        raise InputError(
            f"{given} holds no weights that were kept during the training",
            hint="ltau record --keep keeps them beside the log; or name checkpoints: "
            "--trajectory 'checkpoints/*.pt'",
        )
    return by_epoch(files)


def choose_kept(found: NumberedFiles, number: int) -> NumberedFiles:
    """Choose weights of the middle third of the training, evenly; else any, but not the last."""
    last = found.epochs[-1]
    middle = [i for i, epoch in enumerate(found.epochs) if last <= 3 * epoch <= 2 * last]
    among = middle or list(range(max(1, len(found.epochs) - 1)))
    places = np.linspace(0, len(among) - 1, min(number, len(among))).round().astype(int)
    chosen = [among[i] for i in places]
    return NumberedFiles(
        found.pattern, [found.epochs[i] for i in chosen], [found.files[i] for i in chosen]
    )
