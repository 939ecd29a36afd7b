"""Same inputs, options and seed give the same bytes."""

import pytest

from tests.helpers import finish, start


@pytest.mark.slow
def test_same_bytes_whatever_the_blocks_and_threads(pipeline, tmp_path, ltau):
    common = ["--natoms", pipeline.natoms, "--calibration", pipeline.calibration, "--cdf"]
    for i, how in enumerate((["--threads", 1, "--block-rows", 100], ["--block-rows", 333])):
        score = ["score", pipeline.descriptors, "-m", pipeline.model, *common, *how]
        assert ltau(*score, "-o", tmp_path / f"{i}.h5").code == 0
        assert (tmp_path / f"{i}.h5").read_bytes() == pipeline.calibrated.read_bytes()


@pytest.mark.slow
def test_same_bytes_in_another_process(pipeline, tmp_path):
    steps = [
        ["ingest", pipeline.logs, "-o", tmp_path / "errors.h5", "--units", "eV/Å"],
        ["fit", tmp_path / "errors.h5", pipeline.train, "-o", tmp_path / "model.h5",
         "-k", 10, "--scale", "none", "--threads", 1],
        ["score", pipeline.descriptors, "-m", tmp_path / "model.h5", "--natoms", pipeline.natoms,
         "-o", tmp_path / "scores.h5", "--threads", 1],
        ["calibrate", tmp_path / "scores.h5", pipeline.true_errors, "-o",
         tmp_path / "calibration.h5"],
    ]  # fmt: skip
    for step in steps:
        result = finish(start(*step))
        assert result.code == 0, result.err
    for name in ("errors", "model", "scores", "calibration"):
        assert (tmp_path / f"{name}.h5").read_bytes() == getattr(pipeline, name).read_bytes(), name
