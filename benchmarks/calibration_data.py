"""Many frames of the sample system for benchmarks/calibration.py, scored by the sample network.

    python benchmarks/calibration_data.py FOLDER [--processes N]

The network of sample_data is trained again on ``sample_data/train.xyz`` while its errors are
logged. Then new frames, EMT as the truth: 1,200 at 300 K (120 trajectories) and 100 at 900 K (20)
of the particles it was trained on, and 120 at 300 K (40) of another kind: 38 atoms instead of 55,
any number of them Cu. A second network, trained from another seed, is a committee of two with the
first: ``test_SET_spread.npy`` holds the size of the difference between their forces. Needs torch
and ase (``pip install ltau[sample]``) and about 25 minutes of one core.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", type=Path)
parser.add_argument("--processes", type=int, default=1)
if __name__ == "__main__":
    arguments = parser.parse_args()  # before what takes long to import

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.cluster import Octahedron
from ase.optimize import FIRE

SAMPLE_DATA = Path(__file__).resolve().parent.parent / "sample_data"
sys.path.insert(0, str(SAMPLE_DATA))
import make_sample_data as sample

SETS = (
    sample.FrameSet("test_300K", 11, sample.COLD, 120, 10),
    sample.FrameSet("test_900K", 12, sample.HOT, 20, 5),
    sample.FrameSet("test_other", 13, sample.COLD, 40, 3),
)


def main(arguments: argparse.Namespace) -> None:
    """Make the folder."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    folder = arguments.folder
    logs = sample.prepare_output(folder)
    frames = ase.io.read(SAMPLE_DATA / "train.xyz", ":")
    model = sample.train(
        frames, on_epoch=lambda epoch, errors: np.save(logs / f"epoch_{epoch}.npy", errors)
    )
    sample.write_set(folder, "train", frames, sample.evaluate(model, frames)[0])
    second = sample.train(frames, seed=sample.SEED + 1)
    starts = [(frame_set, start) for frame_set in SETS for start in range(frame_set.n_starts)]
    with ProcessPoolExecutor(
        arguments.processes, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        made = list(pool.map(make_start, starts, chunksize=1))
    for frame_set in SETS:
        own = [
            f for (of, _), found in zip(starts, made, strict=True) if of is frame_set for f in found
        ]
        found = sample.evaluate(model, own)
        sample.write_test_set(folder, frame_set.name, own, *found)
        difference = found[1] - sample.evaluate(second, own)[1]
        np.save(folder / f"{frame_set.name}_spread.npy", np.linalg.norm(difference, axis=1))
        np.save(folder / f"{frame_set.name}_draws.npy", [f.info["start"] for f in own])


def make_start(task: tuple[sample.FrameSet, int]) -> list[Atoms]:
    """Frames of one trajectory."""
    frame_set, start = task
    rng = np.random.default_rng([sample.SEED, frame_set.stream, start])
    hot = frame_set.temperature == sample.HOT  # it has to melt
    equilibration, spacing = (1000, 200) if hot else (300, 100)
    make = other_particle if frame_set.name == "test_other" else sample.random_particle
    return sample.run_md(
        make(rng), frame_set.temperature, frame_set.frames_per_start, start, rng,
        equilibration=equilibration, spacing=spacing,
    )  # fmt: skip


def other_particle(rng: np.random.Generator) -> Atoms:
    """Make a truncated octahedron of 38 atoms, any number of them Cu, relaxed with EMT."""
    cluster = Octahedron("Cu", 4, 1, latticeconstant=sample.LATTICE_CONSTANT)
    n_cu = int(rng.integers(0, len(cluster) + 1))
    symbols = np.array(["Cu"] * n_cu + ["Au"] * (len(cluster) - n_cu))
    atoms = Atoms(rng.permutation(symbols).tolist(), positions=cluster.positions)
    atoms.calc = EMT()
    FIRE(atoms, logfile=None).run(fmax=0.05, steps=300)
    return atoms


if __name__ == "__main__":
    main(arguments)
