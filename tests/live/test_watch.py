"""Watch: an observer that keeps frames and ends runs."""

import subprocess
import sys

import ase.io
import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.io.trajectory import Trajectory
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE
from ase.units import fs

import ltau_cli
from ltau_cli.core.selection import distance_to_nearest
from ltau_cli.errors import OutputError, UsageError
from ltau_cli.live import Live
from ltau_cli.watch import Stopped, Watch
from tests.live.conftest import CellFilter

# ASE 3.22 leaves the log of an optimizer open.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Told(Live):
    """Bounds and p-values as they are told, frame by frame; descriptors as well."""

    def __init__(self, pipeline, frames):
        super().__init__(EMT(), pipeline.model, pipeline.calibration, lambda _: np.zeros((2, 16)))
        self.frames = iter(frames)

    def get_property(self, name, atoms=None, allow_calculation=True):
        bound, pvalue, place = next(self.frames)
        self.results = {
            "calibrated_error": np.ones(2, "f4"),
            "error_bound_90": np.array(bound, "f4"),
            "ood_pvalue": np.array(pvalue, "f4"),
        }
        self.relative_distance = np.array(place, "f4")
        self.descriptors = np.array(place, "f4")[:, None] * np.ones(16, "f4") / 4  # that far apart
        return self.results[name]


# Bounds, p-values and descriptors of two atoms.
CALM = ((0.1, 0.1), (0.5, 0.5), (0, 0))
LARGE = ((0.1, 0.4), (0.5, 0.5), (0, 5))
FAR = ((0.1, 0.1), (0.0005, 0.5), (7, 0))


@pytest.fixture
def watched(pipeline):
    def build(frames, **options):
        atoms = ase.Atoms("CuAu", [[0, 0, 0], [0, 0, 2.5]])
        atoms.calc = Told(pipeline, frames)
        return Watch(atoms, **{"bound": 0.3, "pvalue": 1e-3, "save": None} | options)

    return build


def look(watch, n):
    """Let it see up to n frames; return the number of those it saw, and whether it stopped."""
    with watch:
        for _ in range(n):
            watch()
    return watch.n_seen, watch.stopped is not None


@pytest.mark.parametrize(("frames", "patience", "seen", "stops"), [
    ([CALM] * 4, 1, 4, False),
    ([CALM, LARGE, CALM, CALM], 1, 2, True),
    ([CALM, FAR, CALM, CALM], 1, 2, True),
    ([LARGE, LARGE, CALM, LARGE, LARGE, LARGE], 3, 6, True),
    ([LARGE, FAR, LARGE, FAR], 2, 4, False),  # not the same atom
    ([LARGE, LARGE, LARGE], 3, 3, True),
])  # fmt: skip
def test_it_stops_when_an_atom_was_flagged_in_so_many_frames_in_a_row(
    watched, frames, patience, seen, stops
):
    watch = watched(frames, patience=patience)
    assert look(watch, len(frames)) == (seen, stops)
    assert watch.n_flagged == sum(frame is not CALM for frame in frames[:seen])


def test_it_says_why(watched):
    watch = watched([CALM, LARGE], patience=1)
    look(watch, 2)
    assert str(watch.stopped) == (
        "frame 1: atom 1 (Au) was flagged in 1 frames in a row: 90% bound 0.4 eV/Å, p-value 0.5, "
        "relative distance 5"
    )
    assert watch.stopped.atoms.tolist() == [1]
    watch = watched([FAR], patience=1, bound=None)
    look(watch, 1)
    assert str(watch.stopped).endswith("p-value 0.0005, relative distance 7")


def test_one_threshold_alone(watched):
    assert look(watched([FAR], bound=0.3, pvalue=None, patience=1), 1) == (1, False)
    assert look(watched([LARGE], bound=None, pvalue=1e-3, patience=1), 1) == (1, False)


def at(place):
    return ((0.1, 0.4), (0.5, 0.5), (0, place))


def test_it_keeps_no_frame_that_is_like_one_before(watched, tmp_path):
    places = (5, 5, 5.5, 6.5, 5.2, 6.6, 3.9)
    watch = watched(
        [at(place) for place in places], patience=1, stop=False, within=1.0, save=tmp_path / "a.xyz"
    )
    assert look(watch, 7) == (7, False)
    assert [frame.info["ltau_frame"] for frame in watch.frames] == [0, 3, 6]
    kept = ase.io.read(tmp_path / "a.xyz", ":")
    assert [frame.info["ltau_frame"] for frame in kept] == [0, 3, 6]
    assert all(frame.calc is None for frame in kept)


def test_one_new_atom_is_enough(watched):
    both = ((0.4, 0.4), (0.5, 0.5), (5, 9))
    watch = watched([at(5), both, both], patience=1, stop=False, within=1.0)
    look(watch, 3)
    assert len(watch.frames) == 2


def test_the_distance_is_that_of_neighbors_in_training_by_default(watched, pipeline):
    watch = watched([CALM])
    with ltau_cli.open_artifact(pipeline.model) as model:
        assert watch.within == pytest.approx(float(np.median(model.read("loo_distance"))))


def test_distance_to_nearest():
    points = np.array([[0, 0], [3, 4], [6, 8]], dtype=np.float32)
    assert distance_to_nearest(points, points[:1]).tolist() == [0, 5, 10]
    assert distance_to_nearest(points, points[[0, 2]]).tolist() == [0, 5, 0]
    assert distance_to_nearest(points, points[:0]).tolist() == [np.inf] * 3


def test_without_a_with_block_the_run_ends_by_the_exception(watched):
    watch = watched([LARGE], patience=1)
    with pytest.raises(Stopped) as stopped:
        watch()
    assert stopped.value is watch.stopped
    other = watched([LARGE], patience=1)
    with pytest.raises(Stopped), watched([CALM]):
        other()


@pytest.mark.parametrize("motion", ["relaxation", "dynamics"])
def test_a_real_run_ends_with_its_files_whole(atoms, motion, tmp_path):
    trajectory, log = tmp_path / "a.traj", tmp_path / "a.log"
    with Watch(atoms, bound=1e-3, patience=4, save=tmp_path / "kept.xyz") as watch:
        if motion == "relaxation":
            run = FIRE(atoms, trajectory=str(trajectory), logfile=str(log))
        else:
            run = VelocityVerlet(
                atoms, timestep=fs, trajectory=str(trajectory), logfile=str(log), loginterval=1
            )
        run.attach(watch)
        if motion == "relaxation":
            run.run(fmax=1e-6, steps=50)
        else:
            run.run(50)
        raise AssertionError("a later stage of the run")
    assert watch.stopped
    assert run.nsteps == 3
    assert watch.n_seen == 4
    with Trajectory(trajectory) as kept:
        assert len(kept) == 4
        assert np.array_equal(kept[-1].positions, atoms.positions)
        assert np.array_equal(kept[-1].get_forces(), atoms.get_forces())
    n = atoms.calc.calculator.n
    assert n == 4
    atoms.get_forces()
    assert atoms.calc.calculator.n == n
    frame = ase.io.read(tmp_path / "kept.xyz")
    np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-8)
    assert "ltau_error_bound_90" in frame.arrays
    assert frame.calc is None


def test_a_run_goes_on_after_a_stop(atoms, tmp_path):
    run = FIRE(atoms, logfile=None)
    with Watch(atoms, bound=1e-3, patience=3, save=None) as watch:
        run.attach(watch)
        run.run(fmax=1e-6, steps=50)
    stopped = run.nsteps
    run.observers.clear()
    run.run(fmax=1e-6, steps=stopped + 2)  # old ASE counts the steps before
    assert run.nsteps >= stopped + 2


def test_a_cell_that_relaxes(make):
    from ase.build import bulk

    atoms = bulk("Cu", cubic=True)
    atoms.calc = make()
    with Watch(atoms, pvalue=0.5, patience=2, save=None) as watch:
        run = FIRE(CellFilter(atoms), logfile=None)
        run.attach(watch)
        run.run(fmax=1e-8, steps=5)
    assert watch.stopped
    assert watch.n_seen == 2


def test_atoms_that_come_and_go_begin_anew(hot, make):
    atoms = hot[0].copy()
    atoms.calc = make()
    watch = Watch(atoms, bound=1e-3, patience=2, save=None)
    watch()
    del atoms[-1]
    watch()
    with pytest.raises(Stopped):
        watch()


def test_an_existing_file_is_kept(atoms, tmp_path):
    save = tmp_path / "a.xyz"
    save.write_text("old\n")
    with pytest.raises(OutputError, match="exists already"):
        Watch(atoms, bound=0.3, save=save)
    with Watch(atoms, bound=1e-3, patience=1, save=save, force=True) as watch:
        watch()
    assert len(ase.io.read(save, ":")) == 1


def test_a_file_that_another_simulation_writes_is_refused(atoms, tmp_path):
    save = tmp_path / "kept.xyz"
    code = f"""
import time
from pathlib import Path
from ltau_cli.lock import Lock
Lock(Path({str(save)!r}), "")
print("held", flush=True)
time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(OutputError, match=f"is written by process {other.pid} on"):
        Watch(atoms, bound=0.3, save=save)
    other.kill()
    other.communicate()
    Watch(atoms, bound=0.3, save=save)


def test_what_cannot_be_watched_for(atoms, hot, make, pipeline):
    for options, words in (
        ({}, "watches for nothing"),
        ({"bound": 0.3, "patience": 0}, "patience=0 is no number of frames"),
        ({"bound": np.nan}, "bound=nan is not a number above 0"),
        ({"bound": 0.3, "distance": np.nan}, "distance=nan is not a number above 0"),
        ({"pvalue": np.nan}, "pvalue=nan is not a number between 0 and 1"),
        ({"pvalue": 1}, "pvalue=1 is not a number between 0 and 1"),
    ):
        with pytest.raises(UsageError, match=words) as error:
            Watch(atoms, save=None, **options)
        assert error.value.hint
    blind = hot[0].copy()
    blind.calc = make(calibration=None)
    with pytest.raises(UsageError, match="Live has no calibration"):
        Watch(blind, bound=0.3, save=None)
    Watch(blind, pvalue=0.01, save=None)
    blind.calc = EMT()
    with pytest.raises(UsageError, match="atoms whose calculator is a Live"):
        Watch(blind, pvalue=0.01, save=None)
