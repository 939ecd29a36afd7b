"""Time, memory and disk of fit and score from 10,000 to 1,000,000 samples.

    python benchmarks/scaling.py descriptors.npz [--sizes 10000 100000 1000000] [--plot scaling.svg]

Each size is fitted and scored (100,000 rows, k = 10) through the command line, in a process of
its own, over a log of --epochs epochs. The descriptors are the first --columns principal components
of the real ones (``train`` of the file), each a point between a random row and the row after it: as
many as wanted, on the islands of the real ones. Times are of the processor, all threads together,
so that a busy machine can measure them too.

    python benchmarks/scaling.py descriptors.npz --workers 1 2 [--samples 149951] [--shards 8]

Each command alone and with N workers, one thread each: processor time of the command itself and of
its workers together, so that a command takes own + workers / N where the processors are free. All
columns of as many rows of ``train`` as wanted (whitened, k = 10), scored from points like them; the
log is one CSV file per epoch.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scale import make_log

Array = npt.NDArray[Any]

N_ROWS, BLOCK = 100_000, 100_000


def make_descriptors(real: Array, n: int, seed: int, path: Path) -> None:
    """Write (n, d) float32 between real rows and those after them, block by block."""
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, real.shape[1]))
    rng = np.random.default_rng(seed)
    for start in range(0, n, BLOCK):
        rows = rng.integers(len(real) - 1, size=min(BLOCK, n - start))
        share = rng.random((len(rows), 1), dtype=np.float32) / 2
        out[start : start + len(rows)] = real[rows] + share * (real[rows + 1] - real[rows])
    out.flush()


def read_descriptors(path: Path, columns: int) -> Array:
    """Principal components, the largest first."""
    with np.load(path, allow_pickle=False) as file:
        train = file["train"].astype(np.float64)
    train -= train.mean(axis=0)
    directions = np.linalg.eigh(train.T @ train)[1][:, ::-1][:, :columns]
    return np.ascontiguousarray((train @ directions).astype(np.float32))


def timed(*arguments: object) -> tuple[float, float]:
    """Seconds of processor time and peak memory in MB of one ltau command."""
    command = [sys.executable, "-m", "ltau_cli", *map(str, arguments), "-q"]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure(real: Array, n: int, n_epochs: int, folder: Path) -> dict[str, float]:
    np.save(folder / "log.npy", make_log(n_epochs, n))
    make_descriptors(real, n, 2, folder / "x.npy")
    make_descriptors(real, N_ROWS, 3, folder / "q.npy")
    ingest, _ = timed("ingest", folder / "log.npy", "-o", folder / "e.h5", "-f")
    fit, fit_mb = timed("fit", folder / "e.h5", folder / "x.npy", "-o", folder / "m.h5", "-f",
                        "-k", 10)  # fmt: skip
    score, score_mb = timed("score", folder / "q.npy", "-m", folder / "m.h5", "-o",
                            folder / "s.h5", "-f")  # fmt: skip
    return {
        "samples": n,
        "ingest s": ingest,
        "fit s": fit,
        "fit MB": fit_mb,
        "score s": score,
        "score MB": score_mb,
        "model MB": (folder / "m.h5").stat().st_size / 1e6,
    }


MEASURED = """
import resource, sys
from ltau_cli.cli.main import run
assert run(sys.argv[1:]) == 0
for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
    used = resource.getrusage(who)
    print(used.ru_utime + used.ru_stime)
"""


def shared(folder: Path, *arguments: object) -> tuple[float, float, float]:
    """Wall time, and processor time of this command and of its workers (s)."""
    began = time.perf_counter()
    command = [sys.executable, "-c", MEASURED, *map(str, arguments), "-f", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    own, workers = map(float, done.stdout.split())
    return time.perf_counter() - began, own, workers


def compare_workers(real: Array, options: argparse.Namespace, folder: Path) -> None:
    """Print what each command takes alone and with workers."""
    n = min(options.samples, len(real))
    np.save(folder / "x.npy", real[:n].astype(np.float32))
    make_descriptors(real, options.rows, 3, folder / "q.npy")
    np.save(folder / "few.npy", real[:100].astype(np.float32))
    (folder / "log").mkdir()
    for epoch, errors in enumerate(make_log(options.epochs, n)):
        table = np.column_stack([np.arange(n), errors])
        path = folder / "log" / f"errors_epoch_{epoch}.csv"
        np.savetxt(
            path, table, fmt=("%d", "%.6g"), delimiter=",", header="sample,error", comments=""
        )
    commands = {
        "ingest": ("ingest", "log"),
        "fit": ("fit", "errors.h5", "x.npy", "-k", 10, "--shards", options.shards, "--threads", 1),
        "score": ("score", "q.npy", "--block-rows", 4096, "--threads", 1),
        "score 100 rows": ("score", "few.npy", "--threads", 1),
    }
    print(f"{n:,} samples x {real.shape[1]}, {options.epochs} epochs, {options.shards} shards, "
          f"{options.rows:,} rows, one thread each")  # fmt: skip
    print(f"{'':16}{'workers':>8}{'wall s':>9}{'own s':>9}{'workers s':>11}")
    for name, words in commands.items():
        for workers in (0, *options.workers):
            more = ("--workers", workers) if workers else ()
            wall, own, others = shared(folder, *words, *more)
            print(f"{name:16}{workers:8}{wall:9.1f}{own:9.1f}{others:11.1f}", flush=True)


def draw(rows: list[dict[str, float]], path: Path) -> None:
    from ltau_cli.figures.style import (
        BLUE,
        GREEN,
        ORANGE,
        Chart,
        Panel,
        draw_page,
        looks,
        save_figure,
    )

    def lines(chart: Chart) -> None:
        axes = chart.axes
        sizes = [row["samples"] for row in rows]
        for name, color in (("ingest s", GREEN), ("fit s", ORANGE), ("score s", BLUE)):
            label = {"score s": "score 100,000"}.get(name, name.removesuffix(" s"))
            axes.loglog(sizes, [row[name] for row in rows], "o-", color=color, label=label)
        axes.set(xlabel="training samples", ylabel="processor time (s)", title="whole commands")
        axes.legend(fontsize=7)

    with looks({}):
        save_figure(draw_page([Panel("scaling", lines)]).figure, path, path.suffix[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("descriptors", type=Path)
    parser.add_argument("--columns", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--workers", type=int, nargs="+")
    parser.add_argument("--samples", type=int, default=149_951)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--shards", type=int, default=8)
    options = parser.parse_args()
    if options.workers:
        with np.load(options.descriptors, allow_pickle=False) as file:
            real = file["train"].astype(np.float32)
        with tempfile.TemporaryDirectory(prefix="ltau-workers-") as name:
            compare_workers(real, options, Path(name))
        return
    real = read_descriptors(options.descriptors, options.columns)
    rows = []
    for n in options.sizes:
        folder = Path(tempfile.mkdtemp(prefix="ltau-scaling-"))
        try:
            rows.append(measure(real, n, options.epochs, folder))
        finally:
            shutil.rmtree(folder)
        if len(rows) == 1:
            print("  ".join(f"{name:>9}" for name in rows[0]))
        print("  ".join(f"{value:9,.1f}" for value in rows[-1].values()), flush=True)
    if options.plot:
        draw(rows, options.plot)


if __name__ == "__main__":
    main()
