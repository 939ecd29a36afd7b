"""``ltau score --cutoff``: distances averaged around each atom, on a vacancy in a large crystal."""

import json

import ase.io
import h5py
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.neighborlist import neighbor_list

from tests.helpers import INPUT, USAGE, check, contents, save, score_in_shards

SIZE = 6  # cells of the large crystal, which has a vacancy
CUTOFF = 4.6  # Å, of the model
CENTERS = np.linspace(2.0, CUTOFF, 8)


def pair_basis(frame):
    """Descriptors (n, 8) and force basis (3n, 8) of a pair potential of Gaussians."""
    i, r, vector = neighbor_list("idD", frame, CUTOFF)
    x = (r[:, None] - CENTERS) / 0.35
    fade = (1 - (r / CUTOFF) ** 2) ** 2
    slope_of_fade = -4 * r / CUTOFF**2 * (1 - (r / CUTOFF) ** 2)
    value = np.exp(-0.5 * x**2)
    slope = value * (-x / 0.35 * fade[:, None] + slope_of_fade[:, None])
    descriptors, forces = np.zeros((len(frame), 8)), np.zeros((len(frame), 3, 8))
    np.add.at(descriptors, i, value * fade[:, None])
    np.add.at(forces, i, 2 * slope[:, None, :] * (vector / r[:, None])[:, :, None])
    return descriptors, forces.reshape(-1, 8)


def thermal(size, seed, vacancy=False):
    """A crystal of Cu with atoms displaced as at about 300 K, its forces those of EMT."""
    frame = bulk("Cu", cubic=True).repeat(size)
    if vacancy:
        del frame[len(frame) // 2]
    frame.rattle(0.08, seed=seed)
    frame.calc = EMT()
    frame.arrays["forces_of_emt"] = frame.get_forces()
    frame.calc = None
    return frame


def errors_of(frames, coefficients, basis):
    predicted = [(b @ coefficients).reshape(-1, 3) for _, b in basis]
    return np.concatenate([
        np.linalg.norm(p - f.arrays["forces_of_emt"], axis=1)
        for p, f in zip(predicted, frames, strict=True)
    ])  # fmt: skip


@pytest.fixture(scope="module")
def crystal(tmp_path_factory):
    """A pair potential trained on small crystals, logged, and files of sets to score."""
    folder = tmp_path_factory.mktemp("crystal")
    sets = {
        "train": [thermal(3, seed) for seed in range(12)],
        "test": [thermal(3, seed) for seed in range(100, 124)],
        "large": [thermal(SIZE, 200, vacancy=True)],
    }
    basis = {name: [pair_basis(frame) for frame in frames] for name, frames in sets.items()}
    design = np.concatenate([b for _, b in basis["train"]])
    target = np.concatenate([f.arrays["forces_of_emt"].ravel() for f in sets["train"]])
    orthogonal, triangle = np.linalg.qr(design)
    (folder / "log").mkdir()
    weights = np.zeros(8)
    for epoch in range(12):  # gradient descent
        weights += 0.4 * orthogonal.T @ (target - orthogonal @ weights)
        coefficients = np.linalg.solve(triangle, weights)
        errors = errors_of(sets["train"], coefficients, basis["train"])
        np.save(folder / "log" / f"epoch_{epoch}.npy", errors)
    for name, frames in sets.items():
        save(folder / f"{name}.npy", np.concatenate([d for d, _ in basis[name]]))
        save(folder / f"{name}_errors.npy", errors_of(frames, coefficients, basis[name]))
        save(folder / f"{name}_natoms.npy", [len(frame) for frame in frames])
        ase.io.write(folder / f"{name}.xyz", frames, format="extxyz")
    return folder


@pytest.fixture
def calibrated(crystal, ltau, tmp_path):
    """Score the test set and the large crystal, with frames or without."""
    ltau("ingest", crystal / "log", "-o", tmp_path / "e.h5")
    ltau("fit", tmp_path / "e.h5", crystal / "train.npy", "-o", tmp_path / "m.h5")

    def words(name, frames):
        given = ("--frames", crystal / f"{name}.xyz") if frames else ()
        given = given or ("--natoms", crystal / f"{name}_natoms.npy")
        return ("score", crystal / f"{name}.npy", "-m", tmp_path / "m.h5", *given, "-f")

    def call(frames):
        scores, fitted, out = (tmp_path / f"{n}{frames:d}.h5" for n in ("s", "c", "large"))
        cutoff = ("--cutoff", 6) if frames else ()
        ltau.ok(*words("test", frames), *cutoff, "-o", scores)
        errors = crystal / "test_errors.npy"
        ltau.ok("calibrate", scores, errors, "--method", "distance", "-o", fitted, "--json")
        ltau.ok(*words("large", frames), "--calibration", fitted, "-o", out)
        return out, fitted, words("large", frames)

    return call


def test_atoms_around_a_vacancy_get_the_longer_bars(calibrated, crystal):
    frame = ase.io.read(crystal / "large.xyz")
    errors = np.load(crystal / "large_errors.npy")
    perfect = bulk("Cu", cubic=True).repeat(SIZE)
    hole = perfect.positions[len(perfect) // 2]
    away = frame.copy()
    away.append("Cu")
    away.positions[-1] = hole
    near = away.get_distances(len(frame), range(len(frame)), mic=True) < 3
    assert near.sum() == 12
    assert errors[near].mean() > 1.1 * errors[~near].mean()  # the bars have a reason
    ratio, covered = {}, {}
    for frames in (True, False):
        found = contents(calibrated(frames)[0])
        bars = found["calibrated_error"]
        ratio[frames] = bars[near].mean() / bars[~near].mean()
        covered[frames] = (errors <= found["error_bound"][:, 2])[near].mean()
    assert ratio[True] > 1.2 * ratio[False]
    assert covered[True] >= 0.9


def test_the_mean_is_over_the_neighbors_of_each_atom(calibrated, crystal):
    out, _, _ = calibrated(True)
    found = contents(out)
    frame = ase.io.read(crystal / "large.xyz")
    apart = frame.get_distances(5, range(len(frame)), mic=True)
    expected = np.exp(np.log(found["relative_distance"][apart < 6]).mean())
    np.testing.assert_allclose(found["local_distance"][5], expected, rtol=1e-5)


def test_frames_go_with_frames(calibrated, crystal, ltau, tmp_path):
    out, fitted, words = calibrated(True)
    assert json.loads(ltau("info", fitted, "--json").out)["summary"]["cutoff"] == 6
    plain = (*words[:4], "--natoms", crystal / "large_natoms.npy", "-o", tmp_path / "o.h5")
    check(ltau(*plain, "--calibration", fitted), INPUT, fitted, "where the atoms")
    more = (*words, "--calibration", fitted, "-o", tmp_path / "o.h5")
    check(ltau(*more, "--cutoff", 5), USAGE, "--cutoff 6, not 5")
    check(ltau(*plain, "--cutoff", 5), INPUT, "where the atoms")
    check(ltau(*more, "--natoms", crystal / "large_natoms.npy"), USAGE, "--frames and --natoms")
    test = ("score", crystal / "test.npy", *words[2:4], "--calibration", fitted)
    check(ltau(*test, "--frames", crystal / "large.xyz", "-o", tmp_path / "o.h5"), INPUT, "atoms")
    test = (*test, "--frames", crystal / "test.xyz")
    score_in_shards(ltau, test, 3, tmp_path / "all.h5")
    ltau.ok(*test, "-o", tmp_path / "whole.h5")
    assert (tmp_path / "all.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert ltau("export", tmp_path / "whole.h5").out == ltau(*test, "-o", "-", "-q").out
    with h5py.File(out) as file:
        assert "local_distance" in file
