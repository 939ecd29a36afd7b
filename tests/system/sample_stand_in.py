"""Stands in for sample_data/make_sample_data.py, which needs torch: small frames, no training.

The errors fall with the epochs and grow with the temperature; nothing is computed from physics.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from ase import Atoms

torch = SimpleNamespace(
    set_num_threads=lambda n: None, use_deterministic_algorithms=lambda on: None
)
NATOMS = 5


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


def train(frames, epochs, seed, weights=None, on_epoch=None, resample=False):
    rng = np.random.default_rng(seed)
    n = sum(len(frame) for frame in frames)
    for epoch in range(epochs if on_epoch else 0):
        on_epoch(epoch, (rng.random(n) / (epoch + 1) + 0.01).astype(np.float32))
    return seed


def evaluate(model, frames):
    positions = np.concatenate([frame.positions for frame in frames]).astype(np.float32)
    rng = np.random.default_rng(model)
    forces = reference_forces(frames) + 1e-4 * positions * rng.normal(size=positions.shape)
    return positions, forces, np.zeros(len(frames))


def reference_forces(frames):
    return np.concatenate([frame.arrays["REF_forces"] for frame in frames])
