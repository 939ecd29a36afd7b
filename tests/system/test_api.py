"""The Python API: its names, its loading on first use, and what it returns."""

import subprocess
import sys
from dataclasses import fields
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

import ltau_cli as ltau
from ltau_cli.errors import ArtifactError

NAMES = [
    "BarsSettings", "CalibrateSettings", "DescribeSettings", "ExportSettings", "FitSettings",
    "IngestSettings", "PlotSettings", "Recorder", "ScoreSettings", "Scorer",
    "SelectSettings", "WeightSettings",
    "bars", "calibrate", "describe", "evaluate", "export", "fit", "info", "ingest", "load_model",
    "open_artifact", "plot", "score", "select", "weights",
]  # fmt: skip


def test_no_public_name_is_lost():
    assert ltau.__all__ == NAMES
    assert {*NAMES, "Live", "Watch"} <= set(dir(ltau))


@pytest.mark.parametrize("name", [*NAMES, "Live", "Watch"])
def test_every_name_is_there_and_documented(name):
    assert getattr(ltau, name).__doc__


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("Settings")])
def test_every_setting_is_documented(name):
    kind = getattr(ltau, name)
    for field in fields(kind):
        assert f"\n    {field.name} : " in kind.__doc__ or "option" not in field.metadata


@pytest.mark.parametrize("name", NAMES[11:])
def test_every_parameter_is_documented(name):
    run = getattr(ltau, name)
    for parameter in signature(run).parameters:
        assert f"\n    {parameter} : " in run.__doc__ or parameter == "options"


def test_settings_may_be_given_by_name(pipeline, tmp_path):
    result = ltau.score(pipeline.descriptors, pipeline.model, tmp_path / "s.h5", k=5)
    assert result.k == 5
    with pytest.raises(TypeError, match="neighbours"):
        ltau.fit(pipeline.errors, "x.npy", tmp_path / "m.h5", neighbours=5)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ltau.nothing  # noqa: B018


def test_importing_loads_nothing():
    code = "import sys, ltau_cli; print('numpy' in sys.modules, 'h5py' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_scorer_gives_the_numbers_of_the_command(pipeline):
    rows = np.load(pipeline.descriptors)
    scored = ltau.Scorer(ltau.load_model(str(pipeline.model))).score(rows)
    with ltau.open_artifact(pipeline.scores) as stored:
        for name, values in scored.items():
            wanted = stored.read(name)
            assert np.array_equal(values.astype(wanted.dtype), wanted), name


def test_load_model_names_what_is_no_model(pipeline):
    with pytest.raises(ArtifactError, match="is of kind scores, but a model artifact is needed"):
        ltau.load_model(pipeline.scores)


def test_artifacts_tell_what_they_are(pipeline):
    with ltau.open_artifact(pipeline.model) as model:
        assert repr(model).startswith(f"<ModelFile {pipeline.model}>\n  bin_edges (")
        assert model.load().n_samples == 3960


def test_results_are_readable_and_typed(pipeline, tmp_path):
    settings = ltau.ScoreSettings(k=5, calibration=None)
    result = ltau.score(pipeline.descriptors, pipeline.model, tmp_path / "s.h5", settings=settings)
    assert result.n_rows == len(np.load(pipeline.descriptors))
    assert result.k == 5
    text = repr(result)
    assert text.startswith("ScoreResult\n  output ")
    assert "up_to_date" not in text
    assert "mean_calibrated_error" not in result.to_dict()


def test_a_path_in_the_settings_may_be_text():
    assert ltau.ScoreSettings(calibration="c.h5").calibration == Path("c.h5")


def test_figures_are_returned_for_a_notebook(pipeline):
    drawn = ltau.plot(pipeline.calibration)
    assert drawn.kind == "reliability"
    assert drawn._repr_png_().startswith(b"\x89PNG")
    assert "figure" not in drawn.to_dict()


def test_true_errors_may_be_a_path(pipeline):
    judged = ltau.evaluate(pipeline.scores, pipeline.true_errors)
    assert judged.headline()["rank_correlation"] == judged.predictors["ltau"].rank_correlation
