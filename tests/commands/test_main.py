"""The command line itself: usage, configuration, environment."""

import json

import h5py
import numpy as np
import pytest

from tests.helpers import USAGE, check

# Command line


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


# Configuration


def test_config_sets_defaults_and_flags_win(small, tmp_path, ltau):
    config = tmp_path / "ltau.yaml"
    config.write_text(
        "fit:\n  bins: 7\n  threshold: [0.25, 0.5]\n  grid: linear\n  range: [0, 1]\n"
    )
    words = ("fit", small["errors"], small["x"], "--config", config)
    assert ltau(*words, "-o", tmp_path / "a.h5").code == 0
    assert ltau(*words, "-o", tmp_path / "b.h5", "--bins", 9).code == 0
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
])  # fmt: skip
def test_config_that_cannot_be_meant(text, said, small, tmp_path, ltau):
    config = tmp_path / "ltau.yaml"
    config.write_text(text)
    result = ltau("fit", small["errors"], small["x"], "--config", config, "-o", tmp_path / "o.h5")
    check(
        result,
        USAGE,
        said,
        hint="section" in said or "bin" in said or "fitt" in said or "many" in said,
    )
    check(ltau("fit", "e", "x", "--config", tmp_path / "none.yaml"), USAGE, "none.yaml", hint=False)


def test_environment_sets_options(small, tmp_path, ltau, monkeypatch):
    monkeypatch.setenv("LTAU_FIT_BINS", "5")
    assert ltau("fit", small["errors"], small["x"], "-o", tmp_path / "a.h5").code == 0
    with h5py.File(tmp_path / "a.h5") as file:
        assert len(file["bin_edges"]) in (6, 7)


def test_environment_names_follow_the_flags(small, tmp_path, ltau, monkeypatch):
    monkeypatch.setenv("LTAU_FIT_THRESHOLD", "0.25 0.5")
    monkeypatch.setenv("LTAU_FIT_JSON", "1")
    result = ltau("fit", small["errors"], small["x"], "-o", tmp_path / "a.h5")
    assert json.loads(result.out)["thresholds"] == [0.25, 0.5]


@pytest.mark.parametrize("line", ["json: 5", "range: 5", "bins: [1]", "threshold: x"])
def test_config_values_of_the_wrong_type(line, small, tmp_path, ltau):
    config = tmp_path / "ltau.yaml"
    config.write_text(f"fit:\n  {line}\n")
    result = ltau("fit", small["errors"], small["x"], "--config", config, "-o", tmp_path / "o.h5")
    check(result, USAGE, line.split(":")[0], hint=line in ("json: 5", "threshold: x"))
