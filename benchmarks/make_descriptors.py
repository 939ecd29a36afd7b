"""Descriptors of a real force field: CHGNet's atom features of structures that ASE builds.

    pip install torch==2.13.0 chgnet ase      (its weights are in the package)
    python benchmarks/make_descriptors.py descriptors.npz [--structures 2000]

Crystals of many compositions, as they are, rattled, strained and with vacancies. ``train`` and
``query_in`` are of the same elements and kinds; ``query_ood`` has the elements that are held out,
and strains far beyond. Writes ``train``, ``query_in`` and ``query_ood``, (n_atoms, 64) float32, and
the atoms of each structure as ``*_natoms``.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("output", type=Path)
parser.add_argument("--structures", type=int, default=2000)
if __name__ == "__main__":
    options = parser.parse_args()  # before what takes long to import

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.build import bulk

METALS = (
    "Li",
    "Na",
    "K",
    "Mg",
    "Ca",
    "Al",
    "Ti",
    "V",
    "Cr",
    "Fe",
    "Co",
    "Ni",
    "Cu",
    "Zn",
    "Zr",
    "Nb",
)
ANIONS = ("O", "S", "F", "Cl", "N")
HELD_OUT_METALS, HELD_OUT_ANIONS = ("Ag", "Y", "Ga", "Rb", "Ir"), ("Se", "Te")
PAIRS = ("rocksalt", "zincblende", "cesiumchloride", "wurtzite")
SINGLE = ("fcc", "bcc", "hcp", "sc")
SIZES = {
    "Li": 1.5,
    "Na": 1.9,
    "K": 2.3,
    "Rb": 2.4,
    "Ca": 2.0,
    "Y": 1.8,
    "O": 0.7,
    "F": 0.7,
    "N": 0.7,
}
BATCH = 16


def prototypes(metals: tuple[str, ...], anions: tuple[str, ...]) -> list[Atoms]:
    """One cell of each composition and crystal family, with a guessed lattice constant."""
    cells = []
    for metal, kind in itertools.product(metals, SINGLE):
        a = {"fcc": 2.8, "bcc": 2.3, "hcp": 2.0, "sc": 1.9}[kind] * SIZES.get(metal, 1.4)
        cells.append(bulk(metal, kind, a=a))
    for metal, anion, kind in itertools.product(metals, anions, PAIRS):
        bond = SIZES.get(metal, 1.4) + SIZES.get(anion, 1.0)
        scale = {"rocksalt": 2.0, "zincblende": 2.3, "cesiumchloride": 1.2, "wurtzite": 1.63}[kind]
        cells.append(bulk(metal + anion, kind, a=scale * bond))
    return cells


def vary(cell: Any, rng: np.random.Generator, strain: float) -> Atoms:
    """Return a supercell of at least 16 atoms: as it is, rattled, or with a vacancy."""
    repeat = max(1, round((24 / len(cell)) ** (1 / 3)))
    atoms = cell * (repeat, repeat, repeat)
    factor = 1 + rng.uniform(-strain, strain)
    atoms.set_cell(atoms.cell * factor, scale_atoms=True)
    kind = rng.integers(4)
    if kind > 0:
        atoms.rattle(rng.uniform(0.01, 0.25), seed=int(rng.integers(2**31)))
    if kind == 3:
        del atoms[int(rng.integers(len(atoms)))]
    varied: Atoms = atoms
    return varied


def structures(
    metals: tuple[str, ...], anions: tuple[str, ...], n: int, strain: float, seed: int
) -> Iterator[Atoms]:
    rng = np.random.default_rng(seed)
    cells = prototypes(metals, anions)
    for _ in range(n):
        yield vary(cells[rng.integers(len(cells))], rng, strain)


def describe(frames: list[Atoms]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Atom features, (n_atoms, 64), and the atoms of each structure."""
    from chgnet.model import CHGNet
    from pymatgen.io.ase import AseAtomsAdaptor

    model = CHGNet.load(use_device="cpu", verbose=False)
    found = []
    for start in range(0, len(frames), BATCH):
        batch = [AseAtomsAdaptor.get_structure(atoms) for atoms in frames[start : start + BATCH]]
        told = model.predict_structure(batch, task="e", return_atom_feas=True)
        found += [one["atom_fea"] for one in (told if isinstance(told, list) else [told])]
        print(
            f"\r{min(start + BATCH, len(frames)):,} of {len(frames):,} structures",
            end="",
            flush=True,
        )
    print()
    return np.concatenate(found).astype(np.float32), np.array([len(one) for one in found])


def main(options: argparse.Namespace) -> None:
    n = options.structures
    sets = {
        "train": structures(METALS, ANIONS, n, 0.06, 0),
        "query_in": structures(METALS, ANIONS, max(1, n // 8), 0.06, 1),
        "query_ood": structures(HELD_OUT_METALS, HELD_OUT_ANIONS, max(1, n // 16), 0.25, 2),
    }
    arrays: dict[str, Any] = {}
    for name, frames in sets.items():
        arrays[name], arrays[f"{name}_natoms"] = describe(list(frames))
    np.savez_compressed(options.output, **arrays)
    print(", ".join(f"{name} {values.shape}" for name, values in arrays.items()))


if __name__ == "__main__":
    main(options)
