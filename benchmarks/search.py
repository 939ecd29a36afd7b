"""Neighbors of real latent vectors: ltau's cells beside FAISS, in domain and out of it, in one run.

    pip install 'ltau[benchmark]'
    python benchmarks/search.py descriptors.npz [--threads 1]

Rates are queries per second of processor time, so that a busy machine can measure them too.

The file holds ``train``, ``query_in`` and ``query_ood``, (n, d) each, as make_descriptors.py writes
them. FAISS is a flat index, and IVF with 1,024 cells, of which the fewest are read that reach a
recall of 0.999 (or 256). NN-descent is what `ltau fit --index nndescent` takes, searched with its
own effort. Truth is the search in cells itself, whose first rows are compared with
numpy in double precision. "lost" queries miss more than half of their neighbors, "too long" rows
have a mean neighbor distance more than 0.1 % above the true one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("descriptors", type=Path)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--scale", nargs="+", default=["whiten", "none"])
parser.add_argument("-k", nargs="+", type=int, default=[10, 30])
if __name__ == "__main__":
    options = parser.parse_args()  # before what takes long to import

import numpy as np
import numpy.typing as npt

from ltau_cli.core.search.cells import CellSearcher, build_cells
from ltau_cli.core.search.graph import build_graph, choose_effort
from ltau_cli.core.search.points import find_points
from ltau_cli.core.search.scaling import fit_scaling
from ltau_cli.core.search.trials import make_trials

Array = npt.NDArray[Any]
RECALL, CHECKED, FLAT_QUERIES, GRAPH_RECALL = 0.999, 50, 1_000, 0.99


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    began = time.process_time()
    result = work(*arguments)
    return time.process_time() - began, result


def mean_distance(points: Array, queries: Array, found: Array) -> Array:
    total = np.zeros(len(queries))
    for column in found.T:
        total += np.linalg.norm(points[column].astype(np.float64) - queries, axis=1)
    return np.asarray(total / found.shape[1])


def check(points: Array, queries: Array, found: Array) -> None:
    for query, row in zip(queries[:CHECKED], found, strict=False):
        distance = np.linalg.norm(points.astype(np.float64) - query, axis=1)
        wanted = np.sort(distance)[: len(row)]
        assert (np.sort(distance[row]) <= wanted * (1 + 1e-12)).all()


def report(
    name: str, rate: float, points: Array, queries: Array, found: Array, true: Array
) -> None:
    n = len(found)
    share = (found[:, :, None] == true[:n, None, :]).any(axis=1).mean(axis=1)
    excess = mean_distance(points, queries[:n], found) / np.maximum(
        mean_distance(points, queries[:n], true[:n]), 1e-30
    )
    print(
        f"  {name:22} {rate:9,.0f} queries/cpu-s  recall {share.mean():.5f}  lost "
        f"{100 * (share < 0.5).mean():.2f} %  too long {100 * (excess > 1.001).mean():.2f} %",
        flush=True,
    )


def compare(
    points: Array, graph: dict[str, Array], queries: dict[str, Array], k: int, threads: int
) -> None:
    import faiss

    faiss.omp_set_num_threads(threads)
    built, cells = timed(lambda: build_cells(points, threads=threads))
    flat = faiss.IndexFlatL2(points.shape[1])
    flat.add(points)
    quantizer = faiss.IndexFlatL2(points.shape[1])
    ivf = faiss.IndexIVFFlat(quantizer, points.shape[1], 1024)
    ivf_built, _ = timed(lambda: (ivf.train(points), ivf.add(points)))
    print(f"  built in {built:.1f} s, FAISS IVF in {ivf_built:.1f} s")
    exact = CellSearcher(points, cells)
    exact.candidates(queries["in"][:64], k)
    trials = make_trials(points, exact, k, seed=0, threads=threads)
    chosen, effort = choose_effort(points, graph, trials, GRAPH_RECALL, threads=threads)
    for name, rows in queries.items():
        print(f" {name} of domain, k = {k}" if name == "out" else f" in domain, k = {k}")
        seconds, true = timed(partial(exact.candidates, threads=threads), rows, k)
        check(points, rows, true)
        report("ltau", len(rows) / seconds, points, rows, true, true)
        for n_read in (4, 8, 16, 32, 64, 128, 256):
            ivf.nprobe = n_read
            seconds, (_, found) = timed(ivf.search, rows, k)
            share = (found[:, :, None] == true[:, None, :]).any(axis=1).mean()
            if share >= RECALL:
                break
        report(f"FAISS IVF, {n_read} read", len(rows) / seconds, points, rows, found, true)
        seconds, found = timed(partial(chosen.candidates, threads=threads), rows, k)
        name = f"NN-descent, {effort['leaves']} leaves"
        report(name, len(rows) / seconds, points, rows, found, true)
        few = rows[:FLAT_QUERIES]
        seconds, (_, found) = timed(flat.search, few, k)
        report("FAISS flat", len(few) / seconds, points, rows, found, true)


def main(options: argparse.Namespace) -> None:
    with np.load(options.descriptors, allow_pickle=False) as file:
        names = ("train", "query_in", "query_ood")
        train, near, far = (file[name].astype(np.float32) for name in names)
    for scale in options.scale:
        scaling = fit_scaling(lambda: [train], train.shape[1], scale=scale, metric="euclidean")
        mapped = scaling.apply(train)
        first = find_points(mapped, np.ones(len(mapped), dtype=np.int32)).first
        points = np.ascontiguousarray(mapped[first])
        queries = {"in": scaling.apply(near), "out": scaling.apply(far)}
        seconds, graph = timed(partial(build_graph, points, seed=0))
        print(f"graph of NN-descent built in {seconds:.1f} s, compiling included")
        for k in options.k:
            n, width = points.shape
            print(f"{n:,} x {width} points, --scale {scale}, {options.threads} threads")
            compare(points, graph, queries, k, options.threads)


if __name__ == "__main__":
    main(options)
