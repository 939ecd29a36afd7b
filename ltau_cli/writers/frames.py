"""Frames to extxyz, with what is known of their atoms, by ASE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import numpy.typing as npt


def annotate(
    frame: Any, arrays: Mapping[str, npt.NDArray[Any]], info: Mapping[str, float | int | bool | str]
) -> Any:
    """Add per-atom ``arrays`` (n_atoms,) and per-frame ``info`` to an ``ase.Atoms``, in place.

    What has the same name is replaced, all else is kept.
    """
    frame.arrays.update({name: values.copy() for name, values in arrays.items()})
    frame.info.update(info)
    return frame


def write_frames(stream: TextIO, frames: Iterable[Any]) -> int:
    """Write ``ase.Atoms`` one after the other; return how many."""
    import ase.io

    n = 0
    for frame in frames:
        ase.io.write(stream, frame, format="extxyz")
        n += 1
    return n
