"""Live around the calculators of the real packages, with the models of ``docs/models.md``."""

import importlib.util

import ase.io
import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import SumCalculator
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE
from ase.units import fs

import ltau_cli as ltau
from ltau_cli.errors import InputError, UsageError
from tests.helpers import SAMPLE
from tests.packages.installed.conftest import PACKAGE, only

pytestmark = getattr(pytest.mark, PACKAGE)
STEPS = 5


@pytest.fixture
def bare(network, package):
    return package.calculator(network.partition(":")[2])


@pytest.fixture
def wrap(place):
    return lambda calculator, **options: ltau.Live(
        calculator, place / "model.h5", place / "calibration.h5", **options
    )


@pytest.fixture
def pool(place):
    """Frames to score; CHGNet takes all for periodic, and its calculator makes no box."""
    frames = ase.io.read(place / "pool.xyz", ":3")
    for frame in frames if PACKAGE == "chgnet" else ():
        frame.center(vacuum=8)
        frame.pbc = True
    return frames


def count(calculator):
    """A list that grows by one with every pass through the calculator's network."""
    network = calculator.models[0] if PACKAGE == "mace" else calculator.model
    if PACKAGE == "chgnet":
        network = network.atom_conv_layers[0]  # the whole is not called as a module
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    return calls


@only("mace", "nequip", "sevenn", "chgnet")
def test_one_pass_gives_forces_and_error_bars(bare, wrap, pool):
    calls = count(bare)
    live = wrap(bare)
    atoms = pool[0].copy()
    atoms.calc = live
    atoms.get_forces()
    atoms.get_potential_energy()
    assert live.get_property("ood_pvalue", atoms).shape == (55,)
    assert live.results["error_bound_90"].shape == (55,)
    assert len(calls) == 1
    assert not live.calculation_required(atoms, ["energy", "forces", "calibrated_error"])
    atoms.positions[0, 0] += 0.01
    atoms.get_forces()
    assert len(calls) == 2


@only("mace", "nequip", "sevenn", "chgnet")
def test_the_numbers_are_those_of_the_commands(bare, wrap, pool, place, network):
    scored = ase.io.read(place / "pool_scored.xyz", ":3")
    live, beside = wrap(bare), wrap(bare, descriptors=network)
    for frame, wanted in zip(pool, scored, strict=True):
        for calculator in (live, beside):
            atoms = frame.copy()
            atoms.calc = calculator
            atoms.get_potential_energy()
            for name in ("calibrated_error", "error_bound_90"):
                found, told = atoms.arrays[f"ltau_{name}"], wanted.arrays[f"ltau_{name}"]
                np.testing.assert_allclose(found, told, rtol=2e-3, err_msg=name)


@only("mace", "nequip", "sevenn", "chgnet")
def test_a_sum_with_a_dispersion_correction(bare, wrap, pool):
    """The network in it is found, and evaluated once; of two it cannot be told which is meant."""
    alone, together = pool[0].copy(), pool[0].copy()
    alone.calc, pair = wrap(bare), LennardJones(sigma=2.3, epsilon=0.01)
    wanted = alone.get_potential_energy() + pair.get_potential_energy(alone.copy())
    calls = count(bare)
    together.calc = wrap(SumCalculator([bare, SumCalculator([pair])]))
    assert together.get_potential_energy() == pytest.approx(wanted)
    together.get_forces()
    assert len(calls) == 1
    np.testing.assert_array_equal(
        together.calc.results["calibrated_error"], alone.calc.results["calibrated_error"]
    )
    with pytest.raises(InputError, match=f"2 networks of {PACKAGE}"):
        wrap(SumCalculator([bare, bare]))


@only("mace", "nequip", "sevenn", "chgnet")
@pytest.mark.parametrize("motion", ["relaxation", "dynamics"])
def test_a_run_is_the_same_to_the_last_bit(bare, wrap, pool, motion, tmp_path):
    calls, told = count(bare), []
    for calculator in (bare, wrap(bare)):
        atoms = pool[1].copy()
        atoms.calc = calculator
        seen, before = [], len(calls)

        def note(atoms=atoms, calculator=calculator, seen=seen):
            values = [atoms.positions, atoms.get_forces(), atoms.get_potential_energy()]
            for name in ("stress", "energies", "magmoms"):
                values.append(calculator.results.get(name))
            seen.append([None if v is None else np.array(v) for v in values])

        trajectory = str(tmp_path / f"{len(told)}.traj")
        if motion == "relaxation":
            run = FIRE(atoms, logfile=None, trajectory=trajectory)
            run.attach(note)
            run.run(fmax=1e-6, steps=STEPS)
        else:
            run = VelocityVerlet(atoms, timestep=2 * fs, trajectory=trajectory)
            run.attach(note)
            run.run(STEPS)
        told.append(seen)
        assert len(calls) - before == STEPS + 1
    assert len(told[0]) == STEPS + 1
    for one, other in zip(*told, strict=True):
        for value, wanted in zip(one, other, strict=True):
            assert (value is None) == (wanted is None)
            assert value is None or np.array_equal(value, wanted, equal_nan=True)
    kept = ase.io.read(tmp_path / "1.traj", ":")
    assert len(kept) == STEPS + 1
    assert kept[-1].calc.parameters["ltau"]["calibrated_error"].shape == (55,)


@only("mace", "nequip")
def test_a_crystal_has_error_bars(bare, wrap):
    from ase.build import bulk

    for n in (1, 2):
        atoms = bulk("Cu", cubic=True) * (n, n, n)
        atoms.calc = wrap(bare)
        atoms.get_stress()
        error = atoms.calc.results["calibrated_error"]
        assert error.shape == (4 * n**3,)
        np.testing.assert_allclose(error, error[0], rtol=1e-3)


@only("mace", "nequip")
def test_an_atom_alone_has_error_bars(bare, wrap):
    from ase import Atoms

    atoms = Atoms("Cu", pbc=False)
    atoms.calc = wrap(bare)
    atoms.get_potential_energy()
    assert np.isfinite(atoms.calc.results["error_bound_90"]).all()


@only("mace")
def test_another_network_is_refused(bare, wrap, place):
    with pytest.raises(InputError, match="is not the network that described the training set"):
        wrap(bare, descriptors=f"mace:{place / 'checkpoints' / 'my_run-1.model'}")
    with pytest.raises(InputError, match="no network of nequip whose features can be read in a M"):
        wrap(bare, descriptors="nequip")
    with pytest.raises(UsageError, match="calculators of metatomic cannot be reached"):
        wrap(bare, descriptors="metatomic")


@only("mace", "nequip")
def test_the_benchmark_runs(run_shell, tmp_path):
    script = SAMPLE.parent / "benchmarks" / "live.py"
    told = run_shell(tmp_path, f"python {script} {PACKAGE} --samples 200 --steps 1 --sizes 108")
    assert told.splitlines()[-1].split()[0] == "108"
    assert told.splitlines()[-1].endswith("%")


@only("mace")
def test_a_relaxation_with_the_sample_network(tmp_path):
    """The sample network as an ASE calculator: it is trained here, in a few epochs."""
    from ase.calculators.calculator import Calculator, all_changes

    spec = importlib.util.spec_from_file_location("sample", SAMPLE / "make_sample_data.py")
    sample = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["sample"] = sample
    spec.loader.exec_module(sample)
    frames = {name: ase.io.read(SAMPLE / f"{name}.xyz", ":") for name in ("train", "test_300K")}
    for several in frames.values():
        for frame in several:  # ASE keeps energies and forces of these names elsewhere
            frame.calc = None
    log = []
    train = frames["train"][::3]
    network = sample.train(train, epochs=6, on_epoch=lambda _, errors: log.append(errors))

    class Network(Calculator):
        implemented_properties = ("energy", "forces")
        n = 0

        def calculate(self, atoms=None, properties=(), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            self.n += 1
            labeled = atoms.copy()
            labeled.info["REF_energy"] = 0.0
            labeled.arrays["REF_forces"] = np.zeros((len(atoms), 3))
            energy, forces, self.features = network(sample.to_batch(labeled))
            self.results = {"energy": energy.item(), "forces": forces.detach().numpy()}

    x, _, _ = sample.evaluate(network, train)
    np.save(tmp_path / "log.npy", np.array(log))
    np.save(tmp_path / "train.npy", x)
    x, forces, _ = sample.evaluate(network, frames["test_300K"])
    errors = np.linalg.norm(forces - sample.reference_forces(frames["test_300K"]), axis=1)
    np.savez(tmp_path / "test.npz", descriptors=x, natoms=np.full(25, 55))
    np.save(tmp_path / "errors.npy", errors)
    made = {name: tmp_path / f"{name}.h5" for name in ("log", "model", "scores", "calibration")}
    ltau.ingest(tmp_path / "log.npy", made["log"], units="eV/Å")
    ltau.fit(made["log"], tmp_path / "train.npy", made["model"])
    ltau.score(tmp_path / "test.npz", made["model"], made["scores"])
    ltau.calibrate(made["scores"], tmp_path / "errors.npy", made["calibration"])

    inner = Network()
    live = ltau.Live(
        inner, made["model"], made["calibration"], lambda _: inner.features.detach().numpy()
    )
    atoms = ase.io.read(SAMPLE / "test_900K.xyz", "7")
    atoms.calc = live
    with ltau.Watch(atoms, pvalue=0.01, patience=3, save=tmp_path / "to_label.xyz") as watch:
        run = FIRE(atoms, logfile=None)
        run.attach(watch)
        run.run(fmax=0.01, steps=10)
    assert inner.n == watch.n_seen
    assert watch.n_seen >= 3
    assert (live.results["error_bound_90"] > 0).all()
