#!/usr/bin/env python3
"""Does `ltau select` choose frames that are worth labeling? A small retraining experiment.

A force field (that of sample_data/) is trained on a few frames at 300 K. A pool at 300, 600 and
900 K is scored with its error log, N frames are chosen by each strategy, the force field is trained
again from scratch on the old and the new frames, and its force error is measured on the rest of
the pool and on test frames. Random choices are repeated with several seeds, all of it with several
seeds of the training. Calibrated scores are calibrated on a few more frames at 300 K, as anybody
has who stops a training early.

    python benchmarks/selection.py            # some minutes on two cores; needs torch and ase

All frames come from molecular dynamics with the seeds below; nothing is tuned to the result.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.cli import main as ltau

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Frames = dict[str, list[Any]]

ROOT = Path(__file__).resolve().parent.parent
SEED = 0
TEMPERATURES = (300, 600, 900)
N_CHOSEN = 18
EPOCHS = 100
RANDOM_SEEDS = 5
STRATEGIES = {
    "calibrated, --descriptors": ["calibrated.h5", "--descriptors", "pool.npy"],
    "calibrated, --descriptors --by mean":
        ["calibrated.h5", "--descriptors", "pool.npy", "--by", "mean"],
    "calibrated": ["calibrated.h5"],
    "--descriptors": ["scores.h5", "--descriptors", "pool.npy"],
    "--descriptors --column relative_distance":
        ["scores.h5", "--descriptors", "pool.npy", "--column", "relative_distance"],
    "neither": ["scores.h5"],
}  # fmt: skip


def load_sample() -> Any:
    path = ROOT / "sample_data" / "make_sample_data.py"
    spec = importlib.util.spec_from_file_location("make_sample_data", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.torch.set_num_threads(1)
    module.torch.use_deterministic_algorithms(True)
    return module


def frame_sets(sample: Any) -> dict[str, list[Any]]:
    """How all frames are drawn; the streams are not those of the sample data."""
    sets: dict[str, list[Any]] = {
        "start": [sample.FrameSet("start", 10, 300, 6, 3)],
        "pool": [],
        "test": [],
    }
    sets["validation"] = [sample.FrameSet("validation", 40, 300, 6, 2)]
    for i, temperature in enumerate(TEMPERATURES):
        sets["pool"].append(sample.FrameSet("pool", 20 + i, temperature, 6, 10))
        sets["test"].append(sample.FrameSet("test", 30 + i, temperature, 4, 3))
    return sets


def make_all(workers: ProcessPoolExecutor, sets: dict[str, list[Any]]) -> Frames:
    """Frames of each set of `frame_sets`, made by worker processes."""
    jobs = [(name, frame_set) for name, of in sets.items() for frame_set in of]
    frames: Frames = {name: [] for name in sets}
    made = workers.map(make, [astuple(frame_set) for _, frame_set in jobs])
    for (name, _), own in zip(jobs, made, strict=True):
        frames[name] += own
    return frames


def make(fields: tuple[Any, ...]) -> list[Any]:
    sample = load_sample()  # a worker cannot unpickle a FrameSet before this
    frames: list[Any] = sample.make_frames(SEED, sample.FrameSet(*fields))
    return frames


def choose(
    sample: Any,
    model: Any,
    errors: list[Floats],
    start: list[Any],
    validation: list[Any],
    pool: list[Any],
) -> dict[str, Rows]:
    """Frames that each strategy chooses, with the errors logged while `model` was trained."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            np.save("log.npy", errors)
            np.save("train.npy", sample.evaluate(model, start)[0])
            np.save("pool.npy", sample.evaluate(model, pool)[0])
            np.save("natoms.npy", [len(frame) for frame in pool])
            descriptors, forces = sample.evaluate(model, validation)[:2]
            np.save("val.npy", descriptors)
            np.save("val_natoms.npy", [len(frame) for frame in validation])
            np.save("val_errors.npy", forces - sample.reference_forces(validation))
            run_ltau("ingest", "log.npy")
            run_ltau("fit", "errors.h5", "train.npy", "--threads", "1")
            run_ltau("score", "pool.npy", "--natoms", "natoms.npy", "--threads", "1")
            run_ltau("score", "val.npy", "--natoms", "val_natoms.npy", "-o", "val.h5")
            run_ltau("calibrate", "val.h5", "val_errors.npy", "--fit-fraction", "0.9")
            run_ltau("score", "pool.npy", "--natoms", "natoms.npy", "--threads", "1",
                     "--calibration", "calibration.h5", "-o", "calibrated.h5")  # fmt: skip
            chosen = {}
            for name, options in STRATEGIES.items():
                run_ltau("select", *options, "-n", str(N_CHOSEN), "-f")
                chosen[name] = np.loadtxt("chosen.txt", dtype=int)
            return chosen
        finally:
            os.chdir(here)


def run_ltau(*words: str) -> None:
    code = ltau.run([*words, "-q"])
    assert code == 0, f"{words}: exit code {code}"


def force_errors(sample: Any, model: Any, frames: list[Any]) -> Floats:
    """Mean norm of the force error of each frame, in eV/Å."""
    forces = sample.evaluate(model, frames)[1]
    errors = np.linalg.norm(forces - sample.reference_forces(frames), axis=1)
    return np.asarray(errors.reshape(len(frames), -1).mean(axis=1))


def first_training(job: tuple[Any, ...]) -> tuple[Floats, Floats, dict[str, Rows]]:
    """Train on the start; return the errors before, and the choice of each strategy."""
    seed, start, validation, pool, test = job
    sample = load_sample()
    errors: list[Floats] = []
    model = sample.train(start, EPOCHS, seed, on_epoch=lambda _, e: errors.append(e.copy()))
    chosen = choose(sample, model, errors, start, validation, pool)
    return force_errors(sample, model, pool), force_errors(sample, model, test), chosen


def retraining(job: tuple[Any, ...]) -> tuple[float, Floats]:
    seed, start, pool, test, chosen = job
    sample = load_sample()
    model = sample.train([*start, *(pool[i] for i in chosen)], EPOCHS, seed)
    rest = np.setdiff1d(np.arange(len(pool)), chosen)
    of_rest = force_errors(sample, model, [pool[i] for i in rest])
    return float(of_rest.mean()), force_errors(sample, model, test)


def report(began: float, what: str) -> None:
    print(f"{time.perf_counter() - began:.0f} s: {what}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="of the training")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    began = time.perf_counter()
    sets = frame_sets(load_sample())
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as workers:
        frames = make_all(workers, sets)
        start, validation, pool, test = (
            frames[name] for name in ("start", "validation", "pool", "test")
        )
        report(began, "frames made")
        kelvin = np.array([frame.info["temperature_K"] for frame in pool])
        tested = np.array([frame.info["temperature_K"] for frame in test])
        seeds = range(arguments.seeds)
        first = list(
            workers.map(first_training, [(s, start, validation, pool, test) for s in seeds])
        )
        report(began, "first trainings done")
        choices = []  # (strategy, seed of the training, frames)
        for seed, (_, _, chosen) in zip(seeds, first, strict=True):
            choices += [(name, seed, frames) for name, frames in chosen.items()]
            for number in range(RANDOM_SEEDS):
                rng = np.random.default_rng([SEED, seed, number])
                choices.append(("random", seed, rng.permutation(len(pool))[:N_CHOSEN]))
        jobs = [(seed, start, pool, test, chosen) for _, seed, chosen in choices]
        results = list(workers.map(retraining, jobs))

    print(
        f"{len(start)} frames at 300 K, {N_CHOSEN} more from a pool of {len(pool)}; "
        f"{len(test)} test frames; {EPOCHS} epochs, {arguments.seeds} seeds of the training, "
        f"{RANDOM_SEEDS} random choices each"
    )
    print("mean force error in eV/Å, mean ± standard deviation over the trainings\n")
    columns = ["rest of the pool", "test", *(f"test {t} K" for t in TEMPERATURES), "chosen at"]
    print("| choice | " + " | ".join(columns) + " |")
    print("| --- " * (len(columns) + 1) + "|")

    def show(name: str, rest: list[float], of_test: list[Floats], numbers: str) -> None:
        table = np.array([
            [r, e.mean(), *(e[tested == t].mean() for t in TEMPERATURES)]
            for r, e in zip(rest, of_test, strict=True)
        ])  # fmt: skip
        cells = [f"{column.mean():.4f} ± {column.std(ddof=1):.4f}" for column in table.T]
        print(f"| {name} | " + " | ".join(cells) + f" | {numbers} |", flush=True)

    show("none", [e.mean() for e, _, _ in first], [e for _, e, _ in first], "")
    for name in ("random", *STRATEGIES):
        own = [i for i, choice in enumerate(choices) if choice[0] == name]
        counts = [np.mean([(kelvin[choices[i][2]] == t).sum() for i in own]) for t in TEMPERATURES]
        numbers = ", ".join(f"{n:.3g} × {t} K" for n, t in zip(counts, TEMPERATURES, strict=True))
        show(name, [results[i][0] for i in own], [results[i][1] for i in own], numbers)
    report(began, "done")


if __name__ == "__main__":
    main()
