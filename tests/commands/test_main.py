"""The command line itself: usage, configuration, environment; and ``ltau info``."""

import json

import h5py
import numpy as np
import pytest

from tests.helpers import USAGE, check, read


@pytest.mark.parametrize(("words", "said"), [
    (["fit"], "Missing argument"),
    (["nonsense"], "No such command"),
    (["fit", "--nonsense"], "No such option"),
    (["score", "x", "--quantile", "1.5"], "1.5"),
    (["fit", "e", "d", "--bins", "0"], "0"),
    (["fit", "e", "d", "--threshold", "-1"], "-1"),
    (["plot", "nonsense", "x"], "nonsense"),
])  # fmt: skip
def test_usage(words, said, ltau):
    check(ltau(*words), USAGE, said)


def test_config_sets_defaults_and_flags_win(small, tmp_path, ltau):
    config = tmp_path / "ltau.yaml"
    config.write_text(
        "fit:\n  bins: 7\n  threshold: [0.25, 0.5]\n  grid: linear\n  range: [0, 1]\n"
    )
    words = ("fit", small["errors"], small["x"], "--config", config)
    ltau.ok(*words, "-o", tmp_path / "a.h5")
    ltau.ok(*words, "-o", tmp_path / "b.h5", "--bins", 9)
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        np.testing.assert_allclose(
            a["bin_edges"], np.unique(np.r_[np.linspace(0, 1, 8), 0.25, 0.5])
        )
        assert len(b["bin_edges"]) == 12 - (0.25 in np.linspace(0, 1, 10))
        assert a["thresholds"][...].tolist() == [0.25, 0.5]


@pytest.mark.parametrize(("text", "said"), [
    ("fit: {binz: 7}", "binz"),
    ("fitt: {bins: 7}", "fitt"),
    ("fit: [1, 2]", "section"),
    ("- fit", "section"),
    ("fit: {bins: 7", "line"),
    ("fit: !!python/object/apply:os.mkdir [/tmp/exploded]", "not YAML"),
    ("fit: {bins: many}", "many"),
    ("fit: {json: 5}", "json"),
    ("fit: {range: 5}", "range"),
    ("fit: {bins: [1]}", "bins"),
    ("fit: {threshold: x}", "threshold"),
])  # fmt: skip
def test_config_that_cannot_be_meant(text, said, small, tmp_path, ltau):
    config = tmp_path / "ltau.yaml"
    config.write_text(text)
    result = ltau("fit", small["errors"], small["x"], "--config", config, "-o", tmp_path / "o.h5")
    told_more = ("section", "binz", "fitt", "many", "json", "threshold")
    check(result, USAGE, said, hint=said in told_more)
    check(ltau("fit", "e", "x", "--config", tmp_path / "none.yaml"), USAGE, "none.yaml", hint=False)


def test_environment_sets_options(small, tmp_path, ltau, monkeypatch):
    monkeypatch.setenv("LTAU_FIT_BINS", "5")
    monkeypatch.setenv("LTAU_FIT_THRESHOLD", "0.25 0.5")
    monkeypatch.setenv("LTAU_FIT_JSON", "1")
    result = ltau("fit", small["errors"], small["x"], "-o", tmp_path / "a.h5")
    assert json.loads(result.out)["thresholds"] == [0.25, 0.5]
    assert len(read(tmp_path / "a.h5", "bin_edges")) in (6, 7, 8)


def test_names_cannot_color_the_terminal(small, tmp_path, ltau):
    out = tmp_path / "a\x1b[31m\nb.h5"
    done = ltau("fit", small["errors"], small["x"], "-o", out)
    assert done.out.splitlines()[0].startswith(f"{tmp_path}/a?[31m?b.h5: ")


def test_unknown_options_of_the_environment_are_refused(small, tmp_path, ltau, monkeypatch):
    monkeypatch.setenv("LTAU_SCORE_BINS", "5")  # of another command
    ltau.ok("fit", small["errors"], small["x"], "-o", tmp_path / "a.h5")
    monkeypatch.setenv("LTAU_FIT_BURN_IN", "5")
    done = ltau("fit", small["errors"], small["x"], "-o", tmp_path / "b.h5")
    check(done, USAGE, "LTAU_FIT_BURN_IN", "no option of ltau fit")


@pytest.mark.parametrize("name", ["errors", "model", "scores", "calibration"])
def test_info_tells_kind_shapes_units_parameters_and_inputs(pipeline, name, ltau):
    path = getattr(pipeline, name)
    told = json.loads(ltau("info", path, "--json").out)
    assert told["kind"] == name
    with h5py.File(path) as file:
        for dataset, about in told["datasets"].items():
            assert tuple(about["shape"]) == file[dataset].shape
            assert about["units"] == file[dataset].attrs["units"]
    assert told["inputs"]
    assert all(len(record["sha256"]) == 64 for record in told["inputs"])
    text = ltau("info", path).out
    assert name in text
    assert "sha256" in text
