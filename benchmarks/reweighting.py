#!/usr/bin/env python3
"""Do the weights of `ltau weights` move the training-validation gap? A small retraining experiment.

A force field (that of sample_data/) is trained on a few frames at 300, 600 and 900 K while its
errors are logged. `ltau weights --per structure` gives every frame a weight, with either emphasis,
or says which to keep, and the force field is trained again from scratch, from the same seed, with
these weights on the loss. As a control, the weights are also dealt out to the frames at random. All
of it is repeated with several seeds, once with right labels and once with some wrong ones: the
forces of those frames are those of a picosecond later.

    python benchmarks/reweighting.py            # some minutes on two cores; needs torch and ase

All frames come from molecular dynamics with the seeds below; nothing is tuned to the result.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from selection import (
    SEED,
    TEMPERATURES,
    Floats,
    Rows,
    force_errors,
    load_sample,
    make_all,
    run_ltau,
)

EPOCHS = 300
N_STARTS, N_VALIDATION_STARTS = 4, 5  # at each temperature; one frame of each is trained on
N_WRONG = 2
STRATEGIES = {
    "--emphasis hard": ["--emphasis", "hard"],
    "--emphasis easy": ["--emphasis", "easy"],
    "--emphasis easy --keep 0.85": ["--emphasis", "easy", "--keep", "0.85"],
}
CONTROL = "--emphasis hard"
HOTTEST = TEMPERATURES[-1]


def frame_sets(sample: Any) -> dict[str, list[Any]]:
    """How all frames are drawn; the streams are not those of the sample data."""
    return {
        name: [
            sample.FrameSet(name, stream + i, temperature, starts, per_start)
            for i, temperature in enumerate(TEMPERATURES)
        ]
        for name, stream, starts, per_start in (
            ("training", 40, N_STARTS, 2), ("validation", 50, N_VALIDATION_STARTS, 3),
        )
    }  # fmt: skip


def mislabel(frames: list[Any], later: list[Any], n: int) -> tuple[list[Any], Rows]:
    """Give ``n`` frames the forces of ``later``; return which."""
    wrong = np.sort(np.random.default_rng(SEED).permutation(len(frames))[:n])
    labeled = [frame.copy() for frame in frames]
    for i in wrong:
        labeled[i].set_array("REF_forces", later[i].arrays["REF_forces"])
    return labeled, wrong


def weigh(
    sample: Any, model: Any, errors: list[Floats], frames: list[Any], temperature: float
) -> dict[str, Floats]:
    """Weights (n_frames,) by each strategy, from the errors logged while training."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            np.save("log.npy", errors)
            np.save("train.npy", sample.evaluate(model, frames)[0])
            np.save("natoms.npy", [len(frame) for frame in frames])
            run_ltau("ingest", "log.npy")
            run_ltau("fit", "errors.h5", "train.npy", "--threads", "1")
            weights = {}
            for name, options in STRATEGIES.items():
                run_ltau(
                    "weights", "model.h5", "-f", "-o", "w.npy", "--suspects", "0", "--per",
                    "structure", "--natoms", "natoms.npy", "--threads", "1",
                    "--temperature", str(temperature), *options,
                )  # fmt: skip
                weights[name] = np.load("w.npy")
                if "--keep" in options:
                    weights[name] = np.isin(np.arange(len(frames)), weights[name]).astype(float)
            return weights
        finally:
            os.chdir(here)


def first_training(job: tuple[Any, ...]) -> tuple[tuple[Floats, Floats], dict[str, Floats]]:
    """Train plainly; return the errors of both sets, and the weights."""
    seed, training, true, validation, temperature = job
    sample = load_sample()
    errors: list[Floats] = []
    model = sample.train(training, EPOCHS, seed, on_epoch=lambda _, e: errors.append(e.copy()))
    result = force_errors(sample, model, true), force_errors(sample, model, validation)
    return result, weigh(sample, model, errors, training, temperature)


def retraining(job: tuple[Any, ...]) -> tuple[Floats, Floats]:
    seed, training, true, validation, weights = job
    sample = load_sample()
    kept = np.flatnonzero(weights)
    model = sample.train([training[i] for i in kept], EPOCHS, seed, weights=weights[kept])
    return force_errors(sample, model, true), force_errors(sample, model, validation)


def experiment(
    workers: ProcessPoolExecutor,
    seeds: range,
    temperature: float,
    training: list[Any],
    true: list[Any],
    validation: list[Any],
    wrong: Rows,
) -> None:
    """Train and retrain with all seeds, and print one table."""
    data = training, true, validation
    first = list(workers.map(first_training, [(seed, *data, temperature) for seed in seeds]))
    weighted = []  # (name, seed, weights)
    for seed, (_, weights) in zip(seeds, first, strict=True):
        weighted += [(name, seed, own) for name, own in weights.items()]
        shuffled = np.random.default_rng([SEED, seed]).permutation(weights[CONTROL])
        weighted.append((f"{CONTROL}, dealt out at random", seed, shuffled))
    results = list(workers.map(retraining, [(seed, *data, own) for _, seed, own in weighted]))

    kelvin = [np.array([frame.info["temperature_K"] for frame in f]) for f in (true, validation)]
    print(f"\n{len(wrong)} of {len(training)} training frames with wrong labels")
    for name in STRATEGIES:
        all_seeds = np.array([weights[name] for _, weights in first])
        mean = all_seeds.mean(axis=0)
        parts = [f"{mean[kelvin[0] == t].mean():.2f} at {t} K" for t in TEMPERATURES]
        parts += [f"{mean[wrong].mean():.2f} of wrong labels"] if len(wrong) else []
        print(f"weights by {name}: {all_seeds.min():.2f} to {all_seeds.max():.2f}; mean", end=" ")
        print(", ".join(parts))

    def gaps(errors: tuple[Floats, Floats]) -> list[float]:
        """Training and validation error and their difference, of all and of the hottest."""
        of_all = [e.mean() for e in errors]
        of_hot = [e[t == HOTTEST].mean() for e, t in zip(errors, kelvin, strict=True)]
        return [*of_all, of_all[1] - of_all[0], *of_hot, of_hot[1] - of_hot[0]]

    plain = np.array([gaps(errors) for errors, _ in first])
    columns = ["training", "validation", "gap", "change of the gap"]
    columns += [f"{column} at {HOTTEST} K" for column in columns]
    print("\n| weights | " + " | ".join(columns) + " |")
    print("| --- " * (len(columns) + 1) + "|")
    show("none", plain, plain)
    for name in dict.fromkeys(name for name, _, _ in weighted):
        own = [e for (n, _, _), e in zip(weighted, results, strict=True) if n == name]
        show(name, np.array([gaps(errors) for errors in own]), plain)


def show(name: str, table: Floats, plain: Floats) -> None:
    cells = []
    for first in (0, 3):
        cells += [f"{c.mean():.4f} ± {c.std(ddof=1):.4f}" for c in table[:, first : first + 3].T]
        change = (table - plain)[:, first + 2]
        same = table is plain
        cells.append("" if same else f"{change.mean():+.4f} ± {change.std(ddof=1):.4f}")
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3, help="of the training")
    parser.add_argument("--temperature", type=float, default=3.0, help="of ltau weights")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    began = time.perf_counter()
    sets = frame_sets(load_sample())
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as workers:
        frames = make_all(workers, sets)
        true, later = frames["training"][::2], frames["training"][1::2]
        validation = frames["validation"]
        print(
            f"{len(true)} training and {len(validation)} validation frames, {EPOCHS} epochs, "
            f"{arguments.seeds} seeds of the training\nmean force error in eV/Å against true "
            "labels, mean ± standard deviation over the seeds;\nchanges are against training from "
            "the same seed without weights"
        )
        for n_wrong in (0, N_WRONG):
            training, wrong = mislabel(true, later, n_wrong)
            seeds = range(arguments.seeds)
            experiment(workers, seeds, arguments.temperature, training, true, validation, wrong)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
