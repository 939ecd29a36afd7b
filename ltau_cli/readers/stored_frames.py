"""Frames in HDF5 files of arrays per atom and per frame, as ``ltau describe`` writes them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Integers
from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import as_counts, as_labels, open_array, read_optional
from ltau_cli.readers.place import Place, check_file
from ltau_cli.readers.source import ArraySource

BLOCK_ATOMS = 65_536  # read at a time
# Name of the array, and of what becomes of it in ``ase.Atoms``.
PER_ATOM = {
    "positions": "positions",
    "species": "species",
    "config_type": "config_type",
    "reference_forces": "REF_forces",
    "forces": "pred_forces",
}
PER_FRAME = {
    "cell": "cell",
    "pbc": "pbc",
    "reference_energy": "REF_energy",
    "energy": "pred_energy",
}
NEEDED = ("positions", "species", "cell", "pbc")


def read_stored_natoms(path: Path) -> Integers:
    """Read the atoms of each frame, (n_frames,) int64."""
    check_file(path)
    natoms = read_optional(Place(path), "natoms")
    if natoms is None:
        raise _no_frames(path, "natoms")
    return as_counts(natoms, f"natoms in {path}")


def read_stored_labels(path: Path) -> dict[str, Array]:
    """Read ``species``, ``config_type`` and ``fingerprint`` of each atom, where they are there."""
    natoms = read_stored_natoms(path)
    n = int(natoms.sum())
    found = {}
    for name in ("species", "config_type"):
        values = read_optional(Place(path), name)
        if values is None and name in NEEDED:
            raise _no_frames(path, name)
        if values is not None:
            _check_length(path, name, len(values), n)
            found[name] = as_labels(values, f"{name} in {path}").astype(np.str_)
    frames = read_optional(Place(path), "fingerprint")
    if frames is not None:
        _check_length(path, "fingerprint", len(frames), len(natoms))
        found["fingerprint"] = np.repeat(frames, natoms, axis=0)
    return found


def read_stored_frames(path: Path) -> Iterator[Any]:
    """Yield the ``ase.Atoms`` of a file."""
    natoms = read_stored_natoms(path)
    ends = np.cumsum(natoms)
    with contextlib.ExitStack() as stack:
        atoms = _open(path, PER_ATOM, int(ends[-1]), stack)
        frames = _open(path, PER_FRAME, len(natoms), stack)
        first = 0
        while first < len(natoms):
            start = int(ends[first] - natoms[first])
            last = max(first + 1, int(np.searchsorted(ends, start + BLOCK_ATOMS, side="right")))
            block = {name: s.read(start, int(ends[last - 1])) for name, s in atoms.items()}
            about = {name: source.read(first, last) for name, source in frames.items()}
            for i in range(first, last):
                own = slice(int(ends[i] - natoms[i]) - start, int(ends[i]) - start)
                yield _frame(
                    {name: values[own] for name, values in block.items()},
                    {name: values[i - first] for name, values in about.items()},
                )
            first = last


def _frame(atoms: dict[str, Array], about: dict[str, Any]) -> Any:
    """Make an ``ase.Atoms`` of its arrays; NaN is left out."""
    from ase import Atoms

    frame = Atoms(
        atoms.pop("species").astype(np.str_).tolist(), atoms.pop("positions"),
        cell=about.pop("cell"), pbc=about.pop("pbc"),
    )  # fmt: skip
    kinds = atoms.pop("config_type", None)
    frame.arrays.update({name: v for name, v in atoms.items() if np.isfinite(v).all()})
    frame.info.update({name: float(v) for name, v in about.items() if np.isfinite(v)})
    if kinds is not None:
        frame.info["config_type"] = str(kinds[0])
    return frame


def _open(
    path: Path, names: dict[str, str], n: int, stack: contextlib.ExitStack
) -> dict[str, ArraySource]:
    """Open those of the arrays that are there, by the names of ``ase.Atoms``."""
    found = {}
    for name, becomes in names.items():
        try:
            source = stack.enter_context(open_array(Place(path, name), text=True))
        except InputError:
            if name in NEEDED:
                raise _no_frames(path, name) from None
            continue
        _check_length(path, name, source.shape[0], n)
        found[becomes] = source
    return found


def _no_frames(path: Path, name: str) -> InputError:
    return InputError(
        f"{path} holds no frames: it has no array {name}",
        hint="give an extxyz file, or what ltau describe wrote",
    )


def _check_length(path: Path, name: str, length: int, n: int) -> None:
    if length != n:
        raise InputError(f"{name} in {path} has {length:,} rows; by natoms there are {n:,}")
