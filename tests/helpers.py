"""What the tests share: exit codes, processes, refusals, logs to ingest."""

import contextlib
import csv
import gzip
import io
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ltau_cli.readers import hdf5, npy, scratch, tables
from ltau_cli.readers.logs import arrays as log_arrays
from ltau_cli.readers.logs import long_rows as long_tables

SAMPLE = Path(__file__).parent.parent / "sample_data"


@dataclass
class Result:
    """What a command did."""

    code: int
    out: str
    err: str


def start(*arguments: object, before: str = "", **options: object) -> subprocess.Popen[str]:
    """Start ``ltau ARGUMENTS`` in a new process, which first runs the code ``before``."""
    code = f"{before}\nfrom ltau_cli.__main__ import main; main()"
    return subprocess.Popen(
        [sys.executable, *(["-c", code] if before else ["-m", "ltau_cli"]), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def finish(process: subprocess.Popen[str]) -> Result:
    """Wait for a process."""
    out, err = process.communicate(timeout=300)
    return Result(process.returncode, out, err)


def wait_until(happened, *processes):
    """Wait for something that processes that still run will do."""
    give_up = time.monotonic() + 60
    while not happened():
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.005)


@dataclass
class Pipeline:
    """Artifacts made from the sample data."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / f"{name}.h5"

    descriptors = SAMPLE / "test_300K_descriptors.npy"
    true_errors = SAMPLE / "test_300K_force_errors.npy"
    hot_descriptors = SAMPLE / "test_900K_descriptors.npy"
    hot_true_errors = SAMPLE / "test_900K_force_errors.npy"
    natoms = SAMPLE / "test_300K_natoms.npy"
    train = SAMPLE / "train_descriptors.npy"
    logs = SAMPLE / "logs"


USAGE, INPUT, ARTIFACT, OUTPUT, COMPUTE = 2, 3, 4, 5, 6


def check(result, code, *words, hint=True):
    """One ``error:`` line with these words, a hint (None: perhaps), this exit code."""
    assert result.code == code, result.err
    hint = "\nhint: " in result.err if hint is None else hint
    lines = [line for line in result.err.splitlines() if line]
    assert lines[0].startswith("error: "), result.err
    for word in words:
        assert str(word) in lines[0], (word, lines[0])
    if hint:
        assert lines[1].startswith("hint: "), result.err
    assert len(lines) == 1 + hint, result.err
    assert result.out == ""


def save(path, values):
    np.save(path, np.asarray(values), allow_pickle=True)
    return path


LABELS = ("sample_id", "structure", "species", "config_type", "group", "magnitude")


def names(folder):
    """File names in a folder, in order, without that of its lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def in_pieces(target, what="rows"):
    """How many of them the pieces of a result hold."""
    found = target.parent.glob(f".{target.name}.ltau-pieces/*/{what}-*")
    ranges = [path.name.split("-")[1:] for path in found]
    return sum(int(last) - int(first) for first, last in ranges)


def score_in_shards(ltau, words, count, target):
    """Score in shards, the last first, with blocks of any size, and make the result of them."""
    for i in reversed(range(count)):
        result = ltau(*words, "-o", target, "--shard", f"{i}/{count}", "--block-rows", 1234 + i)
        assert result.code == 0, result.err
        assert not target.exists()
    n = in_pieces(target)
    result = ltau(*words, "-o", target)
    assert result.code == 0, result.err
    assert f"{n:,} of {n:,} rows are there already" in result.err
    assert in_pieces(target) == 0
    return result


def contents(path):
    """All datasets of an artifact; text as str."""
    with h5py.File(path) as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        found = {name: file[name][...] for name in names}
    return {k: np.char.decode(v, "utf-8") if v.dtype.kind == "S" else v for k, v in found.items()}


def read(path, *names):
    """Datasets of an artifact; of one name, it alone."""
    with h5py.File(path) as file:
        found = [file[name][...] for name in names]
    return found[0] if len(names) == 1 else found


def stored(log, missing=()):
    """What is stored of a log, value by value."""
    result = np.empty(np.shape(log), dtype=np.float32)
    for t, row in enumerate(log):
        for i, value in enumerate(row):
            value = float(value)
            if math.isinf(value) or any(value == sentinel for sentinel in missing):
                value = math.nan
            with np.errstate(over="ignore"):
                single = np.float32(value)
            result[t, i] = np.nan if np.isinf(single) else single
    return result


def norm_of(vector, norm="l2"):
    sizes = [abs(float(x)) for x in vector]
    return {
        "l2": math.sqrt(sum(x * x for x in sizes)),
        "l1": sum(sizes),
        "max": math.nan if any(map(math.isnan, sizes)) else max(sizes),
        "rms": math.sqrt(sum(x * x for x in sizes) / len(sizes)),
    }[norm]


def same(got, wanted):
    np.testing.assert_array_equal(got, np.asarray(wanted))


def random_log(n_epochs=5, n=12, seed=0, holes=0.1, dtype=np.float64):
    """A log with NaN and infinity in it, each sample logged at least once."""
    rng = np.random.default_rng(seed)
    log = rng.gamma(2.0, 0.1, (n_epochs, n))
    log[1:][rng.random((n_epochs - 1, n)) < holes] = np.nan
    log[-1, 0] = np.inf
    return log.astype(dtype)


def write_folder(folder, log, name="errors_epoch_{}.npy", epochs=None):
    folder.mkdir(parents=True, exist_ok=True)
    for epoch, row in zip(epochs or range(len(log)), log, strict=True):
        np.save(folder / name.format(epoch), row)
    return folder


# Tables


def write_long(path, rows, header=("epoch", "sample", "error"), delimiter=","):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(header)
    writer.writerows(rows)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())
    return path


def long_rows(log, ids=None, epochs=None):
    ids = range(len(log[0])) if ids is None else ids
    return [
        (epochs[t] if epochs else t, sample, repr(float(value)))
        for t, row in enumerate(log)
        for sample, value in zip(ids, row, strict=True)
        if not math.isnan(value)
    ]


# Evaluated frames


def frames_of(natoms=(3, 1, 4), seed=0):
    rng = np.random.default_rng(seed)
    frames = []
    for number, n in enumerate(natoms):
        frame = Atoms(rng.choice(["H", "C", "O"], n), rng.normal(size=(n, 3)))
        frame.info["config_type"] = ["bulk", "slab"][number % 2]
        frames.append(frame)
    return frames


def evaluated(folder, keys, *, n_epochs=3, energies=None, calculator=(), seed=0, write=True):
    """Write frames with predicted and reference forces (or energies) as ASE does; the errors.

    Keys in ``calculator`` are stored as results of a calculator.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed + 1)
    log = []
    for epoch in range(n_epochs):
        frames, errors = frames_of(), []
        for frame in frames:
            if energies:
                values = rng.normal(size=2) * len(frame)
                errors.append((values[0] - values[1]) / len(frame))
            else:
                values = np.round(rng.normal(size=(2, len(frame), 3)), 8)
                errors += [norm_of(d) for d in values[0] - values[1]]
            results = {}
            for key, value in zip(keys, values, strict=True):
                if key in calculator:
                    results[key] = value
                else:
                    (frame.info if energies else frame.arrays)[key] = value
            if results:
                frame.calc = SinglePointCalculator(frame, **results)
        if write:
            ase.io.write(folder / f"eval_epoch_{epoch * 10}.xyz", frames, format="extxyz")
        log.append(errors)
    return np.array(log, dtype=np.float32)


def graph_by_hand(points, *, seed, n_neighbors=30):
    """What NN-descent makes, with the exact neighbors and a tree of two leaves."""
    n, half = len(points), len(points) // 2
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    near = np.argsort(distance, axis=1)[:, 1 : n_neighbors + 1]
    order = np.argsort(-points[:, 0])
    hyperplanes = np.zeros((3, points.shape[1]), np.float32)
    hyperplanes[0, 0] = 1
    return {
        "graph_indptr": np.arange(n + 1) * near.shape[1],
        "graph_indices": near.ravel().astype(np.int32),
        "tree_hyperplanes": hyperplanes,
        "tree_offsets": np.array([-points[order[half], 0], 0, 0], np.float32),
        "tree_children": np.array([[1, 2], [0, -half], [-half, -n]], np.int32),
        "tree_indices": order.astype(np.int32),
        "vertex_order": np.arange(n, dtype=np.int32),
    }


@contextlib.contextmanager
def temporary():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def peak_memory(*words):
    """Bytes at the peak of ``ltau WORDS`` in a new process; VmHWM, since exec does not reset
    what getrusage tells."""
    code = (
        "import sys; from ltau_cli.cli.main import run; code = run(sys.argv[1:]);"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, *map(str, words), "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024


@contextlib.contextmanager
def tiny_blocks():
    """Whatever is read goes through temporary files, in tiny blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "IN_MEMORY", 0)
        patch.setattr(scratch, "WINDOW", 4)
        patch.setattr(long_tables, "_BLOCK", 3)
        patch.setattr(tables, "_BATCH", 2)
        patch.setattr(log_arrays, "TABLE_BLOCK", 2)
        patch.setattr(hdf5, "CHUNK_CACHE", 0)
        patch.setattr(hdf5, "UNPACKED_BYTES", 7)
        patch.setattr(npy, "UNPACKED_BYTES", 7)
        yield
