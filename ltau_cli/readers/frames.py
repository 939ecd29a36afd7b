"""Frames in extxyz files, read by ASE: evaluated forces and energies, and labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import InputError


def read_frames(path: Path) -> Iterator[Any]:
    """Yield the ``ase.Atoms`` of a file.

    Raises
    ------
    InputError
        If ASE is not installed or cannot read the file.
    """
    try:
        import ase.io
    except ImportError as error:
        raise InputError(
            f"{path}: frames are read by ASE, which is not installed",
            hint="pip install 'ltau[ase]'",
        ) from error
    if not path.exists():
        raise InputError(f"{path}: no such file")
    number = 0
    try:
        for frame in ase.io.iread(path, index=":", format="extxyz"):
            yield frame
            number += 1
    except InputError:
        raise
    except Exception as error:  # ASE raises whatever its parsers stumble over
        raise InputError(
            f"{path}: ASE cannot read frame {number}: {str(error)[:80] or type(error).__name__}",
            hint="check that it is extxyz and not cut short",
        ) from error
    if number == 0:
        raise InputError(f"{path} is empty: it holds no frames")


def read_natoms(path: Path) -> npt.NDArray[np.int64]:
    """Read the atoms of each frame, (n_frames,) int64.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    return np.array([len(frame) for frame in read_frames(path)], dtype=np.int64)


@dataclass
class FrameLabels:
    """Labels of every atom of some frames, each (n_atoms,)."""

    structure: npt.NDArray[np.int64]
    species: npt.NDArray[np.str_]
    config_type: npt.NDArray[np.str_] | None

    def as_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Return the labels that are there by name."""
        labels: dict[str, npt.NDArray[Any]] = {
            "structure": self.structure,
            "species": self.species,
        }
        return labels if self.config_type is None else labels | {"config_type": self.config_type}


def read_labels(path: Path) -> FrameLabels:
    """Read structure, species and config_type of every atom.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    natoms: list[int] = []
    species: list[str] = []
    kinds: list[str] = []
    for frame in read_frames(path):
        natoms.append(len(frame))
        species += frame.get_chemical_symbols()
        kinds.append(str(frame.info.get("config_type", "")))
    return label_atoms(natoms, species, kinds)


def label_atoms(natoms: list[int], species: list[str], kinds: list[str]) -> FrameLabels:
    """Spread what is known of each frame over its atoms."""
    return FrameLabels(
        np.repeat(np.arange(len(natoms)), natoms),
        np.array(species, dtype=np.str_),
        np.repeat(np.array(kinds), natoms) if any(kinds) else None,
    )
