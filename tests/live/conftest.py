"""Frames and descriptors of the sample data, and calculators to wrap."""

import ase.io
import numpy as np
import pytest
from ase.calculators.emt import EMT

import ltau_cli as ltau
from tests.helpers import SAMPLE

try:
    from ase.filters import UnitCellFilter as CellFilter
except ImportError:  # before ASE 3.23
    from ase.constraints import UnitCellFilter as CellFilter  # noqa: F401


class Counted(EMT):
    """EMT that counts its evaluations."""

    n = 0

    def calculate(self, *arguments, **options):
        self.n += 1
        super().calculate(*arguments, **options)


@pytest.fixture(scope="session")
def hot():
    """Frames at 900 K, numbered, without the predictions of another model."""
    found = ase.io.read(SAMPLE / "test_900K.xyz", ":")
    for number, frame in enumerate(found):
        frame.calc = None
        frame.info = {"number": number}
        frame.arrays = {name: frame.arrays[name] for name in ("numbers", "positions")}
    return found


@pytest.fixture(scope="session")
def looked_up():
    """The descriptors that the sample network gave the atoms of a frame at 900 K."""
    known = np.load(SAMPLE / "test_900K_descriptors.npy").reshape(25, 55, -1)
    return lambda atoms: known[atoms.info["number"]]


@pytest.fixture(scope="session")
def near(pipeline):
    """Descriptors that change smoothly with the positions, as many as the sample network's."""
    shift = np.load(pipeline.train).mean(axis=0)

    def describe(atoms):
        apart = atoms.get_all_distances(mic=bool(atoms.pbc.any())) + 100 * np.eye(len(atoms))
        gaussian = np.exp(-((apart[:, :, None] - np.linspace(2, 5, 16)) ** 2) / 2)
        return shift + 0.1 * gaussian.sum(axis=1)

    return describe


@pytest.fixture
def counted():
    return Counted()


@pytest.fixture
def make(pipeline, near):
    """Wrap a calculator; EMT with descriptors that change with the positions by default."""

    def build(calculator=None, descriptors=near, **options):
        options = {"calibration": pipeline.calibration} | options
        inner = Counted() if calculator is None else calculator
        return ltau.Live(inner, pipeline.model, descriptors=descriptors, **options)

    return build


@pytest.fixture
def atoms(hot, make):
    frame = hot[3].copy()
    frame.calc = make()
    return frame
