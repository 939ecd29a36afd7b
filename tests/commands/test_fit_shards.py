"""``ltau fit`` in pieces: the same results as in one, and a stopped call goes on."""

import json
import signal

import h5py
import numpy as np
import pytest

from ltau_cli.stop import Ended
from tests.helpers import (
    ARTIFACT,
    USAGE,
    check,
    finish,
    in_pieces,
    score_in_shards,
    start,
    wait_until,
)

SCORED = ("expected_error", "uncertainty", "quantiles", "neighbor_distance", "relative_distance",
          "ood_pvalue")  # fmt: skip


def make(folder, ltau, *, duplicates, n=90, d=3):
    """A log with missing values and samples that were never logged, descriptors and queries."""
    rng = np.random.default_rng(5)
    log = rng.random((6, n)).astype(np.float32)
    log[2, rng.random(n) < 0.3] = np.nan
    log[:, [0, 30, 31, 89]] = np.nan
    x, q = rng.normal(size=(n, d)), rng.normal(size=(40, d))
    if duplicates:
        x, q = np.round(x), np.round(q)
    np.save(folder / "log.npy", log)
    np.save(folder / "x.npy", x.astype(np.float32))
    np.save(folder / "q.npy", q.astype(np.float32))
    np.save(folder / "natoms.npy", np.full(n // 5, 5))
    words = ("--allow-missing", "--natoms", folder / "natoms.npy", "-o", folder / "e.h5")
    ltau.ok("ingest", folder / "log.npy", *words)


def fit(folder, ltau, shards, *options):
    path = folder / f"m{shards}.h5"
    words = ("fit", folder / "e.h5", folder / "x.npy", "-o", path, "-f", "--shards", shards)
    ltau.ok(*words, *options)
    return path


def scores(folder, ltau, model, *options):
    out = folder / "s.h5"
    ltau.ok("score", folder / "q.npy", "-m", model, "-o", out, "-f", "-q", *options)
    with h5py.File(out) as file:
        return {name: file[name][...] for name in SCORED}


OPTIONS = [
    (),
    ("-k", 85),  # all others
    ("--loo", "structure", "--scale", "whiten"),
    ("--scale", "standard", "--metric", "cosine", "--threshold", 0.2, "--threshold", 0.7),
]


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("late", [(), ("-k", 4, "--threshold", 0.4)])
def test_shards_change_no_bit(options, late, tmp_path, ltau):
    make(tmp_path, ltau, duplicates=False)
    models = [fit(tmp_path, ltau, shards, *options) for shards in (1, 2, 7)]
    whole = scores(tmp_path, ltau, models[0], *late)
    for model in models[1:]:
        for name, values in scores(tmp_path, ltau, model, *late).items():
            np.testing.assert_array_equal(values, whole[name], name)
        with h5py.File(model) as got, h5py.File(models[0]) as wanted:
            for name in set(wanted) - {"index"}:  # each shard has its own
                np.testing.assert_array_equal(got[name], wanted[name], name)


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
def test_duplicates_across_shards_change_rounding_at_most(options, tmp_path, ltau):
    """Means of a point's samples are stored in float32, so pooling them rounds otherwise."""
    make(tmp_path, ltau, duplicates=True)
    models = [fit(tmp_path, ltau, shards, *options) for shards in (1, 2, 3)]
    pooled = [h5py.File(model)["multiplicity"].shape[0] for model in models]
    assert pooled[0] < pooled[1] < pooled[2] < 86
    for late in ((), ("-k", 4)):
        whole = scores(tmp_path, ltau, models[0], *late)
        for model in models[1:]:
            for name, values in scores(tmp_path, ltau, model, *late).items():
                np.testing.assert_allclose(values, whole[name], 1e-6, 1e-9, err_msg=name)


@pytest.mark.slow
def test_bytes_depend_neither_on_threads_nor_on_blocks(tmp_path, ltau):
    make(tmp_path, ltau, duplicates=True, n=900)
    models = [fit(tmp_path, ltau, 3, "--threads", n).read_bytes() for n in (1, 2)]
    assert models[0] == models[1]
    words = ("score", tmp_path / "q.npy", "-m", tmp_path / "m3.h5", "-q", "-o")
    made = []
    for i, options in enumerate([(), ("--block-rows", 7), ("--block-rows", 40, "--threads", 1)]):
        ltau.ok(*words, tmp_path / f"{i}.h5", *options)
        made.append((tmp_path / f"{i}.h5").read_bytes())
    score_in_shards(ltau, words[:-2], 3, tmp_path / "3.h5")
    assert made[0] == made[1] == made[2] == (tmp_path / "3.h5").read_bytes()


@pytest.mark.slow
def test_a_model_in_shards_is_described_and_drawn(tmp_path, ltau):
    make(tmp_path, ltau, duplicates=True)
    words = ("fit", tmp_path / "e.h5", tmp_path / "x.npy", "-o", tmp_path / "m.h5")
    told = ltau(*words, "--shards", 3).out
    assert "exact index in 3 shards, k = 30" in told
    info = json.loads(ltau("info", tmp_path / "m.h5", "--json").out)
    assert info["parameters"]["shards"] == 3
    assert info["datasets"]["shard_start"]["shape"] == [4]
    assert "shard_start" in ltau("info", tmp_path / "m.h5").out
    ltau.ok("plot", tmp_path / "m.h5", "-o", tmp_path / "m.png")


def test_unusable_numbers_of_shards(tmp_path, ltau):
    make(tmp_path, ltau, duplicates=False)
    words = ("fit", tmp_path / "e.h5", tmp_path / "x.npy", "-o", tmp_path / "m.h5", "--shards")
    check(ltau(*words, 0), USAGE, "--shards")
    check(ltau(*words, 87), USAGE, "--shards 87", "86 training samples", tmp_path / "e.h5")
    assert not (tmp_path / "m.h5").exists()


def spoil_start(file, values):
    del file["shard_start"]
    file["shard_start"] = np.array(values)


@pytest.mark.parametrize("start", [[0, 30, 40], [0, 40, 30, 86], [1, 40, 50, 86], [0, 30, 60, 80]])
def test_shards_that_do_not_fit_the_model(start, tmp_path, ltau):
    make(tmp_path, ltau, duplicates=False)
    model = fit(tmp_path, ltau, 3)
    with h5py.File(model, "r+") as file:
        spoil_start(file, start)
    result = ltau("score", tmp_path / "q.npy", "-m", model, "-o", tmp_path / "s.h5")
    check(result, ARTIFACT, model, "shard_start")


def test_a_link_in_the_place_of_a_shard_is_not_followed(tmp_path, ltau):
    make(tmp_path, ltau, duplicates=False)
    model = fit(tmp_path, ltau, 3)
    with h5py.File(model, "r+") as file:
        del file["index/0"]
        file["index/0"] = h5py.ExternalLink("/etc/passwd", "/")
    result = ltau("score", tmp_path / "q.npy", "-m", model, "-o", tmp_path / "s.h5")
    check(result, ARTIFACT, model, "index/0/cell_point", "link")


# Going on


SLOW = """
import time
from ltau_cli.core.search import shards
from ltau_cli.core.search.loo import LeaveOneOutSearch
shards.OneShard.rows = 100
find = LeaveOneOutSearch.find
def wait_and_find(*words, **more):
    time.sleep(0.1)
    return find(*words, **more)
LeaveOneOutSearch.find = wait_and_find
"""


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("loo", ["sample", "structure"])
def test_a_killed_fit_goes_on(shards, loo, tmp_path, ltau):
    make(tmp_path, ltau, duplicates=True, n=900)
    words = ("fit", tmp_path / "e.h5", tmp_path / "x.npy", "--shards", shards, "--loo", loo)
    ltau.ok(*words, "-o", tmp_path / "whole.h5")
    target, done = tmp_path / "m.h5", 0
    for sent in (signal.SIGKILL, signal.SIGTERM):
        process = start(*words, "-o", target, before=SLOW)
        wait_until(lambda done=done: in_pieces(target, "pairs") > done, process)
        process.send_signal(sent)
        result = finish(process)
        assert (f"{shards} of {shards} shards are there already" in result.err) == (done > 0)
        done = in_pieces(target, "pairs")
    assert f"{target}: what is done is kept; the same command goes on from there" in result.err
    assert in_pieces(target, "shards") == shards
    result = finish(start(*words, "-o", target, "--threads", 1))
    assert f"{target}: {done:,} of " in result.err
    assert " pairs are there already; going on" in result.err
    assert target.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_a_fit_with_other_options_begins_anew(tmp_path, ltau, monkeypatch):
    make(tmp_path, ltau, duplicates=True, n=900)
    words = ("fit", tmp_path / "e.h5", tmp_path / "x.npy", "-o", tmp_path / "m.h5")
    with monkeypatch.context() as patch:
        patch.setattr("ltau_cli.core.search.loo.LeaveOneOutSearch.find", stop)
        assert ltau(*words).code == 143
    assert in_pieces(tmp_path / "m.h5", "shards") == 1
    result = ltau(*words, "-k", 7)
    assert (result.code, result.err) == (0, "")
    assert not list(tmp_path.glob(".*"))


def stop(*_, **__):
    raise Ended(15)
