"""Bars on energies: a sample is a frame, described by the mean over its atoms."""

import json
import shutil

import ase.io
import numpy as np
import pytest
from ase import Atoms

from ltau_cli.packages.recorder import Recorder
from tests.helpers import INPUT, SAMPLE, USAGE, check, contents, save

OWN_MODEL = SAMPLE.parent / "docs" / "own_model.py"
OFFSETS = {"Cu": 0.3, "O": -0.2, "H": 0.05}  # eV per atom


def mixed_frames(n, noise=1e-3, seed=0):
    """Frames of three elements in any ratio: energies off by an offset of each, and by noise."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        species = rng.choice(list(OFFSETS), rng.integers(3, 9))
        frame = Atoms(species.tolist(), rng.normal(0, 2, (len(species), 3)))
        error = sum(OFFSETS[one] for one in species) + len(frame) * rng.normal(0, noise)
        frame.info |= {"REF_energy": 1.0, "pred_energy": 1.0 + error}
        frames.append(frame)
    return frames


def slow_errors(frames):
    """Errors per atom without the offsets that least squares find, and these."""
    table = np.array(
        [[f.get_chemical_symbols().count(e) / len(f) for e in OFFSETS] for f in frames]
    )
    signed = [(f.info["pred_energy"] - f.info["REF_energy"]) / len(f) for f in frames]
    found = np.linalg.lstsq(table, np.array(signed), rcond=None)[0]
    return np.abs(signed - table @ found), found


@pytest.fixture(scope="module")
def energies(tmp_path_factory):
    """Three sets of the sample data described by EMT with another cutoff, and all of the way."""
    folder = tmp_path_factory.mktemp("energies")
    shutil.copy(OWN_MODEL, folder)
    return folder


@pytest.fixture
def scored(energies, ltau, monkeypatch):
    """The five commands, up to the scores of the hotter set; made once."""
    monkeypatch.chdir(energies)
    if (energies / "hot.h5").exists():
        return energies
    for name in ("train", "test_300K", "test_900K"):
        ltau.ok("describe", SAMPLE / f"{name}.xyz", "--network", "python:own_model.py:describe",
                "-o", f"{name}.h5")  # fmt: skip
    ltau.ok("ingest", "train.h5", "--quantity", "energy", "-o", "errors.h5")
    ltau.ok("fit", "errors.h5", "train.h5", "-k", 5, "--scale", "none", "-o", "model.h5")
    ltau.ok("score", "test_300K.h5", "-m", "model.h5", "-o", "scores.h5")
    ltau.ok("calibrate", "scores.h5", "test_300K.h5", "-o", "calibration.h5")
    ltau.ok("score", "test_900K.h5", "-m", "model.h5", "--calibration", "calibration.h5",
            "-o", "hot.h5")  # fmt: skip
    return energies


def signed_errors(path):
    """Signed energy errors per atom of a described file, and the mean descriptor of each frame."""
    known = contents(path)
    starts = np.cumsum(known["natoms"]) - known["natoms"]
    mean = np.add.reduceat(known["descriptors"].astype(float), starts) / known["natoms"][:, None]
    return (known["energy"] - known["reference_energy"]) / known["natoms"], mean


def test_from_frames_to_bars(scored, ltau):
    errors, own = signed_errors("train.h5")
    np.testing.assert_allclose(
        contents("errors.h5")["errors"][0], np.abs(errors - errors.mean()), rtol=1e-3, atol=1e-9
    )
    _, new = signed_errors("test_300K.h5")
    apart = np.linalg.norm(new[:, None] - own[None], axis=-1)
    nearest = np.argsort(apart, axis=1)[:, :5]
    expected = np.abs(errors - errors.mean())[nearest].mean(axis=1)
    found = contents("scores.h5")
    np.testing.assert_allclose(found["expected_error"], expected, rtol=1e-3)
    done = ltau.ok("evaluate", "scores.h5", "test_300K.h5")
    true = np.abs(signed_errors("test_300K.h5")[0] - errors.mean()).mean()
    assert f"{true:.3g}" in done.out
    assert "errors in eV/atom" in done.out + done.err


def test_where_they_come_out(scored, ltau):
    ltau.ok("export", "hot.h5", "--frames", "test_900K.h5", "-o", "hot.xyz")
    frames, found = ase.io.read("hot.xyz", ":"), contents("hot.h5")
    bounds = [frame.info["ltau_energy_error_bound_90"] for frame in frames]
    np.testing.assert_allclose(bounds, found["error_bound"][:, 2], rtol=1e-5)
    chosen = ltau.ok("select", "hot.h5", "-n", 3, "--descriptors", "test_900K.h5", "-o", "-").out
    assert int(chosen.split()[0]) == found["calibrated_error"].argmax()
    assert "averaged: True" in ltau.ok("info", "model.h5").out
    assert (
        "offset of each element, taken out of every epoch: Au" in ltau.ok("info", "errors.h5").out
    )


def test_shards_and_workers_change_nothing(scored, ltau):
    words = ("-k", 5, "--scale", "none", "--index", "exact")
    ltau.ok("fit", "errors.h5", "train.h5", *words, "--workers", 2, "-o", "two.h5", "-f")
    ltau.ok("score", "test_300K.h5", "-m", "two.h5", "--workers", 2, "-o", "two_scores.h5", "-f")
    same = contents("scores.h5")["expected_error"]
    np.testing.assert_array_equal(contents("two_scores.h5")["expected_error"], same)


def test_what_does_not_match_is_refused(scored, ltau, tmp_path):
    done = ltau("calibrate", "scores.h5", "test_900K.h5", "-o", tmp_path / "c.h5")
    check(done, INPUT, "test_900K.h5", "scores.h5")
    descriptors = save(tmp_path / "plain.npy", contents("train.h5")["descriptors"])
    done = ltau("fit", "errors.h5", descriptors, "-o", tmp_path / "m.h5")
    check(done, INPUT, "plain.npy does not say which atoms are of one frame", "72 frames")
    done = ltau("score", descriptors, "-m", "model.h5", "-o", tmp_path / "s.h5")
    check(done, INPUT, "plain.npy does not say which atoms are of one structure")
    done = ltau("ingest", "train.h5", "--quantity", "energy", "--natoms", "train.h5:natoms",
                "-o", tmp_path / "e.h5")  # fmt: skip
    check(done, USAGE, "energies are those of frames")
    other = ltau("ingest", "train.h5", "--quantity", "energy", "--units", "kJ/mol", "-o",
                 tmp_path / "kj.h5")  # fmt: skip
    assert other.code == 0
    ltau.ok("fit", tmp_path / "kj.h5", "train.h5", "-k", 5, "-o", tmp_path / "kj_model.h5")
    ltau.ok(
        "score", "test_300K.h5", "-m", tmp_path / "kj_model.h5", "-o", tmp_path / "kj_scores.h5"
    )
    done = ltau("calibrate", tmp_path / "kj_scores.h5", "test_300K.h5", "-o", tmp_path / "c.h5")
    check(done, INPUT, "holds errors in eV/atom", "kJ/mol")


@pytest.mark.parametrize("n", [8, 60])
def test_offsets_of_elements_are_taken_out(n, tmp_path, ltau):
    frames = mixed_frames(n)
    ase.io.write(tmp_path / "eval_epoch_3.xyz", frames, format="extxyz")
    done = ltau.ok("ingest", tmp_path / "eval_epoch_3.xyz", "--quantity", "energy", "--json", "-o",
                   tmp_path / "e.h5")  # fmt: skip
    errors = contents(tmp_path / "e.h5")["errors"][0]
    left, offsets = slow_errors(frames)
    if n == 8:  # too few to tell elements apart
        assert errors.mean() > 5 * left.mean()
    else:
        np.testing.assert_allclose(errors, left, rtol=1e-2, atol=1e-6)
        told = dict(zip(OFFSETS, offsets, strict=True))
        assert json.loads(done.out)["offsets"] == pytest.approx(told, rel=1e-3)


def test_one_wrong_label_moves_no_offset(tmp_path, ltau):
    frames = mixed_frames(120)
    frames[7].info["pred_energy"] += 5000
    ase.io.write(tmp_path / "eval.xyz", frames, format="extxyz")
    ltau.ok("ingest", tmp_path / "eval.xyz", "--quantity", "energy", "-o", tmp_path / "e.h5")
    errors = contents(tmp_path / "e.h5")["errors"][0]
    assert errors.argmax() == 7
    assert np.delete(errors, 7).max() < 0.01


def test_a_recorder_keeps_the_sign(tmp_path, ltau):
    signed = np.random.default_rng(0).normal(0.5, 0.1, (4, 40))
    recorder = Recorder(40, tmp_path / "logs", quantity="energy")
    for epoch in signed:
        recorder.record(np.arange(40), epoch)
        recorder.end_epoch()
    ltau.ok("ingest", tmp_path / "logs", "-o", tmp_path / "e.h5")
    left = np.abs(signed - signed.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(contents(tmp_path / "e.h5")["errors"], left, rtol=1e-4, atol=1e-6)


def test_magnitudes_are_left_as_they_are(tmp_path, ltau):
    log = save(tmp_path / "log.npy", np.random.default_rng(0).random((3, 20)) + 1)
    done = ltau.ok("ingest", log, "--quantity", "energy", "-o", tmp_path / "e.h5")
    assert "without a sign" in done.err
    np.testing.assert_allclose(contents(tmp_path / "e.h5")["errors"], np.load(log), rtol=1e-6)


def test_any_quantity_of_a_structure(tmp_path, ltau, monkeypatch):
    """A property of molecules, from the descriptors of their atoms, in arrays and tables."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    natoms = rng.integers(2, 6, 60)
    save("natoms.npy", natoms)
    rows = save("rows.npy", rng.normal(size=(natoms.sum(), 3)))
    log = "epoch,sample,error\n" + "".join(f"0,{i},{i + 1}\n" for i in range(60))
    (tmp_path / "log.csv").write_text(log)
    ltau.ok("ingest", "log.csv", "-o", "e.h5")
    check(ltau("fit", "e.h5", rows, "-o", "m.h5"), INPUT, "rows.npy has", "60 samples")
    ltau.ok("fit", "e.h5", rows, "--natoms", "natoms.npy", "-k", 1, "--scale", "none", "-o", "m.h5")
    ltau.ok("score", rows, "-m", "m.h5", "--natoms", "natoms.npy", "-o", "s.h5")
    np.testing.assert_allclose(contents("s.h5")["expected_error"], np.arange(60) + 1)
