"""A training set in shards: the same results as in one piece, in the memory of a shard."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.core.mixture import gather_rows
from ltau_cli.core.search.loo import leave_one_out
from ltau_cli.core.search.neighbors import Candidates, ExactSearcher, Neighbors, merge_candidates
from ltau_cli.core.search.points import Points, find_points
from ltau_cli.core.search.shards import OneShard, Shard, cut_evenly, find_in_shards
from tests import oracles
from tests.test_batch import peak_memory
from tests.test_errors import ARTIFACT, USAGE, check

SCORED = ("expected_error", "uncertainty", "quantiles", "neighbor_distance", "relative_distance",
          "ood_pvalue")  # fmt: skip


class InMemory:
    """Samples cut into shards, each pooled by itself."""

    rows = 4

    def __init__(self, samples, count):
        self.count, self.width = count, samples.shape[1]
        self.cuts = cut_evenly(len(samples), count)
        own = [samples[a:b] for a, b in zip(self.cuts[:-1], self.cuts[1:], strict=True)]
        points = [find_points(part, np.ones(len(part), int)) for part in own]
        self.unique = [part[p.first] for part, p in zip(own, points, strict=True)]
        self.first = np.concatenate([[0], np.cumsum([len(part) for part in self.unique])])
        of_sample = [p.of_sample + first for p, first in zip(points, self.first[:-1], strict=True)]
        self.points = Points(
            np.zeros(0, int),
            np.concatenate(of_sample),
            np.concatenate([p.multiplicity for p in points]),
        )

    def load(self, number):
        part = self.unique[number]
        return Shard(int(self.first[number]), part, ExactSearcher(part))

    def descriptors(self, start, stop):
        return np.concatenate(self.unique)[start:stop]


def sample_weights(shards, queries, k, block):
    """Weights of all samples for each query, (n_queries, n_samples)."""
    result = np.zeros((len(queries), len(shards.points.of_sample)))
    for part, found in find_in_shards(
        shards, queries, shards.points.multiplicity, k, block=block, threads=2
    ):
        for i, row in enumerate(range(part.start, part.stop)):
            for p, w in zip(found.point[i], found.weight[i], strict=True):
                if w > 0:
                    result[row, shards.points.of_sample == p] = w / shards.points.multiplicity[p]
    return result


coordinates = st.integers(-2, 2)  # many duplicates and ties, within shards and across them
tables = st.integers(1, 3).flatmap(
    lambda d: st.tuples(
        st.lists(st.tuples(*[coordinates] * d), min_size=3, max_size=25),
        st.lists(st.tuples(*[coordinates] * d), min_size=1, max_size=8),
    )
)


@given(tables, st.integers(1, 3), st.integers(1, 9), st.data())
def test_the_nearest_over_all_shards_are_those_of_exhaustive_search(table, count, block, data):
    samples, queries = (np.array(rows, np.float32) for rows in table)
    k = data.draw(st.integers(1, len(samples)))
    got = sample_weights(InMemory(samples, count), queries, k, block)
    np.testing.assert_allclose(got, oracles.neighbor_weights(queries, samples, k), atol=1e-12)


entries = st.tuples(st.integers(0, 5).map(float), st.integers(0, 3))


@given(st.lists(entries, max_size=7), st.lists(entries, min_size=1, max_size=7), st.integers(1, 9))
def test_merging_is_that_of_sorted_lists(one, other, k):
    numbers = iter(np.random.default_rng(k).permutation(20).tolist())
    lists = [sorted((d, next(numbers), m) for d, m in part) for part in (one, other)]

    def as_candidates(part):
        padded = part + [(np.inf, -1, 0)] * 2
        distance, point, offered = zip(*padded, strict=True)
        return Candidates(np.array([point]), np.array([offered]), np.array([distance]))

    got = merge_candidates(*map(as_candidates, lists), k)
    found = zip(got.distance[0], got.point[0], got.offered[0], strict=True)
    wanted = oracles.merged_candidates(lists, k)
    assert [entry for entry in found if entry[1] >= 0] == wanted


@given(tables, st.integers(2, 3), st.booleans(), st.integers(1, 9), st.data())
def test_leave_one_out_over_shards_is_that_of_one_piece(table, count, by_structure, block, data):
    samples = np.array(table[0] + table[1], np.float32)
    n = len(samples)
    group = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    left = n - np.bincount(group).max() if by_structure else n - 1
    if left == 0:
        return
    k = data.draw(st.integers(1, int(left)))
    errors = np.random.default_rng(n).random(n)
    groups = group if by_structure else None
    shards, one = InMemory(samples, count), InMemory(samples, 1)
    got = leave_one_out(shards, shards.points, errors, groups, k, block=block)
    whole = OneShard(one.unique[0], ExactSearcher(one.unique[0]))
    wanted = leave_one_out(whole, one.points, errors, groups, k)
    np.testing.assert_allclose(got.distance, wanted.distance, rtol=1e-6)
    np.testing.assert_allclose(got.expected_error, wanted.expected_error, rtol=1e-6)


def test_gathered_rows_are_those_of_the_neighbors():
    found = Neighbors(
        np.array([[7, 3, 9], [3, 5, -1]]), np.array([[2.0, 1, 0], [1, 2, 0]]), np.zeros((2, 3))
    )
    near, points, rows = gather_rows(found, lambda numbers: numbers * 10)
    assert points.tolist() == [3, 5, 7]  # 9 carries no weight
    assert rows[near.point[0, :2]].tolist() == [70, 30]
    assert rows[near.point[1, :2]].tolist() == [30, 50]


# Whole commands


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
    assert ltau("ingest", folder / "log.npy", *words).code == 0


def fit(folder, ltau, shards, *options):
    path = folder / f"m{shards}.h5"
    words = ("fit", folder / "e.h5", folder / "x.npy", "-o", path, "-f", "--shards", shards)
    result = ltau(*words, *options)
    assert result.code == 0, result.err
    return path


def scores(folder, ltau, model, *options):
    out = folder / "s.h5"
    result = ltau("score", folder / "q.npy", "-m", model, "-o", out, "-f", "-q", *options)
    assert result.code == 0, result.err
    with h5py.File(out) as file:
        return {name: file[name][...] for name in SCORED}


OPTIONS = [
    (),
    ("-k", 85),  # all others
    ("--loo", "structure", "--scale", "whiten"),
    ("--scale", "standard", "--metric", "cosine", "--threshold", 0.2, "--threshold", 0.7),
]


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
            for name in wanted:
                np.testing.assert_array_equal(got[name], wanted[name], name)


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


def test_bytes_depend_neither_on_threads_nor_on_blocks(tmp_path, ltau):
    make(tmp_path, ltau, duplicates=True, n=900)
    models = [fit(tmp_path, ltau, 3, "--threads", n).read_bytes() for n in (1, 2)]
    assert models[0] == models[1]
    words = ("score", tmp_path / "q.npy", "-m", tmp_path / "m3.h5", "-q", "-o")
    made = []
    for i, options in enumerate([(), ("--block-rows", 7), ("--block-rows", 40, "--threads", 1)]):
        assert ltau(*words, tmp_path / f"{i}.h5", *options).code == 0
        made.append((tmp_path / f"{i}.h5").read_bytes())
    parts = [tmp_path / f"part{i}.h5" for i in range(3)]
    for i, part in enumerate(parts):
        assert ltau(*words, part, "--shard", f"{i}/3").code == 0
    assert ltau("merge", *parts, "-o", tmp_path / "merged.h5").code == 0
    with h5py.File(tmp_path / "merged.h5") as merged, h5py.File(tmp_path / "0.h5") as whole:
        np.testing.assert_array_equal(merged["quantiles"], whole["quantiles"])
    assert made[0] == made[1] == made[2]


def test_a_model_in_shards_is_described_and_drawn(tmp_path, ltau):
    make(tmp_path, ltau, duplicates=True)
    words = ("fit", tmp_path / "e.h5", tmp_path / "x.npy", "-o", tmp_path / "m.h5")
    told = ltau(*words, "--shards", 3).out
    assert "exact index in 3 shards, k = 30" in told
    info = json.loads(ltau("info", tmp_path / "m.h5", "--json").out)
    assert info["parameters"]["shards"] == 3
    assert info["datasets"]["shard_start"]["shape"] == [4]
    assert "shard_start" in ltau("info", tmp_path / "m.h5").out
    assert ltau("plot", tmp_path / "m.h5", "-o", tmp_path / "m.png").code == 0


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
        file["index/0"] = h5py.ExternalLink("/etc/passwd", "/")
    result = ltau("score", tmp_path / "q.npy", "-m", model, "-o", tmp_path / "s.h5")
    check(result, ARTIFACT, model, "index/0/graph_indptr", "link")


def test_memory_follows_the_shard(tmp_path, ltau):
    """Twice the training set in twice the shards takes no more; in one piece it does."""
    width, peaks = 4096, []
    rng = np.random.default_rng(0)
    for n, shards in ((2_000, 8), (4_000, 16), (2_000, 1)):
        np.save(tmp_path / "log.npy", rng.random((3, n), dtype=np.float32))
        np.save(tmp_path / "x.npy", rng.random((n, width), dtype=np.float32))
        np.save(tmp_path / "q.npy", rng.random((100, width), dtype=np.float32))
        errors, model = tmp_path / "e.h5", tmp_path / "m.h5"
        assert ltau("ingest", tmp_path / "log.npy", "-o", errors, "-f").code == 0
        words = ("-f", "--threads", 1)
        fitting = peak_memory("fit", errors, tmp_path / "x.npy", "-o", model, "--shards", shards,
                              "--scale", "none", "-k", 2, *words)  # fmt: skip
        scoring = peak_memory("score", tmp_path / "q.npy", "-m", model, "-o", tmp_path / "s.h5",
                              *words)  # fmt: skip
        peaks.append((fitting, scoring))
    small, large, whole = np.array(peaks)  # of fit and of score
    size = 2_000 * width * 4  # of the descriptors
    assert (large - small < 0.125 * size).all(), peaks
    assert (whole - small > 0.25 * size).all(), peaks
