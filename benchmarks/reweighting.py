#!/usr/bin/env python3
"""Do the weights of `ltau weights` move the training-validation gap? A small retraining experiment.

A force field (that of sample_data/) is trained on frames at 300, 600 and 900 K while its errors
are logged. `ltau weights --per structure` gives every frame a weight with either emphasis, and the
force field is trained again from scratch, from the same seed, with these weights on the loss. As a
control, the same weights are also dealt out to the frames at random. All of it is repeated with
several seeds.

    python benchmarks/reweighting.py            # some minutes on two cores; needs torch and ase

With --wrong 0.1 the forces of a tenth of the training frames are wrong: those of the next frame of
the same trajectory.

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

import numpy as np
from selection import SEED, TEMPERATURES, force_errors, load_sample, run_ltau

EPOCHS = 100
EMPHASES = ("hard", "easy")


def frame_sets(sample):
    """How all frames are drawn; the streams are those of no other data."""
    return {
        name: [
            sample.FrameSet(name, stream + i, temperature, starts, 3)
            for i, temperature in enumerate(TEMPERATURES)
        ]
        for name, stream, starts in (("training", 40, 4), ("validation", 50, 5))
    }


def make(job):
    name, i = job
    sample = load_sample()
    return sample.make_frames(SEED, frame_sets(sample)[name][i])


def mislabel(frames, share):
    """Give some frames the forces of the next frame of their start; return copies."""
    wrong = np.random.default_rng(SEED).permutation(len(frames))[: round(share * len(frames))]
    labeled = [frame.copy() for frame in frames]
    for i in wrong:
        other = i + 1 if i % 3 < 2 else i - 2  # three frames to a start
        labeled[i].set_array("REF_forces", frames[other].arrays["REF_forces"])
    return labeled, wrong


def weigh(sample, model, errors, frames):
    """Weights of the frames with either emphasis, from the errors logged while training."""
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
            for emphasis in EMPHASES:
                run_ltau(
                    "weights", "model.h5", "-f", "--emphasis", emphasis, "--suspects", "0",
                    "--per", "structure", "--natoms", "natoms.npy", "--threads", "1",
                )  # fmt: skip
                weights[emphasis] = np.load("weights.npy")
            return weights
        finally:
            os.chdir(here)


def first_training(job):
    """Train plainly; return the errors of both sets and the weights."""
    seed, training, validation, right = job
    sample = load_sample()
    errors = []
    model = sample.train(training, EPOCHS, seed, on_epoch=lambda _, e: errors.append(e.copy()))
    weights = weigh(sample, model, errors, training)
    return (force_errors(sample, model, right), force_errors(sample, model, validation)), weights


def retraining(job):
    seed, training, validation, right, weights = job
    sample = load_sample()
    model = sample.train(training, EPOCHS, seed, weights=weights)
    return force_errors(sample, model, right), force_errors(sample, model, validation)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3, help="of the training")
    parser.add_argument("--wrong", type=float, default=0.0, help="share of mislabeled frames")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    began = time.perf_counter()
    sets = frame_sets(load_sample())
    jobs = [(name, i) for name, of in sets.items() for i in range(len(of))]
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as workers:
        frames = {name: [] for name in sets}
        for (name, _), made in zip(jobs, workers.map(make, jobs), strict=True):
            frames[name] += made
        validation = frames["validation"]
        training, wrong = mislabel(frames["training"], arguments.wrong)
        right = [frame for i, frame in enumerate(training) if i not in wrong]
        data = (training, validation, right)
        seeds = range(arguments.seeds)
        first = list(workers.map(first_training, [(s, *data) for s in seeds]))
        weighted = []  # (name, seed, weights)
        for seed, (_, weights) in zip(seeds, first, strict=True):
            rng = np.random.default_rng([SEED, seed])
            for emphasis in EMPHASES:
                weighted.append((emphasis, seed, weights[emphasis]))
                shuffled = rng.permutation(weights[emphasis])
                weighted.append((f"{emphasis}, dealt out at random", seed, shuffled))
        results = list(workers.map(retraining, [(s, *data, w) for _, s, w in weighted]))

    print(
        f"{len(training)} training frames, {len(wrong)} of them mislabeled, {len(validation)} "
        f"validation frames, {EPOCHS} epochs, {arguments.seeds} seeds of the training"
    )
    print("weights of frames in the mean over seeds:")
    kelvin = np.array([frame.info["temperature_K"] for frame in training])
    for emphasis in EMPHASES:
        mean = np.mean([weights[emphasis] for _, weights in first], axis=0)
        parts = [f"{mean[kelvin == t].mean():.2f} at {t} K" for t in TEMPERATURES]
        if len(wrong):
            parts.append(f"{mean[wrong].mean():.2f} if mislabeled")
        print(f"  {emphasis}: {mean.min():.2f} to {mean.max():.2f}; " + ", ".join(parts))
    print("mean force error in eV/Å (training: of frames with right labels), mean ± standard")
    print("deviation over the seeds; changes are against plain training from the same seed\n")
    tested = np.array([frame.info["temperature_K"] for frame in validation])
    columns = [
        "training", "validation", "gap", "change of training", "change of validation",
        "change of the gap", *(f"validation {t} K" for t in TEMPERATURES),
    ]  # fmt: skip
    print("| weights | " + " | ".join(columns) + " |")
    print("| --- " * (len(columns) + 1) + "|")
    plain = np.array([numbers(errors, tested) for errors, _ in first])

    def show(name, table):
        change = table[:, :3] - plain[:, :3]
        cells = [
            *(f"{c.mean():.4f} ± {c.std(ddof=1):.4f}" for c in table[:, :3].T),
            *(f"{c.mean():+.4f} ± {c.std(ddof=1):.4f}" for c in change.T),
            *(f"{c.mean():.4f}" for c in table[:, 3:].T),
        ]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)

    show("plain", plain)
    for name in dict.fromkeys(name for name, _, _ in weighted):
        own = [e for (n, _, _), e in zip(weighted, results, strict=True) if n == name]
        show(name, np.array([numbers(errors, tested) for errors in own]))
    print(f"\n{time.perf_counter() - began:.0f} s")


def numbers(errors, tested):
    """Training and validation error, their gap, and the validation error at each temperature."""
    training, validation = errors[0].mean(), errors[1].mean()
    parts = [errors[1][tested == t].mean() for t in TEMPERATURES]
    return [training, validation, validation - training, *parts]


if __name__ == "__main__":
    main()
