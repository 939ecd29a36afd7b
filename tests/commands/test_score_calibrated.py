"""Scores with a calibration: the same whatever the blocks and shards; structures and groups."""

import csv
import io
import json
import signal

import h5py
import numpy as np
import pytest
from scipy.stats import norm

from ltau_cli.cli import main
from tests.helpers import (
    ARTIFACT,
    INPUT,
    USAGE,
    check,
    contents,
    finish,
    in_pieces,
    read,
    same,
    score_in_shards,
    start,
    wait_until,
)

pytestmark = pytest.mark.slow

N, N_STRUCTURES = 40_000, 1_000  # more than two blocks
WIDTH = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model, rows in structures of many sizes, and calibrations by structure and by group."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    np.save(folder / "log.npy", rng.random((6, 300)))
    np.save(folder / "train.npy", rng.normal(size=(300, WIDTH)))
    ends = np.sort(rng.choice(np.arange(1, N), N_STRUCTURES - 1, replace=False))
    natoms = np.diff(ends, prepend=0, append=N)
    spread = rng.uniform(0.5, 2, N_STRUCTURES).repeat(natoms)[:, None]
    rows = (rng.normal(size=(N, WIDTH)) * spread).astype(np.float32)
    species, ids = rng.choice(["Cu", "O"], N), np.array([f"id{i}" for i in range(N)])
    np.savez(folder / "rows.npz", descriptors=rows, natoms=natoms, species=species, sample_id=ids)
    np.savez(folder / "bare.npz", descriptors=rows)
    np.save(folder / "species.npy", species)
    np.save(folder / "true.npy", rng.gamma(2.0, 0.2, N) * spread[:, 0])
    paths = {name: folder / f"{name}.h5" for name in (
        "errors", "model", "scores", "calibration", "groups", "whole",
    )}  # fmt: skip
    words = ("calibrate", paths["scores"], folder / "true.npy", "--method", "distance", "-o")
    for step in (
        ["ingest", folder / "log.npy", "-o", paths["errors"]],
        ["fit", paths["errors"], folder / "train.npy", "-o", paths["model"]],
        ["score", folder / "rows.npz", "-m", paths["model"], "-o", paths["scores"]],
        [*words, paths["calibration"], "--group", "species", "--distance-bins", 3],
        ["calibrate", paths["scores"], folder / "true.npy", "--method", "scale", "--group",
         "species", "-o", paths["groups"]],
        ["score", folder / "rows.npz", "-m", paths["model"], "--calibration",
         paths["calibration"], "-o", paths["whole"]],
    ):  # fmt: skip
        assert main.run([*map(str, step), "-q"]) == 0, step
    return folder


@pytest.fixture
def score(made, ltau):
    """Run ``ltau score`` on the made rows with the calibration."""
    words = ("score", made / "rows.npz", "-m", made / "model.h5", "--calibration",
             made / "calibration.h5")  # fmt: skip
    return lambda *more: ltau(*words, *more)


@pytest.mark.parametrize(
    "how", [["--block-rows", 777, "--threads", 1], ["--block-rows", 50_000, "--threads", 2]]
)
def test_blocks_and_threads_do_not_matter(how, score, made, tmp_path):
    assert score(*how, "-o", tmp_path / "s.h5").code == 0
    assert (tmp_path / "s.h5").read_bytes() == (made / "whole.h5").read_bytes()


@pytest.mark.parametrize("count", [2, 7])
def test_shards_give_the_same_bytes(count, made, ltau, tmp_path):
    words = ("score", made / "rows.npz", "-m", made / "model.h5", "--calibration",
             made / "calibration.h5")  # fmt: skip
    score_in_shards(ltau, words, count, tmp_path / "all.h5")
    assert (tmp_path / "all.h5").read_bytes() == (made / "whole.h5").read_bytes()


def test_an_interrupted_job_ends_with_the_same_bytes(made, tmp_path):
    target = tmp_path / "s.h5"
    words = ("score", made / "rows.npz", "-m", made / "model.h5", "--calibration",
             made / "calibration.h5", "--block-rows", 200, "-o", target)  # fmt: skip
    for sent in (signal.SIGTERM, signal.SIGKILL):
        process = start(*words)
        done = in_pieces(target)
        wait_until(lambda done=done: in_pieces(target) > done, process)
        process.send_signal(sent)
        finish(process)
        assert not target.exists()
    result = finish(start(*words))
    assert "rows are there already; going on" in result.err
    assert target.read_bytes() == (made / "whole.h5").read_bytes()


def test_standard_output_has_the_same_numbers(score, made, ltau):
    streamed = score("-o", "-", "--block-rows", 999, "-q").out
    assert ltau("export", made / "whole.h5").out == streamed
    rows = list(csv.DictReader(io.StringIO(streamed)))
    assert list(rows[0])[:4] == ["row", "structure", "group", "sample_id"]
    bound, mean = read(made / "whole.h5", "error_bound", "calibrated_error")
    np.testing.assert_allclose([float(r["error_bound_0.9"]) for r in rows], bound[:, 2], rtol=1e-6)
    np.testing.assert_allclose([float(r["calibrated_error"]) for r in rows], mean, rtol=1e-6)


def test_scores_follow_the_stored_numbers(made):
    names = ("expected_error", "relative_distance", "structure", "group")
    m, r, structure, group = read(made / "whole.h5", *names)
    maps = contents(made / "calibration.h5")
    log_r = np.log(r.astype(float))
    of_structure = np.exp(np.bincount(structure, log_r) / np.bincount(structure))[structure]
    far, of_structure = np.minimum(r, 5), np.minimum(of_structure, 3)  # where the law ends
    a, b, c, g, _, h, *_ = maps["coefficients"]
    floors = maps["feature_floors"]
    mean = (
        np.exp(a) * np.maximum(m, floors[0]) ** b * np.maximum(far, floors[1]) ** c
        * np.maximum(of_structure, floors[2]) ** g * np.maximum(of_structure, 1.5) ** h
    )  # fmt: skip
    np.testing.assert_allclose(read(made / "whole.h5", "calibrated_error"), mean, rtol=1e-5)
    assert maps["bound_groups"].tolist() == ["Cu", "O"]
    stratum = 3 * (group == b"O") + np.digitize(r, maps["distance_edges"])
    logs = np.log(
        [m, far, of_structure, np.ones(len(m)), np.maximum(of_structure, 1.5),
         *np.full((3, len(m)), 2)]
    )  # fmt: skip
    away = logs.T - maps["exponent_center"]
    spread = np.sqrt(np.einsum("ij,jk,ik->i", away, maps["exponent_covariance"], away))
    widened = np.exp(spread[:, None] * norm.ppf(maps["levels"]))
    np.testing.assert_allclose(
        read(made / "whole.h5", "error_bound"),
        mean[:, None] * widened * maps["bound_ratio"][stratum], rtol=1e-5,
    )  # fmt: skip


@pytest.fixture
def interleaved(made, tmp_path):
    """The made rows in another order, so that those of a structure do not stand together."""
    whole = np.load(made / "rows.npz")
    order = np.random.default_rng(1).permutation(N)
    structure = np.repeat(np.arange(N_STRUCTURES), whole["natoms"])[order]
    path = tmp_path / "mixed.npz"
    np.savez(path, descriptors=whole["descriptors"][order], structure=structure,
             group=whole["species"][order])  # fmt: skip
    return path, order


def test_rows_of_a_structure_need_not_stand_together(interleaved, made, ltau, tmp_path):
    path, order = interleaved
    words = ("score", path, "-m", made / "model.h5", "--calibration", made / "calibration.h5")
    out = tmp_path / "s.h5"
    ltau.ok(*words, "-o", out)
    for name in ("calibrated_error", "error_bound"):
        wanted = read(made / "whole.h5", name)[order]
        np.testing.assert_allclose(read(out, name), wanted, rtol=1e-5)
    score_in_shards(ltau, words, 3, tmp_path / "all.h5")
    assert (tmp_path / "all.h5").read_bytes() == out.read_bytes()


def test_a_calibration_by_structure_needs_structures(made, ltau, tmp_path):
    words = ("score", made / "bare.npz", "-m", made / "model.h5", "-o", tmp_path / "s.h5")
    result = ltau(*words, "--calibration", made / "calibration.h5")
    check(result, INPUT, made / "calibration.h5", "each structure's mean distance", "bare.npz")
    assert "--natoms" in result.err


def test_groups_come_beside_the_descriptors_or_in_a_file(made, ltau, tmp_path):
    words = ("-m", made / "model.h5", "--calibration", made / "groups.h5", "-o")
    beside, given = tmp_path / "beside.h5", tmp_path / "given.h5"
    ltau.ok("score", made / "rows.npz", *words, beside)
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(np.load(made / "species.npy")))
    for path in (made / "species.npy", labels):
        ltau.ok("score", made / "bare.npz", "--group", path, *words, given, "-f")
        for name in ("group", "error_bound", "calibrated_error"):
            np.testing.assert_array_equal(read(given, name), read(beside, name))
    assert read(beside, "group")[:2].tolist() == [
        s.encode() for s in np.load(made / "species.npy")[:2]
    ]
    told = json.loads(ltau("info", given, "--json").out)
    assert [record["file"] for record in told["inputs"] if record["role"] == "group"] == [
        "labels.txt"
    ]


def test_labels_that_lack(made, ltau, tmp_path):
    words = ("score", made / "bare.npz", "-m", made / "model.h5", "-o", tmp_path / "s.h5")
    result = ltau(*words, "--calibration", made / "groups.h5")
    check(result, INPUT, made / "groups.h5", "bounds for each group", "bare.npz")
    assert "--group" in result.err
    np.save(tmp_path / "few.npy", np.load(made / "species.npy")[:-1])
    result = ltau(*words, "--group", tmp_path / "few.npy")
    check(result, INPUT, "few.npy", "39,999 labels", "40,000 rows")
    result = ltau(*words, "--group", tmp_path / "none.npy")
    check(result, INPUT, "none.npy: no such file", hint=False)
    result = ltau("score", made / "bare.npz", made / "rows.npz", "-m", made / "model.h5", "-O",
                  tmp_path / "out", "--group", made / "species.npy")  # fmt: skip
    check(result, USAGE, "--group belongs to a single input")


def test_arrays_of_another_shape_are_no_labels(made, ltau, tmp_path):
    """A list of the elements, or one column for each of them."""
    rows = np.load(made / "bare.npz")["descriptors"][:50]
    for species in (np.array(["Cu", "O"]), np.eye(2)[np.zeros(50, int)]):
        np.savez(tmp_path / "x.npz", descriptors=rows, species=species)
        out = tmp_path / "s.h5"
        ltau.ok("score", tmp_path / "x.npz", "-m", made / "model.h5", "-o", out, "-f")
        with h5py.File(out) as file:
            assert "group" not in file


def test_groups_that_the_calibration_does_not_know(made, ltau, tmp_path):
    np.save(tmp_path / "other.npy", np.full(N, "Xe"))
    words = ("score", made / "bare.npz", "-m", made / "model.h5", "-o", tmp_path / "s.h5")
    result = ltau.ok(*words, "--group", tmp_path / "other.npy", "--calibration", made / "groups.h5")
    assert "warning: no row of" in result.err
    assert "the bounds of all are used" in result.err
    bound, mean = read(tmp_path / "s.h5", "error_bound", "calibrated_error")
    of_all = read(made / "groups.h5", "bound_ratio")[-1]
    np.testing.assert_allclose(bound, mean[:, None] * of_all, rtol=1e-6)


def test_small_groups_are_warned_about(made, ltau, tmp_path):
    labels = np.load(made / "species.npy").astype("U9")
    labels[::1000] = "rare"
    np.save(tmp_path / "g.npy", labels)
    words = ("calibrate", made / "scores.h5", made / "true.npy", "-o", tmp_path / "c.h5")
    result = ltau.ok(*words, "--group", tmp_path / "g.npy", "--method", "scale")
    assert "warning: 1 group too small for their own bounds" in result.err
    assert "share the bounds of all: rare" in result.err


def test_groups_that_nobody_knows(made, ltau, tmp_path):
    words = ("score", made / "bare.npz", "-m", made / "model.h5", "-o", tmp_path / "s.h5")
    ltau.ok(*words)
    words = ("calibrate", tmp_path / "s.h5", made / "true.npy", "-o", tmp_path / "c.h5", "--group")
    result = ltau(*words, "species")
    check(result, INPUT, tmp_path / "s.h5", "does not say which species")
    np.save(tmp_path / "few.npy", np.ones(5, int))
    check(ltau(*words, tmp_path / "few.npy"), INPUT, "few.npy has 5 labels", "40,000 rows")
    check(ltau(*words, "nowhere.npy"), INPUT, "nowhere.npy: no such file", hint=False)


def resized(name, size):
    def edit(file):
        values = np.resize(file[name][...], (size, *file[name].shape[1:]))
        attributes = dict(file[name].attrs)
        del file[name]
        file[name] = values
        file[name].attrs.update(attributes)

    return edit


@pytest.mark.parametrize(("edit", "words"), [
    (resized("coefficients", 3), "coefficients"),
    (resized("feature_floors", 3), "n_features"),
    (resized("bound_ratio", 2), "along n_strata"),
    (resized("distance_edges", 1), "bound_ratio has size"),
    (resized("bound_groups", 1), "bound_ratio has size"),
    (resized("group_error", 9), "group_error"),
    (lambda f: f.pop("coefficients"), "coefficients is missing"),
    (lambda f: f["feature_floors"].__setitem__(0, np.nan), "not finite"),
])  # fmt: skip
def test_damaged_calibrations(edit, words, made, ltau, tmp_path):
    path = tmp_path / "c.h5"
    path.write_bytes((made / "calibration.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        edit(file)
    words_of = ("score", made / "rows.npz", "-m", made / "model.h5", "-o", tmp_path / "s.h5")
    check(ltau(*words_of, "--calibration", path), ARTIFACT, path, words)
    assert not (tmp_path / "s.h5").exists()


def test_calibration_of_another_model(small, pipeline, tmp_path, ltau):
    result = ltau("score", small["x"], "-m", small["model"], "--calibration",
                  pipeline.calibration, "-o", tmp_path / "o.h5")  # fmt: skip
    check(result, ARTIFACT, pipeline.calibration, "another model", small["model"])


def test_calibration_with_another_k(pipeline, tmp_path, ltau):
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "-o", tmp_path / "o.h5")
    result = ltau(*words, "--calibration", pipeline.calibration, "-k", 20)
    check(result, USAGE, "-k 10", "-k 20")


def test_out_of_domain_rows_and_unknown_thresholds_are_warned_about(pipeline, tmp_path, ltau):
    hot = pipeline.hot_descriptors
    fitted = tmp_path / "c.h5"
    words = ("calibrate", pipeline.scores, pipeline.true_errors, "-o", fitted)
    words = (*words[:1], pipeline.calibrated, *words[2:])
    ltau.ok(*words, "--method", "threshold")
    words = ("score", hot, "-m", pipeline.model, "--calibration", fitted)
    result = ltau.ok(*words, "-o", tmp_path / "a.h5", "--threshold", 0.5)
    assert "warning: " in result.err
    assert "has no threshold 0.5" in result.err
    assert "of the rows are out of domain" in result.err
    assert "the bounds are extrapolated there" in result.err


def test_rows_of_another_array_of_the_file_are_not_left_out(pipeline, tmp_path, ltau):
    both = tmp_path / "all.h5"
    with h5py.File(both, "w") as file:
        file["cold"] = np.load(pipeline.descriptors)
        file["hot"] = np.load(pipeline.descriptors.with_name("test_900K_descriptors.npy"))[:900]
    words = ("-m", pipeline.model, "-o")
    cold, fitted = tmp_path / "cold.h5", tmp_path / "c.h5"
    ltau.ok("score", f"{both}:/cold", *words, cold)
    ltau.ok("calibrate", cold, pipeline.true_errors, "-o", fitted)
    for name, used in (("hot", 0), ("cold", 688)):
        out = tmp_path / f"{name}2.h5"
        ltau.ok("score", f"{both}:/{name}", *words, out, "--calibration", fitted)
        assert read(out, "in_calibration").sum() == used


@pytest.mark.parametrize("form", ["npz", "h5", "halves", "double"])
def test_calibration_rows_are_known_again_by_content(form, pipeline, tmp_path, ltau):
    rows, natoms = np.load(pipeline.descriptors), np.load(pipeline.natoms)
    half = 10 * 55  # a whole number of structures
    files = {
        "npz": {"x.npz": slice(None)}, "h5": {"x.h5": slice(None)},
        "double": {"x.npy": slice(None)},
        "halves": {"a.npz": slice(half), "b.npz": slice(half, None)},
    }[form]  # fmt: skip
    expected = contents(pipeline.calibrated)["in_calibration"]
    for name, part in files.items():
        path, counts = tmp_path / name, natoms[part.start // 55 if part.start else 0 :]
        counts = counts[: len(rows[part]) // 55]
        if form == "h5":
            with h5py.File(path, "w") as file:
                file["descriptors"], file["natoms"] = rows, natoms
        elif form == "double":
            np.save(path, rows.astype(float))
        else:
            np.savez(path, descriptors=rows[part], natoms=counts)
        words = ["--natoms", pipeline.natoms] if form == "double" else []
        out = tmp_path / "s.h5"
        words += ["-m", pipeline.model, "--calibration", pipeline.calibration]
        ltau.ok("score", path, *words, "-f", "-o", out)
        same(contents(out)["in_calibration"], expected[part])


def test_the_threshold_is_scaled_on_request(pipeline, tmp_path, ltau):
    """P(error > eps) after calibration is the mixture's P(error > eps / s)."""
    fitted, out = tmp_path / "c.h5", tmp_path / "s.h5"
    words = ("calibrate", pipeline.calibrated, pipeline.true_errors, "-o", fitted)
    ltau.ok(*words, "--method", "threshold")
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "--calibration", fitted)
    ltau.ok(*words, "--cdf", "-o", out)
    with h5py.File(out) as scores, h5py.File(fitted) as maps:
        edges, cdf = scores["cdf_edges"][...], scores["cdf"][...]
        at = scores["thresholds"][0] / maps["threshold_scale"][0]
        wanted = [1 - np.interp(at, edges, row) for row in cdf]
        np.testing.assert_allclose(scores["calibrated_uncertainty"][:, 0], wanted, atol=1e-6)


def test_calibrated_numbers_lead(pipeline, ltau, tmp_path):
    out = tmp_path / "s.h5"
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "--natoms", pipeline.natoms,
             "--calibration", pipeline.calibration, "-o", out)  # fmt: skip
    told = json.loads(ltau(*words, "--json").out)
    with h5py.File(out) as file:
        after, plain = file["calibrated_uncertainty"][:, 0], file["uncertainty"][:, 0]
        structure, error = file["structure"][()], file["calibrated_error"][()]
        means = np.bincount(structure, error) / np.bincount(structure)
        np.testing.assert_allclose(file["structures/calibrated_error_mean"], means, rtol=1e-6)
        bounds = [file["error_bound"][structure == i].max(axis=0) for i in range(25)]
        np.testing.assert_allclose(file["structures/error_bound_max"], bounds, rtol=1e-6)
    assert told["mean_calibrated_uncertainty"] == pytest.approx([after.mean()], rel=1e-6)
    assert told["mean_uncertainty"] == pytest.approx([plain.mean()], rel=1e-6)
    assert told["riskiest"][0]["calibrated_uncertainty"] == after[told["riskiest"][0]["row"]]
    shown = ltau(*words, "-f").out
    assert f"{100 * after.mean():.1f} % (plain {100 * plain.mean():.1f} %)" in shown
    header = ltau("export", out).out.splitlines()[0].split(",")
    assert header.index("calibrated_error") < header.index("expected_error")
