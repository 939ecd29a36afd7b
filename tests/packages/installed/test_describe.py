"""``ltau describe`` by the real packages, along the commands of ``docs/models.md``."""

import json
import re

import ase.io
import h5py
import numpy as np
import pytest

from ltau_cli.cli.main import run
from ltau_cli.errors import InputError, UsageError
from ltau_cli.packages.network import NetworkName
from ltau_cli.readers.descriptors import open_descriptors
from ltau_cli.readers.place import Place
from ltau_cli.readers.truth import read_true_errors
from tests.packages.installed.conftest import PACKAGE, commands_of, only

PRECISION = 2e-4  # of float32 features and forces


pytestmark = getattr(pytest.mark, PACKAGE)


@pytest.fixture(scope="session")
def frames(place):
    return ase.io.read(place / "pool.xyz", ":3")


@pytest.fixture(scope="session")
def told(network, frames):
    return NetworkName.parse(network).load()([frame.copy() for frame in frames])


def close(one, other):
    scale = np.abs(other).max()
    np.testing.assert_allclose(one / scale, other / scale, atol=PRECISION)


def test_the_whole_way_gives_error_bars(place):
    scored = ase.io.read(place / "pool_scored.xyz", ":")
    assert len(scored) == 10
    for frame in scored:
        assert (frame.arrays["ltau_calibrated_error"] > 0).all()
        assert (frame.arrays["ltau_error_bound_90"] >= frame.arrays["ltau_error_bound_50"]).all()
    with h5py.File(place / "scores.h5") as scores:
        assert scores["structures/n_samples"][...].tolist() == [55] * 10
        assert set(scores["group"][...].tolist()) == {b"Au", b"Cu"}
    with h5py.File(place / "calibration.h5") as calibration:
        held_out = json.loads(calibration.attrs["summary"])["heldout"]
    told = held_out["predictors"]["ltau"]
    print(f"\n{PACKAGE}: held-out rank correlation {told['rank_correlation']:.2f}, coverage of the "
          f"90 % bounds {told['coverage']['0.9']:.3f}")  # fmt: skip
    assert 0.6 < told["coverage"]["0.9"] <= 1


@only("mace", "nequip", "sevenn", "chgnet", "matgl", "metatrain")
def test_the_log_of_the_record_lines_up_with_the_atoms(place):
    """Held-out atoms are missing in the log, and carry no weight in the fitted model."""
    with np.load(place / "logs" / "samples.npz") as samples:
        held_out = samples["held_out"]
    assert held_out.any() == (PACKAGE != "sevenn")  # whose page has a file of them
    with h5py.File(place / "errors.h5") as log, h5py.File(place / "train.h5") as train:
        seen = np.isfinite(log["errors"][...]).any(axis=0)
        np.testing.assert_array_equal(log["structure"][...], train["structure"][...])
        np.testing.assert_array_equal(log["species"][...], train["species"][...])
    np.testing.assert_array_equal(seen, ~held_out)
    with h5py.File(place / "model.h5") as model:
        np.testing.assert_array_equal(model["point"][...] >= 0, ~held_out)
        assert model["multiplicity"][...].sum() == (~held_out).sum()


def recorded_at_the_end(place):
    """Errors of the log of saved checkpoints, whose last one is the model, if the page has it."""
    name = "from_checkpoints.h5" if (place / "from_checkpoints.h5").exists() else "errors.h5"
    with h5py.File(place / name) as log:
        return log["errors"][-1]


@only("mace", "nequip", "sevenn", "deepmd")
def test_true_errors_are_those_of_the_log(place):
    """The last epoch in the log is the model that described: the same errors."""
    with h5py.File(place / "train.h5") as train:
        norms = np.linalg.norm(train["forces"][...] - train["reference_forces"][...], axis=1)
    np.testing.assert_allclose(recorded_at_the_end(place), norms, rtol=1e-3, atol=1e-5)


def test_invariance(network, frames, told):
    rng = np.random.default_rng(0)
    loaded = NetworkName.parse(network).load()
    start = 0
    for frame in frames:
        turned = frame.copy()
        turned.rotate(77, (1, 2, 3), center="COM")
        turned.translate((0.3, 1.2, -4))
        order = rng.permutation(len(frame))
        again = loaded([turned[order]])
        own = slice(start, start + len(frame))
        close(again.descriptors, told.descriptors[own][order])
        norms = np.linalg.norm(told.forces[own][order], axis=1)
        close(np.linalg.norm(again.forces, axis=1), norms)
        start = own.stop
    assert np.ptp(told.descriptors, axis=0).max() > 100 * PRECISION


def test_periodic_structures(network):
    """A crystal and its supercell have the same atoms."""
    from ase.build import bulk

    loaded = NetworkName.parse(network).load()
    one = loaded([bulk("Cu", cubic=True)]).descriptors
    many = loaded([bulk("Cu", cubic=True) * (2, 1, 1)]).descriptors
    close(many, np.repeat(one[:1], 8, axis=0))


def test_batches_are_of_no_consequence(network, frames, told):
    loaded = NetworkName.parse(network).load()
    single = [loaded([frame.copy()]) for frame in frames]
    close(np.concatenate([one.descriptors for one in single]), told.descriptors)
    close(np.concatenate([one.forces for one in single]), told.forces)
    close(np.concatenate([one.energy for one in single]), told.energy)


def test_forces_and_energies_are_those_of_the_packages_calculator(network, frames, told, package):
    calculator = package.calculator(network.partition(":")[2])
    start = 0
    for i, frame in enumerate(frames):
        frame = frame.copy()
        if PACKAGE == "chgnet":
            frame.center(vacuum=8.0)
            frame.pbc = True
        frame.calc = calculator
        stop = start + len(frame)
        close(told.forces[start:stop], frame.get_forces())
        close(told.energy[i], frame.get_potential_energy())
        start = stop


def test_layers(network, frames, told):
    if PACKAGE not in ("matgl", "metatrain"):  # whose models here have one layer
        first = NetworkName.parse(network).load(layer=1)([frames[0].copy()]).descriptors
        last = told.descriptors[: len(frames[0])]
        assert first.shape != last.shape or not np.allclose(first, last, rtol=1e-2)
    with pytest.raises(UsageError, match="layers"):
        NetworkName.parse(network).load(layer=99)


def test_a_damaged_file_is_named(tmp_path):
    damaged = tmp_path / ("state.pt" if PACKAGE == "matgl" else "damaged.pt")
    damaged.write_bytes(b"no model")
    file = tmp_path if PACKAGE == "matgl" else damaged
    with pytest.raises(InputError, match="cannot be loaded"):
        NetworkName("metatomic" if PACKAGE == "metatrain" else PACKAGE, str(file)).load()


@only("mace", "nequip", "sevenn", "matgl", "metatrain", "deepmd")  # CHGNet knows all elements
def test_an_unknown_element_is_named(network, frames):
    strange = frames[0].copy()
    strange.symbols[0] = "Og"
    with pytest.raises(InputError, match="was not trained on Og"):
        NetworkName.parse(network).load()([strange])


@only("mace", "nequip", "sevenn", "deepmd")
def test_more_checkpoints_with_resume(place, tmp_path):
    pattern = re.search(r"--network '(.*)' -o eval/", commands_of(place))[1]
    package, file = pattern.split(":", 1)
    words = ["describe", place / "train.xyz", "--network", f"{package}:{place / file}", "-o"]
    words += [tmp_path / "eval", "-q"]
    assert run([str(word) for word in [*words, "--epochs", "::1000000"]]) == 0
    assert len(list((tmp_path / "eval").glob("*.npy"))) == 2
    assert run([str(word) for word in [*words, "--resume"]]) == 0
    there = {path.name for path in (tmp_path / "eval").iterdir()}
    assert there == {path.name for path in (place / "eval").iterdir()}
    for name in there - {"samples.npz"}:
        close(np.load(tmp_path / "eval" / name), np.load(place / "eval" / name))


@only("deepmd")
def test_what_the_package_writes_is_read(place, run_shell, tmp_path):
    """Its descriptors, features and forces are those that ltau describe finds."""
    options = f"-m {place / 'model.ckpt-36.pt'} -s {place / 'val'}"
    run_shell(
        tmp_path,
        f"dp --pt eval-desc {options} -o desc\ndp --pt embed {options} -o embedding.hdf5\n"
        f"dp --pt test {options} -d detail -n 100",
    )
    frames = ase.io.read(place / "val.xyz", ":")
    norms = []
    for layer, file in ((1, "desc/val.npy"), (2, "embedding.hdf5")):
        model = NetworkName("deepmd", str(place / "model.ckpt-36.pt")).load(layer=layer)
        told = model([frame.copy() for frame in frames])
        with open_descriptors(Place(tmp_path / file)) as found:
            close(found.source.read(0, found.n), told.descriptors)
            np.testing.assert_array_equal(found.known["natoms"], [55] * len(frames))
        reference = np.concatenate([frame.arrays["REF_forces"] for frame in frames])
        norms = np.linalg.norm(told.forces - reference, axis=1)
    stored = read_true_errors(Place(tmp_path / "detail.f.out"))
    close(stored.values, norms)
