"""What cannot be: errors in other units, one sample that rules, sets too small for a p-value."""

import json
import subprocess
import sys

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT

import ltau_cli
from ltau_cli.core.summary import TrimmedMean, trimmed_mean
from ltau_cli.core.units import same_units
from tests import oracles
from tests.helpers import INPUT, check, save

N, ATOMS = 200, 5


@pytest.fixture
def made(tmp_path, ltau):
    """Ingest, fit and score a log of samples whose errors follow their descriptors."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 3))
    log = 0.05 * np.exp(x[:, 0] / 2) * rng.gamma(4, 0.25, size=(12, N))
    natoms = save(tmp_path / "natoms.npy", np.full(N // ATOMS, ATOMS))

    def call(log=log, x=x, new=x, ingest=(), score=("--natoms", natoms)):
        errors, model, scores = (tmp_path / f"{name}.h5" for name in ("e", "m", "s"))
        said = [
            ltau("ingest", save(tmp_path / "log.npy", log), "-o", errors, "-f", *ingest),
            ltau("fit", errors, save(tmp_path / "x.npy", x), "-k", 5, "-o", model, "-f"),
            ltau("score", save(tmp_path / "n.npy", new), "-m", model, "-o", scores, "-f", *score),
        ]
        assert [result.code for result in said] == [0, 0, 0], said
        return scores, said

    return call, log, x, natoms, tmp_path


@pytest.mark.parametrize(
    ("factor", "told"),
    [(1000, "larger than predicted"), (450, "1,000 (meV, eV)"), (1 / 1000, "1,000 (meV, eV)"),
     (30, "23.06 (kcal/mol, eV) or"),
     (1 / 51.4, "51.4 (eV/Å, Hartree/Bohr)"), (96.5, "96.5 (kJ/mol, eV)"),
     (1e5, "no common factor"), (2, ""), (0.1, "")],
)  # fmt: skip
@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_true_errors_of_another_size_are_told(factor, told, command, made, ltau):
    call, log, _, _, folder = made
    scores, _ = call()
    truth = save(folder / "t.npy", factor * log[-1])
    output = ("-o", folder / "c.h5") if command == "calibrate" else ()
    result = ltau.ok(command, scores, truth, *output)
    with h5py.File(scores) as file:
        ratio = np.median(factor * log[-1]) / np.median(file["expected_error"])
    assert ("in other units?" in result.err) == bool(told) == (not 1 / 20 < ratio < 20)
    assert told in result.err


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("eV/Å", "eV/A", True), ("eV/Å", "ev / Angstrom", True), ("eV/Å", "eV Å^-1", True),
     ("eV/Å", "eV·Å⁻¹", True), ("eV/Å", "", True), ("eV/Å", "my units", True),
     ("Ha/bohr", "Hartree/a0", True), ("eV/Å", "meV/Å", False), ("eV/Å", "kcal/mol/Å", False),
     ("eV/Å", "eV", False), ("eV", "eV/atom", False), ("kJ/mol/nm", "kj/(mol nm)", True)],
)  # fmt: skip
def test_unit_labels(one, other, same):
    assert same_units(one, other) is same
    assert same_units(other, one) is same


OWN = """
import numpy as np
def describe(frames):
    places = np.concatenate([frame.positions for frame in frames])
    return {"descriptors": places, "forces": places}
"""


def test_units_that_a_described_file_knows_are_compared(made, ltau, monkeypatch):
    call, _, _, _, folder = made
    monkeypatch.chdir(folder)
    (folder / "own.py").write_text(OWN)
    frames = []
    for i in range(N // ATOMS):
        frame = Atoms("Cu5", 3 * np.random.default_rng(i).random((5, 3)))
        frame.arrays["REF_forces"] = frame.positions + 0.05
        frames.append(frame)
    ase.io.write(folder / "a.xyz", frames)
    words = ("describe", "a.xyz", "--network", "python:own.py:describe", "-o", "d.h5")
    ltau.ok(*words)
    for units, fits in (("eV/Å", True), ("eV/ang", True), ("meV/Å", False), ("eV", False)):
        scores, _ = call(ingest=("--units", units))
        for command in (("calibrate", scores, "d.h5", "-f"), ("evaluate", scores, "d.h5")):
            result = ltau(*command)
            if fits:
                assert result.code == 0, result.err
            else:
                check(result, INPUT, "d.h5 holds errors in eV/Å", f"s.h5 in {units}")


@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_rows_that_rule_the_means_are_told(command, made, ltau):
    call, log, _, _, folder = made
    output = ("-f", "-o", folder / "c.h5") if command == "calibrate" else ()
    for wrong in (False, True):
        log[:, 7] = 5000 if wrong else log[:, 7]
        scores, _ = call(log=log)
        truth = save(folder / "t.npy", log[-1])
        said = ltau.ok(command, scores, truth, *output).err
        assert ("rule the means" in said) == wrong
    assert f"errors in {scores} rule the means" in said
    assert f"errors in {truth} rule the means of the tables: the median is" in said
    assert "row 7 has 5e+03" in said


def test_a_trimmed_mean_does_not_depend_on_the_blocks():
    values = np.random.default_rng(0).lognormal(0, 3, 1234).astype(np.float32)
    wanted = oracles.trimmed_mean(values)
    found = set()
    for size in (1234, 100, 1):
        mean = TrimmedMean(1234)
        for start in range(0, 1234, size):
            mean.add(values[start : start + size])
        found.add(mean.result())
    assert len(found) == 1
    assert found.pop() == pytest.approx(wanted)
    assert trimmed_mean(np.array([1.0, np.nan, 3.0, 500.0])) == 2
    assert trimmed_mean(np.array([4.0])) == 4


def test_one_wrong_label_rules_no_summary_and_is_named(made, ltau):
    call, log, _, _, folder = made
    plain, _ = call()
    with h5py.File(plain) as file:
        usual = file["thresholds"][0]
    assert usual == pytest.approx(oracles.trimmed_mean(log[-1].astype("f4")))
    wrong = log.copy()
    wrong[:, 17] += 5000
    scores, (ingested, fitted, scored) = call(wrong)
    said = "sample 17 has an error of 5e+03 in the last epoch, "
    assert ingested.err.count("warning:") == ingested.err.count(said) == 1
    with h5py.File(scores) as file:
        assert file["thresholds"][0] == pytest.approx(usual, rel=0.05)
    truth = save(folder / "t.npy", log[-1])
    words = ("calibrate", scores, truth, "-o", folder / "c.h5", "--level", 0.5)
    calibrated = ltau(*words)
    leads = [line for result in (ingested, fitted) for line in result.out.splitlines()
             if line.startswith("  mean error")]  # fmt: skip
    assert len(leads) == 2
    for line in leads:
        assert "without the largest 1 %" in line
        assert all(float(word) < 0.2 for word in line.split("(")[0].split() if word[0] == "0")
    assert "(the mean error of the last epoch without its largest 1 %)" in fitted.out
    assert ", without the largest 1 %" in scored.out
    assert "true 0.0" in calibrated.out
    # samples that are harder than most are no wrong labels, nor are a few in a small log
    assert "wrong label" not in call(log * np.where(np.arange(N) == 3, 20, 1))[1][0].err
    assert "wrong label" not in call(log[:, :20], made[2][:20], score=())[1][0].err


# Too few samples for a p-value


def test_small_training_sets_are_judged_by_the_relative_distance(made, ltau):
    call, log, x, natoms, folder = made
    far = x[:60] + 40 * (np.arange(60)[:, None] // 30)  # half of the rows
    save(natoms, np.full(12, ATOMS))
    scores, (_, _, result) = call(log[:, :60], x[:60], far)
    rule = "(relative distance above 2; p cannot be below 0.016)"
    assert f"50.0 % of the rows out of domain {rule}" in result.out
    assert "50.0 % of the rows are out of domain" in result.err
    truth = save(folder / "t.npy", log[-1, :60])
    evaluated = ltau("evaluate", scores, truth)
    assert f"out of domain {rule}: 50.0 % of s" in evaluated.err
    (found,) = json.loads(ltau("evaluate", scores, truth, "--json").out)
    assert found["flagged_share"] == 0.5
    assert found["least_pvalue"] == 1 / 61
    with h5py.File(scores) as file:
        shares = file["structures/out_of_domain_share"][...]
    assert shares.tolist() == [0] * 6 + [1] * 6
    drawn = ltau("plot", "ood", folder / "m.h5", scores, "-o", folder / "f.png")
    assert f"Out of domain {rule}: 50.0 % of s" in drawn.out
    _, (_, _, near) = call(log[:, :60], x[:60], x[:60])
    assert "0.0 % of the rows out of domain" in near.out
    save(natoms, np.full(N // ATOMS, ATOMS))
    assert "out of domain (p < 0.01)" in call()[1][2].out  # of 200 samples


def test_structures_that_get_lost_are_told(made, ltau):
    call, _, _, natoms, folder = made
    said = "does not say which atoms are of one structure"
    known = ("--natoms", natoms)
    _, (_, _, result) = call(ingest=known, score=())
    assert result.err.count("warning:") == result.err.count(said) == 1
    assert "n.npy" in result.err
    for words in ((known, known), ((), ()), (known, ("--natoms", "none"))):
        assert said not in call(ingest=words[0], score=words[1])[1][2].err
    np.savez(folder / "both.npz", descriptors=np.load(folder / "x.npy"), natoms=np.load(natoms))
    call()
    words = ("fit", folder / "e.h5", folder / "both.npz", "-k", 5, "-o", folder / "m.h5", "-f")
    ltau.ok(*words)
    for name in ("x.npy", "both.npz"):
        words = ("score", folder / name, "-m", folder / "m.h5", "-o", folder / "s.h5", "-f")
        assert (said in ltau(*words).err) == (name == "x.npy")
    two = (folder / "x.npy", folder / "n.npy")
    result = ltau("score", *two, "-m", folder / "m.h5", "-O", folder / "many")
    assert result.err.count(said) == 1


@pytest.mark.slow
def test_workers_of_a_script_without_a_main_guard_are_refused(made):
    call, _, _, _, folder = made
    call()
    line = "ltau_cli.score('n.npy', 'm.h5', 'o.h5', workers=2, force=True)\nprint('done')\n"
    guarded = "if __name__ == '__main__':\n    " + line.replace("\n", "\n    ")
    for text, code in ((line, 1), (guarded, 0)):
        (folder / "job.py").write_text(f"import ltau_cli\n{text.rstrip()}\n")
        words = [sys.executable, "job.py"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert "bootstrapping" not in done.stderr
        if code:
            told = f"ltau_cli.errors.UsageError: workers run {folder / 'job.py'} again"
            assert any(line.startswith(told) for line in done.stderr.splitlines())


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_the_backend_of_a_notebook_does_not_end_a_plot(backend, made, monkeypatch):
    call, _, _, _, folder = made
    call()
    monkeypatch.setenv("MPLBACKEND", backend)
    words = [sys.executable, "-m", "ltau_cli", "plot", "e.h5", "-o", "f.png"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "f.png").exists()


def test_a_watch_of_a_small_training_set(made, ltau):
    call, log, x, natoms, folder = made
    save(natoms, np.full(12, ATOMS))
    call(log[:, :60], x[:60], x[:60])
    place = [0.0]
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]])
    atoms.calc = ltau_cli.Live(
        EMT(), folder / "m.h5", None, lambda _: np.array([x[0], x[0] + place[0]], "f4")
    )
    said = r"p cannot be below 0\.016 .* pvalue=0\.001 .* above 2"
    with pytest.warns(ltau_cli.errors.LtauWarning, match=said):
        by_pvalue = ltau_cli.Watch(atoms, pvalue=1e-3, patience=1, save=None, stop=False)
    by_distance = ltau_cli.Watch(atoms, distance=5.0, patience=1, save=None)
    by_pvalue()
    by_distance()
    assert by_pvalue.n_flagged == by_distance.n_flagged == 0
    place[0] = 40.0
    atoms.positions[1, 2] += 0.1
    by_pvalue()
    assert by_pvalue.n_flagged == 1
    with by_distance:
        by_distance()
    assert by_distance.stopped.atoms.tolist() == [1]
    assert "relative distance" in str(by_distance.stopped)
