"""``ltau score``: results, streams and refusals."""

import csv
import io
import shutil

import h5py
import numpy as np
import pytest

from tests.helpers import INPUT, USAGE, check, save, start


def test_descriptors_of_another_width(small, tmp_path, ltau):
    path = save(tmp_path / "wide.npy", np.ones((5, 4)))
    result = ltau("score", path, "-m", small["model"], "-o", tmp_path / "o.h5")
    check(result, INPUT, path, small["model"], "4 columns", "on 3")


@pytest.mark.parametrize(
    ("natoms", "words"), [([10, 9], "19 atoms"), ([10.5, 9.5], "whole"), ([-1, 21], "at least 1")]
)
def test_natoms_that_do_not_fit(natoms, words, small, tmp_path, ltau):
    path = save(tmp_path / "natoms.npy", natoms)
    result = ltau("score", small["x"], "-m", small["model"], "--natoms", path, "-o",
                  tmp_path / "o.h5")  # fmt: skip
    check(result, INPUT, path, words, hint="19" in words)


def test_csv_and_json_both_want_standard_output(pipeline, ltau):
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "-o", "-", "--json")
    check(ltau(*words), USAGE, "standard output")


def test_structures_come_with_the_descriptor_file(pipeline, tmp_path, ltau):
    with h5py.File(tmp_path / "new.h5", "w") as file:
        file["descriptors"] = np.load(pipeline.descriptors)
        file["natoms"] = np.load(pipeline.natoms)
    names = np.repeat([f"frame {i}" for i in range(25)], 55)
    np.savez(tmp_path / "new.npz", descriptors=np.load(pipeline.descriptors), structure=names)
    for name in ("new.h5", "new.npz"):
        out = tmp_path / f"{name}.scores.h5"
        ltau.ok("score", tmp_path / name, "-m", pipeline.model, "-o", out)
        with h5py.File(out) as got, h5py.File(pipeline.scores) as wanted:
            for dataset in ("structure", "structures/expected_error_mean", "expected_error"):
                np.testing.assert_array_equal(got[dataset], wanted[dataset])


def test_csv_on_standard_output(pipeline, ltau):
    result = ltau("score", pipeline.descriptors, "-m", pipeline.model, "-o", "-", "--natoms",
                  pipeline.natoms, "--calibration", pipeline.calibration)  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert len(rows) == 1375
    with h5py.File(pipeline.calibrated) as file:
        got = np.array([float(row["expected_error"]) for row in rows], np.float32)
        np.testing.assert_allclose(got, file["expected_error"], rtol=1e-6)
        bound = np.array([float(row["error_bound_0.9"]) for row in rows])
        np.testing.assert_allclose(bound, file["error_bound"][:, 2], rtol=1e-6)
    assert rows[60]["structure"] == "1"
    assert "riskiest" in result.err  # the summary moves to standard error


@pytest.mark.slow
def test_a_reader_that_stops_early_is_no_error(pipeline):
    process = start("score", pipeline.descriptors, "-m", pipeline.model, "-o", "-")
    assert process.stdout.readline().startswith("row,")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert "Traceback" not in err


def test_score_finds_the_model_beside_it(pipeline, tmp_path, ltau, monkeypatch):
    shutil.copy(pipeline.model, tmp_path / "model.h5")
    with h5py.File(tmp_path / "descriptors.h5", "w") as file:
        file["descriptors"] = np.load(pipeline.descriptors)
    monkeypatch.chdir(tmp_path)
    ltau.ok("score", "descriptors.h5")
    assert (tmp_path / "scores.h5").exists()
