"""Batch jobs: shards, merging, many files, and going on where a job was stopped."""

from __future__ import annotations

import json
import os
import resource
import shutil

import h5py
import numpy as np
import pytest

from ltau_cli.artifacts.spool import open_spool
from ltau_cli.cli import main
from ltau_cli.core.scoring import Scorer
from ltau_cli.stop import Stopped
from tests.helpers import ARTIFACT, INPUT, OUTPUT, USAGE, check, finish, names, start

N = 40_000  # more than two blocks
WIDTH = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small model, many rows in structures of three, and their scores."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    np.save(folder / "log.npy", rng.random((6, 300)))
    np.save(folder / "train.npy", rng.normal(size=(300, WIDTH)))
    np.savez(
        folder / "rows.npz",
        descriptors=rng.normal(size=(N, WIDTH)).astype(np.float32),
        natoms=np.r_[np.full(N // 3, 3), N % 3],
    )
    for words in (
        ["ingest", folder / "log.npy", "-o", folder / "errors.h5"],
        ["fit", folder / "errors.h5", folder / "train.npy", "-o", folder / "model.h5"],
        ["score", folder / "rows.npz", "-m", folder / "model.h5", "-o", folder / "scores.h5"],
    ):
        assert main.run([*map(str, words), "-q"]) == 0
    return folder


@pytest.fixture
def score(made, ltau):
    """Run ``ltau score`` on the made rows."""
    return lambda *words: ltau("score", made / "rows.npz", "-m", made / "model.h5", *words)


# Shards


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 7])
def test_merged_shards_are_the_same_bytes(count, made, score, ltau, tmp_path):
    for index in range(count):
        block = ["--block-rows", 3001 + index] if index % 2 else []
        part = ["--shard", f"{index}/{count}", "-o", tmp_path / f"{index}.h5"]
        assert score(*part, *block).code == 0
    parts = [tmp_path / f"{index}.h5" for index in reversed(range(count))]
    result = ltau("merge", *parts, "-o", tmp_path / "all.h5")
    assert result.code == 0, result.err
    assert f"{N:,} rows in {N // 3 + 1:,} structures" in result.out
    assert (tmp_path / "all.h5").read_bytes() == (made / "scores.h5").read_bytes()


@pytest.mark.slow
def test_merged_shards_with_everything_in_them(pipeline, ltau, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "--natoms", pipeline.natoms,
             "--calibration", pipeline.calibration, "--cdf")  # fmt: skip
    for index in range(4):
        result = ltau(*words, "--shard", f"{index}/4")
        assert result.code == 0, result.err
    assert names(tmp_path) == [f"scores.{index}-of-4.h5" for index in range(4)]
    result = ltau("merge", *names(tmp_path), "--json")
    assert json.loads(result.out)["n_structures"] == 25
    assert (tmp_path / "scores.h5").read_bytes() == pipeline.calibrated.read_bytes()


def test_a_shard_says_which_rows_it_holds(made, score, tmp_path):
    out = tmp_path / "part.h5"
    result = score("--shard", "1/3", "-o", out, "--json")
    summary = json.loads(result.out)
    first, last = 13_335, 26_667  # the ends of thirds, moved on to the next structure
    assert summary["n_queries"] == last - first
    with h5py.File(out) as part, h5py.File(made / "scores.h5") as whole:
        np.testing.assert_array_equal(part["structure"], whole["structure"][first:last])
        for row in summary["riskiest"]:
            assert row["expected_error"] == whole["expected_error"][row["row"]]
            assert row["structure"] == row["row"] // 3
        assert "structures" not in part
        shard = json.loads(part.attrs["parameters"])["shard"]
        assert shard == {"index": 1, "count": 3, "n_rows": N, "first": first, "last": last,
                         "n_structures": N // 3 + 1}  # fmt: skip


def test_csv_of_a_shard(made, score):
    result = score("--shard", "99/100", "-o", "-")
    lines = result.out.splitlines()
    assert lines[0].startswith("row,structure,expected_error")
    assert lines[1].startswith(f"{N * 99 // 100},")
    assert len(lines) == 1 + N - N * 99 // 100


def test_shards_cannot_be_calibrated_on(pipeline, ltau, tmp_path):
    out = tmp_path / "part.h5"
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "--shard", "1/2", "-o", out)
    assert ltau(*words).code == 0
    np.save(tmp_path / "t.npy", np.load(pipeline.true_errors)[687:])
    result = ltau("calibrate", out, tmp_path / "t.npy", "-o", tmp_path / "c.h5")
    check(result, ARTIFACT, out, "shard 1 of 2")


@pytest.mark.parametrize(
    ("text", "said"),
    [("1", "not I/N"), ("1/", "not I/N"), ("a/b", "not I/N"), ("-1/2", "not I/N"),
     ("2/2", "counted from 0"), ("0/0", "counted from 0"), ("0/40001", "too few")],
)  # fmt: skip
def test_shards_that_cannot_be_meant(text, said, score, tmp_path):
    check(score(f"--shard={text}", "-o", tmp_path / "o.h5"), USAGE, said)
    assert names(tmp_path) == []


# Merging


@pytest.fixture
def parts(score, tmp_path):
    """Three shards."""
    paths = [tmp_path / f"{index}.h5" for index in range(3)]
    for index, path in enumerate(paths):
        assert score("--shard", f"{index}/3", "-o", path).code == 0
    return paths


def test_parts_that_are_missing_or_there_twice(parts, ltau, tmp_path):
    out = tmp_path / "all.h5"
    check(ltau("merge", parts[1], "-o", out), ARTIFACT, "2 of 3 shards are missing: 0,2")
    result = ltau("merge", parts[2], "-o", out)
    check(result, ARTIFACT, "2 of 3 shards are missing: 0-1")
    assert "--array=0-1" in result.err
    twice = tmp_path / "twice.h5"
    shutil.copy(parts[0], twice)
    check(ltau("merge", *parts, twice, "-o", out), ARTIFACT, "both shard 0", parts[0], twice)
    check(ltau("merge", *parts, parts[0], "-o", out), ARTIFACT, "both shard 0")
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--shard", "1/3", "-k", "5"], "other options"),
        (["--shard", "1/3", "--quantile", "0.3"], "other options"),
        (["--shard", "1/3", "--cdf"], "other options"),
        (["--shard", "1/4"], "other number of shards"),
    ],
)
def test_parts_of_different_jobs(words, what, parts, score, ltau, tmp_path):
    assert score(*words, "-o", parts[1], "--force").code == 0
    result = ltau("merge", *parts, "-o", tmp_path / "all.h5")
    check(result, ARTIFACT, parts[0], parts[1], what)


@pytest.mark.slow
def test_parts_of_other_inputs_and_models(parts, made, score, ltau, tmp_path):
    rows = np.load(made / "rows.npz")
    np.savez(tmp_path / "rows.npz", descriptors=rows["descriptors"] + 1, natoms=rows["natoms"])
    words = ("-m", made / "model.h5", "--shard", "2/3", "-o", parts[2], "--force")
    assert ltau("score", tmp_path / "rows.npz", *words).code == 0
    check(ltau("merge", *parts, "-o", tmp_path / "all.h5"), ARTIFACT, parts[2], "other inputs")
    model = tmp_path / "model.h5"
    assert ltau("fit", made / "errors.h5", made / "train.npy", "-o", model, "-k", 5).code == 0
    assert score("-m", model, *words[2:], "-k", 4).code == 0
    check(ltau("merge", *parts, "-o", tmp_path / "all.h5"), ARTIFACT, parts[2], "other model")


def test_files_that_are_no_parts(parts, made, ltau, tmp_path):
    out = tmp_path / "all.h5"
    check(ltau("merge", made / "scores.h5", "-o", out), ARTIFACT, "not a shard")
    check(ltau("merge", made / "model.h5", "-o", out), ARTIFACT, "kind model")
    check(ltau("merge", tmp_path / "none.h5", "-o", out), INPUT, "no such file")
    check(ltau("merge", *parts, "-o", parts[0]), OUTPUT, "is an input of this command")
    check(ltau("merge", "-o", out), USAGE, "Missing argument")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda f: edit_shard(f, last=20_000), "has 13,335 rows, not 20,000"),
        (lambda f: edit_shard(f, index=3), "shard 3 of 3"),
        (lambda f: edit_shard(f, index="0"), "parameters: shard.index is not int"),
        (lambda f: f["structure"].__setitem__(5, 10**9), "dataset structure"),
        (lambda f: f["quantiles"].__setitem__(5, np.nan), "not finite"),
    ],
)
def test_damaged_parts(edit, said, parts, ltau, tmp_path):
    with h5py.File(parts[0], "r+") as file:
        edit(file)
    if "dataset" not in said and "finite" not in said:
        parts = parts[:1]
    check(ltau("merge", *parts, "-o", tmp_path / "all.h5"), ARTIFACT, parts[0], said)
    assert not (tmp_path / "all.h5").exists()


def test_parts_that_do_not_follow_each_other(parts, ltau, tmp_path):
    with h5py.File(parts[1], "r+") as file:
        edit_shard(file, first=13_336, last=26_668)
    result = ltau("merge", *parts, "-o", tmp_path / "all.h5")
    check(result, ARTIFACT, parts[1], "it begins at row 13,336, not 13,335")


def edit_shard(file, **values):
    parameters = json.loads(file.attrs["parameters"])
    parameters["shard"] |= values
    file.attrs["parameters"] = json.dumps(parameters)


# Going on


class Breaks:
    """A scorer that is stopped after some blocks."""

    def __init__(self, monkeypatch, blocks, error):
        self.left, self.error, self.score = blocks, error, Scorer.score
        breaks = self
        monkeypatch.setattr(Scorer, "score", lambda scorer, block: breaks.next(scorer, block))

    def next(self, scorer, block):
        if self.left == 0:
            raise self.error
        self.left -= 1
        return self.score(scorer, block)


@pytest.mark.parametrize("error", [Stopped(15), MemoryError()])
def test_a_stopped_job_goes_on(error, made, score, tmp_path, monkeypatch):
    out = tmp_path / "scores.h5"
    done = 0
    for blocks, rows in ((2, 1000), (1, 7777), (3, 4096)):
        with monkeypatch.context() as patch:
            Breaks(patch, blocks, error)
            result = score("-o", out, "--block-rows", rows)
        assert result.code in (143, 6)
        assert names(tmp_path) == [".scores.h5.part"]
        assert (f"continuing at row {done:,} of {N:,}" in result.err) == (done > 0)
        done += blocks * rows
        assert f"{done:,} of {N:,} rows are done and kept" in result.err
    result = score("-o", out)
    assert result.code == 0
    assert f"{out}: continuing at row {done:,} of {N:,}" in result.err
    assert names(tmp_path) == ["scores.h5"]
    assert out.read_bytes() == (made / "scores.h5").read_bytes()


@pytest.mark.slow
def test_a_job_stopped_while_it_writes_the_result_goes_on(made, score, tmp_path, monkeypatch):
    out = tmp_path / "scores.h5"
    with monkeypatch.context() as patch:
        patch.setattr("ltau_cli.artifacts.scores.Summary.result", stop)
        assert score("-o", out).code == 143
    assert names(tmp_path) == [".scores.h5.part"]
    assert f"row {N:,} of {N:,}" in score("-o", out).err
    assert out.read_bytes() == (made / "scores.h5").read_bytes()


def stop(*_):
    raise Stopped(15)


def test_nothing_is_left_of_a_job_that_did_nothing(score, tmp_path, monkeypatch):
    Breaks(monkeypatch, 0, Stopped(15))
    result = score("-o", tmp_path / "scores.h5")
    assert result.code == 143
    assert "kept" not in result.err
    assert names(tmp_path) == []


@pytest.mark.slow
def test_the_spool_of_another_job_is_replaced(made, score, tmp_path, monkeypatch):
    out = tmp_path / "scores.h5"
    with monkeypatch.context() as patch:
        Breaks(patch, 2, Stopped(15))
        assert score("-o", out, "-k", 3, "--block-rows", 500).code == 143
    result = score("-o", out)
    assert result.code == 0
    assert "continuing" not in result.err
    assert out.read_bytes() == (made / "scores.h5").read_bytes()


def test_the_spool_of_changed_descriptors_is_replaced(made, tmp_path, ltau, monkeypatch):
    rows, out = tmp_path / "rows.npy", tmp_path / "scores.h5"
    words = ("score", rows, "-m", made / "model.h5", "-o", out, "--block-rows", 10)
    np.save(rows, np.ones((50, WIDTH), np.float32))
    with monkeypatch.context() as patch:
        Breaks(patch, 2, Stopped(15))
        assert ltau(*words).code == 143
    np.save(rows, np.zeros((50, WIDTH), np.float32))
    os.utime(rows, ns=(1, 1))
    result = ltau(*words)
    assert "continuing" not in result.err
    with h5py.File(out) as file:
        assert len(set(file["neighbor_distance"][...])) == 1


def test_bad_input_leaves_no_spool(made, tmp_path, ltau):
    rows = np.ones((50, WIDTH), np.float32)
    rows[[33, 44], 2] = np.nan
    np.save(tmp_path / "rows.npy", rows)
    words = ("score", tmp_path / "rows.npy", "-m", made / "model.h5", "-o", tmp_path / "s.h5")
    check(ltau(*words, "--block-rows", 10), INPUT, "2 of 50 rows", "first is row 33")
    assert names(tmp_path) == ["rows.npy"]


@pytest.mark.slow
def test_a_full_quota_keeps_the_finished_rows(made, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    out = tmp_path / "scores.h5"
    words = ("score", made / "rows.npz", "-m", made / "model.h5", "-o", out, "--block-rows", 4000)
    result = finish(
        start(*words, preexec_fn=limit, env=os.environ | {"NUMBA_DISABLE_CACHING": "1"})
    )
    assert result.code == OUTPUT, result.err
    assert f"cannot write {out}: File too large" in result.err
    assert names(tmp_path) == [".scores.h5.part"]
    result = finish(start(*words))
    assert "continuing at row 8,000" in result.err
    assert out.read_bytes() == (made / "scores.h5").read_bytes()


def test_two_jobs_cannot_write_the_same_result(score, tmp_path):
    out = tmp_path / "scores.h5"
    with open_spool(out, {}, np.dtype([("x", "<f4")])):
        check(score("-o", out), OUTPUT, out, "another ltau")
    assert score("-o", out).code == 0


# Many files


@pytest.fixture
def many(made, tmp_path, ltau):
    """Three files of descriptors, and a call that scores them to a folder."""
    rng = np.random.default_rng(1)
    paths = [tmp_path / f"md_{i}.npy" for i in range(3)]
    for path in paths:
        np.save(path, rng.normal(size=(20, WIDTH)).astype(np.float32))
    folder = tmp_path / "deep" / "scores"
    return lambda *words: ltau("score", *paths, "-m", made / "model.h5", "-O", folder, *words)


def test_many_files_give_the_results_of_one_by_one(many, made, tmp_path, ltau):
    result = many()
    assert result.code == 0, result.err
    folder = tmp_path / "deep" / "scores"
    assert names(folder) == [f"md_{i}.scores.h5" for i in range(3)]
    assert len(result.out.splitlines()) == 3
    assert result.out.startswith(f"{folder / 'md_0.scores.h5'}: 20 rows, mean expected error ")
    one = tmp_path / "one.h5"
    assert ltau("score", tmp_path / "md_1.npy", "-m", made / "model.h5", "-o", one).code == 0
    assert one.read_bytes() == (folder / "md_1.scores.h5").read_bytes()
    check(many(), OUTPUT, "md_0.scores.h5", "exists")
    listed = json.loads(many("--force", "--json").out)
    assert [entry["output"] for entry in listed] == [str(folder / name) for name in names(folder)]


def test_resume_makes_only_what_is_missing_or_out_of_date(many, tmp_path):
    folder = tmp_path / "deep" / "scores"
    assert many("--resume").code == 0
    old = [(folder / f"md_{i}.scores.h5").stat().st_mtime_ns for i in range(3)]
    (folder / "md_1.scores.h5").unlink()
    np.save(tmp_path / "md_2.npy", np.zeros((20, WIDTH), np.float32))
    result = many("--resume")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0] == f"{folder / 'md_0.scores.h5'}: up to date"
    assert "20 rows" in lines[1]
    assert "20 rows" in lines[2]
    assert result.err.startswith(f"{folder / 'md_2.scores.h5'} is out of date; scoring again")
    assert (folder / "md_0.scores.h5").stat().st_mtime_ns == old[0]
    listed = json.loads(many("--resume", "--json").out)
    assert [entry["up_to_date"] for entry in listed] == [True] * 3
    assert [entry["n_queries"] for entry in listed] == [20] * 3


@pytest.mark.parametrize("words", [["-k", "3"], ["--threshold", "0.25"], ["--quantile", "0.5"],
                                   ["--cdf"]])  # fmt: skip
def test_resume_sees_other_options(words, many):
    assert many().code == 0
    assert many(*words, "--resume").err.count("out of date; scoring again") == 3
    assert many(*words, "--resume").out.count("up to date") == 3


@pytest.mark.slow
def test_resume_sees_another_calibration_and_model(pipeline, tmp_path, ltau):
    out = tmp_path / "s.h5"
    words = (
        "score",
        pipeline.descriptors,
        "--natoms",
        pipeline.natoms,
        "-o",
        out,
        "--resume",
        "-m",
    )
    assert ltau(*words, pipeline.model).code == 0
    assert "up to date" in ltau(*words, pipeline.model).out
    calibrated = (*words, pipeline.model, "--calibration", pipeline.calibration)
    assert "out of date" in ltau(*calibrated).err
    assert ltau(*calibrated).out == f"{out}: up to date\n"
    model = tmp_path / "model.h5"
    assert ltau("fit", pipeline.errors, pipeline.train, "-k", 5, "-o", model).code == 0
    assert "out of date" in ltau(*words, model, "-k", 4).err


def test_resume_keeps_files_that_are_no_scores(many, tmp_path):
    folder = tmp_path / "deep" / "scores"
    folder.mkdir(parents=True)
    (folder / "md_1.scores.h5").write_bytes(b"precious")
    result = many("--resume", "-q")
    check(result, ARTIFACT, "md_1.scores.h5", "not an HDF5 file")
    assert (folder / "md_1.scores.h5").read_bytes() == b"precious"
    assert (folder / "md_0.scores.h5").exists()
    assert many("--resume", "--force").code == 0


def test_many_files_that_cannot_be_scored(many, made, tmp_path, ltau):
    words = ("-m", made / "model.h5")
    a, b = tmp_path / "md_0.npy", tmp_path / "md_1.npy"
    check(ltau("score", a, b, *words), USAGE, "2 inputs")
    check(many("-o", tmp_path / "o.h5"), USAGE, "-o", "-O")
    check(many("--natoms", a), USAGE, "--natoms")
    (tmp_path / "other").mkdir()
    shutil.copy(a, tmp_path / "other")
    result = ltau("score", a, tmp_path / "other" / "md_0.npy", *words, "-O", tmp_path / "out")
    check(result, USAGE, "md_0.npy", "both")
    result = ltau("score", a, tmp_path / "none.npy", *words, "-O", tmp_path / "out")
    check(result, INPUT, "none.npy", hint=False)
    check(ltau("score", a, *words, "-O", b), OUTPUT, b, "not a folder")
    assert not (tmp_path / "out").exists()
    np.save(b, np.ones((5, WIDTH + 1)))
    check(many(), INPUT, b, "5 columns")
    assert names(tmp_path / "deep" / "scores") == []
    check(ltau("score", a, *words, "-o", "-", "--resume"), USAGE, "resumed")


@pytest.mark.slow
def test_many_files_in_shards(many, made, tmp_path, ltau):
    folder = tmp_path / "deep" / "scores"
    for index in range(2):
        assert many("--shard", f"{index}/2").code == 0
    merged = tmp_path / "merged.h5"
    parts = sorted(folder.glob("md_2.scores.*-of-2.h5"))
    assert ltau("merge", *parts, "-o", merged).code == 0
    one = tmp_path / "one.h5"
    assert ltau("score", tmp_path / "md_2.npy", "-m", made / "model.h5", "-o", one).code == 0
    assert merged.read_bytes() == one.read_bytes()
