"""Frames to extxyz, with what is known of their atoms, by ASE."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import numpy as np

from ltau_cli.array_types import Array
from ltau_cli.errors import InputError

PREFIX = "ltau_"


def property_name(column: str) -> str:
    """``ltau_quantile_95`` for ``quantile_0.95``: other programs allow no dot in a name."""
    quantity, _, label = column.rpartition("_")
    if quantity.endswith(("quantile", "error_bound", "error_bound_mean", "error_bound_max")):
        level = float(label)
        column = f"{quantity}_{100 * level if level < 1 else level:.6g}"
    return PREFIX + re.sub(r"\W", "_", column)


def annotate(frame: Any, arrays: Mapping[str, Array], info: Mapping[str, Any], of: str = "") -> Any:
    """Add per-atom ``arrays`` (n_atoms,) and per-frame ``info`` to an ``ase.Atoms``, in place.

    They are named by :func:`property_name`, those of the frame with what they are ``of`` before it.
    What has the same name is replaced, all else is kept.
    """
    for name, values in arrays.items():
        for text in np.unique(values).tolist() if values.dtype.kind == "U" else ():
            if text.split() != [text]:
                raise InputError(
                    f"{property_name(name)} cannot be in an extxyz file: {text!r} is not one word",
                    hint="name the columns to write with --columns, without it",
                )
        frame.arrays[property_name(name)] = values.copy()
    for name, value in info.items():
        plain = np.asarray(value).item()
        if isinstance(plain, float):
            plain = float(f"{plain:.7g}")  # float32 has no more digits
        frame.info[property_name(of + name)] = plain
    return frame


def write_frames(stream: TextIO, frames: Iterable[Any]) -> int:
    """Write ``ase.Atoms`` one after the other; return how many."""
    import ase.io

    n = 0
    for frame in frames:
        ase.io.write(stream, frame, format="extxyz")
        n += 1
    return n
