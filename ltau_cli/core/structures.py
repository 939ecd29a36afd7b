"""Per-structure aggregates of per-row values."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Floats, Integers

Block = dict[str, Array]  # the datasets of some rows, by name

_SYMBOLS = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb
Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu
Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db
Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""


def name_elements(labels: Array) -> bool:
    """Whether all labels (n,) are chemical elements, by symbol or atomic number."""
    symbols = _SYMBOLS.split()
    numbers = map(str, range(1, len(symbols) + 1))
    return bool(np.isin(labels.astype(np.str_), [*symbols, *numbers]).all())


class StructureTotals:
    """Sum and largest of quantities per structure, (n_structures, n_columns), added row by row.

    Rows are added one after the other, so the result does not depend on how they are cut into
    blocks.
    """

    def __init__(self, n_structures: int, n_columns: int = 1) -> None:
        self.total = np.zeros((n_structures, n_columns))
        self.largest = np.full((n_structures, n_columns), -np.inf)

    def add(self, structure: Integers, values: Array) -> None:
        """Add rows: ``structure`` (n,) int64 and ``values`` (n,) or (n, n_columns)."""
        columns = values.reshape(len(values), -1)
        np.add.at(self.total, structure, columns)
        np.maximum.at(self.largest, structure, columns)


def log_structure_distance(
    blocks: Iterable[tuple[Integers, npt.NDArray[np.floating]]], n_structures: int
) -> Floats:
    """Mean logarithm of the relative distances of each structure, added row by row.

    Blocks hold the structure (m,) int64 and the relative distance (m,) of each row. Gives
    (n_structures,) float64, NaN for a structure without a row.
    """
    total, n = np.zeros(n_structures), np.zeros(n_structures)
    for structure, distance in blocks:
        np.add.at(total, structure, np.log(distance.astype(np.float64)))
        np.add.at(n, structure, 1)
    with np.errstate(invalid="ignore"):
        means: Floats = total / n
    return means


def structure_distance(structure: Integers, distance: npt.NDArray[np.floating]) -> Floats:
    """Geometric mean of the relative distances in the structure of each row, (n,)."""
    logs = log_structure_distance([(structure, distance)], int(structure.max()) + 1)
    means: Floats = np.exp(logs)[structure]
    return means


def local_distance(distance: npt.NDArray[np.floating], first: Integers, second: Integers) -> Floats:
    """Geometric mean of the relative distances of each atom and its spatial neighbors, (n,).

    ``distance`` (n,) are those of the atoms of one frame, ``first`` and ``second`` (n_pairs,)
    int64 its neighbors, both ways.
    """
    logs, n = np.log(distance.astype(np.float64)), len(distance)
    total = logs + np.bincount(first, weights=logs[second], minlength=n)
    means: Floats = np.exp(total / (1 + np.bincount(first, minlength=n)))
    return means
