"""Train the sample network on a test system, once per seed, and keep what it says of every set.

A network is a folder as ``benchmarks/calibration.py`` reads it: ``logs/``, ``train_*.npy`` and for
every set ``test_SET_*.npy``; ``seconds.json`` holds the processor time of the training.
"""

from __future__ import annotations

import copy
import json
import shutil
import time
from pathlib import Path
from typing import Any

import make_sample_data as sample
import numpy as np
from ase import Atoms

from ltau_cli.core.trajectory import trajectory_of
from scorecard.systems import SETS, System, frames_of, system_named

EPOCHS = 80
KEPT = (27, 35, 43, 51)  # epochs whose weights give the trajectory, as ltau describe chooses them
SEEDS = (0, 1, 2, 3)


def make_system(name: str, cache: Path) -> list[Path]:
    """Make the frames and the networks of a system, or what is missing of them; return folders."""
    sample.torch.set_num_threads(1)
    sample.torch.use_deterministic_algorithms(True)
    system = system_named(name)
    folders = [cache / system.name / f"seed_{seed}" for seed in SEEDS]
    if not all(folder.exists() for folder in folders):
        train = frames_of(system, "train", cache)
        test = {name: frames_of(system, name, cache) for name in SETS}
        for seed, folder in zip(SEEDS, folders, strict=True):
            if not folder.exists():
                make_network(system, seed, train, test, folder)
    return folders


def make_network(
    system: System, seed: int, train: list[Atoms], test: dict[str, list[Atoms]], folder: Path
) -> None:
    """Train, and write the folder at once when all is done."""
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "logs").mkdir(parents=True)
    kept = {}

    def keep(epoch: int, weights: dict[str, Any]) -> None:
        if epoch in KEPT:
            kept[epoch] = copy.deepcopy(weights)

    began = time.process_time()
    network = sample.train(
        train, EPOCHS, seed, species=system.species, shortest=system.shortest, on_weights=keep,
        on_epoch=lambda epoch, errors: np.save(part / "logs" / f"epoch_{epoch}.npy", errors),
    )  # fmt: skip
    seconds = time.process_time() - began
    write_set(part / "train", train, *sample.evaluate(network, train)[:2])
    for name, frames in test.items():
        write_set(part / f"test_{name}", frames, *sample.evaluate(network, frames)[:2])
    forces: dict[str, list[np.ndarray]] = {name: [] for name in test}
    for weights in kept.values():
        network.load_state_dict(weights)
        for name, frames in test.items():
            forces[name].append(sample.evaluate(network, frames)[1])
    for name, of_set in forces.items():
        told = np.load(part / f"test_{name}_forces_pred.npy")
        np.save(part / f"test_{name}_trajectory.npy", trajectory_of(told, np.stack(of_set)))
    (part / "seconds.json").write_text(json.dumps(seconds))
    part.rename(folder)


def write_set(
    prefix: Path, frames: list[Atoms], descriptors: np.ndarray, forces: np.ndarray
) -> None:
    arrays = {
        "descriptors": descriptors,
        "natoms": np.array([len(frame) for frame in frames]),
        "species": np.concatenate([np.array(frame.get_chemical_symbols()) for frame in frames]),
        "draws": np.array([frame.info["start"] for frame in frames]),
        "forces_pred": forces,
        "forces_true": sample.reference_forces(frames),
    }
    for name, values in arrays.items():
        np.save(f"{prefix}_{name}.npy", values)
