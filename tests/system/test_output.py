"""Targets of any command: nothing is overwritten unasked."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import OUTPUT, check, save
from tests.system.privileges import bound_by_modes


@pytest.mark.parametrize("stage", ["ingest", "fit", "score", "calibrate", "plot"])
def test_existing_output_is_kept_without_force(stage, pipeline, tmp_path, ltau):
    there = tmp_path / "there.png"
    there.write_bytes(b"precious")
    words = {
        "ingest": ["ingest", pipeline.logs],
        "fit": ["fit", pipeline.errors, pipeline.train],
        "score": ["score", pipeline.descriptors, "-m", pipeline.model],
        "calibrate": ["calibrate", pipeline.scores, pipeline.true_errors],
        "plot": ["plot", pipeline.calibration],
    }[stage]
    result = ltau(*words, "-o", there)
    check(result, OUTPUT, there, "exists")
    assert "--force" in result.err
    assert there.read_bytes() == b"precious"
    assert ltau(*words, "-o", there, "--force").code == 0
    assert there.read_bytes() != b"precious"
    check(ltau(*words, "-o", tmp_path / "no/way.png"), OUTPUT, "no folder")
    check(ltau(*words, "-o", tmp_path), OUTPUT, "is a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]


def test_unwritable_folder(tmp_path, ltau):
    log, path = save(tmp_path / "log.npy", np.ones((2, 3))), tmp_path / "o.h5"
    tmp_path.chmod(0o555)
    with bound_by_modes():
        check(ltau("ingest", log, "-o", path), OUTPUT, f"cannot write {path}: Permission denied")
    tmp_path.chmod(0o755)
