"""The forces that a trainer was given, against those in the file that it read them from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Bools

TOLERANCE = 1e-4  # of float32 and of digits in a text: relative, and in eV/Å
ZERO, OTHER = "zero", "other"  # what an atom was trained on, instead of the file's force


@dataclass
class _Found:
    """Of the forces of one name: which atoms were given the same, and which others."""

    same: list[Bools] = field(default_factory=list)
    other: list[Bools] = field(default_factory=list)


def compare(
    paths: Sequence[Path], natoms: Sequence[int], given: npt.NDArray[np.floating[Any]]
) -> tuple[str, npt.NDArray[np.str_]] | None:
    """Compare the forces (n_atoms, 3) that atoms were given, NaN where none, with those of files.

    A file may hold several arrays that could be the forces: those are meant that most atoms agree
    with. Returns their name, and of each atom ``zero`` or ``other`` where it was given that, else
    an empty text; None where no array agrees, as in other units, or the frames are others.
    """
    found: dict[str, _Found] = {}
    known = np.isfinite(given).all(axis=1)
    start = 0
    sizes = [*reversed(natoms)]
    for frame in _read(paths):
        if not sizes or len(frame) != sizes[-1]:
            if len(frame) == 1 and "config_type" in frame.info:
                continue  # an isolated atom, which MACE leaves out
            return None
        sizes.pop()
        own = slice(start, start + len(frame))
        there = _vectors(frame)
        for name in found.keys() | there.keys():
            told = found.setdefault(name, _Found([np.zeros(start, bool)], [np.zeros(start, bool)]))
            values = there.get(name, np.full((len(frame), 3), np.nan))
            apart = np.abs(values - given[own]).max(axis=1)
            near = apart <= TOLERANCE * (1 + np.abs(values).max(axis=1))
            comparable = known[own] & np.isfinite(apart)
            told.same.append(comparable & near)
            told.other.append(comparable & ~near)
        start = own.stop
    if sizes:
        return None
    moved = known & given.any(axis=1)
    agreed = {name: (np.concatenate(told.same) & moved).sum() for name, told in found.items()}
    name = max(agreed, key=lambda one: agreed[one], default="")
    if not name or 2 * agreed[name] <= moved.sum():
        return None
    other = np.concatenate(found[name].other)
    return name, np.where(other, np.where(moved, OTHER, ZERO), "")


def _read(paths: Sequence[Path]) -> Iterator[Any]:
    import ase.io

    for path in paths:
        yield from ase.io.iread(path, index=":", format="extxyz")


def _vectors(frame: Any) -> dict[str, Array]:
    """Return what may be forces in a frame, as the file has it: whatever constraints say."""
    arrays = {name: values for name, values in frame.arrays.items() if name != "positions"}
    if frame.calc is not None:
        arrays["forces"] = frame.calc.results.get("forces")
    shape = (len(frame), 3)
    return {
        name: values
        for name, values in arrays.items()
        if values is not None and values.shape == shape and values.dtype.kind == "f"
    }
