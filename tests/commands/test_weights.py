"""``ltau weights``: training weights, keep-lists, suspects of wrong labels."""

import json

import ase.io
import h5py
import numpy as np
import pytest

from ltau_cli.stages import weights
from tests import oracles
from tests.helpers import ARTIFACT, INPUT, SAMPLE, USAGE, check, save

NATOMS = SAMPLE / "train_natoms.npy"
THRESHOLDS = (0.25, 0.5)


@pytest.fixture
def find(ltau, tmp_path):
    """Suspects in a log, with what else the summary holds."""

    def call(log, descriptors, *words, fit=()):
        save(tmp_path / "log.npy", log)
        save(tmp_path / "x.npy", descriptors)
        errors, model = tmp_path / "errors.h5", tmp_path / "model.h5"
        ltau.ok("ingest", tmp_path / "log.npy", "-o", errors, "-f")
        ltau.ok("fit", errors, tmp_path / "x.npy", "-o", model, "-f", *fit)
        words = ("weights", model, "-o", tmp_path / "w.npy", "-f", "--json", *words)
        result = ltau.ok(*words)
        return json.loads(result.out)

    return call


def test_planted_wrong_labels_are_found(find):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    falling = np.exp(-np.arange(30) / 8)[:, None] * np.exp(x[:, 0] / 2)  # some places are harder
    log = falling * rng.gamma(4, size=(30, 300))
    assert find(log, x)["n_suspects"] == 0
    planted = [17, 60, 130, 222, 299]
    log[:, planted] = 5.0
    found = find(log, x)
    assert {s["sample"] for s in found["suspects"]} == set(planted)
    assert found["n_suspects"] == len(planted)
    for suspect in found["suspects"]:
        distance = np.linalg.norm(x - x[suspect["sample"]], axis=1)
        assert len(suspect["nearest"]) == 5
        # the model's distances are those of whitened descriptors, nearly these
        assert all(distance[s["sample"]] < np.sort(distance)[40] for s in suspect["nearest"])
        assert suspect["sample"] not in {s["sample"] for s in suspect["nearest"]}
        assert suspect["lower_quartile"] == pytest.approx(5, rel=0.1)
        assert suspect["neighbors_lower_quartile"] < 2


def test_planted_wrong_labels_are_found_first_in_real_data(find, log, train):
    """Ten atoms with the force that they have in the next frame, which no epoch would learn."""
    frames = ase.io.read(SAMPLE / "train.xyz", ":")
    forces = np.concatenate([frame.arrays["REF_forces"] for frame in frames])
    planted = np.random.default_rng(0).choice(log.shape[1] - 55, 10, replace=False)
    wrong = log.copy()
    wrong[:, planted] = np.linalg.norm(forces[planted] - forces[planted + 55], axis=1)
    found = find(wrong, train, "--suspects", 15, "--natoms", NATOMS)
    listed = [s["sample"] for s in found["suspects"]]
    assert set(planted.tolist()) <= set(listed)  # a few that are hard by nature come between
    assert len(set(listed[:10]) & set(planted.tolist())) >= 9
    assert all(s["structure"] == s["sample"] // 55 for s in found["suspects"])
    scores = [s["score"] for s in found["suspects"]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > found["outlier"]


@pytest.mark.slow
def test_shards_change_no_suspect(pipeline, ltau, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "BLOCK_POINTS", 1000)
    out, sharded = tmp_path / "w.npy", tmp_path / "sharded.h5"
    found = []
    for n in (1, 3):
        words = ("fit", pipeline.errors, pipeline.train, "--shards", n, "-o", sharded, "-f")
        ltau.ok(*words)
        found.append(json.loads(ltau("weights", sharded, "-o", out, "-f", "--json").out))
    one, three = found
    assert one["n_suspects"] > 3
    assert one == three


def test_suspects_of_the_summary(pipeline, ltau, tmp_path):
    out = tmp_path / "w.npy"
    words = ("weights", pipeline.model, "-o", out, "-f")
    table = json.loads(ltau(*words, "--json").out)
    result = ltau(*words, "--suspects", 2)
    assert f"{table['n_suspects']} suspects of wrong labels" in result.out
    assert "; the first 2" in result.out
    rows = [line.split() for line in result.out.splitlines()[-2:]]
    first = table["suspects"][:2]
    assert [int(row[0]) for row in rows] == [s["sample"] for s in first]
    assert [int(row[4]) for row in rows] == [s["nearest"][0]["sample"] for s in first]
    assert "wrong labels" not in ltau(*words, "--suspects", 0).out
    assert "suspects" not in json.loads(ltau(*words, "--suspects", 0, "--json").out)


@pytest.fixture
def made(tmp_path, ltau):
    """A model of 40 samples in 8 structures; samples 3 and 20 to 24 were never logged."""
    rng = np.random.default_rng(1)
    log = rng.random((12, 40)) * rng.random(40)
    log[:, [3, *range(20, 25)]] = np.nan
    save(tmp_path / "log.npy", log)
    save(tmp_path / "x.npy", rng.normal(size=(40, 3)))
    save(tmp_path / "natoms.npy", np.full(8, 5))
    errors = tmp_path / "errors.h5"
    words = ("ingest", tmp_path / "log.npy", "-o", errors, "--natoms", tmp_path / "natoms.npy")
    ltau.ok(*words, "--units", "eV/Å", "--allow-missing")
    fit = ("fit", errors, tmp_path / "x.npy", "-k", 8)
    at = [word for value in THRESHOLDS for word in ("--threshold", value)]
    ltau.ok(*fit, *at, "-o", tmp_path / "model.h5")
    words = ("--loo", "structure", "-o", tmp_path / "structures.h5")
    ltau.ok(*fit, *words)
    above = [np.where(np.isnan(log[0]), np.nan, (log > t).mean(axis=0)) for t in THRESHOLDS]
    return tmp_path, above


@pytest.fixture
def run(made, ltau):
    """Run ``ltau weights`` on this model; what it wrote, and what it said."""
    folder, _ = made

    def call(*words, out="w.npy", model="model.h5"):
        result = ltau.ok("weights", folder / model, "-o", folder / out, "-f", *words)
        return np.load(folder / out) if out.endswith(".npy") else result, result

    return call


@pytest.mark.parametrize("emphasis", ["hard", "easy"])
def test_weights_of_samples(emphasis, made, run):
    _, (u, _) = made
    w, result = run("--emphasis", emphasis, "--floor", 0, "--ceiling", 1000)
    assert w.dtype == np.float64
    known = np.isfinite(u)
    expected = oracles.training_weights(u[known], sign=1 if emphasis == "hard" else -1)
    np.testing.assert_allclose(w[known], expected, rtol=1e-5)
    assert (w[~known] == 1).all()
    assert w.mean() == pytest.approx(1)
    assert "w.npy: 40 weights, one per sample, the " in result.out
    assert "uncertainty at 0.25 eV/Å" in result.out
    assert "6 samples never logged: weight 1" in result.out


def test_another_threshold_and_temperature(made, run):
    _, (_, u) = made
    w, result = run("--threshold", 0.5, "--temperature", 2, "--floor", 0)
    known = np.isfinite(u)
    np.testing.assert_allclose(
        w[known], oracles.training_weights(u[known], temperature=2), rtol=1e-5
    )
    assert "uncertainty at 0.5 eV/Å" in result.out


def test_limits(run):
    w, result = run("--temperature", 0.1, "--floor", 0.5, "--ceiling", 2)
    assert (w.min(), w.max()) == (0.5, 2)
    assert w.mean() == pytest.approx(1)
    line = f"{(w == 0.5).sum()} at the floor, {(w == 2).sum()} at the ceiling"
    assert line in result.out
    size = w.sum() ** 2 / (w**2).sum()
    assert f"they tell as much as {size:.1f} equal ones ({100 * size / 40:.0f} %)" in result.out


@pytest.mark.parametrize("known_by", ["natoms", "loo"])
def test_weights_of_structures(known_by, made, run):
    folder, (u, _) = made
    with np.errstate(invalid="ignore"):
        parts = u.reshape(8, 5)
    means = [row[np.isfinite(row)].mean() for i, row in enumerate(parts) if i != 4]
    words = ("--per", "structure", "--floor", 0)
    if known_by == "natoms":
        w, result = run(*words, "--natoms", folder / "natoms.npy")
        np.testing.assert_allclose(
            np.delete(w, 4), oracles.training_weights(np.array(means)), rtol=1e-5
        )
    else:
        w, result = run(*words, model="structures.h5")
    assert w.shape == (8,)
    assert w[4] == 1
    assert "8 weights, one per structure, the hardest weigh most" in result.out
    assert "1 structures never logged: weight 1" in result.out


@pytest.mark.parametrize("emphasis", ["hard", "easy"])
def test_keep_list(emphasis, made, run):
    _, (u, _) = made
    kept, result = run("--keep", 0.5, "--emphasis", emphasis)
    known = np.flatnonzero(np.isfinite(u))
    order = known[np.argsort(-u[known] if emphasis == "hard" else u[known], kind="stable")]
    expected = sorted([*order[:17], *np.flatnonzero(np.isnan(u))])
    assert kept.dtype == np.int64
    assert kept.tolist() == expected
    which = {"hard": "hardest", "easy": "easiest"}[emphasis]
    assert f"23 of 40 samples kept, the {which}" in result.out
    assert "6 samples never logged: kept" in result.out
    assert f"mean of the kept {u[order[:17]].mean():.3g}" in result.out
    assert [len(run("--keep", share)[0]) for share in (1e-9, 1)] == [1 + 6, 40]


def test_text_holds_the_same(made, run, ltau):
    folder, _ = made
    w, _ = run()
    run(out="w.txt")
    np.testing.assert_array_equal(np.loadtxt(folder / "w.txt"), w)
    result = ltau("weights", folder / "model.h5", "-o", "-")
    np.testing.assert_array_equal([float(line) for line in result.out.split()], w)
    assert "standard output: 40 weights" in result.err
    kept, _ = run("--keep", 0.5)
    run("--keep", 0.5, out="k.txt")
    np.testing.assert_array_equal(np.loadtxt(folder / "k.txt", dtype=int), kept)


def test_default_names(made, ltau, monkeypatch):
    folder, _ = made
    monkeypatch.chdir(folder)
    ltau.ok("weights", "model.h5")
    assert np.load("weights.npy").shape == (40,)
    ltau.ok("weights", "model.h5", "--keep", 0.5)
    assert len((folder / "keep.txt").read_text().splitlines()) == 23


def test_identical_descriptors_share_their_trajectory(ltau, tmp_path):
    log = np.array([[0.1, 1, 0.1, 0.1], [0.1, 1, 1, 0.1], [0.1, 0.1, 0.1, 0.1]])
    x = np.array([[0.0], [1.0], [1.0], [2.0]])
    save(tmp_path / "log.npy", log)
    save(tmp_path / "x.npy", x)
    errors, model, out = (tmp_path / name for name in ("e.h5", "m.h5", "w.npy"))
    ltau.ok("ingest", tmp_path / "log.npy", "-o", errors)
    words = ("fit", errors, tmp_path / "x.npy", "-o", model, "--threshold", 0.5)
    ltau.ok(*words)
    ltau.ok("weights", model, "-o", out, "--floor", 0)
    expected = oracles.training_weights(np.array([0, 0.5, 0.5, 0]))
    np.testing.assert_allclose(np.load(out), expected, rtol=1e-5)


def test_json_is_the_same_for_any_threads(run):
    one, two = (
        json.loads(run("--threads", n, "--json", "--emphasis", "easy")[1].out) for n in (1, 2)
    )
    assert one == two
    assert (one["emphasis"], one["n"], one["n_never_logged"]) == ("easy", 40, 6)
    assert one["mean"] == pytest.approx(1)
    assert one["effective_size"] < 40


@pytest.mark.parametrize(("words", "said", "hint"), [
    (("--emphasis", "soft"), "--emphasis", True),
    (("--temperature", "0"), "--temperature", True),
    (("--temperature", "inf"), "'--temperature': inf", True),
    (("--ceiling", "inf"), "'--ceiling': inf", True),
    (("--temperature", "nan"), "'--temperature': nan", True),
    (("--floor", "1.5"), "--floor", True),
    (("--ceiling", "0.5"), "--ceiling", True),
    (("--keep", "0"), "--keep", True),
    (("--keep", "1.5"), "--keep", True),
    (("--suspects", "-1"), "--suspects", True),
    (("--per", "epoch"), "--per", True),
    (("-o", "w.h5"), "weights are written as .npy or .txt", True),
    (("-o", "-", "--json"), "both want standard output", True),
    (("--threshold", "0.3"), "its thresholds are 0.25, 0.5", True),
])  # fmt: skip
def test_options_that_cannot_be_meant(words, said, hint, made, ltau, monkeypatch):
    folder, _ = made
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    check(ltau("weights", "model.h5", *words), USAGE, said, hint=hint)
    assert sorted(folder.iterdir()) == before


def test_structures_that_nobody_knows(made, ltau):
    folder, _ = made
    result = ltau("weights", folder / "model.h5", "-o", folder / "w.npy", "--per", "structure")
    check(result, INPUT, folder / "model.h5", "which structure")
    assert "--natoms" in result.err
    assert not (folder / "w.npy").exists()


def test_natoms_that_do_not_match(made, ltau):
    folder, _ = made
    wrong = save(folder / "wrong.npy", [5, 5])
    words = ("weights", folder / "model.h5", "-o", folder / "w.npy", "--natoms")
    check(ltau(*words, wrong), INPUT, wrong, "10 atoms in 2 structures", "40 rows")
    check(ltau(*words, folder / "no.npy"), INPUT, "no.npy", "no such file", hint=False)


def test_other_artifacts_are_refused(pipeline, made, ltau, tmp_path):
    words = ("-o", tmp_path / "w.npy")
    check(ltau("weights", pipeline.errors, *words), ARTIFACT, "of kind errors")
    check(ltau("weights", tmp_path / "no.h5", *words), INPUT, "no.h5", "no such file")


def test_damaged_model(made, ltau):
    folder, _ = made
    with h5py.File(folder / "model.h5", "r+") as file:
        file["uncertainty"][0, 0] = np.nan
    result = ltau("weights", folder / "model.h5", "-o", folder / "w.npy")
    check(result, ARTIFACT, "uncertainty", "not finite")
    assert not (folder / "w.npy").exists()
