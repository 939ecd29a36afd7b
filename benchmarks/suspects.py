#!/usr/bin/env python3
"""Does `ltau weights` find wrong labels? Planted ones, in the error log of the sample data.

A few atoms get an error log as if their label were wrong by a vector of a given length all the
time: |e + w|, the angle between the two drawn anew at every epoch. Printed is how many of them are
among the suspects and among the first of them, over several draws, by the lower quartile of the
errors (what `ltau weights` compares) and by their mean.

    python benchmarks/suspects.py            # a minute; needs ase
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--draws", type=int, default=10, help="of the atoms with wrong labels")
if __name__ == "__main__":
    options = parser.parse_args()  # before what takes long to import

import ase.io
import numpy as np
import numpy.typing as npt

from ltau_cli.core.histogram import make_edges, summarize_samples
from ltau_cli.core.search.cells import ExactSearcher
from ltau_cli.core.search.loo import leave_one_out
from ltau_cli.core.search.points import find_points
from ltau_cli.core.search.scaling import fit_scaling
from ltau_cli.core.search.shards import OneShard
from ltau_cli.core.suspects import OUTLIER, own_quartile, robust_score

Array = npt.NDArray[Any]

SAMPLE = Path(__file__).resolve().parent.parent / "sample_data"
K = 30
N_PLANTED = 10
NATOMS = 55


def read() -> tuple[Array, Array, Array]:
    """The log (n_epochs, n), the descriptors and the forces of the training atoms."""
    n_epochs = len(list((SAMPLE / "logs").iterdir()))
    logs = [np.load(SAMPLE / "logs" / f"force_errors_epoch_{e}.npy") for e in range(n_epochs)]
    frames = ase.io.read(SAMPLE / "train.xyz", ":")
    forces = np.concatenate([frame.arrays["REF_forces"] for frame in frames])
    return np.stack(logs), np.load(SAMPLE / "train_descriptors.npy"), forces


def plant(log: Array, rows: Array, wrong: Array, rng: np.random.Generator) -> Array:
    """Errors as they would be if the labels of these rows were wrong by ``wrong`` (n_rows,)."""
    own = log[:, rows].astype(float)
    cosine = rng.uniform(-1, 1, own.shape)
    planted: Array = log.copy()
    planted[:, rows] = np.sqrt(own**2 + wrong**2 + 2 * own * wrong * cosine)
    return planted


def main(n_draws: int) -> None:
    log, descriptors, forces = read()
    final = float(log[-1].mean())
    scaling = fit_scaling(
        lambda: [descriptors], descriptors.shape[1], scale="whiten", metric="euclidean"
    )
    scaled = scaling.apply(descriptors)
    points = find_points(scaled, np.full(len(scaled), len(log)))
    shards = OneShard(scaled[points.first], ExactSearcher(scaled[points.first]))
    edges = make_edges(
        bins=100, low=0.01 * final, high=float(log.max()), grid="log", thresholds=[final]
    )

    def scores(errors: Array) -> Iterator[tuple[str, Array]]:
        summary = summarize_samples(errors, edges, np.array([final]))
        statistics = {
            "lower quartile": own_quartile(summary.counts, summary.max_error, edges),
            "mean error": summary.mean_error,
        }
        for name, own in statistics.items():
            others = leave_one_out(shards, points, own, None, K).expected_error
            yield name, robust_score(own, others)

    print(f"{len(scaled):,} atoms, {N_PLANTED} with wrong labels, {n_draws} draws, k = {K}\n")
    print("| label wrong by | compared by | suspects without | found | among the first ten |")
    print("| --- | --- | --- | --- | --- |")
    alone = {name: int((score > OUTLIER).sum()) for name, score in scores(log)}
    for kind in ("2 x the final error", "4 x the final error", "force of the next frame"):
        found = {name: [0, 0] for name in alone}
        for draw in range(n_draws):
            rng = np.random.default_rng(draw)
            rows = rng.choice(len(scaled) - NATOMS, N_PLANTED, replace=False)
            wrong = np.linalg.norm(forces[rows] - forces[rows + NATOMS], axis=1)
            if kind[0].isdigit():
                wrong = np.full(N_PLANTED, int(kind[0]) * final)
            for name, score in scores(plant(log, rows, wrong, rng)):
                found[name][0] += int((score[rows] > OUTLIER).sum())
                found[name][1] += len(np.intersect1d(np.argsort(-score)[:N_PLANTED], rows))
        for name, (suspects, first) in found.items():
            of = N_PLANTED * n_draws
            cells = [kind, name, str(alone[name]), f"{suspects} of {of}", f"{first} of {of}"]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(options.draws)
