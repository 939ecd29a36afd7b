"""``ltau compile``, and what needs no second leave-one-out pass."""

import json

import h5py
import numpy as np
import pytest

from ltau_cli.core import compile


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
    assert result.code == 2
    assert "at most 7 neighbors" in result.err
    assert "fit again with -k 8" in result.err


def test_damaged_cells_are_named(pipeline, tmp_path, ltau):
    path = tmp_path / "m.h5"
    path.write_bytes(pipeline.model.read_bytes())
    with h5py.File(path, "r+") as file:
        file["index/cell_point"][0] = file["index/cell_point"][1]
    result = ltau("score", pipeline.descriptors, "-m", path, "-o", tmp_path / "s.h5")
    assert result.code == 4
    assert "cell_point holds other values than each of 0 to n_points-1 once" in result.err
