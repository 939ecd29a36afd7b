"""``ltau info``."""

import json

import h5py
import pytest


@pytest.mark.parametrize("name", ["errors", "model", "scores", "calibration"])
def test_info_tells_kind_shapes_units_parameters_and_inputs(pipeline, name, ltau):
    path = getattr(pipeline, name)
    told = json.loads(ltau("info", path, "--json").out)
    assert told["kind"] == name
    with h5py.File(path) as file:
        for dataset, about in told["datasets"].items():
            assert tuple(about["shape"]) == file[dataset].shape
            assert about["units"] == file[dataset].attrs["units"]
    assert told["inputs"]
    assert all(len(record["sha256"]) == 64 for record in told["inputs"])
    text = ltau("info", path).out
    assert name in text
    assert "sha256" in text
