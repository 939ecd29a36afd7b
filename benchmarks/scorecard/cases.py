"""What one network says of every set, in a folder that ``benchmarks/calibration.py`` describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from calibration import find_sets, read_errors

from ltau_cli.core.trajectory import TRAJECTORY

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

CALIBRATION_FRAMES = 20
CALIBRATION_ROWS = 200  # of a table


@dataclass(frozen=True)
class Judged:
    """The n atoms of one set of frames.

    Attributes
    ----------
    descriptors : (n, d) float64
    species : (n,) str
    structure, draw : (n,) int64
        Frame of each atom, and what its frame was drawn together with, such as a trajectory.
    error : (n,) float64
        Size of the force error of the network that is judged.
    forces : list of (n, 3) float64
        Predicted by this network and by those of other seeds beside it, this one's first.
    true : (n, 3) float64 or None
        True forces, where there are networks beside it.
    llpr : (n,) float64 or None
        Spread of the forces that the package's own LLPR gives, where it has one.
    trajectory : (n,) float64 or None
        Of each prediction, where weights were kept during the training.
    noise : (n,) float64 or None
        Standard deviation of the noise of each label of a table, where it is known.
    is_table : bool
        Whether rows are no atoms: each is a frame of its own, of one species.
    """

    descriptors: Floats
    species: npt.NDArray[Any]
    structure: npt.NDArray[np.int64]
    draw: npt.NDArray[np.int64]
    error: Floats
    forces: list[Floats] = field(default_factory=list)
    true: Floats | None = None
    llpr: Floats | None = None
    trajectory: Floats | None = None
    noise: Floats | None = None
    is_table: bool = False


@dataclass(frozen=True)
class Case:
    """One network.

    Attributes
    ----------
    folder : Path
    system, seed : str
    train_descriptors : (n, d) float64
    train_species : (n,) str
    last_error : (n,) float64
        Force error of each training atom at the last epoch.
    train_frames : int
    training_seconds : float
        Processor time of the training; nan if it is not known.
    sets : dict of str to Judged
        The first one is drawn like the training set.
    """

    folder: Path
    system: str
    seed: str
    train_descriptors: Floats
    train_species: npt.NDArray[Any]
    last_error: Floats
    train_frames: int
    training_seconds: float
    sets: dict[str, Judged]

    @property
    def near(self) -> Judged:
        """The set that is calibrated on."""
        return next(iter(self.sets.values()))

    @property
    def members(self) -> int:
        """How many networks of other seeds there are, this one among them."""
        return min(len(judged.forces) for judged in self.sets.values())


def read_case(folder: Path, system: str, names: list[str] | None = None) -> Case:
    """Read a network; folders ``seed_*`` beside it are its ensemble."""
    peers = seeds_in(folder.parent) if folder.name.startswith("seed_") else []
    here = peers.index(folder) if peers else 0
    ring = peers[here:] + peers[:here]
    descriptors = np.load(folder / "train_descriptors.npy").astype(np.float64)
    natoms = read_natoms(folder / "train", descriptors)
    species = folder / "train_species.npy"
    seconds = folder / "seconds.json"
    return Case(
        folder=folder,
        system=system,
        seed=folder.name.removeprefix("seed_") if peers else "0",
        train_descriptors=descriptors,
        train_species=np.load(species) if species.exists() else np.full(natoms.sum(), "?"),
        last_error=last_epoch(folder / "logs"),
        train_frames=len(natoms),
        training_seconds=json.loads(seconds.read_text()) if seconds.exists() else float("nan"),
        sets={name: read_judged(folder, ring, name) for name in names or find_sets(folder)},
    )


def seeds_in(folder: Path) -> list[Path]:
    """Networks of one training set; one that is being made does not count."""
    return sorted(path for path in folder.glob("seed_*") if path.suffix != ".part")


def read_judged(folder: Path, ring: list[Path], name: str) -> Judged:
    def there(what: str) -> Any:
        path = folder / f"test_{name}_{what}.npy"
        return np.load(path) if path.exists() else None

    descriptors = np.load(folder / f"test_{name}_descriptors.npy").astype(np.float64)
    natoms = read_natoms(folder / f"test_{name}", descriptors)
    structure = np.repeat(np.arange(len(natoms)), natoms)
    draws, species = there("draws"), there("species")
    draw = np.arange(len(natoms)) if draws is None else draws
    return Judged(
        descriptors=descriptors,
        species=np.full(len(structure), "?") if species is None else species,
        structure=structure,
        draw=draw[structure],
        error=read_errors(folder, name),
        forces=[np.load(f / f"test_{name}_forces_pred.npy").astype(np.float64) for f in ring],
        true=np.load(folder / f"test_{name}_forces_true.npy") if ring else None,
        llpr=there("llpr"),
        trajectory=there(TRAJECTORY),
        noise=there("noise"),
        is_table=is_table(folder),
    )


def is_table(folder: Path) -> bool:
    """Whether the rows are no atoms of frames."""
    return not (folder / "train_natoms.npy").exists()


def read_natoms(prefix: Path, descriptors: Floats) -> npt.NDArray[np.int64]:
    """Atoms of each frame; a row of a table counts as one."""
    path = Path(f"{prefix}_natoms.npy")
    return np.load(path) if path.exists() else np.ones(len(descriptors), dtype=np.int64)


def last_epoch(logs: Path) -> Floats:
    """Error of each training atom in the last file of a log, (n,)."""
    last = max(logs.glob("*.npy"), key=lambda path: int(path.stem.split("_")[-1]))
    values = np.load(last).astype(np.float64)
    return np.asarray(values if values.ndim == 1 else np.linalg.norm(values, axis=-1))


def splits(near: Judged, n: int) -> Iterator[Flags]:
    """Choose the atoms to calibrate on, n times: those of whole trajectories.

    As many as hold :data:`CALIBRATION_FRAMES` frames, or half of all frames if there are few; of a
    table :data:`CALIBRATION_ROWS`.
    """
    frames = len(np.unique(near.structure))
    most = CALIBRATION_ROWS if near.is_table else CALIBRATION_FRAMES
    wanted = min(most, frames // 2)
    for seed in range(n):
        chosen = np.zeros(len(near.error), dtype=bool)
        for draw in np.random.default_rng(seed).permutation(np.unique(near.draw)):
            if len(np.unique(near.structure[chosen])) >= wanted:
                break
            chosen |= near.draw == draw
        yield chosen
