"""Live: error bars in an ASE calculator."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase.calculators.emt import EMT

import ltau_cli as ltau
from tests.helpers import SAMPLE

OWN = ["force_error", "force_error_bound", "ood_pvalue"]
ARRAYS = {
    "force_error": "ltau_calibrated_error",
    "force_error_bound": "ltau_error_bound_90",
    "ood_pvalue": "ltau_ood_pvalue",
}


class Counted(EMT):
    """EMT that counts its evaluations."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def calculate(self, *arguments, **options):
        self.n += 1
        super().calculate(*arguments, **options)


@pytest.fixture(scope="session")
def frames():
    """Hot frames of the sample data, without the predictions of another model."""
    found = ase.io.read(SAMPLE / "test_900K.xyz", ":")
    for number, frame in enumerate(found):
        frame.info = {"number": number}
        frame.arrays = {name: frame.arrays[name] for name in ("numbers", "positions")}
    return found


@pytest.fixture(scope="session")
def describe():
    """The descriptors that the sample network gave to a frame of the sample data."""
    known = np.load(SAMPLE / "test_900K_descriptors.npy").reshape(25, 55, -1)
    return lambda atoms: known[atoms.info["number"]][: len(atoms)]


def near(atoms):
    """Numbers that change with the surroundings of an atom, as many as the sample network's."""
    apart = atoms.get_all_distances(mic=True) + 10 * np.eye(len(atoms))
    return np.exp(-((apart[:, :, None] - np.linspace(2, 5, 16)) ** 2)).sum(axis=1)


@pytest.fixture
def make(pipeline, describe):
    def build(calculator=None, descriptors=describe, **options):
        options = {"calibration": pipeline.calibration} | options
        return ltau.Live(calculator or EMT(), pipeline.model, descriptors=descriptors, **options)

    return build


def test_the_numbers_are_those_of_score(make, frames, pipeline, ltau):
    hot = SAMPLE / "test_900K_descriptors.npy"
    out = pipeline.folder / "hot_live.h5"
    assert not ltau(
        "score", hot, "-m", pipeline.model, "--calibration", pipeline.calibration,
        "--natoms", SAMPLE / "test_900K_natoms.npy", "-o", out, "--force",
    ).code  # fmt: skip
    live = make(level=0.95)
    told = {name: [] for name in OWN}
    for frame in frames:
        frame = frame.copy()
        frame.calc = live
        frame.get_forces()
        for name in OWN:
            told[name].append(live.results[name])
    with open_scores(out) as scores:
        wanted = {
            "force_error": scores.read("calibrated_error"),
            "force_error_bound": scores.read("error_bound")[:, 3],
            "ood_pvalue": scores.read("ood_pvalue"),
        }
        assert scores.read("levels")[3] == 0.95
    for name, values in wanted.items():
        assert np.array_equal(np.concatenate(told[name]), values), name
    assert live.results["force_error_level"] == 0.95


def open_scores(path):
    return ltau.open_artifact(path)
