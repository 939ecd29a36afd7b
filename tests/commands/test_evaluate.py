"""``ltau evaluate`` and ``--fail-if``: tables, JSON, gates and refusals."""

import json
import shutil

import h5py
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.helpers import COMPUTE, INPUT, SAMPLE, USAGE, check, save

GATE = 7
BASELINES = ["ltau", "constant", "neighbor distance", "last epoch"]


@pytest.fixture(scope="module")
def sets(pipeline, tmp_path_factory):
    """Calibrated scores with species of 300 K (fitted on in half) and 900 K, and true errors."""
    from ltau_cli.cli.main import run

    folder = tmp_path_factory.mktemp("sets")
    cold, hot = folder / "cold.h5", folder / "hot.h5"
    for name, out in (("300K", cold), ("900K", hot)):
        words = ["score", SAMPLE / f"test_{name}_descriptors.npy", "-m", pipeline.model,
                 "--natoms", SAMPLE / f"test_{name}_natoms.npy", "--calibration",
                 pipeline.calibration, "--group", SAMPLE / f"test_{name}_species.npy",
                 "-o", out, "-q"]  # fmt: skip
        assert run([str(word) for word in words]) == 0
    return [cold, pipeline.true_errors, hot, pipeline.hot_true_errors]


def strict_json(text):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_baselines_stand_beside(sets, ltau):
    result = ltau.ok("evaluate", *sets)
    lines = result.out.splitlines()
    assert len(lines) == 11
    assert [line.split()[0] for line in (lines[1], lines[6])] == ["cold", "hot"]
    for line, name in zip(lines[1:], [*BASELINES, "best possible"] * 2, strict=True):
        assert name in line
    assert "out of domain (p < 0.01): " in result.err
    assert " of cold, " in result.err


def test_json_has_everything(sets, ltau):
    cold, hot = strict_json(ltau("evaluate", *sets, "--json").out)
    assert [cold["set"], hot["set"]] == ["cold", "hot"]
    assert cold["n_left_out"] > 0 == hot["n_left_out"]
    assert hot["n_rows"] == 1375
    assert list(hot["predictors"]) == sorted(BASELINES)
    for metrics in hot["predictors"].values():
        assert set(metrics["coverage"]) == {"0.5", "0.8", "0.9", "0.95"}
        assert metrics["n_rows"] == 1375
    own, constant = hot["predictors"]["ltau"], hot["predictors"]["constant"]
    assert own["crps"] < constant["crps"]
    assert abs(own["coverage"]["0.9"] - 0.9) < abs(constant["coverage"]["0.9"] - 0.9)
    low, high = own["rank_correlation_interval"]
    assert low < own["rank_correlation"] < high
    assert constant["rank_correlation"] is None
    for parts in (hot["groups"], hot["distance_bins"]):
        assert sum(part["n_rows"] for part in parts) == 1375
    assert hot["distance_bins"][-1]["to"] is None


@pytest.mark.parametrize("by", ["group", "distance"])
def test_parts_are_shown(by, sets, ltau):
    lines = ltau("evaluate", *sets, "--by", by).out.splitlines()
    found = json.loads(ltau("evaluate", *sets, "--json").out)
    for result in found:
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{result['set']} by {by}"))
        parts = result["groups" if by == "group" else "distance_bins"]
        for line, part in zip(lines[at + 1 :], parts, strict=False):
            name = str(part["group"]) if by == "group" else f"{part['from']:g} "
            assert line.startswith(name)
            assert f" {part['n_rows']:,} " in line
    assert lines[-1].startswith("3 on" if by == "distance" else str(parts[-1]["group"]))


def test_parts_that_are_not_there(pipeline, sets, ltau):
    result = ltau("evaluate", pipeline.scores, pipeline.true_errors, "--by", "distance")
    check(result, USAGE, "--by distance needs calibrated scores", pipeline.scores)
    result = ltau("evaluate", *sets, pipeline.calibrated, pipeline.true_errors, "--by", "group")
    check(result, USAGE, "which group a row of", pipeline.calibrated)
    check(ltau("evaluate", *sets, "--by", "color"), USAGE, "color")


def test_group_of_a_file(pipeline, ltau, tmp_path):
    labels = save(tmp_path / "g.npy", np.arange(1375) % 3)
    words = ("evaluate", pipeline.calibrated, pipeline.true_errors, "--json", "--group")
    (found,) = json.loads(ltau(*words, labels).out)
    assert [part["group"] for part in found["groups"]] == [0, 1, 2]
    labels = save(tmp_path / "few.npy", np.arange(9))
    check(ltau(*words, labels), INPUT, labels, "9 labels", "1,375 rows")
    check(ltau(*words, "species"), INPUT, pipeline.calibrated, "does not say which species")


def test_options_of_a_single_set(sets, ltau):
    for option in ("--group", "--draws", "--ood-labels"):
        check(ltau("evaluate", *sets, option, "x.npy"), USAGE, f"{option} belongs to a single set")
    check(ltau("evaluate", *sets[:3]), USAGE, "hot.h5 has no partner")
    check(ltau("evaluate", sets[0]), USAGE, "partner")


@pytest.fixture
def far(pipeline, tmp_path, ltau):
    """Scores of rows that were trained on, and of rows that are far from all of them."""
    near = np.load(pipeline.train)[:50]
    np.save(tmp_path / "both.npy", np.concatenate([near, near + 1e3]))
    scores, truth = tmp_path / "far.h5", save(tmp_path / "t.npy", np.linspace(1, 2, 100))
    words = ("score", tmp_path / "both.npy", "-m", pipeline.model, "-o", scores)
    ltau.ok(*words)
    return scores, truth


@pytest.mark.parametrize("form", ["int", "bool", "float", "txt"])
def test_area_under_the_roc_curve(form, far, ltau, tmp_path):
    labels = np.repeat([0, 1], 50)
    path = tmp_path / "labels.npy"
    if form == "txt":
        path = tmp_path / "labels.txt"
        path.write_text("".join(f"{label}\n" for label in labels))
    else:
        save(path, labels.astype(form))
    result = ltau.ok("evaluate", *far, "--ood-labels", path)
    assert "; ROC AUC 1.000" in result.err
    (found,) = json.loads(ltau("evaluate", *far, "--ood-labels", path, "--json").out)
    assert found["roc_auc"] == 1


def test_area_under_the_roc_curve_by_pairs(sets, ltau, tmp_path):
    labels = np.random.default_rng(0).integers(0, 2, 1375)
    path = save(tmp_path / "labels.npy", labels)
    (found,) = json.loads(ltau("evaluate", *sets[2:], "--ood-labels", path, "--json").out)
    export = tmp_path / "s.npz"
    ltau.ok("export", sets[2], "-o", export)
    p = np.load(export)["ood_pvalue"]
    out, inside = p[labels == 1][:, None], p[labels == 0]
    assert found["roc_auc"] == pytest.approx(((out < inside) + (out == inside) / 2).mean())
    assert found["roc_auc"] == pytest.approx(roc_auc_score(labels, -p))


@pytest.mark.parametrize("labels", [np.zeros(100, int), np.r_[np.ones(99), 2], np.full(100, "a")])
def test_labels_that_are_not_0_and_1(labels, far, ltau, tmp_path):
    path = save(tmp_path / "labels.npy", labels)
    check(ltau("evaluate", *far, "--ood-labels", path), INPUT, path, "must be 0 and 1")


def test_labels_of_other_rows(far, ltau, tmp_path):
    path = save(tmp_path / "labels.npy", np.arange(9) % 2)
    check(ltau("evaluate", *far, "--ood-labels", path), INPUT, path, "9 labels", "100 rows")
    check(ltau("evaluate", *far, "--ood-labels", "none.npy"), INPUT, "none.npy", hint=False)


def gate_error(result):
    assert result.code == GATE, result.err
    return next(line for line in result.err.splitlines() if line.startswith("error: "))


def test_a_gate_that_holds_and_one_that_fails(sets, ltau):
    (found,) = json.loads(ltau("evaluate", *sets[2:], "--json").out)
    covered = found["predictors"]["ltau"]["coverage"]["0.9"]
    words = ("evaluate", *sets[2:], "--fail-if")
    ltau.ok(*words, f"coverage90 < {covered - 1e-3}")
    result = ltau(*words, f"coverage90 < {covered + 1e-3:.5f}")
    said = f"error: {sets[2]}: coverage90 is {covered:.6g}, and --fail-if says coverage90 < "
    assert gate_error(result).startswith(said)
    assert "ltau" in result.out  # the table is there, for the log of the job
    assert gate_error(ltau(*words, "crps > 1e9", "--fail-if", "width90>=0")).endswith(
        "says width90 >= 0"
    )
    result = ltau(*words, "n_rows == 1375", "--json")
    assert gate_error(result)
    assert json.loads(result.out)


@pytest.mark.parametrize(
    "metric",
    ["coverage50", "coverage95", "width90", "rank_correlation", "error_ratio", "crps", "ence",
     "ause", "miscalibration_area", "flagged_share"],
)  # fmt: skip
def test_every_metric_can_be_a_gate(metric, sets, ltau):
    result = ltau("evaluate", *sets[2:], "--fail-if", f"{metric} > -2")
    assert f"{metric} > -2" in gate_error(result)


def test_metrics_that_are_not_there(sets, pipeline, ltau):
    result = ltau("evaluate", *sets, "--fail-if", "coverage99 < 0.9")
    assert result.code == USAGE
    assert f"error: {sets[0]} has no metric coverage99" in result.err
    assert "hint: it has: coverage50, coverage80" in result.err
    words = ("evaluate", pipeline.scores, pipeline.true_errors, "--fail-if")
    assert ltau(*words, "coverage90 < 0.9").code == USAGE  # not calibrated
    ltau.ok(*words, "rank_correlation < -1")
    for text in ("coverage90", "coverage90 < much", "coverage90 = 1"):
        check(ltau("evaluate", *sets, "--fail-if", text), USAGE, hint="much" not in text)


def test_every_set_has_to_pass(sets, ltau, tmp_path):
    """Two files of one name are two sets."""
    (tmp_path / "cold").mkdir()
    (tmp_path / "hot").mkdir()
    cold, hot = tmp_path / "cold" / "scores.h5", tmp_path / "hot" / "scores.h5"
    shutil.copy(sets[0], cold)
    shutil.copy(sets[2], hot)
    gate = ("--fail-if", "mean_true_error > 0.1")
    ltau.ok("evaluate", cold, sets[1], *gate)
    for words in ((cold, sets[1], hot, sets[3]), (hot, sets[3], cold, sets[1])):
        assert f"{hot}: mean_true_error is " in gate_error(ltau("evaluate", *words, *gate))


@pytest.mark.slow
def test_calibrate_has_gates_too(pipeline, ltau, tmp_path):
    out = tmp_path / "c.h5"
    words = ("calibrate", pipeline.scores, pipeline.true_errors, "-o", out, "-f", "--fail-if")
    ltau.ok(*words, "coverage90 < 0.5")
    result = ltau(*words, "coverage90 < 1")
    assert f"held-out rows of {pipeline.scores}: coverage90 is 0." in gate_error(result)
    assert out.exists()
    out.unlink()
    check(ltau(*words, "coverage90 <"), USAGE, "not COLUMN OP NUMBER")
    assert not out.exists()
    assert ltau(*words, "nonsense > 1").code == USAGE


def test_every_row_was_used(small, pipeline, tmp_path, ltau):
    shutil.copy(pipeline.calibrated, tmp_path / "all.h5")
    with h5py.File(tmp_path / "all.h5", "r+") as file:
        file["in_calibration"][...] = True
    result = ltau("evaluate", tmp_path / "all.h5", pipeline.true_errors)
    check(result, COMPUTE, "every row", hint=False)


def test_evaluate_leaves_out_the_rows_of_the_calibration(pipeline, ltau):
    result = ltau("evaluate", pipeline.calibrated, pipeline.true_errors, "--json")
    (report,) = json.loads(result.out)
    with h5py.File(pipeline.calibration) as file:
        assert report["n_rows"] == len(file["heldout_row"])
        summary = json.loads(file.attrs["summary"])["heldout"]
    assert report["n_left_out"] == 1375 - report["n_rows"]
    for name, metrics in report["predictors"].items():
        wanted = summary["predictors"][name]
        assert metrics["coverage"] == pytest.approx(wanted["coverage"]), name
        assert metrics["crps"] == pytest.approx(wanted["crps"], rel=1e-6), name
    plain = ltau("evaluate", pipeline.scores, pipeline.true_errors)
    assert "1,375" in plain.out


def test_labels_of_the_user_do_not_choose_the_bounds(pipeline, ltau, tmp_path):
    """The bounds that are judged are those in the scores, whatever --group says."""
    species, words = SAMPLE / "test_300K_species.npy", ("-m", pipeline.model)
    scores, calibration = tmp_path / "s.h5", tmp_path / "c.h5"
    natoms = ("--natoms", pipeline.natoms)
    assert ltau("score", pipeline.descriptors, *words, *natoms, "--group", species, "-o", scores,
                ).code == 0  # fmt: skip
    assert ltau("calibrate", scores, pipeline.true_errors, "--group", "group", "--level", 0.5,
                "-o", calibration).code == 0  # fmt: skip
    assert ltau("score", pipeline.hot_descriptors, *words, "--natoms",
                SAMPLE / "test_900K_natoms.npy", "--group", SAMPLE / "test_900K_species.npy",
                "--calibration", calibration, "-o", tmp_path / "hot.h5").code == 0  # fmt: skip
    with h5py.File(tmp_path / "hot.h5") as file:
        covered = (np.load(pipeline.hot_true_errors) <= file["error_bound"][:, 0]).mean()
    halves = save(tmp_path / "half.npy", np.arange(1375) % 2)
    result = ltau("evaluate", tmp_path / "hot.h5", pipeline.hot_true_errors, "--group", halves,
                  "--json")  # fmt: skip
    (judged,) = json.loads(result.out)
    assert judged["predictors"]["ltau"]["coverage"]["0.5"] == pytest.approx(covered, abs=1e-3)
    assert [part["group"] for part in judged["groups"]] == [0, 1]


def test_draws_widen_the_interval_of_the_rank_correlation(pipeline, ltau, tmp_path):
    words = ("evaluate", pipeline.scores, pipeline.true_errors, "--json")
    draws = save(tmp_path / "draws.npy", np.repeat(np.arange(2), [24, 1]))
    alone, drawn = (
        json.loads(ltau(*words, *more).out)[0]["predictors"]["ltau"]
        for more in ((), ("--draws", draws))
    )
    low, high = alone.pop("rank_correlation_interval")
    wide = drawn.pop("rank_correlation_interval")
    assert wide[1] - wide[0] != high - low
    assert alone == drawn
    short = save(tmp_path / "short.npy", np.zeros(7, int))
    check(ltau(*words, "--draws", short), INPUT, short, "1,375 rows")
