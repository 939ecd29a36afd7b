"""Train networks of packages on two of the test systems, as their users would.

Each package has an environment of its own, ``build/models/NAME`` (``make`` builds it), in which its
own program trains. ``ltau record`` writes the log, ``ltau describe`` evaluates all frames. What
comes out is a folder like those of ``networks.py``; ``test_SET_llpr.npy`` is there where the
package has an uncertainty of its own. The packages choose their epoch on a tenth of the training
frames, which they hold out.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from calibration_described import write

ENVIRONMENTS = Path(__file__).resolve().parents[2] / "build" / "models"
SYSTEMS: tuple[str, ...] = ("alanine dipeptide", "Ni-Pd-Pt alloys")
SEEDS: tuple[int, ...] = (0, 1)
# what the priors are made of, beside the sample network, and checked with
DEVELOPED = ("MACE", "SOAP-BPNN")
DEVELOPMENT_SYSTEMS = ("aminoethanol", "ethyl acetate", "N on Ni", "Ag-Al-Cu alloys")
TRAIN = "train"


@dataclass(frozen=True)
class Work:
    """A folder to train in.

    Attributes
    ----------
    folder : Path
        Holds ``train.xyz``; the log goes to ``logs/`` in it.
    programs : Path
        Where those of the environment are.
    """

    folder: Path
    programs: Path

    def run(self, *command: str | Path) -> None:
        """Run a program of the environment on one thread; its output goes to ``said.txt``.

        Raises
        ------
        RuntimeError
            If it fails; with the end of its output.
        """
        program, *words = map(str, command)
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
        }
        environment.pop("PYTHONPATH", None)
        said = self.folder / "said.txt"
        with said.open("a") as file:
            done = subprocess.run(
                [self.programs / program, *words], cwd=self.folder, env=environment,
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        if done.returncode:
            end = said.read_text()[-2000:]
            raise RuntimeError(f"{program} {' '.join(words)} failed in {self.folder}:\n{end}")


@dataclass(frozen=True)
class Package:
    """A package that trains a network.

    Attributes
    ----------
    network : str
        Name of the network.
    environment : str
        Folder in ``build/models/``.
    train : callable
        Trains with a seed.
    describe : str
        The trained network, as ``ltau describe`` takes it.
    kept : str or None
        Weights that were kept during the training, as ``ltau describe --trajectory`` takes them.
    spread : callable or None
        The package's own uncertainty of the forces of all atoms of a file, (n,).
    """

    network: str
    environment: str
    train: Callable[[Work, int], None]
    describe: str
    kept: str | None = None
    spread: Callable[[Work, Path], np.ndarray[Any, Any]] | None = None


# The packages -----------------------------------------------------------------------------------

MACE = """
--name m --train_file train.xyz --valid_fraction 0.1 --E0s average --energy_key REF_energy
--forces_key REF_forces --num_channels 8 --max_L 0 --max_ell 2 --correlation 2 --r_max 4.5
--MLP_irreps 8x0e --batch_size 4 --max_num_epochs 60 --lr 0.01 --scheduler ExponentialLR
--lr_scheduler_gamma 0.95 --plot False --default_dtype float32 --device cpu
"""


def train_mace(work: Work, seed: int) -> None:
    work.run("ltau", "record", "--keep", "8", "-o", "logs", "--",
             "mace_run_train", *MACE.split(), "--seed", str(seed))  # fmt: skip


OPTIONS = """
seed: {seed}
base_precision: 64
architecture: {architecture}
training_set:
  systems: {{read_from: train.xyz, length_unit: angstrom}}
  targets:
    energy: {{key: REF_energy, unit: eV, forces: {{key: REF_forces}}}}
validation_set: 0.1
test_set: 0.0
"""
SOAP_BPNN = """
  name: soap_bpnn
  model:
    soap: {max_angular: 4, max_radial: 4, cutoff: {radius: 5.0}}
    bpnn: {num_hidden_layers: 2, num_neurons_per_layer: 32}
  training: {batch_size: 4, num_epochs: 60, learning_rate: 0.005, warmup_fraction: 0.0,
             num_workers: 0}
"""
LLPR = """
  name: llpr
  model: {num_ensemble_members: {energy: 32}}
  training: {model_checkpoint: model.ckpt, batch_size: 4, num_workers: 0}
"""


def train_soap_bpnn(work: Work, seed: int) -> None:
    for name, architecture in (("options", SOAP_BPNN), ("llpr", LLPR)):
        text = OPTIONS.format(seed=seed, architecture=architecture)
        (work.folder / f"{name}.yaml").write_text(text)  # of one seed: the same frames are held out
    work.run("ltau", "record", "--keep", "8", "-o", "logs", "--", "mtt", "train", "options.yaml")


def spread_of_llpr(work: Work, frames: Path) -> np.ndarray[Any, Any]:
    """Wrap the network in metatrain's LLPR; spread of the forces of its last-layer ensemble."""
    work.run("mtt", "train", "llpr.yaml", "-o", "llpr.pt")
    script = Path(__file__).with_name("llpr_forces.py")
    work.run("python", script, "llpr.pt", frames, "llpr.npy")
    return np.asarray(np.load(work.folder / "llpr.npy"))


PACKAGES = (
    Package("MACE", "mace", train_mace, "mace:m.model", "logs"),
    Package(
        "SOAP-BPNN", "metatrain", train_soap_bpnn, "metatomic:model.pt", "logs", spread_of_llpr
    ),
)


# Networks ---------------------------------------------------------------------------------------


def installed(package: Package) -> bool:
    return (ENVIRONMENTS / package.environment / "ready").exists()


def make_packaged(task: tuple[str, str, int, Path]) -> Path:
    """Make the network of a system, a package and a seed in the cache, unless it is there."""
    from scorecard.systems import SETS, frames_of, system_named

    name, network, seed, cache = task
    folder = cache / name / network / f"seed_{seed}"
    if not folder.exists():
        package = next(package for package in PACKAGES if package.network == network)
        frames = {of: frames_of(system_named(name), of, cache) for of in (TRAIN, *SETS)}
        make_network(package, seed, frames, folder)
    return folder


def make_network(
    package: Package, seed: int, frames: Mapping[str, list[Atoms]], folder: Path,
    programs: Path | None = None,
) -> None:  # fmt: skip
    """Train on the frames of ``train``, describe all, and write the folder when all is done."""
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    work = Work(part / "work", programs or ENVIRONMENTS / package.environment / "bin")
    work.folder.mkdir(parents=True)
    every = work.folder / "all.xyz"
    ase.io.write(work.folder / "train.xyz", frames[TRAIN], format="extxyz")
    ase.io.write(every, [f for of_set in frames.values() for f in of_set], format="extxyz")
    began = processor_time()
    package.train(work, seed)
    seconds = processor_time() - began
    trajectory = ["--trajectory", package.kept] if package.kept else []
    work.run("ltau", "describe", every, "--network", package.describe, *trajectory, "-o", "all.h5")
    spread = package.spread(work, every) if package.spread else None
    first_frame = first_atom = 0
    for name, of_set in frames.items():
        prefix = part / (name if name == TRAIN else f"test_{name}")
        last_frame, last_atom = first_frame + len(of_set), first_atom + sum(map(len, of_set))
        write(prefix, work.folder / "all.h5", slice(first_frame, last_frame))
        np.save(f"{prefix}_draws.npy", [frame.info["start"] for frame in of_set])
        if spread is not None and name != TRAIN:
            np.save(f"{prefix}_llpr.npy", spread[first_atom:last_atom])
        first_frame, first_atom = last_frame, last_atom
    (part / "logs").mkdir()
    for path in (work.folder / "logs").glob("*.np[yz]"):
        path.rename(part / "logs" / path.name)
    (part / "seconds.json").write_text(json.dumps(seconds))
    shutil.rmtree(work.folder)
    part.rename(folder)


def processor_time() -> float:
    """Seconds of the programs that were run and ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
