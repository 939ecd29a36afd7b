"""Fit and score beside what a user would take instead, in one run.

    pip install 'ltau[benchmark]'
    python benchmarks/scale.py [--samples 360027] [--epochs 100] [--queries 100000]

Counts: the kernel of ``ltau fit`` beside numpy's searchsorted and bincount, over the same float32
log. Search: the NN-descent index as ``ltau fit`` prepares it and the averaging of CDFs, beside
FAISS's HNSW (M = 32, efConstruction = 40, the smallest efSearch that reaches the recall) and a
numpy average of the neighbors' densities. The descriptors are made up: points on a curved
sheet of 8 dimensions, as environments of one material are. Every figure is taken in a process of
its own, with the same number of threads.
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

WIDTH, K, RECALL, BINS = 32, 10, 0.99, 100


def make_descriptors(n: int, seed: int) -> Array:
    """Points on a curved sheet of 8 dimensions in 32, with a little noise."""
    shape = np.random.default_rng(0)
    first, second = shape.normal(size=(8, 64)), shape.normal(size=(64, WIDTH)) / 8
    rng = np.random.default_rng(seed)
    points = np.tanh(rng.normal(size=(n, 8)) @ first / 3) @ second
    return (points + 0.01 * rng.normal(size=(n, WIDTH))).astype(np.float32)


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


def make_search(n: int, n_queries: int) -> tuple[Array, Array, Array]:
    points, queries = make_descriptors(n, 2), make_descriptors(n_queries, 3)
    counts = np.random.default_rng(4).integers(0, 3, (n, BINS + 2)).astype(np.uint8)
    counts[:, 50] += 1
    return points, queries, counts


def exact_neighbors(points: Array, queries: Array) -> Array:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(algorithm="brute").fit(points)
    return np.asarray(search.kneighbors(queries[:2000], K, return_distance=False))


def recall(found: Array, exact: Array) -> float:
    return float((found[:2000, :K, None] == exact[:, None, :]).any(axis=1).mean())


def search_ltau(n: int, n_queries: int, threads: int) -> dict[str, Any]:
    from ltau_cli.core.mixture import average_cdfs, average_values
    from ltau_cli.core.search import graph
    from ltau_cli.core.search import neighbors as nn
    from ltau_cli.core.search.graph import choose_effort, trial_queries

    points, queries, counts = make_search(n, n_queries)
    exact = exact_neighbors(points, queries)
    began = time.perf_counter()
    arrays, scalars = graph.graph_to_arrays(graph.build_graph(points, seed=0))
    built = time.perf_counter() - began
    trials = trial_queries(points, K, seed=0)
    searcher, effort = choose_effort(points, arrays, scalars, trials, K, RECALL)
    one = np.ones(n, np.int64)
    largest = np.full(n, 2, np.float32)
    edges = np.geomspace(1e-3, 2, BINS + 1)

    def search() -> nn.Neighbors:
        return nn.find_neighbors(searcher, queries, points, one, K, threads=threads)

    def average(found: nn.Neighbors) -> Any:
        average_values(found, largest[:, None], threads=threads)
        return average_cdfs(
            found, counts, largest, edges, levels=np.array([0.5, 0.9, 0.95]),
            thresholds=np.array([0.1]), threads=threads,
        )  # fmt: skip

    average(search())
    seconds, found = best(search)
    averaging, _ = best(lambda: average(found))
    return {"search": seconds, "average": averaging, "recall": recall(found.point, exact),
            "build": built, "effort": effort}  # fmt: skip


def search_faiss(n: int, n_queries: int, threads: int) -> dict[str, Any]:
    import faiss

    faiss.omp_set_num_threads(threads)
    points, queries, counts = make_search(n, n_queries)
    exact = exact_neighbors(points, queries)
    began = time.perf_counter()
    index = faiss.IndexHNSWFlat(WIDTH, 32)
    index.hnsw.efConstruction = 40
    index.add(points)
    built = time.perf_counter() - began
    for effort in (10, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512):
        index.hnsw.efSearch = effort
        if recall(index.search(queries[:2000], K)[1], exact) >= RECALL:
            break
    seconds, (_, found) = best(lambda: index.search(queries, K))
    density = counts / counts.sum(axis=1, keepdims=True, dtype=np.float32)

    def average() -> Array:
        return np.concatenate(
            [density[found[i : i + 1000]].mean(axis=1) for i in range(0, n_queries, 1000)]
        )

    averaging, _ = best(average, 1)
    return {"search": seconds, "average": averaging, "recall": recall(found, exact),
            "build": built, "effort": {"efSearch": effort}}  # fmt: skip


PARTS = {f.__name__: f for f in (count_ltau, count_numpy, search_ltau, search_faiss)}


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
    parser.add_argument("--queries", type=int, default=100_000)
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
    ours = measure("search_ltau", n, options.queries, threads)
    peer = measure("search_faiss", n, options.queries, threads)
    for name, part in (("ltau", ours), ("FAISS HNSW", peer)):
        total = part["search"] + part["average"]
        print(
            f"search   {name:12} {options.queries / part['search']:9,.0f} queries/s  "
            f"averaging {part['average']:.2f} s  recall@{K} {part['recall']:.4f}  "
            f"together {options.queries / total:9,.0f} rows/s  built in {part['build']:.0f} s  "
            f"{part['effort']}"
        )
    both = (peer["search"] + peer["average"]) / (ours["search"] + ours["average"])
    print(
        f"search alone {peer['search'] / ours['search']:.2f} times FAISS, with averaging {both:.2f}"
    )


if __name__ == "__main__":
    main()
