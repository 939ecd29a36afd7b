"""Every refusal, through the real command: one clear line, a hint, an exit code."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

USAGE, INPUT, ARTIFACT, OUTPUT, COMPUTE = 2, 3, 4, 5, 6


def check(result, code, *words, hint=True):
    """One ``error:`` line with these words, a hint if there is a next step, this exit code."""
    assert result.code == code, result.err
    lines = [line for line in result.err.splitlines() if line]
    assert lines[0].startswith("error: "), result.err
    for word in words:
        assert str(word) in lines[0], (word, lines[0])
    if hint:
        assert lines[1].startswith("hint: "), result.err
    assert len(lines) == 1 + hint, result.err
    assert result.out == ""


def save(path, values):
    np.save(path, np.asarray(values), allow_pickle=True)
    return path


@pytest.fixture
def small(tmp_path, ltau):
    """A log of 20 samples with its artifacts, as paths."""
    rng = np.random.default_rng(0)
    log = save(tmp_path / "log.npy", rng.random((6, 20)))
    x = save(tmp_path / "x.npy", rng.random((20, 3)))
    errors, model, scores = (tmp_path / f"{name}.h5" for name in ("errors", "model", "scores"))
    assert ltau("ingest", log, "-o", errors).code == 0
    assert ltau("fit", errors, x, "-o", model).code == 0
    assert ltau("score", x, "-m", model, "-o", scores).code == 0
    return {"log": log, "x": x, "errors": errors, "model": model, "scores": scores}


# Logs


@pytest.mark.parametrize("name", ["nowhere.npy", "nowhere/", "nowhere"])
def test_missing_log(name, tmp_path, ltau):
    check(ltau("ingest", tmp_path / name, "-o", tmp_path / "o.h5"), INPUT, "no such", hint=False)


def test_truncated_npy(tmp_path, ltau):
    path = save(tmp_path / "log.npy", np.ones((5, 100)))
    path.write_bytes(path.read_bytes()[:-8])
    result = ltau("ingest", path, "-o", tmp_path / "o.h5")
    check(result, INPUT, path, "cut short", "4,128", "4,120")


@pytest.mark.parametrize("cut", [0, 4, 60])
def test_npy_with_a_damaged_header(cut, tmp_path, ltau):
    path = save(tmp_path / "log.npy", np.ones((5, 100)))
    path.write_bytes(path.read_bytes()[:cut])
    check(ltau("ingest", path, "-o", tmp_path / "o.h5"), INPUT, path, "header", hint=False)


def test_pickled_npy_is_never_loaded(tmp_path, ltau):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    path = save(tmp_path / "log.npy", np.array([Bomb()], dtype=object))
    check(ltau("ingest", path, "-o", tmp_path / "o.h5"), INPUT, path, "pickled")
    np.savez(tmp_path / "log.npz", run=np.array([Bomb()], dtype=object))
    check(ltau("ingest", tmp_path / "log.npz", "-o", tmp_path / "o.h5"), INPUT, "pickled")
    assert not (tmp_path / "exploded").exists()
    bare = tmp_path / "bare.npy"
    bare.write_bytes(pickle.dumps([1, 2]))
    check(ltau("ingest", bare, "-o", tmp_path / "o.h5"), INPUT, bare, hint=False)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((0, 5), "empty"), ((5, 0), "empty"), ((5,), "shape (5,)"), ((2, 5, 4), "shape (2, 5, 4)")],
)
def test_logs_of_impossible_shape(shape, words, tmp_path, ltau):
    path = save(tmp_path / "log.npy", np.ones(shape))
    result = ltau("ingest", path, "-o", tmp_path / "o.h5")
    check(result, INPUT, path, words, hint="empty" not in words)


def test_text_is_no_number(tmp_path, ltau):
    path = save(tmp_path / "log.npy", np.array([["a", "b"]]))
    check(ltau("ingest", path, "-o", tmp_path / "o.h5"), INPUT, path, "not numbers", hint=False)


def test_empty_folder(tmp_path, ltau):
    (tmp_path / "logs").mkdir()
    check(ltau("ingest", tmp_path / "logs", "-o", tmp_path / "o.h5"), INPUT, "no per-epoch")


def test_empty_npz(tmp_path, ltau):
    np.savez(tmp_path / "log.npz")
    result = ltau("ingest", tmp_path / "log.npz", "-o", tmp_path / "o.h5")
    check(result, INPUT, "log.npz", hint=False)


def test_damaged_npz(tmp_path, ltau):
    path = tmp_path / "log.npz"
    np.savez(path, a=np.ones((50, 60)))
    path.write_bytes(path.read_bytes()[:2000])
    check(ltau("ingest", path, "-o", tmp_path / "o.h5"), INPUT, path, "cut short", hint=False)


def test_two_sets_of_files_in_one_folder(tmp_path, ltau):
    for name in ("force_0", "force_1", "energy_0", "energy_1"):
        save(tmp_path / f"{name}.npy", np.ones(3))
    check(ltau("ingest", tmp_path, "-o", tmp_path / "o.h5"), INPUT, "force_#.npy", "energy_#.npy")


def test_two_numbers_that_vary(tmp_path, ltau):
    for name in ("run1_epoch0", "run1_epoch1", "run2_epoch0"):
        save(tmp_path / f"{name}.npy", np.ones(3))
    check(ltau("ingest", tmp_path, "-o", tmp_path / "o.h5"), INPUT, "more than one number")


def test_epochs_of_different_length(tmp_path, ltau):
    save(tmp_path / "epoch_9.npy", np.ones(3))
    save(tmp_path / "epoch_10.npy", np.ones(4))
    result = ltau("ingest", tmp_path, "-o", tmp_path / "o.h5")
    check(result, INPUT, "epoch_9.npy has 3", "epoch_10.npy has 4 samples")


def test_negative_error_names_file_and_sample(tmp_path, ltau):
    (tmp_path / "logs").mkdir()
    save(tmp_path / "logs/e_0.npy", np.ones(5))
    save(tmp_path / "logs/e_1.npy", [1, 1, 1, -0.5, 1])
    result = ltau("ingest", tmp_path / "logs", "-o", tmp_path / "o.h5")
    check(result, INPUT, "e_1.npy", "sample 3", "negative (-0.5)")


def test_sample_without_any_error(tmp_path, ltau):
    log = np.ones((4, 6))
    log[:, [2, 5]] = np.nan, np.inf
    result = ltau("ingest", save(tmp_path / "log.npy", log), "-o", tmp_path / "o.h5")
    check(result, INPUT, "2 of 6 samples", "first is sample 2")


# Descriptors


def test_missing_descriptors(small, tmp_path, ltau):
    result = ltau("fit", small["errors"], tmp_path / "none.npy", "-o", tmp_path / "o.h5")
    check(result, INPUT, "none.npy: no such file", hint=False)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("stage", ["fit", "score"])
def test_descriptors_that_are_not_finite(value, stage, small, tmp_path, ltau):
    x = np.ones((20, 3))
    x[[4, 9]] = value
    path = save(tmp_path / "bad.npy", x)
    words = (
        ("fit", small["errors"], path) if stage == "fit" else ("score", path, "-m", small["model"])
    )
    result = ltau(
        *words, "-o", tmp_path / "o.h5", *(["--block-rows", 6] if stage == "score" else [])
    )
    check(result, INPUT, path, "2 of 20 rows", "first is row 4")
    assert not (tmp_path / "o.h5").exists()


def test_descriptors_of_another_width(small, tmp_path, ltau):
    path = save(tmp_path / "wide.npy", np.ones((5, 4)))
    result = ltau("score", path, "-m", small["model"], "-o", tmp_path / "o.h5")
    check(result, INPUT, path, small["model"], "4 columns", "on 3")


def test_counts_that_differ_between_log_and_descriptors(small, tmp_path, ltau):
    path = save(tmp_path / "x19.npy", np.ones((19, 3)))
    result = ltau("fit", small["errors"], path, "-o", tmp_path / "o.h5")
    check(result, INPUT, path, small["errors"], "19 rows", "20 samples")


@pytest.mark.parametrize("shape", [(20,), (20, 3, 3), (0, 3), (20, 0)])
def test_descriptors_of_impossible_shape(shape, small, tmp_path, ltau):
    path = save(tmp_path / "odd.npy", np.ones(shape))
    result = ltau("fit", small["errors"], path, "-o", tmp_path / "o.h5")
    check(result, INPUT, path, str(shape), hint=False)


def test_file_with_several_arrays(small, tmp_path, ltau):
    path = tmp_path / "two.npz"
    np.savez(path, a=np.ones((20, 3)), b=np.ones((20, 3)))
    result = ltau("fit", small["errors"], path, "-o", tmp_path / "o.h5")
    check(result, INPUT, path, "which one", "a, b")
    assert ltau("fit", small["errors"], f"{path}:b", "-o", tmp_path / "o.h5").code == 0
    check(ltau("score", f"{path}:c", "-m", small["model"], "-o", tmp_path / "s.h5"), INPUT, "c")


def test_hdf5_places(small, tmp_path, ltau):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["layer/3"] = np.load(small["x"])
        file["other"] = np.ones((4, 4))
    place = f"{tmp_path / 'x.h5'}:/layer/3"
    assert ltau("fit", small["errors"], place, "-o", tmp_path / "m.h5").code == 0
    result = ltau("fit", small["errors"], tmp_path / "x.h5", "-o", tmp_path / "o.h5")
    check(result, INPUT, "2 arrays", "layer/3")


def test_unknown_ending(small, tmp_path, ltau):
    path = tmp_path / "x.pt"
    path.write_bytes(b"zip")
    check(ltau("fit", small["errors"], path, "-o", tmp_path / "o.h5"), INPUT, path, ".npy")


@pytest.mark.parametrize("stage", ["fit", "score"])
def test_k_larger_than_the_training_set(stage, small, tmp_path, ltau):
    words = (
        ("fit", small["errors"], small["x"])
        if stage == "fit"
        else ("score", small["x"], "-m", small["model"])
    )
    result = ltau(*words, "-k", 20, "-o", tmp_path / "o.h5")
    check(result, USAGE, "-k 20", "20 training samples")


@pytest.mark.parametrize(
    ("natoms", "words"), [([10, 9], "19 atoms"), ([10.5, 9.5], "whole"), ([-1, 21], "at least 1")]
)
def test_natoms_that_do_not_fit(natoms, words, small, tmp_path, ltau):
    path = save(tmp_path / "natoms.npy", natoms)
    result = ltau("score", small["x"], "-m", small["model"], "--natoms", path, "-o",
                  tmp_path / "o.h5")  # fmt: skip
    check(result, INPUT, path, words, hint="19" in words)


# Calibration


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


def test_calibration_of_another_model(small, pipeline, tmp_path, ltau):
    result = ltau("score", small["x"], "-m", small["model"], "--calibration",
                  pipeline.calibration, "-o", tmp_path / "o.h5")  # fmt: skip
    check(result, ARTIFACT, pipeline.calibration, "another model", small["model"])


def test_every_row_was_used(small, pipeline, tmp_path, ltau):
    shutil.copy(pipeline.calibrated, tmp_path / "all.h5")
    with h5py.File(tmp_path / "all.h5", "r+") as file:
        file["in_calibration"][...] = True
    result = ltau("evaluate", tmp_path / "all.h5", pipeline.true_errors)
    check(result, COMPUTE, "every row", hint=False)


def test_evaluate_wants_pairs(pipeline, ltau):
    check(ltau("evaluate", pipeline.scores), USAGE, "partner")


# Artifacts


def test_artifact_of_the_wrong_kind(small, tmp_path, ltau):
    result = ltau("fit", small["model"], small["x"], "-o", tmp_path / "o.h5")
    check(result, ARTIFACT, small["model"], "kind model", "an errors artifact")


def edited(path, tmp_path, edit):
    copy = tmp_path / "edited.h5"
    shutil.copy(path, copy)
    with h5py.File(copy, "r+") as file:
        edit(file)
    return copy


def test_newer_version_says_upgrade(small, tmp_path, ltau):
    path = edited(small["model"], tmp_path, lambda f: f.attrs.modify("format_version", 99))
    result = ltau("score", small["x"], "-m", path, "-o", tmp_path / "o.h5")
    check(result, ARTIFACT, path, "version 99")
    assert "upgrade ltau" in result.err
    path = edited(small["model"], tmp_path, lambda f: f.attrs.modify("kind", "atlas"))
    check(ltau("info", path), ARTIFACT, path, "unknown kind")


def test_plain_hdf5_and_other_files(small, tmp_path, ltau):
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["x"] = [1.0]
    check(ltau("info", tmp_path / "plain.h5"), ARTIFACT, "no artifact of ltau", hint=False)
    result = ltau("score", small["x"], "-m", tmp_path / "plain.h5", "-o", tmp_path / "o.h5")
    check(result, ARTIFACT, "no artifact of ltau")
    check(ltau("info", small["x"]), ARTIFACT, "not an HDF5 file")
    check(ltau("info", tmp_path), ARTIFACT, "folder", hint=False)
    check(ltau("info", tmp_path / "none.h5"), INPUT, "no such file", hint=False)
    result = ltau("score", small["x"], "-m", tmp_path / "none.h5", "-o", tmp_path / "o.h5")
    check(result, INPUT, "none.h5: no such file")
    assert "ltau fit" in result.err


def replace(name, values):
    def edit(file):
        del file[name]
        file[name] = values

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda f: f.pop("counts"), "counts is missing"),
        (replace("loo_distance", np.ones(20)), "loo_distance has dtype float64"),
        (replace("loo_distance", np.ones((20, 1), "f4")), "2 dimensions"),
        (replace("loo_distance", np.ones(19, "f4")), "size 19"),
        (replace("bin_edges", np.ones(7)), "n_bins"),
        (replace("mean_error", np.full(20, np.nan, "f4")), "20 values that are not finite"),
        (replace("counts", h5py.ExternalLink("/etc/passwd", "x")), "not followed"),
        (replace("counts", h5py.SoftLink("/point")), "not followed"),
        (lambda f: f.attrs.modify("parameters", "{"), "parameters"),
        (lambda f: f.attrs.pop("format_version"), "format_version"),
        (lambda f: (f.pop("counts"), f.create_group("counts")), "not a dataset"),
    ],
)
def test_damaged_artifacts(edit, words, small, tmp_path, ltau):
    path = edited(small["model"], tmp_path, edit)
    result = ltau("score", small["x"], "-m", path, "-o", tmp_path / "o.h5")
    check(result, ARTIFACT, path, words)


def test_values_in_another_file_are_refused(small, tmp_path, ltau):
    def outside(file):
        del file["mean_error"]
        file.create_dataset("mean_error", (20,), "f4", external=[(str(tmp_path / "raw"), 0, 80)])

    path = edited(small["model"], tmp_path, outside)
    result = ltau("score", small["x"], "-m", path, "-o", tmp_path / "o.h5")
    check(result, ARTIFACT, path, "another file")


def test_artifact_that_is_cut_short(small, tmp_path, ltau):
    path = tmp_path / "cut.h5"
    path.write_bytes(small["model"].read_bytes()[:3000])
    check(ltau("score", small["x"], "-m", path, "-o", tmp_path / "o.h5"), ARTIFACT, path)


# Output


@pytest.mark.parametrize("stage", ["ingest", "fit", "score", "calibrate", "plot"])
def test_existing_output_is_kept_without_force(stage, pipeline, tmp_path, ltau):
    there = tmp_path / "there.png"
    there.write_bytes(b"precious")
    words = {
        "ingest": ["ingest", pipeline.logs],
        "fit": ["fit", pipeline.errors, pipeline.train],
        "score": ["score", pipeline.descriptors, "-m", pipeline.model],
        "calibrate": ["calibrate", pipeline.scores, pipeline.true_errors],
        "plot": ["plot", pipeline.calibration],
    }[stage]
    result = ltau(*words, "-o", there)
    check(result, OUTPUT, there, "exists")
    assert "--force" in result.err
    assert there.read_bytes() == b"precious"
    assert ltau(*words, "-o", there, "--force").code == 0
    assert there.read_bytes() != b"precious"
    check(ltau(*words, "-o", tmp_path / "no/way.png"), OUTPUT, "no folder")
    check(ltau(*words, "-o", tmp_path), OUTPUT, "is a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]


def test_unwritable_folder(tmp_path, ltau):
    folder = Path("/sys/kernel") if os.getuid() == 0 else tmp_path  # root may write anywhere else
    log = save(tmp_path / "log.npy", np.ones((2, 3)))
    tmp_path.chmod(0o555)
    path = folder / "o.h5"
    check(ltau("ingest", log, "-o", path), OUTPUT, f"cannot write {path}: ")
    tmp_path.chmod(0o755)


# Command line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit"], "Missing argument"),
        (["nonsense"], "No such command"),
        (["fit", "--nonsense"], "No such option"),
        (["score", "x", "--quantile", "1.5"], "1.5"),
        (["fit", "e", "d", "--bins", "0"], "0"),
        (["fit", "e", "d", "--threshold", "-1"], "-1"),
        (["plot", "nonsense", "x"], "nonsense"),
    ],
)
def test_usage(words, said, ltau):
    check(ltau(*words), USAGE, said)


def test_impossible_range(small, tmp_path, ltau):
    words = ("fit", small["errors"], small["x"], "-o", tmp_path / "o.h5", "--range")
    check(ltau(*words, 2, 1), USAGE, "LOW < HIGH", hint=False)
    check(ltau(*words, 0, 1), USAGE, "log grid")
    assert ltau(*words, 0, 1, "--grid", "linear").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plot", "reliability", "model"], "kind model"),
        (["plot", "scores", "-o", "figure.gif"], "figure.gif"),
        (["plot", "parity", "scores"], "true errors"),
    ],
)
def test_figures_that_cannot_be_drawn(words, said, small, tmp_path, ltau, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [f"{word}.h5" if word in small else word for word in words]
    check(ltau(*words), USAGE, said)


def test_cdf_of_scores_without_cdfs(small, tmp_path, ltau):
    check(ltau("plot", "cdf", small["scores"], "-o", tmp_path / "f.png"), USAGE, "no CDFs")


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fit: {binz: 7}", "binz"),
        ("fitt: {bins: 7}", "fitt"),
        ("fit: [1, 2]", "section"),
        ("- fit", "section"),
        ("fit: {bins: 7", "line"),
        ("fit: !!python/object/apply:os.mkdir [/tmp/exploded]", "not YAML"),
        ("fit: {bins: many}", "many"),
    ],
)
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


def test_calibration_with_another_k(pipeline, tmp_path, ltau):
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "-o", tmp_path / "o.h5")
    result = ltau(*words, "--calibration", pipeline.calibration, "-k", 20)
    check(result, USAGE, "-k 10", "-k 20")


def test_csv_and_json_both_want_standard_output(pipeline, ltau):
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "-o", "-", "--json")
    check(ltau(*words), USAGE, "standard output")


# Warnings


def test_out_of_domain_rows_and_unknown_thresholds_are_warned_about(pipeline, tmp_path, ltau):
    hot = pipeline.hot_descriptors
    fitted = tmp_path / "c.h5"
    words = ("calibrate", pipeline.scores, pipeline.true_errors, "-o", fitted)
    assert ltau(*words, "--method", "threshold").code == 0
    words = ("score", hot, "-m", pipeline.model, "--calibration", fitted)
    result = ltau(*words, "-o", tmp_path / "a.h5", "--threshold", 0.5)
    assert result.code == 0
    assert "warning: " in result.err
    assert "has no threshold 0.5" in result.err
    assert "out of domain; the bounds are extrapolated there" in result.err


def test_rows_of_another_array_of_the_file_are_not_left_out(pipeline, tmp_path, ltau):
    both = tmp_path / "all.h5"
    with h5py.File(both, "w") as file:
        file["cold"] = np.load(pipeline.descriptors)
        file["hot"] = np.load(pipeline.descriptors.with_name("test_900K_descriptors.npy"))[:900]
    words = ("-m", pipeline.model, "-o")
    cold, fitted = tmp_path / "cold.h5", tmp_path / "c.h5"
    assert ltau("score", f"{both}:/cold", *words, cold).code == 0
    assert ltau("calibrate", cold, pipeline.true_errors, "-o", fitted).code == 0
    for name, used in (("hot", 0), ("cold", 688)):
        out = tmp_path / f"{name}2.h5"
        assert ltau("score", f"{both}:/{name}", *words, out, "--calibration", fitted).code == 0
        with h5py.File(out) as file:
            assert file["in_calibration"][...].sum() == used
