"""Frames in extxyz files, read by ASE, and in the files of ``ltau describe``; their labels."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Bools, Floats, Integers
from ltau_cli.errors import InputError
from ltau_cli.matching import fingerprint
from ltau_cli.offsets import formulas
from ltau_cli.readers.arrays import HDF5_ENDINGS
from ltau_cli.readers.extxyz import read_extxyz
from ltau_cli.readers.hdf5 import list_datasets, open_hdf5
from ltau_cli.readers.place import Place, check_file
from ltau_cli.readers.stored_frames import (
    NEEDED,
    read_stored_frames,
    read_stored_labels,
    read_stored_natoms,
)

FRAME_ENDINGS = (".xyz", ".extxyz")
ROUNDING = 1e-4  # of the size of forces: what agrees to within this was not predicted
_OF_CALCULATORS = ("forces", "force", "energy")  # what a simulation writes, too
_SCORE = "ltau_"
ISOLATED = "isolatedatom"  # config_type of the frames that MACE takes atomic energies from
_NAME_IT = "name the true reference: --reference-key NAME"
# Of every atom of some frames, (n_atoms,) each: structure int64, species str, config_type str where
# some frame has one, and the fingerprint (n_atoms, 2) int64 of its frame.
FrameLabels = dict[str, Array]
# Names of what is predicted, and of what it is compared with, the first that is there: what
# mace_eval_configs writes and MACE reads, what NequIP keeps of the data set beside its
# predictions, what ltau describe stores, and what ASE and most data sets have.
PREDICTIONS: dict[str, tuple[str, ...]] = {
    "forces": ("MACE_forces", "pred_forces", "forces"),
    "energy": ("MACE_energy", "pred_energy", "energy"),
}
REFERENCES: dict[str, tuple[str, ...]] = {
    "forces": ("REF_forces", "original_dataset_forces", "forces", "force", "dft_forces"),
    "energy": ("REF_energy", "original_dataset_total_energy", "original_dataset_energy", "energy"),
}


def read_frames(path: Path, *, placed: bool = False) -> Iterator[Any]:
    """Yield the ``ase.Atoms`` of a file; ``placed`` if it matters where they are."""
    try:
        import ase.io  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{path}: frames are read by ASE, which is not installed",
            hint="pip install 'ltau[ase]'",
        ) from error
    check_file(path)
    if is_stored(path):
        yield from read_stored_frames(path)
        return
    number = 0
    try:
        for frame in read_extxyz(path, placed=placed):
            if len(frame) == 0:
                raise InputError(f"{path}, frame {number}: it has no atoms")
            yield frame
            number += 1
    except InputError:
        raise
    except Exception as error:  # ASE raises whatever its parsers stumble over
        reason = f"it has the species {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{path}: ASE cannot read frame {number}: "
            f"{' '.join(reason.split()) or type(error).__name__}",
            hint="check that it is extxyz and not cut short",
        ) from error
    if number == 0:
        raise InputError(f"{path} is empty: it holds no frames")


def is_stored(path: Path) -> bool:
    """Whether frames are arrays of an HDF5 file."""
    return path.suffix.lower() in HDF5_ENDINGS


def holds_frames(path: Path, *more: str) -> bool:
    """Whether an HDF5 file has frames, and the further arrays of these names."""
    if not is_stored(path):
        return False
    with open_hdf5(path) as file:
        return {*NEEDED, *more} <= list_datasets(path, file).keys()


def neighbors_of(frame: Any, cutoff: float) -> tuple[Integers, Integers]:
    """Return all pairs of atoms up to ``cutoff`` Å apart, both ways, (n_pairs,) int64 each.

    In a periodic cell every image counts, those of an atom itself too. By a k-d tree, in a fraction
    of the time that ASE's neighbor list takes.
    """
    from scipy.spatial import KDTree

    positions = frame.get_positions(wrap=True)
    around, owner = _surround(positions, frame.cell.complete(), frame.pbc, cutoff)
    pairs = KDTree(positions).sparse_distance_matrix(KDTree(around), cutoff, output_type="ndarray")
    first, second = pairs["i"], pairs["j"]
    other = first != second  # the atoms themselves come first in ``around``
    return first[other].astype(np.int64), owner[second[other]]


def _surround(
    positions: Floats, cell: Floats, periodic: Bools, cutoff: float
) -> tuple[Floats, Integers]:
    """Append the images up to ``cutoff`` from the cell; return which atom each place belongs to."""
    owner, inverse = np.arange(len(positions)), np.linalg.inv(cell)
    for axis in np.flatnonzero(periodic):
        # in lengths of the cell; ASE wraps to within rounding
        reach = cutoff * np.linalg.norm(inverse[:, axis]) + 1e-6
        place = positions @ inverse[:, axis]
        images, owners = [positions], [owner]
        for shift in range(1, int(np.ceil(reach)) + 1):
            for sign in (-shift, shift):
                inside = (place + sign >= -reach) & (place + sign <= 1 + reach)
                images.append(positions[inside] + sign * cell[axis])
                owners.append(owner[inside])
        positions, owner = np.concatenate(images), np.concatenate(owners)
    return positions, owner


def quantities(frame: Any) -> dict[str, Any]:
    """Everything stored with a frame; ASE moves some names to a calculator."""
    results = {} if frame.calc is None else dict(frame.calc.results)
    return results | dict(frame.info) | dict(frame.arrays)


def check_no_scores(there: Collection[str], key: str, where: object) -> None:
    """Refuse as truth what a force field may have said of a frame that carries its scores."""
    if key.lower() in _OF_CALCULATORS and any(name.startswith(_SCORE) for name in there):
        raise InputError(
            f"{where}: it carries scores ({_SCORE}...), so its {key} may be the force field's own, "
            "which are no truth",
            hint=f"{_NAME_IT} ({key}, if they are it); where there is none: none",
        )


def check_truth(error: float, size: float, name: object) -> None:
    """Refuse forces as truth that are the prediction itself, by the sums of norms of both."""
    if size > 0 and error <= ROUNDING * size:
        raise InputError(
            f"{name}: the reference forces are the predicted ones, but for rounding: what a force "
            "field says itself is no truth",
            hint=f"{_NAME_IT}; where there is none, ltau describe --reference-key none",
        )


def names_of(known: Sequence[str], there: Collection[str]) -> list[str]:
    """Return those of the known names that are there, then those that differ by case only."""
    exact = [name for name in known if name in there]
    lower = {name.lower(): name for name in there if name not in exact}
    return exact + [lower[name.lower()] for name in known if name.lower() in lower]


def read_property(
    place: Place, names: Sequence[str], what: str, hint: str | None = None
) -> Iterator[tuple[Any, Array]]:
    """Yield each frame with a property of its atoms, (n_atoms, ...); one of the frame is repeated.

    The property is what the place names, else the first of ``names`` that is there; ``what`` and
    ``hint`` are told if none is.
    """
    path, key, width = place.path, place.key, None
    for number, frame in enumerate(read_frames(path)):
        there = {"species": np.array(frame.get_chemical_symbols())} | quantities(frame)
        key = key or next(iter(names_of(names, there)), None)
        if key not in there:
            raise InputError(
                f"{path}, frame {number}: it has no column {key or what}; it has: "
                + ", ".join(sorted(there)),
                hint=hint or f"name one: {path}:COLUMN",
            )
        values = np.asarray(there[key])
        values = np.repeat(values, len(frame)) if values.ndim == 0 else values
        width = values.shape[1:] if width is None else width
        if len(values) != len(frame) or values.shape[1:] != width:
            raise InputError(
                f"{path}, frame {number}: {key} has shape {values.shape}, there are "
                f"{len(frame)} atoms"
                + (f", and in frame 0 it is {width} for each" if number else "")
            )
        yield frame, values


def read_frame_labels(path: Path) -> FrameLabels:
    """Read the labels of every atom."""
    if is_stored(path):
        natoms = read_stored_natoms(path)
        return {"structure": np.repeat(np.arange(len(natoms)), natoms)} | read_stored_labels(path)
    return label_atoms([about(frame) for frame in read_frames(path)])


Told = tuple[list[str], str, tuple[int, int]]


def about(frame: Any) -> Told:
    """Return the species of the atoms of a frame, its ``config_type`` (or ""), its fingerprint."""
    species = frame.get_chemical_symbols()
    kind = str(frame.info.get("config_type", ""))
    return species, kind, fingerprint(species, frame.positions)


def label_atoms(told: Sequence[Told]) -> FrameLabels:
    """Spread what :func:`about` tells of each frame over its atoms."""
    natoms = [len(species) for species, _, _ in told]
    kinds = np.array([kind for _, kind, _ in told])
    labels: FrameLabels = {
        "structure": np.repeat(np.arange(len(told)), natoms),
        "species": np.array([symbol for one in told for symbol in one[0]], dtype=np.str_),
        "fingerprint": np.repeat(np.array([frame for _, _, frame in told]), natoms, axis=0),
    }
    return labels | ({"config_type": np.repeat(kinds, natoms)} if (kinds != "").any() else {})


def label_frames(labels: FrameLabels) -> FrameLabels:
    """Return what labels of atoms say of their frames, each (n_frames,), and their ``formula``."""
    natoms = np.bincount(labels["structure"])
    last = np.cumsum(natoms) - 1
    kept = {name: labels[name][last] for name in labels.keys() & {"config_type", "fingerprint"}}
    return {"formula": formulas(labels["species"], natoms)} | kept
