"""The schema and the files agree."""

import h5py
import numpy as np
import pytest

from ltau_cli.artifacts.schema import SPECS, split_dim
from ltau_cli.artifacts.write import create_artifact, to_json


def test_specs_are_well_formed():
    for kind, spec in SPECS.items():
        assert spec.kind == kind
        assert len(spec.by_name) == len(spec.datasets)
        for dataset in spec.datasets:
            assert dataset.description
            assert dataset.dtype in ("unsigned", "label") or np.dtype(dataset.dtype)
            dims = dataset.numbered(0).dims
            assert all(split_dim(dim)[0].isidentifier() for dim in dims)


@pytest.mark.parametrize("name", ["errors", "model", "scores", "calibration", "calibrated"])
def test_files_hold_what_the_schema_says_and_plain_filters_only(pipeline, name):
    with h5py.File(getattr(pipeline, name)) as file:
        spec = SPECS[file.attrs["kind"]]
        found = []
        file.visititems(
            lambda key, item: found.append(key) if isinstance(item, h5py.Dataset) else 0
        )
        assert set(found) <= set(spec.by_name)
        for key in found:
            dataset = file[key]
            assert dataset.compression in (None, "gzip")
            assert dataset.attrs["dims"] == to_json(spec.by_name[key].dims)
            assert dataset.attrs["description"] == spec.by_name[key].description
            assert dataset.attrs["units"] == (
                "eV/Å" if spec.by_name[key].units == "error units" else spec.by_name[key].units
            )
        assert {"format", "kind", "format_version", "ltau_version", "created", "parameters",
                "inputs", "summary", "units"} <= set(file.attrs)  # fmt: skip


def test_counts_use_the_smallest_type(pipeline):
    with h5py.File(pipeline.model) as file:
        assert file["counts"].dtype == np.uint8
        assert (file["counts"][...].sum(axis=1) == 60).all()


def test_a_stage_that_forgets_a_dataset_is_a_bug(tmp_path):
    with (
        pytest.raises(AssertionError, match="epoch"),
        create_artifact(tmp_path / "e.h5", "errors", units="", force=False) as artifact,
    ):
        artifact.finish(parameters={}, inputs=[], summary={})
    assert list(tmp_path.iterdir()) == []


def test_json_is_strict():
    assert to_json({"a": np.float32(0.5), "b": [np.nan, np.int64(3)], "c": np.arange(2)}) == (
        '{"a": 0.5, "b": [null, 3], "c": [0, 1]}'
    )
