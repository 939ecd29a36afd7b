#!/usr/bin/env python3
"""Do the error bars tell along a relaxation whether it goes wrong? An adsorbate on a particle.

The network of sample_data/ is trained on frames of EMT relaxations: a Cu-Au particle of 55 atoms
with one or two atoms put on it. Then it relaxes new ones with `Live` in the loop, and EMT does the
same from the same start. As in OC20 there are four sets: starts drawn as in training, a larger
adsorbate, another composition of the particle, and both. Three more networks, trained from other
seeds, are a committee with the first. From steps along each path EMT relaxes on, so that it is
known what a reference calculation is worth there. Then the report (relaxation_report.py).

    python benchmarks/relaxation.py FOLDER            # needs torch and ase

What FOLDER holds already is not made again: networks, logs, calibration, and every relaxation.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", type=Path)
parser.add_argument("--starts", type=int, default=26, help="of each set")
parser.add_argument("--training", type=int, default=60, help="relaxations to train on")
parser.add_argument("--validation", type=int, default=24, help="relaxations to calibrate on")
parser.add_argument("--seed", type=int, default=0, help="of all starts")
parser.add_argument("--plot", type=Path, help="figure to draw")
if __name__ == "__main__":
    chosen = parser.parse_args()  # before what takes long to import

import ase.io
import numpy as np
import relaxation_report
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.optimize import LBFGS
from calibration import threshold_scale
from selection import Floats, load_sample, run_ltau

from ltau_cli import Live, Scorer, load_model
from ltau_cli.artifacts.calibration import CalibrationFile
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.core.calibration.apply import rows_of

SETS = {  # Cu atoms in the particle, atoms of the adsorbate: from, to
    "as trained": ((22, 33), (1, 2)),
    "larger adsorbate": ((22, 33), (3, 5)),
    "other particle": ((5, 16), (1, 2)),
    "both": ((5, 16), (3, 5)),
}
TRAINED = "as trained"
PER_PATH = 5  # frames of each relaxation to train or to calibrate on
EPOCHS = 60
COMMITTEE = 4
FMAX = 0.05  # eV/Å
HANDOVER = (0, 5, 10, 20, 30, 50, 80, 120, 160)  # steps, and the last one
JOLT = 0.02  # Å; how far the start of the control is moved
LEVEL = 0.9  # of all bounds


def random_start(sample: Any, rng: np.random.Generator, name: str) -> Atoms:
    """A relaxed particle with an adsorbate put on it, its nearest atoms 2.4 Å apart."""
    (least_cu, most_cu), (least, most) = SETS[name]
    particle = sample.random_particle(rng, int(rng.integers(least_cu, most_cu + 1)))
    adsorbate = random_cluster(rng, int(rng.integers(least, most + 1)))
    away = direction(rng)
    center = particle.positions.mean(axis=0)
    for height in np.arange(3.0, 20.0, 0.02):  # Å
        placed = adsorbate + center + height * away
        gaps = np.linalg.norm(placed[:, None] - particle.positions, axis=2)
        if gaps.min() > 2.4:
            break
    symbols = [*particle.get_chemical_symbols(), *rng.choice(sample.SPECIES, len(adsorbate))]
    return Atoms(symbols, positions=np.vstack([particle.positions, placed]))


def random_cluster(rng: np.random.Generator, n: int) -> Floats:
    """Positions (n, 3) in Å of touching atoms, around the origin."""
    placed = [np.zeros(3)]
    while len(placed) < n:
        new = placed[rng.integers(len(placed))] + 2.6 * direction(rng)
        if min(np.linalg.norm(new - old) for old in placed) > 2.3:
            placed.append(new)
    return np.array(placed) - np.mean(placed, axis=0)


def direction(rng: np.random.Generator) -> Floats:
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


class Network(Calculator):
    """The sample network as a calculator of ASE."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (as ASE has it)

    def __init__(self, sample: Any, model: Any) -> None:
        super().__init__()
        self.sample, self.model = sample, model

    def calculate(
        self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.descriptors, forces, energy = self.sample.evaluate(self.model, [self.atoms])
        self.results = {"energy": float(energy[0]), "forces": forces.astype(np.float64)}

    def describe(self, atoms: Any) -> Any:
        """Descriptors (n, d) of the frame, from the evaluation of its forces."""
        self.get_property("forces", atoms)
        return self.descriptors


def relax(start: Atoms, calculator: Any, visit: Callable[[Any], Any] | None = None) -> Any:
    """Relax a copy; ``visit`` it at each step."""
    atoms = start.copy()
    atoms.calc = calculator
    optimizer: Any = LBFGS(atoms, logfile=None)  # type: ignore[arg-type]
    if visit:
        optimizer.attach(visit, 1, atoms)
    optimizer.run(fmax=FMAX, steps=relaxation_report.MOST_STEPS)
    return atoms


def labeled(sample: Any, file: Path, seed: tuple[int, int], n: int) -> list[Atoms]:
    """Frames along n relaxations with EMT, with the number of the relaxation; made once."""
    if not file.exists():
        frames = []
        for number in range(n):
            start = random_start(sample, np.random.default_rng([*seed, number]), TRAINED)
            path = reference_path(sample, start)
            for step in np.linspace(0, len(path) - 1, PER_PATH).round().astype(int):
                path[step].info["start"] = number
                frames.append(path[step])
        with written(file) as partial:
            ase.io.write(partial, frames)
    return list(ase.io.iread(file))


def train(sample: Any, folder: Path, frames: list[Atoms], seed: int) -> Any:
    """A network trained from a seed, with its log in ``folder``; made once."""
    path = folder / f"network_{seed}.pt"
    if not path.exists():
        logs = folder / f"logs_{seed}"
        logs.mkdir(exist_ok=True)
        model = sample.train(
            frames, EPOCHS, seed, on_epoch=lambda e, errors: np.save(logs / f"epoch_{e}", errors)
        )
        with written(path) as partial:
            sample.torch.save(model.state_dict(), partial)
    model = sample.Model()
    model.load_state_dict(sample.torch.load(path))
    return model


def reference_path(sample: Any, start: Atoms) -> list[Atoms]:
    """All steps of a relaxation with EMT, labeled."""
    path: list[Atoms] = []
    relax(start, EMT(), lambda atoms: path.append(sample.labeled_copy(atoms)))
    return path


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a name to write to; the file is there as a whole or not at all."""
    partial = path.with_name(f"partial_{path.name}")
    yield partial
    os.replace(partial, path)


def fit(sample: Any, folder: Path, models: list[Any], sets: dict[str, list[Atoms]]) -> None:
    """Fit and calibrate ltau, and fit the published method, on what the training left."""
    if (folder / "calibration.h5").exists():
        return
    files = {path: str(folder / path) for path in (
        "logs_0", "errors.h5", "train.npy", "model.h5", "published.h5", "validation.npy",
        "natoms.npy", "draws.npy", "true.npy", "validation.h5", "calibration.h5",
    )}  # fmt: skip
    validation = sets["validation"]
    descriptors, forces, _ = sample.evaluate(models[0], validation)
    true = np.linalg.norm(forces - sample.reference_forces(validation), axis=1)
    np.save(files["train.npy"], sample.evaluate(models[0], sets["train"])[0])
    np.save(files["validation.npy"], descriptors)
    np.save(files["natoms.npy"], [len(frame) for frame in validation])
    np.save(files["draws.npy"], [frame.info["start"] for frame in validation])
    np.save(files["true.npy"], true)
    np.save(folder / "spread.npy", spread([sample.evaluate(m, validation)[1] for m in models]))
    run_ltau("ingest", files["logs_0"], "-o", files["errors.h5"], "--units", "eV/Å", "-f")
    for model, options in (("model.h5", ()), ("published.h5", ("-k", "10", "--scale", "none"))):
        run_ltau("fit", files["errors.h5"], files["train.npy"], "-o", files[model], "-f",
                 "--threads", "1", *options)  # fmt: skip
    run_ltau("score", files["validation.npy"], "--model", files["model.h5"], "--natoms",
             files["natoms.npy"], "-o", files["validation.h5"], "--threads", "1", "-f")  # fmt: skip
    run_ltau("calibrate", files["validation.h5"], files["true.npy"], "--draws",
             files["draws.npy"], "--fit-fraction", "0.9", "-o", files["calibration.h5"],
             "-f")  # fmt: skip


def spread(forces: list[Floats]) -> Floats:
    """Of a committee's forces, m times (n, 3): root of the mean square distance to their mean."""
    of_all = np.array(forces, dtype=np.float64)
    return np.asarray(np.sqrt(((of_all - of_all.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0)))


class Rivals:
    """Error and 90 % bound of each atom by other methods, calibrated on the same frames."""

    def __init__(self, folder: Path) -> None:
        true, spread = np.load(folder / "true.npy"), np.load(folder / "spread.npy")
        self.per_spread = true.mean() / spread.mean()
        self.bound_per_spread = np.quantile(true / spread, LEVEL)
        self.ltau = Scorer(load_model(folder / "model.h5"), threads=1)
        self.published = Scorer(load_model(folder / "published.h5"), threads=1, quantiles=[LEVEL])
        uncertainty = self.published.score(np.load(folder / "validation.npy"))["uncertainty"][:, 0]
        threshold = float(self.published.thresholds[0])
        self.scale = threshold_scale(true, uncertainty.astype(np.float64), threshold)
        with open_artifact(folder / "calibration.h5", CalibrationFile) as artifact:
            self.calibration = artifact.calibration()

    def predict(self, descriptors: Any, spread: Floats) -> dict[str, Floats]:
        """Each (n, 2): error and bound."""
        published = self.published.score(descriptors)
        rows = rows_of(self.ltau.score(descriptors), None)
        distance = self.calibration.predict(rows, "neighbor distance")
        level = int(np.flatnonzero(distance.levels == LEVEL)[0])
        return {
            "published": self.scale * np.stack(
                [published["expected_error"], published["quantiles"][:, 0]], axis=1
            ),
            "distance": np.stack([distance.mean, distance.bounds()[:, level]], axis=1),
            "committee": spread[:, None] * [self.per_spread, self.bound_per_spread],
        }  # fmt: skip


def study(
    sample: Any, folder: Path, models: list[Any], rivals: Rivals, start: Atoms
) -> dict[str, Any]:
    """One relaxation: all that the report needs to know of it. Steps first, then atoms."""
    network = Network(sample, models[0])
    live = Live(network, folder / "model.h5", folder / "calibration.h5", network.describe)
    path: dict[str, list[Any]] = {}

    def visit(atoms: Atoms) -> None:
        forces = atoms.get_forces()
        reference = atoms.copy()
        reference.calc = EMT()
        others = [sample.evaluate(model, [reference])[1] for model in models[1:]]
        found = {
            "positions": atoms.positions.copy(),
            "predicted": atoms.calc.results["energy"],
            "energy": reference.get_potential_energy(),
            "true": np.linalg.norm(forces - reference.get_forces(), axis=1),
            "ltau": np.stack([live.results[name] for name in
                              ("calibrated_error", "error_bound_90")], axis=1),
            "pvalue": live.results["ood_pvalue"],
        } | rivals.predict(network.descriptors, spread([forces, *others]))  # fmt: skip
        for name, value in found.items():
            path.setdefault(name, []).append(value)

    end = relax(start, live, visit)
    last = len(path["energy"]) - 1
    moved = start.copy()
    moved.rattle(JOLT, seed=0)
    steps = [step for step in HANDOVER if step < last] + [last]
    onward = [start.copy() for _ in steps]
    for atoms, step in zip(onward, steps, strict=True):
        atoms.positions = path["positions"][step]
    references = [reference_path(sample, atoms) for atoms in (start, moved, *onward)]
    return {
        **{name: np.array(values, dtype=np.float32) for name, values in path.items()},
        "numbers": start.numbers,
        "converged": np.linalg.norm(end.get_forces(), axis=1).max() < FMAX,
        "handover": steps,
        # of EMT from the start, from the start moved a little, from each step of the handover
        "reference_calls": [len(of_one) for of_one in references],
        "reference_energy": [of_one[-1].info["REF_energy"] for of_one in references],
        "reference_positions": [of_one[-1].positions for of_one in references],
    }


def main(chosen: argparse.Namespace) -> None:
    began = time.process_time()
    folder = chosen.folder
    folder.mkdir(parents=True, exist_ok=True)
    sample = load_sample()
    sizes = {"train": chosen.training, "validation": chosen.validation}
    sets = {
        name: labeled(sample, folder / f"{name}.xyz", (chosen.seed, stream), n)
        for stream, (name, n) in enumerate(sizes.items())
    }
    models = [train(sample, folder, sets["train"], seed) for seed in range(COMMITTEE)]
    fit(sample, folder, models, sets)
    rivals = Rivals(folder)
    for number in range(chosen.starts):
        for stream, name in enumerate(SETS):
            file = folder / relaxation_report.file_name(name, number)
            if not file.exists():
                rng = np.random.default_rng([chosen.seed, 10 + stream, number])
                found = study(sample, folder, models, rivals, random_start(sample, rng, name))
                with written(file) as partial:
                    np.savez_compressed(partial, **found)
    print(f"{(time.process_time() - began) / 60:.0f} minutes of one core in this call")
    relaxation_report.report(folder, list(SETS), chosen.starts, chosen.plot)


if __name__ == "__main__":
    main(chosen)
