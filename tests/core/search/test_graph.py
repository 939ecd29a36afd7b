"""The NN-descent index; it is built once, because it compiles for half a minute."""

import json

import h5py
import numba
import numpy as np
import pytest

from ltau_cli.artifacts.model import ModelFile, load_model
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.cli.main import run
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
    command = ["fit", pipeline.errors, pipeline.train, "-o", path, *OPTIONS, "-q"]
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


@pytest.fixture(scope="module")
def arrays(graph_model):
    """The graph of the model."""
    with open_artifact(graph_model, ModelFile) as artifact:
        return {name: artifact.read(f"index/{name}") for name in graph.GRAPH_ARRAYS}


def test_a_query_is_searched_exactly_where_the_graph_leads_too_far(both, arrays, monkeypatch):
    with_graph, exact = (model.shards.load(0) for model in both)
    queries = np.load(SAMPLE / "test_900K_descriptors.npy")
    monkeypatch.setattr(graph, "FREE_STEPS", 0)
    monkeypatch.setattr(graph, "SHARE", 60)
    searcher = graph.GraphSearcher(with_graph.descriptors, arrays, leaves=1, epsilon=0.1)
    got = searcher.candidates(queries, 11)
    assert 0.01 < searcher.n_exact / len(queries) < 0.99
    wanted = exact.searcher.candidates(queries, 11)
    right = (np.sort(got, axis=1) == np.sort(wanted, axis=1)).all(axis=1)
    assert right.sum() >= searcher.n_exact


def test_the_index_does_not_depend_on_the_number_of_threads(graph_model, pipeline, tmp_path):
    """One for numba, four for the rest; the other model took what the machine has."""
    path, before = tmp_path / "model.h5", numba.get_num_threads()
    numba.set_num_threads(1)
    words = ["fit", pipeline.errors, pipeline.train, "-o", path, *OPTIONS, "--threads", 4, "-q"]
    assert run([str(word) for word in words]) == 0
    numba.set_num_threads(before)
    with h5py.File(path) as one, h5py.File(graph_model) as other:
        for name in graph.GRAPH_ARRAYS:
            np.testing.assert_array_equal(one["index"][name], other["index"][name])
        np.testing.assert_array_equal(one["loo_distance"], other["loo_distance"])


def test_no_pickle_and_no_second_copy_of_the_descriptors(graph_model):
    with h5py.File(graph_model) as file:
        kinds = {name: file["index"][name].dtype.kind for name in file["index"]}
        assert set(kinds.values()) <= set("iuf")
        floats = sum(file["index"][name].size for name, kind in kinds.items() if kind == "f")
        assert floats < file["descriptors"].size


def test_the_recall_is_measured_and_stored(graph_model, ltau):
    index = json.loads(ltau("info", graph_model, "--json").out)["summary"]["index"]
    assert 0.99 <= index["in_domain"]["recall"] <= 1
    assert (index["leaves"], index["epsilon"]) in graph.EFFORTS


def test_a_recall_that_cannot_be_reached(arrays, pipeline, tmp_path, ltau, monkeypatch):
    """With the effort cut down to next to nothing."""
    monkeypatch.setattr(graph, "build_graph", lambda *_, **__: arrays)
    monkeypatch.setattr(graph, "EFFORTS", ((1, 0.0),))
    result = ltau("fit", pipeline.errors, pipeline.train, "-o", tmp_path / "m.h5", "--index",
                  "nndescent", "--recall", 1)  # fmt: skip
    assert result.code == 6
    assert "less than --recall 1" in result.err
    assert not (tmp_path / "m.h5").exists()
