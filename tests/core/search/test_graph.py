"""The NN-descent index; it is built once, because it compiles for half a minute."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from ltau_cli.artifacts.model import ModelFile, load_model
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.cli.main import run
from ltau_cli.core import kernels
from ltau_cli.core.search import graph
from ltau_cli.core.search import neighbors as nn
from ltau_cli.core.search.shards import find_in_shards
from tests.helpers import SAMPLE, Pipeline

pytestmark = pytest.mark.slow
OPTIONS = ("--index", "nndescent", "-k", 10, "--scale", "none")


@pytest.fixture(scope="module")
def graph_model(pipeline: Pipeline, tmp_path_factory):
    """A model of the sample data with an NN-descent index."""
    path = tmp_path_factory.mktemp("graph") / "model.h5"
    command = [
        "fit",
        pipeline.errors,
        pipeline.train,
        "-o",
        path,
        "--index",
        "nndescent",
        "-k",
        "10",
        "--scale",
        "none",
        "-q",
    ]
    assert run([str(word) for word in command]) == 0
    return path


@pytest.fixture(scope="module")
def both(graph_model, pipeline):
    """The model in memory with either index."""
    return load_model(graph_model), load_model(pipeline.model)


def find(model, queries, k=10):
    shard = model.shards.load(0)
    return nn.find_neighbors(shard.searcher, queries, shard.descriptors, model.multiplicity, k)


@pytest.mark.parametrize("name", ["test_300K", "test_900K"])
def test_both_kinds_agree_on_the_neighbors(both, name):
    queries = np.load(SAMPLE / f"{name}_descriptors.npy")
    graph, exact = (find(model, queries) for model in both)
    shared = [
        len(set(a[w > 0]) & set(b[v > 0]))
        for a, w, b, v in zip(graph.point, graph.weight, exact.point, exact.weight, strict=True)
    ]
    assert np.mean(shared) / 10 >= 0.99
    farther = graph.mean_distance() > 1.1 * exact.mean_distance()
    assert farther.mean() <= 0.002


def test_leave_one_out_distances_agree(both):
    graph, exact = (model.loo_distance for model in both)
    assert (graph == exact).mean() > 0.98


def test_answers_depend_neither_on_block_nor_on_order(both):
    model, _ = both
    queries = np.load(SAMPLE / "test_900K_descriptors.npy")

    def distances(rows):
        return find(model, rows).mean_distance()

    whole = distances(queries)
    parts = [distances(rows) for rows in np.split(queries, 11)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    np.testing.assert_array_equal(whole, distances(queries[::-1].copy())[::-1])


@pytest.fixture(scope="module")
def sharded_model(pipeline, tmp_path_factory):
    """The same model in two shards."""
    path = tmp_path_factory.mktemp("shards") / "model.h5"
    command = ["fit", pipeline.errors, pipeline.train, "-o", path, *OPTIONS, "--shards", 2, "-q"]
    assert run([str(word) for word in command]) == 0
    return path


def test_every_shard_has_an_index(sharded_model, both, ltau):
    queries = np.load(SAMPLE / "test_900K_descriptors.npy")
    exact = find(both[1], queries)
    with open_artifact(sharded_model, ModelFile) as artifact:
        shards, multiplicity = artifact.load().shards, artifact.read("multiplicity")
        ((_, found),) = find_in_shards(shards, queries, multiplicity, 10)
    shared = [len(set(a[:10]) & set(b[:10])) for a, b in zip(found.point, exact.point, strict=True)]
    assert np.mean(shared) / 10 >= 0.99
    summary = json.loads(ltau("info", sharded_model, "--json").out)["summary"]["index"]
    recalls = [shard["in_domain"]["recall"] for shard in summary["shards"]]
    assert len(recalls) == 2
    assert summary["in_domain"]["recall"] == min(recalls)
    assert "recall" in ltau("info", sharded_model).out


def test_an_index_that_misses_an_array(sharded_model, pipeline, tmp_path, ltau):
    path = tmp_path / "m.h5"
    path.write_bytes(sharded_model.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["index/1/graph_indices"]
    result = ltau("score", pipeline.descriptors, "-m", path, "-o", tmp_path / "s.h5")
    assert result.code == 4
    assert f"error: {path} is damaged: dataset index/1/graph_indices" in result.err


def test_many_neighbors_of_few_candidates(both):
    """With k far above the leaf size every place is filled."""
    model, _ = both
    found = find(model, model.shards.descriptors(0, 20), 300)
    np.testing.assert_allclose(found.weight.sum(axis=1), 300)


ONE_LEAF = {
    "tree_hyperplanes": np.zeros((1, 16), np.float32),
    "tree_offsets": np.zeros(1, np.float32),
    "tree_children": np.zeros((1, 2), np.int32),
}


def test_leaves_are_those_of_a_walk_by_hand():
    hyperplanes = np.array([[1, 0], [0, 1], [0, 0], [0, 0], [0, 0]], np.float32)
    offsets = np.array([-1, 2, 0, 0, 0], np.float32)
    children = np.array([[1, 2], [3, 4], [0, -3], [-3, -6], [-6, -9]], np.int32)
    queries = np.array([[2, 0], [2, -3], [0, 5], [1, 0]], np.float32)
    leaf = np.empty(4, np.int64)
    kernels.find_leaves(queries, hyperplanes, offsets, children, leaf)
    assert leaf.tolist() == [3, 4, 2, 2]
    children[3] = [1, 0]  # damaged: round in circles
    kernels.find_leaves(queries, hyperplanes, offsets, children, leaf)
    children[3] = [99, 99]  # damaged: out of the tree
    kernels.find_leaves(queries, hyperplanes, offsets, children, leaf)
    assert leaf.tolist() == [3, 4, 2, 2]


def test_queries_without_enough_found_points_are_searched_exactly(both):
    model, _ = both

    class Stuck:
        def query(self, queries, k, epsilon):
            return np.zeros((len(queries), k), np.int32), np.full((len(queries), k), np.inf)

    descriptors = model.shards.load(0).descriptors
    searcher = graph.GraphSearcher(descriptors, Stuck(), 0.1, ONE_LEAF)
    got = searcher.candidates(descriptors[:3], 1)
    assert got[:, 0].tolist() == [0, 1, 2]


def test_no_pickle_and_no_second_copy_of_the_descriptors(graph_model):
    with h5py.File(graph_model) as file:
        kinds = {name: file["index"][name].dtype.kind for name in file["index"]}
        assert set(kinds.values()) <= set("iuf")
        floats = sum(file["index"][name].size for name, kind in kinds.items() if kind == "f")
        assert floats < file["descriptors"].size


def test_another_library_version_rebuilds_with_a_warning(
    graph_model, pipeline, both, tmp_path, ltau, monkeypatch
):
    other = tmp_path / "old.h5"
    other.write_bytes(graph_model.read_bytes())
    with h5py.File(other, "r+") as file:
        summary = json.loads(file.attrs["summary"])
        summary["index"]["library_version"] = "0.6.0"
        file.attrs["summary"] = json.dumps(summary)
    built = []

    def build(points, *, seed, n_neighbors):
        built.append(seed)
        return both[0].shards.load(0).searcher._index

    monkeypatch.setattr(graph, "build_graph", build)
    scores = tmp_path / "scores.h5"
    result = ltau("score", pipeline.descriptors, "-m", other, "-o", scores)
    assert result.code == 0
    assert built == [0]
    assert "warning: " in result.err
    assert "0.6.0" in result.err


def test_the_recall_is_measured_and_stored(graph_model, ltau):
    index = json.loads(ltau("info", graph_model, "--json").out)["summary"]["index"]
    assert 0.99 <= index["in_domain"]["recall"] <= 1
    assert 0 <= index["out_of_domain"]["lost"] <= 1  # where nothing is promised
    assert (index["leaves"], index["epsilon"]) in graph.EFFORTS


def test_a_recall_that_cannot_be_reached(both, pipeline, tmp_path, ltau, monkeypatch):
    """With the effort cut down to next to nothing."""
    monkeypatch.setattr(
        graph, "build_graph", lambda *_, **__: both[0].shards.load(0).searcher._index
    )
    monkeypatch.setattr(graph, "EFFORTS", ((1, 0.0),))
    result = ltau("fit", pipeline.errors, pipeline.train, "-o", tmp_path / "m.h5", "--index",
                  "nndescent", "--recall", 1)  # fmt: skip
    assert result.code == 6
    assert "less than --recall 1" in result.err
    assert not (tmp_path / "m.h5").exists()


def test_the_compilation_is_announced_only_where_it_happens(
    graph_model, pipeline, tmp_path, ltau, monkeypatch
):
    words = ("score", pipeline.descriptors, "-m", graph_model, "-f", "-o", tmp_path / "s.h5")
    assert "once on this machine" not in ltau(*words).err  # the index of this session did it
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert "compiling the neighbor search" in ltau(*words).err
