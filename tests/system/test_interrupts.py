"""Whatever ends a stage, no half-written file stands under the target's name."""

import os
import resource
import signal
import time

import h5py
import numpy as np
import pytest

from ltau_cli.artifacts.views import open_artifact
from ltau_cli.stop import GRACE
from tests.helpers import SAMPLE, finish, in_pieces, names, start, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def queries(tmp_path_factory):
    """Enough rows to keep `score` busy for some seconds."""
    path = tmp_path_factory.mktemp("many") / "descriptors.npy"
    np.save(path, np.tile(np.load(SAMPLE / "test_900K_descriptors.npy"), (90, 1)))
    return path


def commands(pipeline):
    return {
        "ingest": ["ingest", pipeline.logs],
        "fit": ["fit", pipeline.errors, pipeline.train],
        "score": ["score", pipeline.descriptors, "-m", pipeline.model, "--cdf"],
        "calibrate": ["calibrate", pipeline.scores, pipeline.true_errors],
        "export": ["export", pipeline.calibrated, "--format", "csv"],
        "plot": ["plot", pipeline.calibration],
    }


@pytest.mark.parametrize("stage", ["ingest", "fit", "score", "calibrate", "export", "plot"])
def test_sigkill_at_any_moment(stage, pipeline, tmp_path):
    target = tmp_path / "result.png"
    words = [*commands(pipeline)[stage], "-o", target, "--force"]
    began = time.perf_counter()
    assert finish(start(*words)).code == 0
    whole = time.perf_counter() - began
    complete = target.read_bytes()
    target.unlink()
    rng = np.random.default_rng(len(stage))
    for old in (None, b"an older result"):
        for moment in whole * rng.uniform(0.3, 1.0, 3):
            target.unlink(missing_ok=True)
            if old:
                target.write_bytes(old)
            process = start(*words)
            time.sleep(moment)
            process.kill()
            finish(process)
            found = target.read_bytes() if target.exists() else None
            assert found in (old, complete)


def wait_for_work(folder, process):
    """Wait until the stage has its temporary file open."""
    ends = (".tmp", ".ltau-pieces")
    wait_until(lambda: any(path.name.endswith(ends) for path in folder.iterdir()), process)


@pytest.mark.parametrize(
    ("sent", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_signals_clean_up_and_say_so(sent, code, word, pipeline, queries, tmp_path):
    target = tmp_path / "scores.h5"
    target.write_bytes(b"an older result")
    process = start("score", queries, "-m", pipeline.model, "-o", target, "-f", "--cdf")
    wait_for_work(tmp_path, process)
    process.send_signal(sent)
    result = finish(process)
    assert result.code == code, result.err
    lines = result.err.splitlines()
    assert lines[-1].startswith(f"error: {word}")
    assert "Traceback" not in result.err
    kept = [".scores.h5.ltau-pieces"] if "is kept" in lines[0] else []
    assert sorted(path.name for path in tmp_path.iterdir()) == [*kept, "scores.h5"]
    assert target.read_bytes() == b"an older result"


def test_a_job_that_is_ended_again_and_again_goes_on(pipeline, queries, tmp_path):
    """SIGTERM ends it after the piece, SIGKILL at once; either way finished pieces count."""
    rows = tmp_path / "rows.npy"
    np.save(rows, np.load(queries)[:20_000])
    words = ["score", rows, "-m", pipeline.model, "--block-rows", 500]
    whole, target = tmp_path / "whole.h5", tmp_path / "scores.h5"
    assert finish(start(*words, "-o", whole)).code == 0
    done = 0
    for sent in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        process = start(*words, "-o", target)
        wait_until(lambda done=done: in_pieces(target) > done, process)
        before, sent_at = in_pieces(target), time.perf_counter()
        process.send_signal(sent)
        process.wait()
        took = time.perf_counter() - sent_at
        result = finish(process)
        done = in_pieces(target)
        assert done >= before
        assert took < GRACE
        if sent == signal.SIGTERM:
            assert "what is done is kept" in result.err
    result = finish(start(*words, "-o", target, "--threads", 1))
    assert f"{done:,} of 20,000 rows are there already" in result.err
    assert target.read_bytes() == whole.read_bytes()
    assert names(tmp_path) == ["rows.npy", "scores.h5", "whole.h5"]


def test_a_job_ends_at_once_though_its_large_input_is_being_hashed(pipeline, tmp_path):
    rows, target = tmp_path / "rows.npy", tmp_path / "scores.h5"
    np.lib.format.open_memmap(rows, "w+", np.float32, (100_000_000, 16))  # takes no space on disk
    process = start("score", rows, "-m", pipeline.model, "-o", target, "--block-rows", 100)
    wait_until(lambda: in_pieces(target) > 0, process)
    sent_at = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 143
    assert time.perf_counter() - sent_at < GRACE


@pytest.mark.parametrize("stage", ["ingest", "fit", "score", "calibrate", "plot"])
def test_a_file_that_may_not_grow(stage, pipeline, tmp_path):
    """A limit on the file size fails writes the way a quota does."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))

    target = tmp_path / "result.png"
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    result = finish(
        start(*commands(pipeline)[stage], "-o", target, preexec_fn=limit, env=environment)
    )
    assert result.code == 5, (result.code, result.err)
    assert f"error: cannot write {target}: File too large" in result.err
    assert list(tmp_path.iterdir()) == []


def test_full_disk(pipeline, full_disk):
    target = full_disk.folder / "errors.h5"
    result = full_disk.run("ingest", pipeline.logs, "-o", target)
    assert result.code == 5, (result.code, result.err)
    assert result.err.startswith(f"error: cannot write {target}: No space left on device")
    assert list(target.parent.iterdir()) == []


def test_a_target_that_appears_meanwhile_is_kept(pipeline, queries, tmp_path):
    target = tmp_path / "scores.h5"
    process = start("score", queries, "-m", pipeline.model, "-o", target, "--cdf")
    wait_for_work(tmp_path, process)
    target.write_bytes(b"of another job")
    result = finish(process)
    assert result.code == 5
    assert "exists already" in result.err or "appeared" in result.err
    assert "what is done is kept" in result.err
    assert in_pieces(target) == 123_750
    assert target.read_bytes() == b"of another job"


def test_finished_artifacts_are_whole(pipeline):
    for name in ("errors", "model", "scores", "calibration"):
        with open_artifact(getattr(pipeline, name)) as artifact:
            for spec in artifact.present():
                artifact.read(spec.name)
        with h5py.File(getattr(pipeline, name)) as file:
            assert file.attrs["created"] == "2023-11-14T22:13:20Z"


WAIT_AFTER_A_BLOCK = """
import pathlib, sys, time
from ltau_cli.artifacts.write import BlockWriter
write, reached = BlockWriter.__setitem__, pathlib.Path(sys.argv.pop())
def write_and_wait(*words):
    BlockWriter.__setitem__ = write
    write(*words)
    reached.touch()
    while reached.exists():
        time.sleep(0.01)
BlockWriter.__setitem__ = write_and_wait
"""


def test_sigterm_within_a_dataset(pipeline, tmp_path):
    target, reached = tmp_path / "errors.h5", tmp_path / "reached"
    target.write_bytes(b"an older result")
    words = ("ingest", pipeline.logs, "-o", target, "--force", reached)
    process = start(*words, before=WAIT_AFTER_A_BLOCK)
    wait_until(reached.exists, process)
    assert any(path.name.endswith(".tmp") for path in tmp_path.iterdir())
    process.terminate()
    reached.unlink(missing_ok=True)
    result = finish(process)
    assert result.code == 143, result.err
    assert result.err.startswith("error: terminated")
    assert target.read_bytes() == b"an older result"
    assert [path.name for path in tmp_path.iterdir()] == ["errors.h5"]
