"""A pair potential of copper and gold as an ASE calculator, and as a network for ltau describe."""

from functools import cache

import ase.io
import numpy as np
from ase.calculators.calculator import Calculator, all_changes

CENTERS, WIDTH = np.linspace(2.2, 5.0, 8), 0.4  # of Gaussians of the distance, Å


def look(atoms):
    """Sum Gaussians over the Cu and the Au around each atom; also how forces depend on weights."""
    apart = atoms.positions[:, None] - atoms.positions[None]
    distance = np.linalg.norm(apart, axis=2) + 100 * np.eye(len(atoms))
    offset = (distance[:, :, None] - CENTERS) / WIDTH
    gaussian = np.exp(-(offset**2) / 2)
    kind = np.stack([atoms.symbols == "Cu", atoms.symbols == "Au"], axis=1).astype(float)
    features = np.einsum("ijc,jb->ibc", gaussian, kind).reshape(len(atoms), -1)
    push = (gaussian * offset / WIDTH)[..., None] * (apart / distance[..., None])[:, :, None]
    one_way = np.einsum("ia,ijcx,jb->ixabc", kind, push, kind)
    forces = one_way + one_way.swapaxes(2, 3)
    return kind, features, forces.reshape(len(atoms), 3, -1)


@cache
def fit(file):
    """Find the weights, (32,), that give the forces of labeled frames best."""
    frames = ase.io.read(file, ":")
    rows = np.concatenate([look(frame)[2].reshape(3 * len(frame), -1) for frame in frames])
    wanted = np.concatenate([frame.arrays["REF_forces"].ravel() for frame in frames])
    return np.linalg.lstsq(rows, wanted, rcond=1e-6)[0]


class PairPotential(Calculator):
    """Energy and forces; ``features`` (n_atoms, 16) are those of the frame evaluated last."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)):
        super().calculate(atoms, properties, system_changes)
        weights = fit("train.xyz")
        kind, self.features, forces = look(atoms)
        energy = np.einsum("ia,id,ad->", kind, self.features, weights.reshape(2, -1))
        self.results = {"energy": float(energy), "forces": forces @ weights}


def describe(frames):
    """What ltau describe asks for."""
    told = {"descriptors": [], "forces": [], "energy": []}
    for frame in frames:
        calculator = PairPotential()
        frame.calc = calculator
        told["forces"].append(frame.get_forces())
        told["energy"].append([frame.get_potential_energy()])
        told["descriptors"].append(calculator.features)
    return {name: np.concatenate(values) for name, values in told.items()}
