"""``ltau fit``: defaults, refusals, weights, epochs, the choice of the knobs; ``ltau compile``."""

import json

import h5py
import numpy as np
import pytest

from ltau_cli.artifacts.errors import ErrorsFile
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.core import compile
from tests.helpers import ARTIFACT, COMPUTE, INPUT, SAMPLE, USAGE, check, save
from tests.oracles import trimmed_mean


def test_counts_that_differ_between_log_and_descriptors(small, tmp_path, ltau):
    path = save(tmp_path / "x19.npy", np.ones((19, 3)))
    result = ltau("fit", small["errors"], path, "-o", tmp_path / "o.h5")
    check(result, INPUT, path, small["errors"], "19 rows", "20 samples")


@pytest.mark.parametrize("stage", ["fit", "score"])
def test_k_larger_than_the_training_set(stage, small, tmp_path, ltau):
    words = {"fit": (small["errors"], small["x"]), "score": (small["x"], "-m", small["model"])}
    result = ltau(stage, *words[stage], "-k", 20, "-o", tmp_path / "o.h5")
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
    errors = write_log(tmp_path, [np.ones((1, 1))], ltau)
    x = save(tmp_path / "x.npy", np.ones((1, 2)))
    result = ltau("fit", errors, x, "-o", tmp_path / "m.h5")
    check(result, INPUT, f"{errors} has a single sample, which has no", hint=None)


def same(one, other, names):
    with h5py.File(one) as a, h5py.File(other) as b:
        for name in names:
            np.testing.assert_array_equal(a[name][()], b[name][()], err_msg=name)


def test_inverse_distance_gives_the_weighted_mean(pipeline, tmp_path, ltau):
    model, scores = tmp_path / "m.h5", tmp_path / "s.h5"
    options = ("-k", 5, "--scale", "none", "--weighting", "inverse-distance")
    ltau.ok("fit", pipeline.errors, pipeline.train, "-o", model, *options)
    ltau.ok("score", pipeline.descriptors, "-m", model, "-o", scores)
    train, queries = np.load(pipeline.train), np.load(pipeline.descriptors)[:20]
    log = np.stack([np.load(path) for path in sorted(pipeline.logs.iterdir())])
    distance = np.linalg.norm(queries[:, None].astype(float) - train, axis=2)
    near = np.argsort(distance, axis=1)[:, :5]
    weight = 1 / np.take_along_axis(distance, near, axis=1)
    mean = log.mean(axis=0, dtype=float)[near]
    with h5py.File(scores) as file:
        expected = (weight * mean).sum(axis=1) / weight.sum(axis=1)
        np.testing.assert_allclose(file["expected_error"][:20], expected, rtol=1e-5)
        plain = np.take_along_axis(distance, near, axis=1).mean(axis=1)
        np.testing.assert_allclose(file["neighbor_distance"][:20], plain, rtol=1e-5)


def test_epochs_are_as_if_the_others_had_not_been_ingested(pipeline, tmp_path, ltau):
    late, one, other = (tmp_path / name for name in ("late.h5", "one.h5", "other.h5"))
    ltau.ok("ingest", pipeline.logs, "--epochs", "20:", "-o", late)
    ltau.ok("fit", late, pipeline.train, "-o", one)
    ltau.ok("fit", pipeline.errors, pipeline.train, "--epochs", "20:", "-o", other)
    same(one, other, ("counts", "mean_error", "uncertainty", "bin_edges", "loo_expected_error"))


def write_log(folder, runs, ltau, *options):
    paths = []
    for i, run in enumerate(runs):
        paths.append(folder / f"run{i}.npy")
        np.save(paths[-1], run)
    ltau.ok("ingest", *paths, "-o", folder / "errors.h5", *options)
    return folder / "errors.h5"


def test_epochs_of_each_run_and_of_missing_values(tmp_path, ltau):
    rng = np.random.default_rng(0)
    first, second = rng.random((6, 40)), rng.random((5, 40))
    first[2:, 3], second[2:, 3] = np.nan, np.nan  # logged in the first two epochs only
    second[4, 5] = np.nan
    errors = write_log(tmp_path, (first, second), ltau)
    with open_artifact(errors, ErrorsFile) as artifact:
        kept = artifact.choose((2, None, None))
        assert kept.rows.tolist() == [2, 3, 4, 5, 8, 9, 10]
        rest = np.concatenate([first[2:], second[2:]]).astype(np.float32)
        np.testing.assert_array_equal(kept.read(0, 40), rest)
        np.testing.assert_array_equal(kept.n_logged(), np.isfinite(rest).sum(axis=0))
        np.testing.assert_array_equal(kept.n_logged()[[3, 5, 0]], [0, 6, 7])
        assert len(artifact.choose().rows) == 11
        assert artifact.choose((-3, -1, 2)).rows.tolist() == [3, 8]
        assert [own.tolist() for own in artifact.choose((None, None, 3)).runs] == [[0, 1], [2, 3]]


def test_epochs_that_leave_nothing(pipeline, tmp_path, ltau):
    done = ltau("fit", pipeline.errors, pipeline.train, "--epochs", "60:", "-o", tmp_path / "m.h5")
    check(done, USAGE, f"--epochs 60: leaves no epoch of run 0 of {pipeline.errors}")
    assert "hint: it has the epochs 0 to 59" in done.err


@pytest.mark.slow
def test_tune_on_held_out_rows(pipeline, tmp_path, ltau):
    errors, model = tmp_path / "errors.h5", tmp_path / "model.h5"
    natoms = SAMPLE / "train_natoms.npy"
    ltau.ok("ingest", pipeline.logs, "--natoms", natoms, "-o", errors)
    done = ltau.ok(
        "fit", errors, pipeline.train, "--tune", "--held-out", pipeline.descriptors,
        pipeline.true_errors, "--held-out-natoms", pipeline.natoms, "-o", model, "--json",
    )  # fmt: skip
    trials = json.loads(done.out)["trials"]
    assert len(trials) == 3 * 5 * 2 * 4
    best = trials[0]["choice"]
    assert best["scale"] == "whiten"
    with h5py.File(model) as file:
        chosen = json.loads(file.attrs["parameters"])
    assert {name: chosen[name] for name in best} == best
    assert trials[0]["crps"] <= min(trial["crps"] for trial in trials)


@pytest.mark.slow
def test_tune_on_the_training_samples_shows_its_table(train, log, tmp_path, ltau):
    x, errors = save(tmp_path / "x.npy", train[:330]), tmp_path / "e.h5"
    ltau.ok("ingest", save(tmp_path / "log.npy", log[:, :330]), "-o", errors)
    done = ltau.ok("fit", errors, x, "--tune", "-o", tmp_path / "m.h5")
    assert "compared 120 choices by cross-validation" in done.out
    assert "does not say which structure a sample belongs to" in done.err


@pytest.mark.slow
def test_tune_knows_the_structures_that_stand_beside_the_descriptors(train, log, tmp_path, ltau):
    natoms = save(tmp_path / "natoms.npy", np.full(22, 15))
    x, raw = save(tmp_path / "x.npy", train[:330]), save(tmp_path / "log.npy", log[:, :330])
    np.savez(tmp_path / "x.npz", descriptors=train[:330], natoms=np.load(natoms))
    ltau.ok("ingest", raw, "-o", tmp_path / "plain.h5")
    ltau.ok("ingest", raw, "--natoms", natoms, "-o", tmp_path / "known.h5")
    trials = []
    for errors, place in (("plain.h5", tmp_path / "x.npz"), ("known.h5", x)):
        out = tmp_path / f"{errors}.model"
        done = ltau.ok("fit", tmp_path / errors, place, "--tune", "-o", out, "--json")
        assert "does not say which structure" not in done.err
        trials.append(json.loads(done.out)["trials"])
    assert trials[0] == trials[1]


def test_refusals(pipeline, tmp_path, ltau):
    words = ("fit", pipeline.errors, pipeline.train, "-o", tmp_path / "m.h5")
    rows = (pipeline.descriptors, pipeline.true_errors)
    check(ltau(*words, "--held-out", *rows), USAGE, "--held-out is for --tune", hint=None)
    narrow = save(tmp_path / "narrow.npy", np.load(pipeline.descriptors)[:, :3])
    done = ltau(*words, "--tune", "--held-out", narrow, pipeline.true_errors)
    check(done, INPUT, f"{narrow} has 3 columns, {pipeline.train} has 16", hint=None)
    done = ltau("fit", pipeline.errors, narrow, "--tune", "-o", tmp_path / "m.h5")
    check(done, INPUT, "has 1,375 rows", hint=None)
    done = ltau(*words, "--tune", "--held-out", pipeline.descriptors, tmp_path / "none.npy")
    check(done, INPUT, hint=None)
    assert not (tmp_path / "m.h5").exists()


def test_tune_with_a_single_structure_asks_for_held_out_rows(tmp_path, ltau):
    errors = write_log(tmp_path, [np.random.default_rng(0).random((6, 40))], ltau, "--natoms",
                       save(tmp_path / "natoms.npy", np.array([40])))  # fmt: skip
    np.save(tmp_path / "d.npy", np.random.default_rng(1).random((40, 3)))
    done = ltau("fit", errors, tmp_path / "d.npy", "--tune", "-o", tmp_path / "m.h5")
    check(done, COMPUTE, errors, "a single structure")


def test_tune_takes_rows_where_no_structure_is_small_enough(tmp_path, ltau, monkeypatch):
    monkeypatch.setattr("ltau_cli.stages.tune.LARGEST", 50)
    rng = np.random.default_rng(0)
    natoms = save(tmp_path / "natoms.npy", np.array([60, 60]))
    errors = write_log(tmp_path, [rng.random((6, 120))], ltau, "--natoms", natoms)
    np.save(tmp_path / "d.npy", rng.random((120, 3)))
    done = ltau.ok("fit", errors, tmp_path / "d.npy", "--tune", "-o", tmp_path / "m.h5")
    assert "comparing on 50 of the 120 samples" in done.err


def test_a_last_epoch_of_zeros_gives_a_threshold_all_the_same(tmp_path, ltau):
    log = np.random.default_rng(0).random((4, 40))
    log[-1] = 0
    errors = write_log(tmp_path, [log], ltau)
    np.save(tmp_path / "d.npy", np.random.default_rng(1).random((40, 3)))
    done = ltau("fit", errors, tmp_path / "d.npy", "-o", tmp_path / "m.h5", "--json")
    assert json.loads(done.out)["thresholds"][0] == pytest.approx(trimmed_mean(log[2]), rel=1e-6)


@pytest.mark.slow
def test_compile_tells_where_and_how_long(ltau):
    told = json.loads(ltau("compile", "--json").out)
    assert told["were_there"]  # the tests before this one, or the import of this one, did it
    assert told["seconds"] > 0
    assert "inner loops" in ltau("compile").out


def test_a_first_run_says_that_it_compiles(pipeline, tmp_path, ltau, monkeypatch):
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "-o", tmp_path / "s.h5", "-f")
    assert "compiling" not in ltau(*words).err
    monkeypatch.setattr(compile.importlib.util, "find_spec", lambda name: None)
    assert "compiling the inner loops: about" in ltau(*words).err


@pytest.fixture
def fit(pipeline, tmp_path, ltau):
    def fit(name, *options):
        path = tmp_path / name
        ltau.ok("fit", pipeline.errors, pipeline.train, "-o", path, *options)
        return path

    return fit


def test_a_smaller_k_follows_from_the_model(fit, pipeline, tmp_path, ltau):
    """As if it had been fitted with that k, to half precision."""
    large, small = fit("large.h5", "-k", 20), fit("small.h5", "-k", 7)
    got, wanted = tmp_path / "got.h5", tmp_path / "wanted.h5"
    ltau.ok("score", pipeline.descriptors, "-m", large, "-k", 7, "-o", got)
    ltau.ok("score", pipeline.descriptors, "-m", small, "-o", wanted)
    with h5py.File(got) as one, h5py.File(wanted) as other:
        for name in ("expected_error", "neighbor_distance", "quantiles"):
            np.testing.assert_array_equal(one[name], other[name])
        np.testing.assert_allclose(one["relative_distance"], other["relative_distance"], 2e-3)
        np.testing.assert_allclose(one["ood_pvalue"], other["ood_pvalue"], atol=5e-3)


def test_a_larger_k_is_refused(fit, pipeline, tmp_path, ltau):
    result = ltau("score", pipeline.descriptors, "-m", fit("m.h5", "-k", 7), "-k", 8,
                  "-o", tmp_path / "s.h5")  # fmt: skip
    check(result, USAGE, "at most 7 neighbors")
    assert "fit again with -k 8" in result.err


def test_damaged_cells_are_named(pipeline, tmp_path, ltau):
    path = tmp_path / "m.h5"
    path.write_bytes(pipeline.model.read_bytes())
    with h5py.File(path, "r+") as file:
        file["index/cell_point"][0] = file["index/cell_point"][1]
    result = ltau("score", pipeline.descriptors, "-m", path, "-o", tmp_path / "s.h5")
    said = "cell_point holds other values than each of 0 to n_points-1 once"
    check(result, ARTIFACT, said, hint=None)
