"""``ltau calibrate``: methods and refusals."""

import json

import h5py
import numpy as np
import pytest

from ltau_cli.core.calibration.metrics import reliability
from tests.helpers import COMPUTE, INPUT, USAGE, check, contents, save, score_in_shards


@pytest.mark.parametrize(("truth", "words", "hint"), [
    (np.ones(19), "19 true errors", True),
    (np.full(20, np.nan), "20 true errors are NaN", True),
    (np.r_[np.ones(7), -np.ones(13)], "row 7", True),
    (np.ones((20, 2)), "shape (20, 2)", False),
])  # fmt: skip
def test_true_errors_that_cannot_be_meant(truth, words, hint, small, tmp_path, ltau):
    path = save(tmp_path / "t.npy", truth)
    result = ltau("calibrate", small["scores"], path, "-o", tmp_path / "o.h5")
    check(result, INPUT, path, words, hint=hint)


def test_too_few_rows_for_a_bound_are_told(small, tmp_path, ltau):
    path = save(tmp_path / "t.npy", np.ones(20))
    words = ("calibrate", small["scores"], path, "-o", tmp_path / "o.h5", "--json")
    result = ltau.ok(*words, "--level", 0.95)
    assert "too few to tell the bound of 95 %: fitted on 10" in result.err
    assert "9 more are needed" in result.err
    assert json.loads(result.out)["missing_draws"] == {"0.95": 9}
    assert ltau(*words, "--level", 0.9, "-f").err.count("too few") == 0


def test_nothing_to_calibrate_on(small, tmp_path, ltau):
    path = save(tmp_path / "t.npy", np.zeros(20))
    check(ltau("calibrate", small["scores"], path, "-o", tmp_path / "o.h5"), COMPUTE, "is 0",
          hint=False)  # fmt: skip
    natoms = save(tmp_path / "n.npy", [20])
    one = tmp_path / "one.h5"
    ltau("score", small["x"], "-m", small["model"], "--natoms", natoms, "-o", one)
    truth = save(tmp_path / "t1.npy", np.ones(20))
    check(ltau("calibrate", one, truth, "-o", tmp_path / "o.h5"), COMPUTE, "1 structure")


@pytest.mark.parametrize(("units", "labels", "words", "prior"), [
    ("eV", None, (), "table"),
    ("eV/Å", None, (), "trained, by row"),
    ("eV/Å", None, ("--natoms", "none"), "table"),
    ("", ["A", "B"], (), "table"),
    ("", ["Cu", "B"], (), "trained, by row"),
    ("", [8, 0], (), "table"),
    ("", [8, 1], (), "trained, by row"),
])  # fmt: skip
@pytest.mark.parametrize("at_once", [True, False])
def test_rows_are_those_of_a_table_if_nothing_says_atoms(
    units, labels, words, prior, at_once, small, tmp_path, ltau
):
    errors, model, scores = (tmp_path / f"{name}.h5" for name in "ems")
    ltau.ok("ingest", small["log"], "--units", units, "-o", errors)
    ltau.ok("fit", errors, small["x"], "-k", 5, "-o", model)
    group = ("--group", save(tmp_path / "g.npy", np.array((labels or [""]) * 20)[:20]))
    group = () if labels is None else group
    ltau.ok("score", small["x"], "-m", model, *words, *group * at_once, "-o", scores)
    truth = save(tmp_path / "t.npy", np.linspace(1, 2, 20))
    words = ("calibrate", scores, truth, *group * (not at_once), "-o", tmp_path / "c.h5")
    assert json.loads(ltau.ok(*words, "--json").out)["prior"] == prior
    told = "rows of a table; if they" if prior == "table" else "atoms of unknown structures"
    assert f"taken for {told}" in ltau.ok(*words, "-f").out


@pytest.mark.slow
def test_methods_are_compared(pipeline, ltau, tmp_path):
    words = ("calibrate", pipeline.scores, pipeline.true_errors, "-f", "-o", tmp_path / "c.h5")
    result = ltau(*words, "--compare")
    lines = result.out.splitlines()
    at = next(i for i, line in enumerate(lines) if "CRPS, cross-validated" in line)
    names = [line.split()[0] for line in lines[at + 1 : at + 3]]
    assert names == ["distance", "scale"]
    assert list(json.loads(ltau(*words, "--json").out)["compared"]) == ["distance"]  # is taken
    for method in [*names, "threshold"]:
        words = (*words[:1], pipeline.calibrated, *words[2:])  # with CDFs
        found = json.loads(ltau(*words, "--method", method, "--json").out)
        assert found["method"] == method
        assert list(found["compared"]) == [method]
        coverage = found["heldout"]["predictors"]["ltau"]["coverage"]
        assert coverage["0.9"] > 0.85, method  # of 12 structures, each of which counts once
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


def test_several_sets_are_split_and_weigh_the_same(pipeline, ltau, tmp_path):
    """A few hot frames beside the cold ones; both are known again when they are scored."""
    hot, fitted = tmp_path / "hot.h5", tmp_path / "c.h5"
    words = ("-m", pipeline.model, "--natoms", pipeline.natoms)
    ltau.ok("score", pipeline.hot_descriptors, *words, "-o", hot)
    hot_errors = pipeline.true_errors.with_name("test_900K_force_errors.npy")
    sets = (pipeline.scores, pipeline.true_errors, hot, hot_errors)
    result = ltau.ok("calibrate", *sets, "-o", fitted, "--level", 0.9, "--json")
    found = json.loads(result.out)
    assert (found["n_sets"], found["n_structures"], found["n_draws"]) == (2, 50, 24)
    for descriptors, truth in (
        (pipeline.descriptors, pipeline.true_errors),
        (pipeline.hot_descriptors, hot_errors),
    ):
        out = tmp_path / f"{descriptors.stem}.h5"
        ltau.ok("score", descriptors, *words, "--calibration", fitted, "-o", out)
        with h5py.File(out) as file:
            assert file["in_calibration"][...].sum() == 12 * 55
        judged = json.loads(ltau("evaluate", out, truth, "--json").out)[0]
        assert judged["predictors"]["ltau"]["coverage"]["0.9"] > 0.85
        assert judged["predictors"]["ltau"]["error_ratio"] == pytest.approx(1, abs=0.2)


def test_sets_that_do_not_belong_together(pipeline, small, ltau, tmp_path):
    truth, other = pipeline.true_errors, save(tmp_path / "t.npy", np.ones(20))
    words = ("calibrate", pipeline.scores, truth, "-o", tmp_path / "c.h5")
    check(ltau(*words, pipeline.scores), USAGE, "has no partner")
    check(ltau(*words, small["scores"], other), USAGE, "another model")
    bare = tmp_path / "bare.h5"
    ltau("score", pipeline.descriptors, "-m", pipeline.model, "-o", bare)
    check(ltau(*words, bare, truth), USAGE, bare, "structure")
    labels = save(tmp_path / "g.npy", np.zeros(1375, int))
    check(ltau(*words, pipeline.scores, truth, "--group", labels), USAGE, "--group", "single set")
    check(ltau(*words, pipeline.scores, truth, "--draws", labels), USAGE, "--draws", "2 sets")


@pytest.mark.parametrize("per", ["row", "structure"])
def test_a_trajectory_counts_once(per, pipeline, ltau, tmp_path):
    drawn = np.repeat(np.arange(5), 5 if per == "structure" else 275)
    labels = save(tmp_path / "draws.npy", drawn)
    words = ("calibrate", pipeline.scores, pipeline.true_errors, "-o", tmp_path / "c.h5")
    result = ltau(*words, "--draws", labels, "--json", "--level", 0.9)
    found = json.loads(result.out)
    assert found["n_draws"] == 2
    assert "fitted on 2 (each draw counts once), 7 more are needed" in result.err
    with h5py.File(tmp_path / "c.h5") as file:
        used = np.unique(file["fit_row"][...] // 275)
    assert len(used) == 2  # whole trajectories
    short = save(tmp_path / "short.npy", np.zeros(7, int))
    check(ltau(*words, "--draws", short, "-f"), INPUT, short, "1,375")


def test_the_threshold_method_delivers_what_it_reports(pipeline, ltau, tmp_path):
    fitted, out = tmp_path / "c.h5", tmp_path / "s.h5"
    words = ("calibrate", pipeline.calibrated, pipeline.true_errors, "-o", fitted)
    found = json.loads(ltau(*words, "--method", "threshold", "--json").out)
    told = found["heldout"]["thresholds"][0]
    words = ("score", pipeline.descriptors, "--natoms", pipeline.natoms, "-m", pipeline.model)
    ltau.ok(*words, "--calibration", fitted, "-o", out)
    truth = np.load(pipeline.true_errors)
    with h5py.File(out) as file:
        rest = ~file["in_calibration"][...]
        delivered = file["calibrated_uncertainty"][rest, 0]
        exceeded = truth[rest] > file["thresholds"][0]
    got = reliability(delivered.astype(float), exceeded).error
    assert got == pytest.approx(told["calibration_error_after"], abs=2e-3)
    assert got < told["calibration_error_before"]
    result = ltau("calibrate", pipeline.scores, pipeline.true_errors, "--method", "threshold",
                  "-o", tmp_path / "o.h5")  # fmt: skip
    check(result, INPUT, pipeline.scores, "no CDFs")
    assert "ltau score --cdf" in result.err


def test_training_rows_are_warned_about(pipeline, ltau, tmp_path):
    """Half of the calibration rows were trained on, in another order and precision."""
    train, new = np.load(pipeline.train), np.load(pipeline.descriptors)
    rows = save(tmp_path / "rows.npy", np.concatenate([train[:550][::-1], new[:550]]).astype(float))
    truth = save(tmp_path / "t.npy", np.random.default_rng(0).random(1100))
    scores = tmp_path / "s.h5"
    ltau("score", rows, "-m", pipeline.model, "-o", scores)
    with h5py.File(scores) as file:
        assert file["in_training"][:550].all()
        assert not file["in_training"][550:].any()
    result = ltau("calibrate", scores, truth, "-o", tmp_path / "c.h5", "--json")
    assert "550 of 1,100 calibration rows (50 %) have the descriptors of a training" in result.err
    assert json.loads(result.out)["in_training_share"] == 0.5
    words = ("calibrate", pipeline.scores, pipeline.true_errors, "-o", tmp_path / "d.h5")
    assert "descriptors of a training" not in ltau(*words).err


def test_rows_closer_than_the_training_set_are_warned_about(pipeline, train, ltau, tmp_path):
    """Copies of the training frames with a little noise, as from the same trajectory."""
    noise = np.random.default_rng(0).normal(size=train.shape) * 0.01 * train.std(axis=0)
    rows, scores = save(tmp_path / "x.npy", train + noise), tmp_path / "s.h5"
    natoms = save(tmp_path / "n.npy", np.full(len(train) // 55, 55))
    ltau("score", rows, "-m", pipeline.model, "-k", 1, "--natoms", natoms, "-o", scores)
    truth = save(tmp_path / "t.npy", np.random.default_rng(0).random(len(train)))
    result = ltau("calibrate", scores, truth, "-o", tmp_path / "c.h5", "--json")
    (mean,) = json.loads(result.out)["mean_pvalues"]
    assert mean > 0.95
    assert f"samples are to one another (mean p-value {mean:.2f}, 0.5 for rows" in result.err
    near = ltau("calibrate", pipeline.scores, pipeline.true_errors, "-o", tmp_path / "d.h5")
    assert "closer to the training set" not in near.err


def test_bounds_that_nothing_like_the_rows_stands_for(pipeline, ltau, tmp_path):
    """Calibrated at 300 K, scored at 900 K: a warning with numbers, and no promise."""
    words = ("-m", pipeline.model, "--natoms", pipeline.natoms, "--calibration")
    words = (*words, pipeline.calibration, "-o", tmp_path / "s.h5", "-f")
    hot = ltau("score", pipeline.hot_descriptors, *words)
    assert "100.0 % are farther from the training set than all that was" in hot.err
    assert "the 12 structures that were calibrated on are worth 1" in hot.err
    assert "bounds of 80 % and more rest on the fitted law" in hot.err
    assert "4 are needed" in hot.err
    assert hot.err.count("warning:") == 1
    assert "(nominal 90 %)" in hot.out
    assert "nominal 50 %" not in hot.out
    cold = ltau("score", pipeline.descriptors, *words)
    assert cold.err == ""
    assert "(90 %)" in cold.out
    assert "(nominal 95 %)" in cold.out  # 12 structures cannot tell it
    told = json.loads(ltau("score", pipeline.hot_descriptors, *words, "--json").out)["likeness"]
    assert told["doubtful_levels"] == [0.8, 0.9, 0.95]
    assert told["beyond_share"] == 1
    assert 1 <= told["effective_draws"] < 2


@pytest.fixture
def with_spread(pipeline, ltau, tmp_path):
    """Scores and a calibration with a feature that knows the error."""
    truth, rng = np.load(pipeline.true_errors), np.random.default_rng(0)
    spread = save(tmp_path / "spread.npy", truth * rng.lognormal(0, 0.5, len(truth)))
    words = ("-m", pipeline.model, "--natoms", pipeline.natoms)
    feature = ("--feature", f"spread={spread}")
    scores, fitted = tmp_path / "s.h5", tmp_path / "c.h5"
    ltau.ok("score", pipeline.descriptors, *words, *feature, "-o", scores)
    result = ltau.ok("calibrate", scores, pipeline.true_errors, "-o", fitted, "--json")
    words = ("score", pipeline.descriptors, *words, "--calibration", fitted)
    return words, feature, json.loads(result.out), tmp_path


def test_a_feature_of_the_users_own(with_spread, pipeline, ltau):
    words, feature, summary, folder = with_spread
    assert summary["exponents"]["spread"] > 0.3
    own = summary["heldout"]["predictors"]["ltau"]
    assert own["rank_correlation"] > 0.6  # 0.4 without
    out = folder / "out.h5"
    ltau.ok(*words, *feature, "-o", out)
    found = contents(out)
    assert found["feature_names"].tolist() == ["spread"]
    np.testing.assert_array_equal(
        found["features"][:, 0], np.load(folder / "spread.npy").astype(np.float32)
    )
    table = ltau("export", out, "--columns", "feature_spread,calibrated_error").out
    assert table.startswith("feature_spread,calibrated_error")
    ltau.ok("evaluate", out, pipeline.true_errors)
    score_in_shards(ltau, (*words, *feature), 3, folder / "all.h5")
    assert (folder / "all.h5").read_bytes() == out.read_bytes()


def test_a_feature_that_is_zero_in_all_rows_is_left_out(pipeline, ltau, tmp_path):
    nothing = save(tmp_path / "nothing.npy", np.zeros(len(np.load(pipeline.true_errors))))
    scores, words = tmp_path / "s.h5", ("-m", pipeline.model, "--natoms", pipeline.natoms)
    given = ("--feature", f"spread={nothing}", "-o", scores)
    ltau.ok("score", pipeline.descriptors, *words, *given)
    result = ltau("calibrate", scores, pipeline.true_errors, "-o", tmp_path / "c.h5", "--json")
    assert "--feature spread is 0 in all rows that were fitted on: it is left out" in result.err
    assert "spread" not in json.loads(result.out)["exponents"]


def test_a_calibration_that_uses_a_feature_needs_it(with_spread, pipeline, ltau):
    words, feature, _, folder = with_spread
    check(ltau(*words, "-o", folder / "o.h5"), INPUT, "uses the feature spread")
    check(
        ltau(*words, "--feature", "gap=" + feature[1][7:], "-o", folder / "o.h5"), INPUT, "spread"
    )
    check(ltau(*words, "--feature", "spread", "-o", folder / "o.h5"), INPUT, "has no array spread")
    for name in ("expected_error", "a b", ""):
        given = ("--feature", f"{name}={feature[1][7:]}")
        check(ltau(*words, *given, "-o", folder / "o.h5"), USAGE, repr(name))
    sets = (folder / "s.h5", pipeline.true_errors, pipeline.scores, pipeline.true_errors)
    check(ltau("calibrate", *sets, "-o", folder / "o.h5"), USAGE, "other features")
