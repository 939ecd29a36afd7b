"""``ltau calibrate``: methods and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.helpers import COMPUTE, INPUT, USAGE, check, save


@pytest.mark.parametrize(
    ("truth", "words", "hint"),
    [
        (np.ones(19), "19 true errors", True),
        (np.full(20, np.nan), "20 true errors are NaN", False),
        (np.r_[np.ones(7), -np.ones(13)], "row 7", True),
        (np.ones((20, 2)), "shape (20, 2)", False),
    ],
)
def test_true_errors_that_cannot_be_meant(truth, words, hint, small, tmp_path, ltau):
    path = save(tmp_path / "t.npy", truth)
    result = ltau("calibrate", small["scores"], path, "-o", tmp_path / "o.h5")
    check(result, INPUT, path, words, hint=hint)


def test_too_few_rows_for_a_bound(small, tmp_path, ltau):
    path = save(tmp_path / "t.npy", np.ones(20))
    result = ltau("calibrate", small["scores"], path, "-o", tmp_path / "o.h5", "--level", 0.95)
    check(result, COMPUTE, "0.95", "19 rows", "10")


def test_nothing_to_calibrate_on(small, tmp_path, ltau):
    path = save(tmp_path / "t.npy", np.zeros(20))
    check(ltau("calibrate", small["scores"], path, "-o", tmp_path / "o.h5"), COMPUTE, "is 0",
          hint=False)  # fmt: skip
    natoms = save(tmp_path / "n.npy", [20])
    one = tmp_path / "one.h5"
    ltau("score", small["x"], "-m", small["model"], "--natoms", natoms, "-o", one)
    truth = save(tmp_path / "t1.npy", np.ones(20))
    check(ltau("calibrate", one, truth, "-o", tmp_path / "o.h5"), COMPUTE, "1 structure")


def test_methods_are_compared(pipeline, ltau, tmp_path):
    words = ("calibrate", pipeline.scores, pipeline.true_errors, "-f", "-o", tmp_path / "c.h5")
    result = ltau(*words, "--compare")
    lines = result.out.splitlines()
    at = next(i for i, line in enumerate(lines) if "CRPS, cross-validated" in line)
    names = [line.split()[0] for line in lines[at + 1 : at + 5]]
    assert names == ["distance", "scale", "isotonic", "threshold"]
    for method in names:
        found = json.loads(ltau(*words, "--method", method, "--json").out)
        assert found["method"] == method
        assert list(found["compared"]) == [method]
        coverage = found["heldout"]["predictors"]["ltau"]["coverage"]
        assert coverage["0.9"] == pytest.approx(0.9, abs=0.08), method
    check(ltau(*words, "--method", "magic"), USAGE, "magic")
    check(ltau(*words, "--distance-bins", 0), USAGE, "0")


def test_true_errors_that_are_nearly_all_zero(pipeline, ltau, tmp_path):
    truth = np.zeros(1375)
    truth[:55] = 1
    np.save(tmp_path / "t.npy", truth)
    codes = set()
    for seed in range(6):  # the one structure with errors is fitted on, or not
        words = ("calibrate", pipeline.scores, tmp_path / "t.npy", "-o", tmp_path / "c.h5")
        result = ltau(*words, "--seed", seed)
        check(result, 6, "true errors to fit on are above 0")
        codes.add("only 0 of" in result.err)
    assert codes == {True, False}
