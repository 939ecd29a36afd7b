#!/usr/bin/env python3
"""Do the weights of `ltau weights` move the training-validation gap? A small retraining experiment.

A force field (that of sample_data/) is trained on a few frames at 300, 600 and 900 K while its
errors are logged. `ltau weights --per structure` gives every frame a weight, with either emphasis,
or says which to keep, and the force field is trained again from scratch, from the same seed, with
these weights on the loss; or with frames drawn by them in every epoch. Or it is trained once, with
weights from its own log so far, made anew as it goes on. As controls, the weights are dealt out
to the frames at random, and frames are drawn with equal weights. All of it is repeated with several
seeds, once with right labels and once with some wrong ones: the forces of those frames are those of
a picosecond later.

    python benchmarks/reweighting.py            # half an hour of one core; needs torch and ase

All frames come from molecular dynamics with the seeds below; nothing is tuned to the result.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--seeds", type=int, default=5, help="of the training")
parser.add_argument("--epochs", type=int, default=200)
parser.add_argument("--temperature", type=float, default=3.0, help="of ltau weights")
parser.add_argument("--processes", type=int, default=2)
if __name__ == "__main__":
    arguments = parser.parse_args()  # before what takes long to import

import numpy as np
from scipy.special import stdtrit
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

from ltau_cli.core.weights import weigh as to_weights
from ltau_cli.settings import Emphasis, WeightSettings

N_STARTS, N_VALIDATION_STARTS = 4, 5  # at each temperature; one frame of each is trained on
N_WRONG = 2
STRATEGIES = {
    "--emphasis hard": ["--emphasis", "hard"],
    "--emphasis easy": ["--emphasis", "easy"],
    "--emphasis easy --keep 0.85": ["--emphasis", "easy", "--keep", "0.85"],
}
CONTROL = "--emphasis hard"
EMPHASES: tuple[Emphasis, ...] = ("hard", "easy")
UPDATED = "--emphasis {}, updated in training"
DRAWN = "--emphasis {}, frames drawn"
DRAWN_EQUALLY = "equal weights, frames drawn"
UPDATE_EVERY = 20  # epochs
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
    seed, training, true, validation, epochs, temperature = job
    sample = load_sample()
    errors: list[Floats] = []
    model = sample.train(training, epochs, seed, on_epoch=lambda _, e: errors.append(e.copy()))
    result = force_errors(sample, model, true), force_errors(sample, model, validation)
    return result, weigh(sample, model, errors, training, temperature)


def retraining(job: tuple[Any, ...]) -> tuple[Floats, Floats]:
    name, seed, training, true, validation, epochs, temperature, weights = job
    sample = load_sample()
    updated = [emphasis for emphasis in EMPHASES if name == UPDATED.format(emphasis)]
    if updated:
        update = updates(len(training), updated[0], temperature)
        model = sample.train(training, epochs, seed, on_epoch=update)
    else:
        kept, drawn = np.flatnonzero(weights), name.endswith("frames drawn")
        model = sample.train(
            [training[i] for i in kept], epochs, seed, weights=weights[kept], resample=drawn
        )
    return force_errors(sample, model, true), force_errors(sample, model, validation)


def updates(
    n_frames: int, emphasis: Emphasis, temperature: float
) -> Callable[[int, Floats], Floats | None]:
    """What a training calls after each epoch: now and then it gets weights from the log so far."""
    log: list[Floats] = []
    own = WeightSettings()

    def update(epoch: int, errors: Floats) -> Floats | None:
        log.append(errors.copy())
        if (epoch + 1) % UPDATE_EVERY:
            return None
        uncertainty = (np.array(log) > errors.mean()).mean(axis=0)
        return to_weights(
            uncertainty.reshape(n_frames, -1).mean(axis=1), emphasis=emphasis,
            temperature=temperature, floor=own.floor, ceiling=own.ceiling,
        )  # fmt: skip

    return update


def experiment(
    workers: ProcessPoolExecutor,
    arguments: argparse.Namespace,
    training: list[Any],
    true: list[Any],
    validation: list[Any],
    wrong: Rows,
) -> None:
    """Train and retrain with all seeds, and print the tables."""
    seeds = range(arguments.seeds)
    data = training, true, validation, arguments.epochs, arguments.temperature
    first = list(workers.map(first_training, [(seed, *data) for seed in seeds]))
    weighted: list[tuple[str, int, Floats | None]] = []
    for seed, (_, weights) in zip(seeds, first, strict=True):
        weighted += [(name, seed, own) for name, own in weights.items()]
        shuffled = np.random.default_rng([SEED, seed]).permutation(weights[CONTROL])
        weighted.append((f"{CONTROL}, dealt out at random", seed, shuffled))
        for emphasis in EMPHASES:
            weighted.append((UPDATED.format(emphasis), seed, None))
            weighted.append((DRAWN.format(emphasis), seed, weights[f"--emphasis {emphasis}"]))
        weighted.append((DRAWN_EQUALLY, seed, np.ones(len(training))))
    jobs = [(name, seed, *data, own) for name, seed, own in weighted]
    results = list(workers.map(retraining, jobs))

    kelvin = [np.array([frame.info["temperature_K"] for frame in f]) for f in (true, validation)]
    print(f"\n{len(wrong)} of {len(training)} training frames with wrong labels")
    for name in STRATEGIES:
        all_seeds = np.array([weights[name] for _, weights in first])
        mean = all_seeds.mean(axis=0)
        parts = [f"{mean[kelvin[0] == t].mean():.2f} at {t} K" for t in TEMPERATURES]
        parts += [f"{mean[wrong].mean():.2f} of wrong labels"] if len(wrong) else []
        print(f"weights by {name}: {all_seeds.min():.2f} to {all_seeds.max():.2f}; mean", end=" ")
        print(", ".join(parts))

    for title, temperatures in (("all frames", TEMPERATURES), (f"{HOTTEST} K", (HOTTEST,))):
        of_set = [np.isin(t, temperatures) for t in kelvin]

        def gaps(errors: tuple[Floats, Floats], of_set: list[Any] = of_set) -> list[float]:
            """Training and validation error, and their difference."""
            means = [float(e[part].mean()) for e, part in zip(errors, of_set, strict=True)]
            return [*means, means[1] - means[0]]

        plain = np.array([gaps(errors) for errors, _ in first])
        columns = [title, "training", "validation", "gap", "change of validation", "of the gap"]
        print("\n| " + " | ".join(columns) + " |\n" + "| --- " * len(columns) + "|")
        show("no weights", plain, plain)
        for name in dict.fromkeys(name for name, _, _ in weighted):
            own = [e for (n, _, _), e in zip(weighted, results, strict=True) if n == name]
            show(name, np.array([gaps(errors) for errors in own]), plain)


def show(name: str, table: Floats, plain: Floats) -> None:
    """Means with standard deviations; changes with 95 % intervals (Student's t)."""
    cells = [f"{c.mean():.4f} ± {c.std(ddof=1):.4f}" for c in table.T]
    reach = stdtrit(len(table) - 1, 0.975) / np.sqrt(len(table))
    for change in (table - plain).T[1:]:
        low, high = change.mean() + reach * change.std(ddof=1) * np.array([-1, 1])
        same = table is plain
        cells.append("" if same else f"{change.mean():+.4f} ({low:+.4f} to {high:+.4f})")
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main(arguments: argparse.Namespace) -> None:
    began = time.perf_counter()
    sets = frame_sets(load_sample())
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as workers:
        frames = make_all(workers, sets)
        true, later = frames["training"][::2], frames["training"][1::2]
        validation = frames["validation"]
        print(
            f"{len(true)} training and {len(validation)} validation frames, "
            f"{arguments.epochs} epochs, {arguments.seeds} seeds of the training\n"
            "mean force error in eV/Å against true labels, mean ± standard deviation over the "
            "seeds;\nchanges are against training from the same seed without weights, with 95 % "
            "intervals"
        )
        for n_wrong in (0, N_WRONG):
            training, wrong = mislabel(true, later, n_wrong)
            experiment(workers, arguments, training, true, validation, wrong)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main(arguments)
