"""Stands in for sample_data/make_sample_data.py, which needs torch: small frames, no training.

The errors fall with the epochs. The forces are those of the labels, or of EMT, and a push that
depends on the place and the seed.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.cluster import Icosahedron

torch = SimpleNamespace(
    set_num_threads=lambda n: None,
    use_deterministic_algorithms=lambda on: None,
    save=lambda state, path: Path(path).write_text(json.dumps(state)),
    load=lambda path: json.loads(Path(path).read_text()),
)
NATOMS = 5
SPECIES = ("Cu", "Au")


@dataclass(frozen=True)
class FrameSet:
    """How a set of frames is drawn."""

    name: str
    stream: int
    temperature: float
    n_starts: int
    frames_per_start: int


def make_frames(seed, frame_set):
    rng = np.random.default_rng([seed, frame_set.stream])
    frames = []
    for _ in range(frame_set.n_starts * frame_set.frames_per_start):
        frame = Atoms("Cu3Au2", positions=rng.normal(size=(NATOMS, 3)) * frame_set.temperature)
        frame.info["temperature_K"] = frame_set.temperature
        frame.set_array("REF_forces", rng.normal(size=(NATOMS, 3)))
        frames.append(frame)
    return frames


def random_particle(rng, n_cu):
    cluster = Icosahedron("Cu", noshells=2, latticeconstant=3.85)
    n_cu = n_cu * len(cluster) // 55
    symbols = ["Cu"] * n_cu + ["Au"] * (len(cluster) - n_cu)
    return Atoms(rng.permutation(symbols).tolist(), positions=cluster.positions)


def labeled_copy(atoms):
    frame = Atoms(atoms.symbols, positions=atoms.positions)
    frame.info["REF_energy"] = atoms.get_potential_energy()
    frame.set_array("REF_forces", atoms.get_forces())
    return frame


class Model:
    def __init__(self, seed=0):
        self.seed = seed

    def state_dict(self):
        return {"seed": self.seed}

    def load_state_dict(self, state):
        self.seed = state["seed"]


def train(frames, epochs, seed, weights=None, on_epoch=None, resample=False):
    rng = np.random.default_rng(seed)
    n = sum(len(frame) for frame in frames)
    for epoch in range(epochs if on_epoch else 0):
        on_epoch(epoch, (rng.random(n) / (epoch + 1) + 0.01).astype(np.float32))
    return Model(seed)


def evaluate(model, frames):
    positions = np.concatenate([frame.positions for frame in frames]).astype(np.float32)
    pushed = np.concatenate([np.sin(frame.positions + model.seed) for frame in frames])
    labels = [frame.arrays.get("REF_forces") for frame in frames]
    forces = [
        EMT().get_forces(frame) if own is None else own
        for frame, own in zip(frames, labels, strict=True)
    ]
    return positions, np.concatenate(forces) + 0.1 * pushed, np.zeros(len(frames))


def reference_forces(frames):
    return np.concatenate([frame.arrays["REF_forces"] for frame in frames])
