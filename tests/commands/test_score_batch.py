"""Batch jobs: shards, many files, and going on where a job was stopped."""

import json
import os
import resource
import shutil

import numpy as np
import pytest

from ltau_cli.cli import main
from ltau_cli.core.scoring import Scorer
from ltau_cli.pieces.store import open_store
from ltau_cli.stop import Ended
from tests.helpers import (
    ARTIFACT,
    INPUT,
    OUTPUT,
    USAGE,
    check,
    finish,
    in_pieces,
    names,
    read,
    score_in_shards,
    start,
    wait_until,
)

N = 40_000  # more than two blocks
FOLDER = ".scores.h5.ltau-pieces"
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


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 7])
def test_shards_give_the_same_bytes(count, made, ltau, tmp_path):
    words = ("score", made / "rows.npz", "-m", made / "model.h5")
    result = score_in_shards(ltau, words, count, tmp_path / "all.h5")
    assert f"{N:,} rows in {N // 3 + 1:,} structures" in result.out
    assert (tmp_path / "all.h5").read_bytes() == (made / "scores.h5").read_bytes()


@pytest.mark.slow
def test_shards_with_everything_in_them(pipeline, ltau, tmp_path):
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "--natoms", pipeline.natoms,
             "--calibration", pipeline.calibration, "--cdf", "--json")  # fmt: skip
    result = score_in_shards(ltau, words, 4, tmp_path / "scores.h5")
    assert json.loads(result.out)["n_structures"] == 25
    assert (tmp_path / "scores.h5").read_bytes() == pipeline.calibrated.read_bytes()


@pytest.mark.slow
def test_processes_score_shards_at_once_and_nobody_disturbs_them(made, score, tmp_path):
    out, go = tmp_path / "scores.h5", tmp_path / "go"
    words = ("score", made / "rows.npz", "-m", made / "model.h5", "-o", out, "--block-rows", 900)
    processes = [
        start(*words, "--shard", f"{i}/3", before=WAIT.format(go=str(go))) for i in range(3)
    ]
    wait_until(lambda: len(list(tmp_path.rglob("rows-*"))) == 3, *processes)  # and now they wait
    check(score("-o", out), OUTPUT, out, "another ltau")
    check(score("-o", out, "-k", 5), OUTPUT, out, "another ltau")
    go.touch()
    assert [finish(process).code for process in processes] == [0, 0, 0]
    assert score("-o", out).code == 0
    assert out.read_bytes() == (made / "scores.h5").read_bytes()
    assert names(tmp_path) == ["go", "scores.h5"]


WAIT = """
import os, time
from ltau_cli.core.scoring import Scorer
from ltau_cli.pieces.store import open_store
score, done = Scorer.score, []
def score_one_and_wait(self, block):
    while done and not os.path.exists({go!r}):
        time.sleep(0.01)
    done.append(1)
    return score(self, block)
Scorer.score = score_one_and_wait
"""


def test_a_shard_says_which_rows_it_scored(made, score, tmp_path):
    out = tmp_path / "scores.h5"
    result = score("--shard", "1/3", "-o", out)
    said = "rows 13,333 to 26,666 of 40,000 are scored; when all are, the same command without"
    assert result.out.startswith(f"{out}: {said}")
    found = json.loads(score("--shard", "1/3", "-o", out, "--json").out)
    assert found == {"output": str(out), "first": 13_333, "last": 26_666, "n_rows": N}
    assert "13,333 of 40,000 rows are there already" in score("-o", out).err
    assert out.read_bytes() == (made / "scores.h5").read_bytes()
    check(score("--shard", "1/3", "-o", out), OUTPUT, out, "exists already")
    assert score("--shard", "1/3", "-o", out, "--resume").out == f"{out}: up to date\n"


def test_a_shard_that_cannot_be_scored_leaves_the_others(made, tmp_path, ltau):
    rows, out = tmp_path / "rows.npy", tmp_path / "scores.h5"
    values = np.ones((50, WIDTH), np.float32)
    values[33] = np.nan
    np.save(rows, values)
    words = ("score", rows, "-m", made / "model.h5", "-o", out)
    ltau.ok(*words, "--shard", "0/2")
    check(ltau(*words, "--shard", "1/2"), INPUT, "first is row 33")
    assert in_pieces(out) == 25
    result = ltau(*words)
    assert result.code == INPUT
    assert "first is row 33" in result.err
    assert names(tmp_path) == ["rows.npy"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("1", "not I/N"), ("1/", "not I/N"), ("a/b", "not I/N"), ("-1/2", "not I/N"),
     ("2/2", "counted from 0"), ("0/0", "counted from 0"), ("0/40001", "too few")],
)  # fmt: skip
def test_shards_that_cannot_be_meant(text, said, score, tmp_path):
    check(score(f"--shard={text}", "-o", tmp_path / "o.h5"), USAGE, said)
    assert names(tmp_path) == []


def test_shards_of_standard_output(score):
    check(score("--shard", "0/2", "-o", "-"), USAGE, "not of standard output")


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


@pytest.mark.parametrize("error", [Ended(15), MemoryError()])
def test_a_stopped_job_goes_on(error, made, score, tmp_path, monkeypatch):
    out = tmp_path / "scores.h5"
    done = 0
    for blocks, rows in ((2, 1000), (1, 7777), (3, 4096)):
        with monkeypatch.context() as patch:
            Breaks(patch, blocks, error)
            result = score("-o", out, "--block-rows", rows)
        assert result.code in (143, 6)
        assert names(tmp_path) == [FOLDER]
        assert (f"{done:,} of {N:,} rows are there already" in result.err) == (done > 0)
        assert f"{out}: what is done is kept; the same command goes on from there" in result.err
        assert in_pieces(out) > done
        done = in_pieces(out)
    result = score("-o", out)
    assert result.code == 0
    assert f"{out}: {done:,} of {N:,} rows are there already; going on" in result.err
    assert names(tmp_path) == ["scores.h5"]
    assert out.read_bytes() == (made / "scores.h5").read_bytes()


@pytest.mark.slow
def test_a_job_stopped_while_it_writes_the_result_goes_on(made, score, tmp_path, monkeypatch):
    out = tmp_path / "scores.h5"
    with monkeypatch.context() as patch:
        patch.setattr("ltau_cli.artifacts.scores.Summary.result", stop)
        assert score("-o", out).code == 143
    assert names(tmp_path) == [FOLDER]
    assert f"{N:,} of {N:,} rows" in score("-o", out).err
    assert out.read_bytes() == (made / "scores.h5").read_bytes()


def stop(*_):
    raise Ended(15)


def test_nothing_is_left_of_a_job_that_did_nothing(score, tmp_path, monkeypatch):
    Breaks(monkeypatch, 0, Ended(15))
    result = score("-o", tmp_path / "scores.h5")
    assert result.code == 143
    assert "kept" not in result.err
    assert names(tmp_path) == []


@pytest.mark.slow
def test_the_pieces_of_another_job_are_replaced(made, score, tmp_path, monkeypatch):
    out = tmp_path / "scores.h5"
    with monkeypatch.context() as patch:
        Breaks(patch, 2, Ended(15))
        assert score("-o", out, "-k", 3, "--block-rows", 500).code == 143
    result = score("-o", out)
    assert result.code == 0
    assert "already" not in result.err
    assert out.read_bytes() == (made / "scores.h5").read_bytes()


def test_the_pieces_of_changed_descriptors_are_replaced(made, tmp_path, ltau, monkeypatch):
    rows, out = tmp_path / "rows.npy", tmp_path / "scores.h5"
    words = ("score", rows, "-m", made / "model.h5", "-o", out, "--block-rows", 10)
    np.save(rows, np.ones((50, WIDTH), np.float32))
    with monkeypatch.context() as patch:
        Breaks(patch, 2, Ended(15))
        assert ltau(*words).code == 143
    np.save(rows, np.zeros((50, WIDTH), np.float32))
    os.utime(rows, ns=(1, 1))
    result = ltau(*words)
    assert "already" not in result.err
    assert len(set(read(out, "neighbor_distance"))) == 1


def test_bad_input_leaves_no_pieces(made, tmp_path, ltau):
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
    assert names(tmp_path) == [FOLDER]
    assert in_pieces(out) == N
    result = finish(start(*words))
    assert f"{N:,} of {N:,} rows are there already" in result.err
    assert out.read_bytes() == (made / "scores.h5").read_bytes()


def test_two_jobs_cannot_write_the_same_result(score, tmp_path):
    out = tmp_path / "scores.h5"
    with open_store(out, {}):
        check(score("-o", out), OUTPUT, out, "another ltau")
    assert score("-o", out).code == 0


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
    ltau.ok("score", tmp_path / "md_1.npy", "-m", made / "model.h5", "-o", one)
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
    assert [entry["n_rows"] for entry in listed] == [20] * 3


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
    ltau.ok(*words, pipeline.model)
    assert "up to date" in ltau(*words, pipeline.model).out
    calibrated = (*words, pipeline.model, "--calibration", pipeline.calibration)
    assert "out of date" in ltau(*calibrated).err
    assert ltau(*calibrated).out == f"{out}: up to date\n"
    model = tmp_path / "model.h5"
    ltau.ok("fit", pipeline.errors, pipeline.train, "-k", 5, "-o", model)
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
    folder, one = tmp_path / "deep" / "scores", tmp_path / "one.h5"
    for index in range(2):
        assert many("--shard", f"{index}/2").out.count("of 20 are scored") == 3
    assert many().err.count("20 of 20 rows are there already") == 3
    ltau.ok("score", tmp_path / "md_2.npy", "-m", made / "model.h5", "-o", one)
    assert (folder / "md_2.scores.h5").read_bytes() == one.read_bytes()
    assert names(folder) == [f"md_{i}.scores.h5" for i in range(3)]
