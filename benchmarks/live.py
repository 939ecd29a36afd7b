#!/usr/bin/env python3
"""How much longer MACE or NequIP take when Live tells error bars beside their forces.

    python benchmarks/live.py mace      (in an environment with ltau[mace])
    python benchmarks/live.py nequip

Networks of the usual size with random weights on rattled copper-gold crystals, one thread. The
training set is other frames as the network sees them, with made-up error logs: neither weights nor
errors change what is timed. Processor time of the calculator in steps of molecular dynamics, and
of what Live does beside it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
parser.add_argument("package", choices=["mace", "nequip"])
parser.add_argument("--samples", type=int, default=5_000, help="of the training set")
parser.add_argument("--steps", type=int, default=3, help="of dynamics that are timed")
parser.add_argument("--sizes", type=int, nargs="+", default=[108, 256, 500, 1008])
if __name__ == "__main__":
    arguments = parser.parse_args()  # before what takes long to import

import ase.io
import numpy as np
import torch
from ase.build import bulk
from ase.md.verlet import VelocityVerlet
from ase.units import fs

import ltau_cli as ltau
from ltau_cli.packages.network import find_in_calculator

CUTOFF = 5.0  # Å
NEIGHBORS = 43.0  # of an atom, about
CELLS = {108: (3, 3, 3), 256: (4, 4, 4), 500: (5, 5, 5), 1008: (6, 6, 7)}  # of 4 atoms
ELEMENTS = (29, 79)
WARM = 1  # steps that are not timed


def make_mace() -> Any:
    """128 channels, two layers, messages up to l = 3, as the medium foundation models without L."""
    from mace import modules
    from mace.calculators import MACECalculator
    from mace.modules.blocks import o3  # after MACE, which lets it load with a newer PyTorch

    network = modules.ScaleShiftMACE(
        r_max=CUTOFF, num_bessel=8, num_polynomial_cutoff=5, max_ell=3,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=2, num_elements=len(ELEMENTS), hidden_irreps=o3.Irreps("128x0e"),
        MLP_irreps=o3.Irreps("16x0e"), atomic_energies=np.zeros(len(ELEMENTS)),
        avg_num_neighbors=NEIGHBORS, atomic_numbers=list(ELEMENTS), correlation=3,
        gate=torch.nn.functional.silu, radial_MLP=[64, 64, 64], radial_type="bessel",
        atomic_inter_scale=1.0, atomic_inter_shift=0.0,
    )  # fmt: skip
    return MACECalculator(models=[network.float()], device="cpu", default_dtype="float32")


def make_nequip() -> Any:
    """64 features, four layers, l up to 2."""
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.integrations.ase import NequIPCalculator
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    names = ["Cu", "Au"]
    network = NequIPGNNModel(
        seed=1, model_dtype="float32", type_names=names, r_max=CUTOFF, l_max=2, parity=False,
        num_layers=4, num_features=64, num_bessels=8, radial_mlp_depth=2, radial_mlp_width=64,
        avg_num_neighbors=NEIGHBORS,
    )  # fmt: skip
    return NequIPCalculator(
        network.eval(), "cpu",
        transforms=[
            ChemicalSpeciesToAtomTypeMapper(model_type_names=names),
            NeighborListTransform(r_max=CUTOFF),
        ],
    )  # fmt: skip


def make_frames(n_atoms: int, n_frames: int, seed: int) -> Iterator[Any]:
    """Rattled crystals of copper and gold."""
    rng = np.random.default_rng(seed)
    for _ in range(n_frames):
        frame = bulk("Cu", cubic=True, a=3.85) * CELLS[n_atoms]
        frame.numbers = rng.choice(ELEMENTS, len(frame))
        frame.positions += rng.normal(0, rng.uniform(0.05, 0.15), frame.positions.shape)
        yield frame


def describe(package: str, calculator: Any, frames: list[Any]) -> Any:
    """Descriptors (n_atoms, d) of all frames."""
    with find_in_calculator(package, calculator, None).listen() as heard:
        for frame in frames:
            calculator.get_property("energy", frame)
    return np.concatenate([found.cpu().numpy() for found in heard])


def make_artifacts(folder: Path, package: str, calculator: Any, n_samples: int) -> None:
    """A model of n_samples, and a calibration by the distances around each atom: the costliest."""
    rng = np.random.default_rng(0)
    train = describe(package, calculator, list(make_frames(108, -(-n_samples // 108), 1)))
    np.save(folder / "train.npy", train[:n_samples])
    np.save(folder / "log.npy", rng.lognormal(-3, 1, (50, n_samples)).astype(np.float32))
    frames = list(make_frames(108, 20, 2))
    ase.io.write(folder / "known.xyz", frames)
    np.save(folder / "known.npy", describe(package, calculator, frames))
    np.save(folder / "true.npy", rng.lognormal(-3, 1, 108 * len(frames)))
    ltau.ingest(folder / "log.npy", folder / "errors.h5", units="eV/Å")
    ltau.fit(folder / "errors.h5", folder / "train.npy", folder / "model.h5")
    known, scores = str(folder / "known.xyz"), folder / "scores.h5"
    ltau.score(folder / "known.npy", folder / "model.h5", scores, frames=known)
    settings = ltau.CalibrateSettings(method="distance")
    ltau.calibrate(scores, folder / "true.npy", folder / "calibration.h5", settings=settings)


def timed(calculator: Any) -> list[float]:
    """Processor times of the evaluations by a calculator, which go on growing."""
    evaluate, seconds = calculator.calculate, []

    def calculate(*given: Any, **named: Any) -> None:
        start = time.process_time()
        evaluate(*given, **named)
        seconds.append(time.process_time() - start)

    calculator.calculate = calculate
    return seconds


def run_dynamics(calculator: Any, n_atoms: int, steps: int) -> None:
    """Run steps of dynamics of a rattled crystal."""
    (atoms,) = make_frames(n_atoms, 1, 3)
    atoms.calc = calculator
    dynamics: Any = VelocityVerlet(atoms, timestep=fs)
    dynamics.run(steps)


def main(arguments: argparse.Namespace) -> None:
    """Print a table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    calculator = {"mace": make_mace, "nequip": make_nequip}[arguments.package]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_artifacts(folder, arguments.package, calculator, arguments.samples)
        width = np.load(folder / "train.npy", mmap_mode="r").shape[1]
        print(f"{arguments.package}: {arguments.samples:,} training samples x {width}, one thread")
        print("atoms  calculator (s)  Live beside it (s)  share")
        live = ltau.Live(
            calculator, folder / "model.h5", folder / "calibration.h5", arguments.package
        )
        evaluations, own = timed(calculator), timed(live)
        for n_atoms in arguments.sizes:
            evaluations.clear()
            own.clear()
            run_dynamics(live, n_atoms, WARM + arguments.steps)
            network = np.array(evaluations[WARM + 1 :])
            beside = np.array(own[WARM + 1 :]) - network
            print(
                f"{n_atoms:5,}  {np.median(network):14.3f}  {np.median(beside):18.4f}  "
                f"{np.median(beside / network):5.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main(arguments)
