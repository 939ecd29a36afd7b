"""Live: the results of another calculator, with error bars."""

import copy
import io
import pickle
import subprocess
import sys
import warnings

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import SumCalculator
from ase.constraints import FixAtoms
from ase.io.trajectory import Trajectory
from ase.optimize import FIRE

import ltau_cli
from ltau_cli.errors import ArtifactError, InputError, UsageError
from tests.helpers import SAMPLE
from tests.live.conftest import CellFilter

# ASE 3.22 leaves the log of an optimizer open.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
NAMES = ("calibrated_error", "error_bound_90", "ood_pvalue")


def score_hot(ltau, pipeline, folder, *options, calibration=None):
    """Scores of the frames at 900 K by the command."""
    ltau.ok(
        "score", SAMPLE / "test_900K_descriptors.npy", "-m", pipeline.model,
        "--calibration", calibration or pipeline.calibration, "-o", folder / "hot.h5", *options,
    )  # fmt: skip
    return folder / "hot.h5"


def tell_all(live, frames):
    """What Live tells of the atoms of some frames."""
    told = {name: [] for name in (live.error, live.bound, "ood_pvalue")}
    for frame in frames:
        frame = frame.copy()
        frame.calc = live
        frame.get_forces()
        for name, values in told.items():
            values.append(live.results[name])
    return {name: np.concatenate(values) for name, values in told.items()}


def read(path, level):
    with h5py.File(path) as scores:
        column = (50, 80, 90, 95).index(level)
        return {
            "calibrated_error": scores["calibrated_error"][...],
            f"error_bound_{level}": scores["error_bound"][:, column],
            "ood_pvalue": scores["ood_pvalue"][...],
        }


NATOMS = ("--natoms", SAMPLE / "test_900K_natoms.npy")


def test_the_numbers_are_those_of_score(make, hot, looked_up, pipeline, ltau, tmp_path):
    wanted = read(score_hot(ltau, pipeline, tmp_path, *NATOMS), level=95)
    live = make(descriptors=looked_up, level=0.95)
    for name, values in tell_all(live, hot).items():
        assert np.array_equal(values, wanted[name]), name
    assert {name for name in live.results if "bound" in name} == {"error_bound_95"}


def test_the_numbers_are_those_of_score_with_regional_distances_and_species(
    make, hot, looked_up, pipeline, ltau, tmp_path
):
    for temperature, out in ((300, "cold.h5"),):
        stem = SAMPLE / f"test_{temperature}K"
        assert not ltau(
            "score", f"{stem}_descriptors.npy", "-m", pipeline.model, "-k", 7, "--cutoff", 4,
            "--frames", f"{stem}.xyz", "--group", f"{stem}_species.npy", "-o", tmp_path / out,
        ).code  # fmt: skip
    calibration = tmp_path / "calibration.h5"
    assert not ltau(
        "calibrate", tmp_path / "cold.h5", SAMPLE / "test_300K_force_errors.npy",
        "--group", "species", "--method", "distance", "-o", calibration,
    ).code  # fmt: skip
    options = ("--frames", SAMPLE / "test_900K.xyz", "--group", SAMPLE / "test_900K_species.npy")
    out = score_hot(ltau, pipeline, tmp_path, *options, "-k", 7, calibration=calibration)
    wanted = read(out, level=90)
    for name, values in tell_all(make(descriptors=looked_up, calibration=calibration), hot).items():
        assert np.array_equal(values, wanted[name]), name
    reversed_order = hot[2][::-1]
    reversed_order.calc = make(
        descriptors=lambda atoms: looked_up(atoms)[::-1], calibration=calibration
    )
    reversed_order.get_forces()
    own = slice(2 * 55, 3 * 55)
    assert np.array_equal(
        reversed_order.calc.results["calibrated_error"][::-1], wanted["calibrated_error"][own]
    )


def test_without_a_calibration_it_tells_expected_errors(
    make, hot, looked_up, pipeline, ltau, tmp_path
):
    path = score_hot(ltau, pipeline, tmp_path, *NATOMS)
    frame = hot[0].copy()
    frame.calc = make(descriptors=looked_up, calibration=None)
    frame.get_forces()
    with h5py.File(path) as scores:
        wanted = scores["expected_error"][:55]
    assert np.array_equal(frame.arrays["ltau_expected_error"], wanted)
    assert set(frame.arrays) == {
        "numbers", "positions", "ltau_expected_error", "ltau_ood_pvalue"
    }  # fmt: skip
    assert np.array_equal(frame.calc.results["expected_error"], wanted)
    assert not {"calibrated_error", "error_bound_90"} & set(frame.calc.results)
    with pytest.raises(PropertyNotImplementedError):
        frame.calc.get_property("error_bound_90", frame)


def test_the_results_of_the_calculator_are_untouched(atoms):
    alone = atoms.copy()
    alone.calc = EMT()
    for name in ("energy", "forces", "energies"):
        value = atoms.calc.get_property(name, atoms)
        assert np.array_equal(value, alone.calc.get_property(name, alone)), name
    assert set(alone.calc.results) < set(atoms.calc.results)


def test_stress_is_untouched(make):
    crystal, alone = bulk("Cu", cubic=True) * 2, bulk("Cu", cubic=True) * 2
    crystal.calc, alone.calc = make(), EMT()
    assert np.array_equal(crystal.get_stress(), alone.get_stress())
    assert np.array_equal(crystal.get_forces(), alone.get_forces())
    assert crystal.calc.results["calibrated_error"].shape == (32,)


def test_a_relaxation_takes_the_same_path_with_one_evaluation_a_step(hot, make):
    paths, n = [], []
    for wrapped in (False, True):
        frame = hot[5].copy()
        live = make()
        frame.calc = live if wrapped else live.calculator
        path = []
        run = FIRE(frame, logfile=None)
        run.attach(lambda frame=frame, path=path: path.append(frame.positions.copy()))
        run.run(fmax=0.01, steps=12)
        paths.append(path)
        n.append(live.calculator.n)
    assert np.array_equal(*paths)
    assert n == [13, 13]


def test_no_second_evaluation(atoms):
    inner = atoms.calc.calculator
    atoms.get_potential_energy()
    atoms.get_forces()
    atoms.calc.get_property("ood_pvalue", atoms)
    twin = atoms.copy()
    twin.calc = atoms.calc
    twin.get_forces()
    assert inner.n == 1
    assert not atoms.calc.calculation_required(atoms, ["energy", "calibrated_error"])
    atoms.positions[0] += 0.1
    assert atoms.calc.calculation_required(atoms, ["energy"])
    atoms.calc.get_property("error_bound_90", atoms)
    assert inner.n == 2


def test_scores_are_found_though_the_calculator_knew_the_frame(hot, make, counted):
    frame = hot[1].copy()
    frame.calc = counted
    frame.get_forces()
    frame.calc = make(counted)
    frame.get_forces()
    assert frame.calc.results["calibrated_error"].shape == (55,)


def test_a_property_that_needs_another_evaluation_keeps_the_scores(hot, make, near):
    class Lazy(EMT):
        def calculate(self, atoms, properties, system_changes):
            super().calculate(atoms, properties, system_changes)
            self.results = {name: self.results[name] for name in properties}

    described = []
    frame = hot[1].copy()
    frame.calc = make(Lazy(), lambda atoms: described.append(1) or near(atoms))
    frame.get_potential_energy()
    frame.get_forces()
    assert described == [1]
    assert {"forces", "calibrated_error"} <= set(frame.calc.results)


def test_the_frame_itself_gets_the_scores(atoms):
    atoms.get_forces()
    results = atoms.calc.results
    for name in NAMES:
        assert np.array_equal(atoms.arrays[f"ltau_{name}"], results[name])
    assert atoms.info == {
        "number": 3,
        "ltau_calibrated_error_mean": pytest.approx(results["calibrated_error"].mean()),
        "ltau_calibrated_error_max": pytest.approx(results["calibrated_error"].max()),
        "ltau_error_bound_max_90": pytest.approx(results["error_bound_90"].max()),
        "ltau_ood_pvalue_min": pytest.approx(results["ood_pvalue"].min()),
    }


def test_extxyz_keeps_all(atoms, tmp_path):
    atoms.get_forces()
    ase.io.write(tmp_path / "a.xyz", atoms)
    kept = ase.io.read(tmp_path / "a.xyz")
    for own in (f"ltau_{name}" for name in NAMES):
        np.testing.assert_allclose(kept.arrays[own], atoms.arrays[own], atol=1e-8, rtol=1e-6)
    assert kept.info.items() >= atoms.info.items()
    np.testing.assert_allclose(kept.get_forces(), atoms.get_forces(), atol=1e-8)


def test_a_trajectory_keeps_all(atoms, tmp_path):
    run = FIRE(atoms, trajectory=str(tmp_path / "a.traj"), logfile=None)
    told = []
    run.attach(lambda: told.append(atoms.calc.results["error_bound_90"]))
    run.run(fmax=0.01, steps=4)
    with Trajectory(tmp_path / "a.traj") as kept:
        assert len(kept) == 5
        for frame, bound in zip(kept, told, strict=True):
            scores = frame.calc.parameters["ltau"]
            assert np.array_equal(scores["error_bound_90"], bound)
            assert scores.keys() == set(NAMES)
            assert frame.info["ltau_error_bound_max_90"] == pytest.approx(bound.max())
            assert {"energy", "forces"} <= set(frame.calc.results)
        assert np.array_equal(kept[-1].get_forces(), atoms.get_forces())


def test_scores_of_a_frame_that_moved_are_not_written(atoms, tmp_path):
    atoms.get_forces()
    atoms.positions[0] += 0.1
    with Trajectory(tmp_path / "a.traj", "w") as file:
        file.write(atoms)
    with Trajectory(tmp_path / "a.traj") as kept:
        assert kept[0].info == {"number": 3}
        assert "energy" not in kept[0].calc.results
        assert kept[0].calc.parameters["ltau"] == {}
    assert not [name for name in atoms.arrays if name.startswith("ltau")]


def test_an_old_bound_at_another_level_is_replaced(hot, make):
    frame = hot[0].copy()
    for level in (0.9, 0.8):
        frame.calc = make(level=level)
        frame.get_forces()
    assert "ltau_error_bound_80" in frame.arrays
    assert "ltau_error_bound_90" not in frame.arrays
    assert "ltau_error_bound_max_90" not in frame.info


def test_another_number_of_atoms(atoms, hot):
    atoms.get_forces()
    for n in (1, 10, 55):
        other = hot[4][:n]
        other.calc = atoms.calc
        other.get_forces()
        assert atoms.calc.results["calibrated_error"].shape == (n,)
        assert other.arrays["ltau_ood_pvalue"].shape == (n,)
    del atoms[[0, 1]]
    atoms.get_forces()
    assert atoms.arrays["ltau_ood_pvalue"].shape == (53,)


def test_calculators_that_look_at_the_info_of_a_frame(hot, make):
    """As MACE's does: what Live writes there is no change."""

    class Strict(EMT):
        n = 0

        def check_state(self, atoms, tol=1e-15):
            changed = super().check_state(atoms, tol)
            return changed or ["info"] * (self.atoms.info != atoms.info)

        def calculate(self, *arguments):
            self.n += 1
            super().calculate(*arguments)

    frame = hot[0].copy()
    frame.calc = make(Strict())
    frame.get_forces()
    frame.get_potential_energy()
    assert frame.calc.calculator.n == 1
    frame.info["charge"] = 1
    frame.get_forces()
    assert frame.calc.calculator.n == 2


def test_two_around_one_calculator(hot, make, counted):
    lives = make(counted), make(counted, level=0.8)
    told = []
    for number in (0, 1):
        for live in lives:
            frame = hot[number].copy()
            frame.calc = live
            frame.get_forces()
            told.append(frame.arrays["ltau_calibrated_error"])
    assert np.array_equal(told[0], told[1])
    assert np.array_equal(told[2], told[3])
    assert not np.array_equal(told[0], told[2])


def test_changes_that_the_calculator_ignores(hot, make):
    class Blind(EMT):
        ignored_changes = frozenset({"initial_charges"})

    frame = hot[0].copy()
    frame.calc = make(Blind())
    frame.get_forces()
    frame.set_initial_charges(np.ones(55))
    assert not frame.calc.check_state(frame)
    frame.calc = make()
    frame.get_forces()
    frame.set_initial_charges(np.zeros(55))
    assert frame.calc.check_state(frame) == ["initial_charges"]


@pytest.mark.parametrize("how", [copy.deepcopy, lambda live: pickle.loads(pickle.dumps(live))])
def test_copies_stand_alone(pipeline, hot, how):
    inner = LennardJones()  # EMT, once it has run, cannot be pickled
    live = ltau_cli.Live(inner, pipeline.model, pipeline.calibration, picklable, level=0.8)
    frame = hot[0].copy()
    frame.calc = live
    frame.get_forces()
    twin = frame.copy()
    assert twin.calc is None
    twin.calc = how(live)
    assert twin.calc.calculator is not live.calculator
    twin.get_forces()
    assert twin.calc.level == 0.8
    assert np.array_equal(twin.calc.results["calibrated_error"], live.results["calibrated_error"])


def picklable(atoms):
    return np.sort(atoms.get_all_distances(), axis=1)[:, 1:17]


def test_wrapped_in_a_sum_and_around_one(hot, make):
    frame = hot[0].copy()
    frame.calc = make(SumCalculator([EMT(), EMT()]))
    twice = frame.get_forces()
    live = make()
    frame.calc = SumCalculator([live, EMT()])
    assert np.array_equal(twice, frame.get_forces())
    assert live.results["calibrated_error"].shape == (55,)


def test_cells_and_constraints(make, tmp_path):
    crystal = bulk("Cu", cubic=True) * 2
    crystal.rattle(0.1, seed=1)
    crystal.set_constraint(FixAtoms([0]))
    crystal.calc = make()
    FIRE(CellFilter(crystal), trajectory=str(tmp_path / "a.traj"), logfile=None).run(
        fmax=0.01, steps=5
    )
    kept = ase.io.read(tmp_path / "a.traj")
    assert "ltau_error_bound_max_90" in kept.info
    assert np.array_equal(
        kept.calc.parameters["ltau"]["ood_pvalue"], crystal.calc.results["ood_pvalue"]
    )


def test_get_properties_of_ase(atoms):
    found = atoms.get_properties(["energy", "forces"])
    assert found["natoms"] == 55


def test_forces_that_are_nan_are_passed_on(hot, make):
    class Diverged(EMT):
        def calculate(self, *arguments):
            super().calculate(*arguments)
            self.results["forces"] = np.full((55, 3), np.nan)

    frame = hot[0].copy()
    frame.calc = make(Diverged())
    assert np.isnan(frame.get_forces()).all()
    assert np.isfinite(frame.calc.results["calibrated_error"]).all()


@pytest.mark.parametrize(("told", "words"), [
    (lambda atoms: np.full((55, 16), np.nan), "NaN or infinite, first for atom 0"),
    (lambda atoms: np.ones((55, 15)), r"of shape \(55, 15\) for 55 atoms"),
    (lambda atoms: np.ones((54, 16)), r"of shape \(54, 16\) for 55 atoms"),
    (lambda atoms: np.ones(55), r"of shape \(55,\) for 55 atoms"),
    (lambda atoms: "none", "descriptors that are no array of numbers"),
])  # fmt: skip
def test_descriptors_that_cannot_be(hot, make, told, words):
    frame = hot[0].copy()
    frame.calc = make(descriptors=told)
    with pytest.raises(InputError, match=words) as error:
        frame.get_forces()
    assert error.value.hint
    assert "calibrated_error" not in frame.calc.results
    with pytest.raises(InputError):  # and again: nothing wrong is kept
        frame.get_forces()


def test_what_the_calculator_cannot_do_is_its_own_error(make):
    frame = Atoms("U2", [[0, 0, 0], [0, 0, 2.5]])
    frame.calc = make()
    with pytest.raises(NotImplementedError, match="No EMT-potential for U"):
        frame.get_forces()
    assert not frame.calc.results
    frame = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]])
    frame.calc = make()
    with pytest.raises(PropertyNotImplementedError):
        frame.get_dipole_moment()


def test_an_atom_without_neighbors(make):
    frame = Atoms("Cu")
    frame.calc = make()
    assert frame.get_potential_energy() == pytest.approx(3.51, abs=0.01)
    assert frame.calc.results["ood_pvalue"][0] < 0.01


def test_an_unknown_source_of_descriptors(pipeline, make):
    with pytest.raises(UsageError, match="does not say where the descriptors of its training set"):
        ltau_cli.Live(EMT(), pipeline.model, pipeline.calibration)
    with pytest.raises(UsageError, match="descriptors='vasp' does not begin with a package"):
        make(descriptors="vasp")
    with pytest.raises(UsageError, match="calculators of metatomic cannot be reached"):
        make(descriptors="metatomic")
    with pytest.raises(InputError, match="mace whose features can be read in a Counted"):
        make(descriptors="mace")
    with pytest.raises(InputError, match=r"mace:no\.model: cannot import mace"):
        make(descriptors="mace:no.model")


def test_the_file_of_the_origin_is_the_only_one(ltau, tmp_path, hot, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = "import numpy as np\n\ndef tell(frames):\n    return {'descriptors': np.concatenate([np.sort(f.get_all_distances(), axis=1)[:, 1:9] for f in frames]), 'forces': np.concatenate([np.zeros_like(f.positions) for f in frames])}\n"  # noqa: E501
    (tmp_path / "own.py").write_text(own)
    (tmp_path / "other.py").write_text(own + "\n")
    ase.io.write("few.xyz", ase.io.read(SAMPLE / "train.xyz", ":6"))
    for words in (
        ["describe", "few.xyz", "--network", "python:own.py:tell", "-o", "few.h5"],
        ["ingest", "few.h5"],
        ["fit", "errors.h5", "few.h5"],
    ):
        ltau.ok(*words)
    frame = hot[0].copy()
    frame.calc = ltau_cli.Live(EMT(), calibration=None, descriptors="python:own.py:tell")
    frame.get_forces()
    assert frame.arrays["ltau_expected_error"].shape == (55,)
    with pytest.raises(InputError, match="is not the network that described the training set"):
        ltau_cli.Live(EMT(), calibration=None, descriptors="python:other.py:tell")
    with pytest.raises(UsageError, match="calculators of python cannot be reached"):
        ltau_cli.Live(EMT(), calibration=None)


def test_calibrations_that_a_frame_is_not_enough_for(make, pipeline, ltau, tmp_path):
    cold = SAMPLE / "test_300K_descriptors.npy"
    spread, site = tmp_path / "spread.npy", tmp_path / "site.npy"
    rng = np.random.default_rng(0)
    true = np.load(SAMPLE / "test_300K_force_errors.npy")
    np.save(spread, true * rng.lognormal(0, 0.1, len(true)))
    np.save(site, rng.choice(["top", "hollow"], len(true)))
    for name, more in (("spread", ["--feature", f"spread={spread}"]), ("site", ["--group", site])):
        scores, out = tmp_path / f"{name}.scores.h5", tmp_path / f"{name}.h5"
        assert not ltau("score", cold, "-m", pipeline.model, *more, "-o", scores).code
        grouped = ["--group", "group"] if name == "site" else []
        ltau.ok(
            "calibrate", scores, SAMPLE / "test_300K_force_errors.npy", *grouped,
            "--method", "distance", "-o", out,
        )  # fmt: skip
    with pytest.raises(InputError, match=r"uses the feature spread, which no frame tells"):
        make(calibration=tmp_path / "spread.h5")
    with pytest.raises(InputError, match="bounds for groups that are no chemical elements, such"):
        make(calibration=tmp_path / "site.h5")


def test_wrong_arguments(make, small, pipeline):
    with pytest.raises(UsageError, match="wraps an ASE calculator, not a str"):
        make("my.model")
    with pytest.raises(UsageError, match=r"has no bounds at the level 0\.99") as error:
        make(level=0.99)
    assert error.value.hint == "it has: 0.5, 0.8, 0.9, 0.95"
    with pytest.raises(InputError, match="no such file"):
        make(calibration="none.h5")
    with pytest.raises(ArtifactError, match="was fitted on scores of another model"):
        ltau_cli.Live(EMT(), small["model"], pipeline.calibration, lambda atoms: atoms.positions)


def test_a_model_in_shards_is_refused(pipeline, ltau, tmp_path):
    out = tmp_path / "shards.h5"
    assert not ltau("fit", pipeline.errors, pipeline.train, "--shards", 2, "-o", out).code
    with pytest.raises(ArtifactError, match="is in shards") as error:
        ltau_cli.Live(EMT(), out, None, picklable)
    assert error.value.hint == "fit it again without --shards"


def test_no_file_is_read_while_it_runs(hot, pipeline, near, tmp_path):
    import shutil

    model = shutil.copy(pipeline.model, tmp_path)
    calibration = shutil.copy(pipeline.calibration, tmp_path)
    frame = hot[0].copy()
    frame.calc = ltau_cli.Live(EMT(), model, calibration, near)
    shutil.rmtree(tmp_path)
    frame.get_forces()
    assert frame.calc.results["calibrated_error"].shape == (55,)


def test_no_thread_is_started_for_a_few_atoms(atoms, monkeypatch):
    import concurrent.futures

    def start(*_, **__):
        raise AssertionError("a pool of threads")

    monkeypatch.setattr("ltau_cli.core.threads.ThreadPoolExecutor", start)
    monkeypatch.setattr(concurrent.futures, "ThreadPoolExecutor", start)
    atoms.get_forces()


def test_without_ase_it_says_what_to_install():
    code = """
import sys
for name in ("ase", "ase.calculators", "ase.calculators.calculator"):
    sys.modules[name] = None
import ltau_cli
from ltau_cli import *
try:
    ltau_cli.Live
except ltau_cli.errors.InputError as error:
    print(error, "|", error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "Live and Watch work inside ASE, which is not installed | pip install 'ltau[ase]'\n"
    )


def test_one_frame_after_the_other_to_one_stream(atoms):
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # ASE's own, of NumPy
        for shift in (0, 0.5):
            atoms.positions[0] += shift
            atoms.get_forces()
            ase.io.write(stream, atoms, format="extxyz")
    stream.seek(0)
    one, other = ase.io.read(stream, ":", format="extxyz")
    assert one.info["ltau_calibrated_error_mean"] != other.info["ltau_calibrated_error_mean"]


def test_any_calculator_with_other_results(hot, make):
    class Charges(Calculator):
        implemented_properties = ("charges", "energy")

        def calculate(self, atoms=None, properties=(), system_changes=()):
            super().calculate(atoms, properties, system_changes)
            self.results = {"charges": np.ones(len(atoms)), "energy": 1.0, "own": "kept"}

    frame = hot[0].copy()
    frame.calc = make(Charges())
    assert frame.get_charges().sum() == 55
    assert frame.calc.results["own"] == "kept"
    frame = Atoms("Ar2", [[0, 0, 0], [0, 0, 1.2]])
    frame.calc = make(LennardJones())
    assert frame.get_potential_energy() < 0
