"""Counting errors on a grid beside what a user would take instead, in one run.

    python benchmarks/scale.py [--samples 360027] [--epochs 100]

The kernel of ``ltau fit`` beside numpy's searchsorted and bincount, over the same float32 log, each
in a process of its own, with the same number of threads. Neighbors: see search.py.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BINS = 100


def make_log(n_epochs: int, n: int) -> Array:
    rng = np.random.default_rng(1)
    base = rng.lognormal(-2, 0.7, n).astype(np.float32)
    return np.stack([base * rng.random(n, dtype=np.float32) * 3 for _ in range(n_epochs)])


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def best(work: Callable[[], Any], runs: int = 3) -> tuple[float, Any]:
    """Shortest of some runs, and the last result."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - began)
    return min(times), result


def count_ltau(n_epochs: int, n: int, threads: int) -> dict[str, Any]:
    from ltau_cli.core.histogram import summarize_samples

    log = make_log(n_epochs, n)
    edges = np.geomspace(1e-3, 2, BINS + 1)
    summarize_samples(log[:, :100], edges, edges[50:51])  # compile
    before = peak_mb()

    def work() -> Array:
        counts = np.zeros((n, BINS + 2), np.uint8)
        for start in range(0, n, 16_384):  # as fit reads the artifact
            part = log[:, start : start + 16_384]
            counts[start : start + part.shape[1]] = summarize_samples(
                part, edges, edges[50:51], threads=threads
            ).counts
        return counts

    seconds, counts = best(work)
    read, _ = best(lambda: float(log.sum()))
    return {"seconds": seconds, "mb": peak_mb() - before, "read": read, "sum": int(counts.sum())}


def count_numpy(n_epochs: int, n: int, threads: int) -> dict[str, Any]:
    log = make_log(n_epochs, n)
    edges = np.geomspace(1e-3, 2, BINS + 1)
    before = peak_mb()

    def work() -> Array:
        bins = np.searchsorted(edges, log.ravel())
        flat = np.tile(np.arange(n) * (BINS + 2), n_epochs) + bins
        return np.bincount(flat, minlength=n * (BINS + 2)).reshape(n, BINS + 2)

    seconds, counts = best(work, 1)
    return {"seconds": seconds, "mb": peak_mb() - before, "sum": int(counts.sum())}


PARTS = {f.__name__: f for f in (count_ltau, count_numpy)}


def measure(part: str, *numbers: int) -> dict[str, Any]:
    """Run one part in a process of its own."""
    threads = str(numbers[-1])
    environment = os.environ | dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"), threads)
    done = subprocess.run(
        [sys.executable, __file__, "--part", part, *map(str, numbers)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=360_027)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, *numbers = options.part
        print(json.dumps(PARTS[name](*map(int, numbers))))
        return
    n, threads = options.samples, options.threads
    print(f"{n:,} samples x {options.epochs} epochs, {threads} threads")
    plain = measure("count_numpy", options.epochs, n, threads)
    print(f"counts   numpy        {plain['seconds']:7.3f} s  {plain['mb']:6.0f} MB")
    for count in sorted({1, threads}):
        ours = measure("count_ltau", options.epochs, n, count)
        assert ours["sum"] == plain["sum"]
        print(
            f"counts   ltau x{count}      {ours['seconds']:7.3f} s  {ours['mb']:6.0f} MB  "
            f"{plain['seconds'] / ours['seconds']:.1f} times faster, "
            f"{ours['mb'] / plain['mb']:.2f} of the memory, "
            f"{ours['seconds'] / ours['read']:.1f} times one read of the log in memory"
        )


if __name__ == "__main__":
    main()
