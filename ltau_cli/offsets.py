"""Energies are known up to an offset of each element, which another method may have moved."""

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Floats, Integers

LEFT_OUT = 0.01  # share of the largest residuals that the offsets do not follow
FRAMES_EACH = 5  # frames for each element, below which there is one offset for all
PASSES = 3  # of leaving them out


def formulas(species: Array, natoms: Integers) -> npt.NDArray[np.str_]:
    """Return the formula of each frame, (n_frames,), elements by the alphabet: ``Au2Cu11``.

    ``species`` (n_atoms,) are symbols, ``natoms`` (n_frames,) the atoms of each frame.
    """
    names, number = np.unique(species.astype(np.str_), return_inverse=True)
    frame = np.repeat(np.arange(len(natoms)), natoms)
    counts = np.zeros((len(natoms), len(names)), dtype=np.int64)
    np.add.at(counts, (frame, number), 1)
    distinct, place = np.unique(counts, axis=0, return_inverse=True)
    told = [
        "".join(f"{name}{n}" for name, n in zip(names, row, strict=True) if n) for row in distinct
    ]
    return np.array(told)[place.ravel()]


def fractions(told: Array) -> tuple[list[str], Floats]:
    """Return the elements of some formulas, and the share (n, n_elements) of each in them."""
    distinct, place = np.unique(told.astype(np.str_), return_inverse=True)
    counts = [
        {name: int(count) for name, count in re.findall(r"([A-Za-z]+)(\d+)", text)}
        for text in distinct.tolist()
    ]
    elements = sorted(set().union(*counts))
    table = np.array([[one.get(name, 0) for name in elements] for one in counts], dtype=np.float64)
    return elements, (table / table.sum(axis=1, keepdims=True))[place]


def fit_offsets(errors: Floats, shares: Floats) -> Floats:
    """Fit the offset of each element, (n_elements,), that explains signed errors per atom, (n,).

    By least squares on the shares (n, n_elements) of the elements, without the largest residuals;
    what they do not tell apart, such as elements in a fixed ratio, has the same offset. NaN is
    left out; without an error the offsets are 0.
    """
    known = np.isfinite(errors)
    if not known.any():
        return np.zeros(shares.shape[1])
    y, x = errors[known], shares[known]
    center = x.mean(axis=0)
    design = np.column_stack([np.ones(len(y)), x - center])
    if len(y) < FRAMES_EACH * shares.shape[1]:
        design[:, 1:] = 0
    kept = np.ones(len(y), dtype=bool)
    for _ in range(PASSES):
        found = np.linalg.lstsq(design[kept], y[kept], rcond=None)[0]
        residual = np.abs(y - design @ found)
        kept = residual <= np.sort(residual)[len(y) - 1 - int(LEFT_OUT * len(y))]
    return np.asarray(found[0] - center @ found[1:] + found[1:])


def without_offsets(errors: Floats, formulas: Array | None, offsets: Mapping[str, float]) -> Floats:
    """Return the magnitudes of signed errors per atom, (n,), without the offsets of a log.

    Elements that the log does not have are taken for the mean of the others.
    """
    if not offsets:
        return np.abs(errors)
    mean = float(np.mean(list(offsets.values())))
    if formulas is None:
        return np.abs(errors - mean)
    elements, shares = fractions(formulas)
    known = np.array([offsets.get(name, mean) for name in elements])
    return np.asarray(np.abs(errors - shares @ known), dtype=np.float64)
