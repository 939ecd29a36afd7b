"""``ltau fit``: defaults and refusals."""

import json

import numpy as np
import pytest

from tests.helpers import INPUT, USAGE, check, save


def test_counts_that_differ_between_log_and_descriptors(small, tmp_path, ltau):
    path = save(tmp_path / "x19.npy", np.ones((19, 3)))
    result = ltau("fit", small["errors"], path, "-o", tmp_path / "o.h5")
    check(result, INPUT, path, small["errors"], "19 rows", "20 samples")


@pytest.mark.parametrize("stage", ["fit", "score"])
def test_k_larger_than_the_training_set(stage, small, tmp_path, ltau):
    words = (
        ("fit", small["errors"], small["x"])
        if stage == "fit"
        else ("score", small["x"], "-m", small["model"])
    )
    result = ltau(*words, "-k", 20, "-o", tmp_path / "o.h5")
    check(result, USAGE, "-k 20", "20 training samples")


def test_impossible_range(small, tmp_path, ltau):
    words = ("fit", small["errors"], small["x"], "-o", tmp_path / "o.h5", "--range")
    check(ltau(*words, 2, 1), USAGE, "LOW < HIGH", hint=False)
    check(ltau(*words, 0, 1), USAGE, "log grid")
    ltau.ok(*words, 0, 1, "--grid", "linear")


def test_fit_takes_30_neighbors_and_whitened_descriptors(pipeline, tmp_path, ltau):
    out = tmp_path / "m.h5"
    ltau.ok("fit", pipeline.errors, pipeline.train, "-o", out)
    told = json.loads(ltau("info", out, "--json").out)["parameters"]
    assert (told["k"], told["scale"]) == (30, "whiten")
    for n, k in ((31, 30), (30, 29), (2, 1)):
        np.save(tmp_path / "log.npy", np.random.default_rng(0).random((4, n)))
        np.save(tmp_path / "x.npy", np.random.default_rng(1).random((n, 2)))
        log, x = tmp_path / "log.npy", tmp_path / "x.npy"
        ltau.ok("ingest", log, "-o", tmp_path / "e.h5", "-f")
        ltau.ok("fit", tmp_path / "e.h5", x, "-o", tmp_path / "t.h5", "-f")
        told = json.loads(ltau("info", tmp_path / "t.h5", "--json").out)["parameters"]
        assert told["k"] == k
        scores = ("score", x, "-m", tmp_path / "t.h5", "-o", tmp_path / "s.h5", "-f", "--json")
        assert json.loads(ltau(*scores).out)["k"] == k


def test_one_sample_has_no_neighbor(tmp_path, ltau):
    np.save(tmp_path / "log.npy", np.ones((4, 1)))
    np.save(tmp_path / "x.npy", np.ones((1, 2)))
    ltau.ok("ingest", tmp_path / "log.npy", "-o", tmp_path / "e.h5")
    result = ltau("fit", tmp_path / "e.h5", tmp_path / "x.npy", "-o", tmp_path / "m.h5")
    assert result.code == 3
    assert result.err.startswith(f"error: {tmp_path / 'e.h5'} has a single sample, which has no")
