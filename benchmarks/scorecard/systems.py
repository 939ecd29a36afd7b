"""The test systems: what is trained on, and four kinds of frames to be judged on.

Every set is molecular dynamics from starts of its own; the truth is GFN2-xTB (tblite) or EMT (ASE).
No number of ltau's defaults was fitted to :data:`SYSTEMS`; the exponents of its law were measured
on :data:`DEVELOPMENT`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import make_sample_data as sample
import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc100, fcc111
from ase.calculators.emt import EMT
from ase.cluster import Icosahedron, Octahedron
from ase.data import atomic_numbers, reference_states
from ase.optimize import FIRE

SETS = ("in-domain", "hotter", "much hotter", "other kind")
Random = np.random.Generator


@dataclass(frozen=True)
class Drawn:
    """How a set of frames is drawn."""

    make: Callable[[Random], Atoms]  # a start
    kelvin: float
    n_starts: int
    n_frames: int  # of each start
    change: Callable[[Atoms, Random], Atoms] | None = None  # of a frame, before it is labeled


@dataclass(frozen=True)
class System:
    """A potential to learn, and where."""

    name: str
    calculator: Callable[[], Any]
    species: tuple[str, ...]
    shortest: float  # Å, innermost radial function of the network
    time_step: float  # fs
    equilibration: int  # steps
    spacing: int  # steps between frames
    train: Drawn
    test: dict[str, Drawn]


def frames_of(system: System, name: str, cache: Path) -> list[Atoms]:
    """Make the frames of ``train`` or of one of :data:`SETS`, or read what was made before."""
    path = cache / system.name / f"{name.replace(' ', '_')}.xyz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = system.train if name == "train" else system.test[name]
        stream = 1 + ("train", *SETS).index(name)
        frames: list[Atoms] = []
        for start in range(drawn.n_starts):
            rng = np.random.default_rng([sample.SEED, stream, start])
            frames += trajectory(system, drawn, start, rng)
        part = path.with_suffix(".part")
        ase.io.write(part, frames, format="extxyz")
        part.rename(path)
    return list(ase.io.iread(path, ":", format="extxyz"))


def trajectory(system: System, drawn: Drawn, start: int, rng: Random) -> list[Atoms]:
    """Relax a start for a while, heat it, keep some frames."""
    atoms = drawn.make(rng)
    atoms.calc = system.calculator()
    FIRE(atoms, logfile=None).run(fmax=0.1, steps=100)
    # how heavy an atom is does not change which geometries it visits, only how fast
    atoms.set_masses(np.maximum(atoms.get_masses(), 4.0))
    frames = sample.run_md(
        atoms, drawn.kelvin, drawn.n_frames, start, rng, equilibration=system.equilibration,
        spacing=system.spacing, time_step=system.time_step, friction=0.02,
    )  # fmt: skip
    return [frame if drawn.change is None else relabel(system, drawn, frame, rng)
            for frame in frames]  # fmt: skip


def relabel(system: System, drawn: Drawn, frame: Atoms, rng: Random) -> Atoms:
    assert drawn.change is not None
    changed = drawn.change(frame, rng)
    changed.calc = system.calculator()
    return sample.labeled_copy(changed, start=frame.info["start"], temperature_K=drawn.kelvin)


# Molecules --------------------------------------------------------------------------------------


def xtb() -> Any:
    from tblite.ase import TBLite

    return TBLite(method="GFN2-xTB", verbosity=0)


def molecule(smiles: str) -> Callable[[Random], Atoms]:
    def conformer(rng: Random) -> Atoms:
        from rdkit import Chem
        from rdkit.Chem.rdDistGeom import EmbedMolecule

        found = Chem.AddHs(Chem.MolFromSmiles(smiles))
        EmbedMolecule(found, randomSeed=int(rng.integers(1 << 30)))
        symbols = [atom.GetSymbol() for atom in found.GetAtoms()]
        return Atoms(symbols, positions=found.GetConformer().GetPositions())

    return conformer


def break_amide(frame: Atoms, rng: Random) -> Atoms:
    """Draw the bond between the acetyl group (atoms 0 to 2 and its hydrogens) and N out."""
    carbon, nitrogen = 1, 3
    hydrogens = [i for i in range(len(frame)) if frame.symbols[i] == "H"]
    group = [0, 1, 2, *sorted(hydrogens, key=lambda i: frame.get_distance(0, i))[:3]]
    bond = frame.positions[carbon] - frame.positions[nitrogen]
    changed = frame.copy()
    changed.positions[group] += rng.uniform(0.3, 1.2) * bond / np.linalg.norm(bond)
    return changed


# Metals -----------------------------------------------------------------------------------------


def lattice(symbols: np.ndarray[Any, Any]) -> float:
    """Lattice constant of a random fcc alloy (Å), the mean of its elements'."""
    states: Any = reference_states
    return float(np.mean([states[atomic_numbers[s]]["a"] for s in symbols]))


def mixed(rng: Random, n: int, elements: tuple[str, ...], even: bool = False) -> Any:
    """Elements of n sites; any composition, or an even one."""
    share = np.ones(len(elements)) / len(elements) if even else rng.dirichlet([1.0] * len(elements))
    return rng.choice(elements, n, p=share)


def cluster(n: int, *elements: str, even: bool = True) -> Callable[[Random], Atoms]:
    """A truncated octahedron of 38 atoms, or an icosahedron of 13 or 55."""

    def make(rng: Random) -> Atoms:
        symbols = mixed(rng, n, elements, even)
        a = lattice(symbols)
        shape = Octahedron("Pt", 4, 1, a) if n == 38 else Icosahedron("Pt", 2 if n == 13 else 3, a)
        return Atoms(list(symbols), positions=shape.positions)

    return make


def adsorbed(adsorbate: str, metal: str, facet: Callable[..., Atoms]) -> Callable[[Random], Atoms]:
    """Three layers of nine atoms, with one to three adsorbed atoms above random sites."""

    def make(rng: Random) -> Atoms:
        slab = facet(metal, (3, 3, 3), vacuum=8.0)
        sites = rng.permutation(9)[: rng.integers(1, 4)]
        top = slab.positions[slab.get_tags() == 1][sites]
        for x, y, _ in top + rng.uniform(-0.7, 0.7, top.shape):
            add_adsorbate(slab, adsorbate, 1.4, (x, y))
        return plain(slab)

    return make


def crystal(*elements: str) -> Callable[[Random], Atoms]:
    """32 atoms, a little strained."""

    def make(rng: Random) -> Atoms:
        symbols = mixed(rng, 32, elements)
        cell = bulk("Pt", a=lattice(symbols) * rng.normal(1.0, 0.01), cubic=True).repeat(2)
        cell.symbols[:] = symbols
        return plain(cell)

    return make


def surface(*elements: str) -> Callable[[Random], Atoms]:
    def make(rng: Random) -> Atoms:
        symbols = mixed(rng, 27, elements)
        slab = fcc111("Pt", (3, 3, 3), a=lattice(symbols), vacuum=8.0)
        slab.symbols[:] = symbols
        return plain(slab)

    return make


def plain(atoms: Atoms) -> Atoms:
    """Without constraints and tags; a slab is periodic along its surface."""
    return Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def alloys(*of: tuple[str, ...]) -> Callable[[Random], Atoms]:
    """Crystals, surfaces and clusters of random composition."""

    def make(rng: Random) -> Atoms:
        elements = of[rng.integers(len(of))]
        phases = (crystal(*elements), surface(*elements), cluster(38, *elements, even=False))
        return phases[rng.integers(3)](rng)

    return make


# All --------------------------------------------------------------------------------------------


def drawn_at(
    make: Callable[[Random], Atoms],
    other: Callable[[Random], Atoms],
    hot: tuple[float, float],
    n_starts: int = 16,
    n_frames: int = 6,
    change: Callable[[Atoms, Random], Atoms] | None = None,
) -> tuple[Drawn, dict[str, Drawn]]:
    """Training set and test sets, at 300 K unless they are hotter."""
    train = Drawn(make, 300, n_starts, n_frames)
    test = Drawn(make, 300, 32, 2)
    hotter, much_hotter = (Drawn(make, kelvin, 12, 3) for kelvin in hot)
    of_other = Drawn(other, 300, 12, 3, change)
    return train, dict(zip(SETS, (test, hotter, much_hotter, of_other), strict=True))


ENOL, DIKETONE = molecule(r"CC(=O)/C=C(/C)O"), molecule("CC(=O)CC(C)=O")
PEPTIDE = molecule("CC(=O)NC(C)C(=O)NC")
PARTICLE, OTHER_PARTICLE = cluster(38, "Pd", "Ag"), cluster(55, "Pd", "Ag", even=False)
ALLOYS = alloys(("Ni",), ("Pd",), ("Pt",), ("Ni", "Pd"), ("Pd", "Pt"))
OTHER_ALLOYS = alloys(("Ni", "Pt"), ("Ni", "Pd", "Pt"))

SYSTEMS = (
    System("acetylacetone", xtb, ("H", "C", "O"), 0.8, 1.5, 250, 50,
           *drawn_at(ENOL, DIKETONE, (600, 1000))),
    System("alanine dipeptide", xtb, ("H", "C", "N", "O"), 0.8, 1.5, 250, 50,
           *drawn_at(PEPTIDE, PEPTIDE, (600, 1000), change=break_amide)),
    System("Pd-Ag cluster", EMT, ("Pd", "Ag"), 1.5, 5.0, 300, 80,
           *drawn_at(PARTICLE, OTHER_PARTICLE, (600, 1200))),
    System("O on Pd", EMT, ("Pd", "O"), 1.2, 3.0, 300, 80,
           *drawn_at(adsorbed("O", "Pd", fcc111), adsorbed("O", "Pd", fcc100), (600, 900))),
    System("Ni-Pd-Pt alloys", EMT, ("Ni", "Pd", "Pt"), 1.5, 4.0, 300, 80,
           *drawn_at(ALLOYS, OTHER_ALLOYS, (800, 1800), 48, 2)),
)  # fmt: skip

# What the exponents were measured on, beside the sample data and 3BPA: the same kinds, other atoms.
DEVELOPMENT = (
    System("aminoethanol", xtb, ("H", "C", "N", "O"), 0.8, 1.5, 250, 50,
           *drawn_at(molecule("NCCO"), molecule("COCN"), (600, 1000))),
    System("ethyl acetate", xtb, ("H", "C", "O"), 0.8, 1.5, 250, 50,
           *drawn_at(molecule("CCOC(C)=O"), molecule("CCCC(=O)O"), (600, 1000))),
    System("Cu-Au cluster", EMT, ("Cu", "Au"), 1.5, 5.0, 300, 80,
           *drawn_at(cluster(38, "Cu", "Au"), cluster(55, "Cu", "Au", even=False), (600, 1200))),
    System("N on Ni", EMT, ("Ni", "N"), 1.2, 3.0, 300, 80,
           *drawn_at(adsorbed("N", "Ni", fcc111), adsorbed("N", "Ni", fcc100), (600, 900))),
    System("Ag-Al-Cu alloys", EMT, ("Ag", "Al", "Cu"), 1.5, 4.0, 300, 80,
           *drawn_at(alloys(("Ag",), ("Al",), ("Cu",), ("Ag", "Cu"), ("Al", "Cu")),
                     alloys(("Ag", "Al"), ("Ag", "Al", "Cu")), (800, 1800), 48, 2)),
)  # fmt: skip


def system_named(name: str) -> System:
    """Return one of all systems; processes pass names, as a system cannot be pickled."""
    return next(system for system in (*SYSTEMS, *DEVELOPMENT) if system.name == name)
