"""Logs that do not fit in memory: parsed values go through unnamed temporary files."""

import contextlib
import csv
import math
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.readers import arrays, scratch
from ltau_cli.readers.logs import arrays as log_arrays
from ltau_cli.readers.logs import long_rows
from ltau_cli.readers.logs import tables as log_tables
from ltau_cli.readers.logs.open import open_log
from ltau_cli.readers.logs.options import LogOptions
from ltau_cli.readers.place import Place
from tests.conftest import finish
from tests.test_batch import peak_memory
from tests.test_errors import INPUT, OUTPUT, check
from tests.test_ingest import random_log, temporary, write_folder
from tests.test_interrupts import small_disk

# The same tests as for small logs, with everything in temporary files and in tiny blocks
from tests.test_append import (  # noqa: F401  isort: skip
    artifact,
    test_a_partial_epoch_finds_its_samples_by_id,
    test_equal_to_ingesting_everything_at_once,
    test_tables_that_are_being_written,
)
from tests.test_ingest import (  # noqa: F401  isort: skip
    test_random_arrays,
    test_random_epoch_folders,
    test_random_long_tables,
    test_random_vectors,
)

WORDS = ["7", " 7", "7.0", "07", "1e1", "8", "9", "10", "-3", "99999999999999999999", "Cu 1", "7.5"]


@pytest.fixture(autouse=True, scope="module")
def _tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "IN_MEMORY", 0)
        patch.setattr(scratch, "WINDOW", 4)
        patch.setattr(long_rows, "_BLOCK", 3)
        patch.setattr(log_tables, "_BATCH", 2)
        patch.setattr(log_arrays, "TABLE_BLOCK", 2)
        patch.setattr(arrays, "CHUNK_CACHE", 0)
        patch.setattr(arrays, "UNPACKED_BYTES", 7)
        yield


def number_of(word):
    try:
        return int(word)
    except ValueError:
        value = float(word)  # "Cu 1" is no number at all
        if not value.is_integer():
            raise
        return int(value)


def slow_pivot(rows):
    """Ids, {run: {epoch: {id: error}}} and the number of repeated cells, row by row."""
    try:
        numbers = [number_of(sample) for _, _, sample, _ in rows]
        if max(map(abs, numbers)) >= 2**63:
            raise ValueError
        ids, of_row = sorted(set(numbers)), numbers
    except ValueError:
        of_row = [sample for _, _, sample, _ in rows]
        ids = list(dict.fromkeys(of_row))
    runs, repeated = {}, 0
    for (run, epoch, _, error), sample in zip(rows, of_row, strict=True):
        cells = runs.setdefault(run, {}).setdefault(epoch, {})
        repeated += sample in cells
        cells[sample] = float(error or math.nan)
    return ids, runs, repeated


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(-2, 4),
            st.sampled_from(WORDS) | st.integers(0, 5).map(str),
            st.sampled_from(["", "nan", "0.5", "2", "1e300", "inf"]),
        ),
        min_size=1,
        max_size=25,
    ),
)
def test_long_tables_agree_with_the_slow_way(rows):
    ids, runs, repeated = slow_pivot(rows)
    with temporary() as folder:
        path = folder / "log.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerows([("run", "epoch", "sample", "error"), *rows])
        with open_log([Place(path)], LogOptions()) as log:
            got = np.concatenate([log.read(i, i + 1) for i in range(log.n_samples)], axis=1)
    numbers = [(number, run) for number, run in enumerate(sorted(runs))]
    assert list(zip(log.runs, log.epochs, strict=True)) == [
        (number, epoch) for number, run in numbers for epoch in sorted(runs[run])
    ]
    with np.errstate(over="ignore"):
        wanted = np.array(
            [
                [runs[run][epoch].get(name, math.nan) for name in ids]
                for _, run in numbers
                for epoch in sorted(runs[run])
            ]
        ).astype(np.float32)
    np.testing.assert_array_equal(got, wanted)
    assert log.labels.get("sample_id", np.arange(len(ids))).tolist() == ids
    assert log.notes["duplicated ids"] == repeated


@pytest.mark.parametrize("order", ["C", "F"])
def test_compressed_npz(order, tmp_path, ltau):
    logs = {"a": np.asarray(random_log(seed=1), order=order), "b": random_log(seed=2)}
    np.savez_compressed(tmp_path / "log.npz", **logs)
    with open_log([Place(tmp_path / "log.npz")], LogOptions()) as log:
        got = np.concatenate([log.read(0, 5), log.read(5, 12)], axis=1)
    np.testing.assert_array_equal(got, np.concatenate(list(logs.values())).astype(np.float32))


@pytest.mark.parametrize("where", ["values", "end"])
def test_damaged_compressed_npz(where, tmp_path, ltau):
    path = tmp_path / "log.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).random((20, 500)))
    data = bytearray(path.read_bytes())
    at = len(data) // 2 if where == "values" else data.index(b"PK\x01\x02") - 3
    data[at] ^= 0x55
    path.write_bytes(data)
    check(ltau("ingest", path, "-o", tmp_path / "e.h5"), INPUT, str(path), "damaged", hint=False)


def test_compressed_npz_that_is_shorter_than_its_header_says(tmp_path, ltau):
    path = tmp_path / "log.npz"
    np.save(tmp_path / "a.npy", np.ones((20, 50)))
    whole = (tmp_path / "a.npy").read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", whole[:-8])
    result = ltau("ingest", path, "-o", tmp_path / "e.h5")
    check(result, INPUT, f"{path}:a is cut short: its header promises 8,128 bytes, it has 8,120")


@pytest.mark.parametrize("shape", [(6, 40), (6, 40, 3)])
@pytest.mark.parametrize("chunks", [(1, 40), (6, 3), (4, 7), (5, 40)])
def test_hdf5_chunks_wider_than_the_cache(shape, chunks, tmp_path):
    log = np.random.default_rng(0).random(shape)
    with h5py.File(tmp_path / "log.h5", "w") as file:
        file.create_dataset("log", data=log, chunks=chunks + shape[2:], compression="gzip")
    with open_log([Place(tmp_path / "log.h5")], LogOptions()) as opened:
        got = np.concatenate([opened.read(i, i + 8) for i in range(0, 40, 8)], axis=1)
    wanted = log if log.ndim == 2 else np.linalg.norm(log, axis=2)
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    with arrays.open_array(Place(tmp_path / "log.h5")) as source:
        np.testing.assert_array_equal(source.read(1, 4), log[1:4])
        np.testing.assert_array_equal(source.all(), log)


# Memory


LONG, WIDE, COMPRESSED, CHUNKED = "log.csv", "wide.csv", "log.npz", "log.h5"


def write_large(path, n):
    """Write a log of 20 epochs (wide: 100) and ``n`` samples."""
    errors = [f"{v:.4f}" for v in np.random.default_rng(0).random(n)]
    if path.name == LONG:
        rest = [f",{i},{error}\n" for i, error in enumerate(errors)]
        with path.open("w") as file:
            file.write("epoch,sample,error\n")
            for epoch in range(20):
                file.write(f"{epoch}" + str(epoch).join(rest))
    elif path.name == WIDE:
        with path.open("w") as file:
            file.write("epoch," + ",".join(f"s{i}" for i in range(n)) + "\n")
            file.writelines(f"{epoch}," + ",".join(errors) + "\n" for epoch in range(100))
    else:
        log = np.tile(np.array(errors[:1000], np.float32), (20, n // 1000))
        if path.name == COMPRESSED:
            np.savez_compressed(path, a=log)
        else:
            with h5py.File(path, "w") as file:
                file.create_dataset(
                    "log", data=log, chunks=(1, n), compression="gzip", compression_opts=1
                )


# Before, 150, 120 and 220 MB more for the large one; the last took minutes.
@pytest.mark.parametrize(
    ("name", "small", "large", "limit"),
    [
        (LONG, 5_000, 60_000, 90e6),
        (WIDE, 17_000, 150_000, 60e6),
        (COMPRESSED, 10_000, 2_000_000, 130e6),
        (CHUNKED, 10_000, 2_000_000, 150e6),
    ],
)
def test_memory_does_not_follow_the_log(name, small, large, limit, tmp_path):
    peaks = []
    for n in (small, large):
        write_large(tmp_path / name, n)
        peaks.append(peak_memory("ingest", tmp_path / name, "-fo", tmp_path / "errors.h5"))
    assert peaks[1] - peaks[0] < limit, peaks


# Temporary files


def begin(*words, folder, **options):
    """Start ``ltau WORDS`` in a new process that keeps nothing in memory."""
    code = (
        "import ltau_cli.readers.scratch as scratch; scratch.IN_MEMORY = 0;"
        "from ltau_cli.cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, *map(str, words)]
    environment = os.environ | {"TMPDIR": str(folder)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=environment, **options
    )


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "temporary"
    path.mkdir()
    return path


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
    path.write_text("epoch,sample,error\n" + "0,0,1\n" * 50_000 + "0,1,what\n")
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
    path.write_text("epoch,sample,error\n" + "0,0,1\n" * 3_000_000)
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


def test_full_disk_for_temporary_files(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,sample,error\n" + "0,0,1\n" * 50_000)
    with small_disk(tmp_path / "disk", 200_000) as mounted:
        result = finish(begin("ingest", path, "-o", tmp_path / "e.h5", folder=tmp_path / "disk"))
        if mounted:
            said = f"cannot write a temporary file in {tmp_path / 'disk'}: No space left on device"
            check(result, OUTPUT, said)
            assert "export TMPDIR=FOLDER" in result.err
        else:  # no right to mount: at least the command works there
            assert result.code == 0
