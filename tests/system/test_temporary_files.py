"""Temporary files: nothing is left behind, a full disk is one clear line."""

import contextlib
import os
import resource
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.helpers import INPUT, OUTPUT, check, finish, start, write_folder

pytestmark = pytest.mark.slow

NOTHING_IN_MEMORY = "import ltau_cli.readers.scratch as scratch; scratch.IN_MEMORY = 0"


def begin(*words, folder, **options):
    """Start ``ltau WORDS`` in a new process that keeps nothing in memory."""
    environment = os.environ | {"TMPDIR": str(folder)}
    return start(*words, before=NOTHING_IN_MEMORY, env=environment, **options)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "temporary"
    path.mkdir()
    return path


def long_table(n_samples):
    """The text of a log of one epoch."""
    return "epoch,sample,error\n" + "".join(f"0,{i},1\n" for i in range(n_samples))


def write_each(folder):
    """A log of each format that goes through a temporary file."""
    folder.mkdir()
    log = np.random.default_rng(0).random((5, 20_000)).round(3)
    np.savez_compressed(folder / "log.npz", a=log)
    with h5py.File(folder / "log.h5", "w") as file:
        file.create_dataset("log", data=np.tile(log, 45), chunks=(5, 900_000), compression="gzip")
    long = ["epoch,sample,error\n"]
    long += [f"{t},{i},{value}\n" for t, row in enumerate(log) for i, value in enumerate(row)]
    (folder / "long.csv").write_text("".join(long))
    (folder / "wide.csv").write_text("\n".join(",".join(map(str, row)) for row in log))
    ids = np.arange(20_000)
    write_folder(folder / "by_id", [np.stack([ids, row], axis=1) for row in log])
    return sorted(folder.iterdir())


def test_nothing_is_left_behind(tmp_path, folder):
    for log in write_each(tmp_path / "logs"):
        result = finish(begin("ingest", log, "-o", tmp_path / f"{log.name}.h5", folder=folder))
        assert result.code == 0, result.err
        assert list(folder.iterdir()) == []


def test_nothing_is_left_behind_a_wrong_log(tmp_path, folder):
    path = tmp_path / "log.csv"
    path.write_text(long_table(50_000) + "0,50000,what\n")
    result = finish(begin("ingest", path, "-o", tmp_path / "e.h5", folder=folder))
    check(result, INPUT, "line 50002", "what", hint=False)
    assert list(folder.iterdir()) == []


def open_files(process):
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            yield os.readlink(link)


def is_unnamed(name, folder):
    return name.startswith(str(folder)) and name.endswith("(deleted)")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind_a_killed_process(number, tmp_path, folder):
    path = tmp_path / "log.csv"
    path.write_text(long_table(3_000_000))
    process = begin("ingest", path, "-o", tmp_path / "e.h5", folder=folder)
    give_up = time.monotonic() + 60
    # Python itself tries the folder out with a file of a name, before the first one without.
    while not any(is_unnamed(name, folder) for name in open_files(process)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.001)
    process.send_signal(number)
    assert finish(process).code == {signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}[number]
    assert list(folder.iterdir()) == []


def test_temporary_files_that_may_not_grow(tmp_path, folder):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    out = tmp_path / "out"
    out.mkdir()
    for log in write_each(tmp_path / "logs"):
        words = ("ingest", log, "-o", out / "errors.h5")
        result = finish(begin(*words, folder=folder, preexec_fn=limit))
        said = f"cannot write a temporary file in {folder}: File too large"
        check(result, OUTPUT, said)
        assert "export TMPDIR=FOLDER" in result.err
        assert list(folder.iterdir()) == []
        assert list(out.iterdir()) == []


def test_full_disk_for_temporary_files(full_disk, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(long_table(50_000))
    result = full_disk.run(
        "ingest", path, "-o", tmp_path / "e.h5",
        before=NOTHING_IN_MEMORY, env=os.environ | {"TMPDIR": str(full_disk.folder)},
    )  # fmt: skip
    said = f"cannot write a temporary file in {full_disk.folder}: No space left on device"
    check(result, OUTPUT, said)
    assert "export TMPDIR=FOLDER" in result.err
