#!/usr/bin/env python3
"""Make the sample data of ltau: a small force field, trained while its errors are logged.

What happens, from top to bottom of `main`:

1. `make_frames`: Langevin molecular dynamics of Cu28Au27 nanoparticles with ASE's EMT potential
   gives labeled frames, for training (300 K) and for two test sets (300 K and 900 K).
2. `train`: a small message-passing force field is fitted to the energies and forces. While it
   trains, the force error of every training atom is logged once an epoch.
3. `evaluate`: descriptors and forces of the final model, on the training and test frames.
4. Everything is written to the output folder, and a table of force errors is printed.

Needs torch and ase. Run `python make_sample_data.py --help` for the options; README.md in this
folder describes the files. The pieces can be imported and used alone.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.emt import EMT
from ase.cluster import Icosahedron
from ase.md.langevin import Langevin
from ase.neighborlist import neighbor_list
from ase.optimize import FIRE
from torch import Tensor, nn

SEED = 0
EPOCHS = 60
SPECIES = ("Cu", "Au")
N_CU = 28  # of 55 atoms
LATTICE_CONSTANT = 3.85  # Å, between Cu (3.61) and Au (4.08); every start is relaxed afterwards
COLD, HOT = 300, 900  # K
TIME_STEP = 5.0  # fs
FRICTION = 0.01  # 1/fs
EQUILIBRATION_STEPS = 1000  # 5 ps
SPACING_STEPS = 200  # 1 ps between frames
CUTOFF = 6.0  # Å, of the model
SHORTEST = 1.5  # Å, the distance that its innermost radial function is centred on


@dataclass(frozen=True)
class FrameSet:
    """How a set of frames is drawn. `stream` keeps the random numbers of the sets apart."""

    name: str
    stream: int
    temperature: float  # K
    n_starts: int
    frames_per_start: int


TRAIN = FrameSet("train", 0, COLD, 12, 6)
TESTS = (
    FrameSet(f"test_{COLD}K", 1, COLD, 5, 5),
    FrameSet(f"test_{HOT}K", 2, HOT, 5, 5),
)


# ---------------------------------------------------------------------------------------------
# Frames
# ---------------------------------------------------------------------------------------------


def random_particle(rng: np.random.Generator, n_cu: int = N_CU) -> Atoms:
    """Make a 55-atom icosahedron with Cu and Au on random sites, relaxed with EMT."""
    cluster = Icosahedron("Cu", noshells=3, latticeconstant=LATTICE_CONSTANT)
    symbols = np.array(["Cu"] * n_cu + ["Au"] * (len(cluster) - n_cu))
    atoms = Atoms(rng.permutation(symbols).tolist(), positions=cluster.positions)
    atoms.calc = EMT()
    FIRE(atoms, logfile=None).run(fmax=0.05, steps=300)
    return atoms


def labeled_copy(atoms: Atoms, **info: float) -> Atoms:
    """Copy without calculator, with REF_energy (eV) and REF_forces (n, 3) in eV/Å."""
    frame = Atoms(
        atoms.get_chemical_symbols(),
        positions=atoms.positions - atoms.positions.mean(0),
        cell=atoms.cell,
        pbc=atoms.pbc,
    )
    frame.info.update(info, REF_energy=float(atoms.get_potential_energy()))
    frame.set_array("REF_forces", atoms.get_forces())
    return frame


def run_md(
    atoms: Atoms,
    temperature: float,
    n_frames: int,
    start: int,
    rng: np.random.Generator,
    *,
    equilibration: int = EQUILIBRATION_STEPS,
    spacing: int = SPACING_STEPS,
    time_step: float = TIME_STEP,
    friction: float = FRICTION,
) -> list[Atoms]:
    """Langevin MD of relaxed atoms: equilibrate, then one frame every `spacing` steps."""
    thermal_momenta = np.sqrt(units.kB * temperature * atoms.get_masses())[:, None]
    atoms.set_momenta(thermal_momenta * rng.standard_normal((len(atoms), 3)))
    dynamics = Langevin(
        atoms,
        timestep=time_step * units.fs,
        temperature_K=temperature,
        friction=friction / units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(equilibration)
    frames = []
    for _ in range(n_frames):
        dynamics.run(spacing)
        frames.append(labeled_copy(atoms, start=start, temperature_K=temperature))
    return frames


def make_frames(seed: int, frame_set: FrameSet) -> list[Atoms]:
    """All frames of a set, start after start. Each start has its own random generator."""
    frames: list[Atoms] = []
    for start in range(frame_set.n_starts):
        rng = np.random.default_rng([seed, frame_set.stream, start])
        atoms = random_particle(rng)
        frames += run_md(atoms, frame_set.temperature, frame_set.frames_per_start, start, rng)
    return frames


def lindemann_index(frames: Sequence[Atoms]) -> float:
    """Mean relative fluctuation of the pair distances within a start, averaged over the starts.

    Roughly below 0.1 for a solid cluster, above 0.2 for a molten one. No unit.
    """
    values = []
    for start in sorted({frame.info["start"] for frame in frames}):
        distances = np.array(
            [f.get_all_distances() for f in frames if f.info["start"] == start]
        )  # (frames of this start, n, n)
        pairs = np.triu_indices(distances.shape[1], k=1)
        distances = distances[:, pairs[0], pairs[1]]
        values.append(np.mean(distances.std(axis=0, ddof=1) / distances.mean(axis=0)))
    return float(np.mean(values))


# ---------------------------------------------------------------------------------------------
# Model
# ---------------------------------------------------------------------------------------------


@dataclass
class Batch:
    """Some frames as tensors; atoms of all frames follow one another.

    species (n,), frame (n,) and edges (2, n_edges) are integers; natoms (n_frames,);
    positions (n, 3) in Å; shifts (n_edges, 3) in Å, from the sender to its periodic image;
    energy (n_frames,) in eV; forces (n, 3) in eV/Å.
    """

    species: Tensor
    frame: Tensor
    edges: Tensor
    shifts: Tensor
    natoms: Tensor
    positions: Tensor
    energy: Tensor
    forces: Tensor


def to_batch(atoms: Atoms, cutoff: float = CUTOFF, known_species: Sequence[str] = SPECIES) -> Batch:
    """One frame as a Batch, labels NaN where it has none."""
    receivers, senders, images = neighbor_list("ijS", atoms, cutoff)
    order = np.lexsort((*images.T, senders, receivers))
    return Batch(
        species=torch.tensor([known_species.index(s) for s in atoms.get_chemical_symbols()]),
        frame=torch.zeros(len(atoms), dtype=torch.long),
        edges=torch.tensor(np.stack([receivers[order], senders[order]])),
        shifts=torch.tensor(images[order] @ atoms.cell.array, dtype=torch.float32),
        natoms=torch.tensor([len(atoms)]),
        positions=torch.tensor(atoms.positions, dtype=torch.float32),
        energy=torch.tensor([atoms.info.get("REF_energy", np.nan)], dtype=torch.float32),
        forces=torch.tensor(
            atoms.arrays.get("REF_forces", np.full((len(atoms), 3), np.nan)), dtype=torch.float32
        ),
    )


def join(batches: Sequence[Batch]) -> Batch:
    """Several batches as one."""
    first_atoms = np.cumsum([0] + [len(b.species) for b in batches])
    first_frames = np.cumsum([0] + [len(b.natoms) for b in batches])
    return Batch(
        species=torch.cat([b.species for b in batches]),
        frame=torch.cat([b.frame + int(k) for b, k in zip(batches, first_frames, strict=False)]),
        edges=torch.cat(
            [b.edges + int(k) for b, k in zip(batches, first_atoms, strict=False)], dim=1
        ),
        shifts=torch.cat([b.shifts for b in batches]),
        natoms=torch.cat([b.natoms for b in batches]),
        positions=torch.cat([b.positions for b in batches]),
        energy=torch.cat([b.energy for b in batches]),
        forces=torch.cat([b.forces for b in batches]),
    )


class Interaction(nn.Module):
    """One round of messages: each atom sums its neighbors, filtered by distance."""

    def __init__(self, width: int, n_radial: int) -> None:
        super().__init__()
        self.filter = nn.Linear(n_radial, width, bias=False)
        self.sender = nn.Linear(width, width, bias=False)
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, features: Tensor, radial: Tensor, edges: Tensor) -> Tensor:
        """Update features (n, width), given radial (n_edges, n_radial) and edges (2, n_edges)."""
        receivers, senders = edges
        messages = self.filter(radial) * self.sender(features).index_select(0, senders)
        summed = torch.zeros_like(features).index_add(0, receivers, messages)
        return features + self.update(torch.cat([features, summed], dim=1))


class Model(nn.Module):
    """Small message-passing force field: energy is a sum over atoms, forces its gradient.

    It sees interatomic distances and species only, so the energy does not change when a frame is
    moved, rotated or its atoms are renumbered. The descriptor of an atom is its activations in
    the last hidden layer; the energy of the atom is a linear function of them.
    """

    centres: Tensor
    energy_shift: Tensor

    def __init__(
        self,
        width: int = 32,
        n_radial: int = 16,
        n_interactions: int = 2,
        descriptor_width: int = 16,
        cutoff: float = CUTOFF,
        shortest: float = SHORTEST,
        species: Sequence[str] = SPECIES,
    ) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.species = tuple(species)
        self.register_buffer("centres", torch.linspace(shortest, cutoff, n_radial))
        self.register_buffer("energy_shift", torch.zeros(()))  # eV/atom, set by `train`
        self.embedding = nn.Embedding(len(species), width)
        self.interactions = nn.ModuleList(
            Interaction(width, n_radial) for _ in range(n_interactions)
        )
        self.hidden = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, descriptor_width), nn.SiLU()
        )
        self.readout = nn.Linear(descriptor_width, 1)

    def radial(self, distances: Tensor) -> Tensor:
        """Gaussians of the distance (Å) that go smoothly to zero at the cutoff: (n_edges, k)."""
        spacing = self.centres[1] - self.centres[0]
        gaussians = torch.exp(-0.5 * ((distances[:, None] - self.centres) / spacing) ** 2)
        fade = 0.5 * (1 + torch.cos(torch.pi * (distances / self.cutoff).clamp(max=1.0)))
        return gaussians * fade[:, None]

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Energies (n_frames,) in eV, forces (n, 3) in eV/Å, descriptors (n, d)."""
        positions = batch.positions.detach().requires_grad_(True)
        receivers, senders = batch.edges
        vectors = positions.index_select(0, senders) - positions.index_select(0, receivers)
        vectors = vectors + batch.shifts
        radial = self.radial(vectors.norm(dim=1))
        features = self.embedding(batch.species)
        for interaction in self.interactions:
            features = interaction(features, radial, batch.edges)
        descriptors = self.hidden(features)
        atom_energies = self.readout(descriptors)[:, 0] + self.energy_shift
        energies = torch.zeros_like(batch.energy).index_add(0, batch.frame, atom_energies)
        (gradient,) = torch.autograd.grad(energies.sum(), positions, create_graph=self.training)
        return energies, -gradient, descriptors


# ---------------------------------------------------------------------------------------------
# Training and evaluation
# ---------------------------------------------------------------------------------------------


def frame_losses(batch: Batch, energies: Tensor, forces: Tensor, energy_weight: float) -> Tensor:
    """Loss of each frame (n_frames,): squared force error plus weighted squared energy error."""
    energy_term = ((energies - batch.energy) / batch.natoms) ** 2
    atom_term = ((forces - batch.forces) ** 2).mean(dim=1)
    force_term = torch.zeros_like(energies).index_add(0, batch.frame, atom_term) / batch.natoms
    return energy_weight * energy_term + force_term


def train(
    frames: Sequence[Atoms],
    epochs: int = EPOCHS,
    seed: int = SEED,
    weights: Sequence[float] | None = None,
    on_epoch: Callable[[int, np.ndarray], np.ndarray | None] | None = None,
    on_weights: Callable[[int, dict[str, Tensor]], None] | None = None,
    resample: bool = False,
    batch_size: int = 2,
    learning_rate: float = 3e-3,
    final_learning_rate: float = 3e-5,
    energy_weight: float = 10.0,
    species: Sequence[str] = SPECIES,
    shortest: float = SHORTEST,
) -> Model:
    """Fit a new Model to labeled frames with Adam and return it as it is after the last epoch.

    weights: one factor on the loss of each frame; None means 1 for all.
    on_epoch: called as on_epoch(epoch, errors) after each epoch, epochs counted from 0. errors
        (n_atoms,) float32 is the norm of the force error of every atom in eV/Å, in the order of
        the frames, by the model as it was when the batch with that atom was visited. If it returns
        weights, they replace the others from then on.
    on_weights: called as on_weights(epoch, weights) after each epoch, with the state of the model,
        which goes on changing: copy what is to be kept.
    species: chemical symbols that the model will know.
    shortest: see SHORTEST.
    resample: draw the frames of each epoch by their weights, with replacement, and leave the loss
        as it is. Errors of frames that were not drawn are NaN.
    """
    torch.manual_seed(seed)
    shuffle = np.random.default_rng(seed)
    model = Model(shortest=shortest, species=species)
    singles = [to_batch(frame, model.cutoff, model.species) for frame in frames]
    natoms = np.array([len(frame) for frame in frames])
    first_atom = np.concatenate([[0], np.cumsum(natoms)])
    own_weights = np.ones(len(frames)) if weights is None else np.asarray(weights)
    if own_weights.shape != (len(frames),):
        raise ValueError(f"{len(frames)} frames need as many weights, got {len(own_weights)}")
    model.energy_shift.fill_(float(np.sum([s.energy for s in singles]) / natoms.sum()))

    steps = epochs * -(-len(frames) // batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    decay = (final_learning_rate / learning_rate) ** (1 / steps)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=decay)

    model.train()
    for epoch in range(epochs):
        errors = np.full(natoms.sum(), np.nan, dtype=np.float32)
        if resample:
            share = own_weights / own_weights.sum()
            order = shuffle.choice(len(frames), len(frames), p=share)
            loss_weights = torch.ones(len(frames))
        else:
            order = shuffle.permutation(len(frames))
            loss_weights = torch.tensor(own_weights, dtype=torch.float32)
        for begin in range(0, len(frames), batch_size):
            chosen = order[begin : begin + batch_size]
            batch = join([singles[k] for k in chosen])
            energies, forces, _ = model(batch)
            atoms_of_batch = np.concatenate(
                [np.arange(first_atom[k], first_atom[k + 1]) for k in chosen]
            )
            errors[atoms_of_batch] = (forces - batch.forces).detach().norm(dim=1).numpy()
            losses = frame_losses(batch, energies, forces, energy_weight)
            optimizer.zero_grad()
            (loss_weights[torch.tensor(chosen)] * losses).mean().backward()
            optimizer.step()
            scheduler.step()
        new_weights = None if on_epoch is None else on_epoch(epoch, errors)
        own_weights = own_weights if new_weights is None else new_weights
        if on_weights is not None:
            on_weights(epoch, model.state_dict())
    return model.eval()


def evaluate(model: Model, frames: Sequence[Atoms]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Descriptors (n, d), forces (n, 3) in eV/Å and energies (n_frames,) in eV, all float32."""
    model.eval()
    descriptors, forces, energies = [], [], []
    for frame in frames:
        energy, force, descriptor = model(to_batch(frame, model.cutoff, model.species))
        energies.append(energy.detach().numpy())
        forces.append(force.detach().numpy())
        descriptors.append(descriptor.detach().numpy())
    return np.concatenate(descriptors), np.concatenate(forces), np.concatenate(energies)


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------


def reference_forces(frames: Sequence[Atoms]) -> np.ndarray:
    """EMT forces of all atoms (n, 3) in eV/Å."""
    return np.concatenate([frame.arrays["REF_forces"] for frame in frames])


def prepare_output(output: Path) -> Path:
    """Make the folders, remove error logs of an earlier run, return the folder of the logs."""
    logs = output / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for stale in logs.glob("force_errors_epoch_*.npy"):
        stale.unlink()
    return logs


def write_set(output: Path, name: str, frames: Sequence[Atoms], descriptors: np.ndarray) -> None:
    """Write what all sets have: descriptors (n, d), natoms, species and frames."""
    species = [symbol for frame in frames for symbol in frame.get_chemical_symbols()]
    natoms = [len(frame) for frame in frames]
    np.save(output / f"{name}_descriptors.npy", descriptors.astype(np.float32))
    np.save(output / f"{name}_natoms.npy", np.array(natoms, dtype=np.int32))
    np.save(output / f"{name}_species.npy", np.array(species, dtype="<U2"))
    ase.io.write(output / f"{name}.xyz", list(frames), format="extxyz")


def write_test_set(
    output: Path,
    name: str,
    frames: Sequence[Atoms],
    descriptors: np.ndarray,
    forces: np.ndarray,
    energies: np.ndarray,
) -> None:
    """Write a test set: as `write_set`, with predictions in the frames and true force errors."""
    errors = np.linalg.norm(forces - reference_forces(frames), axis=1)
    np.save(output / f"{name}_force_errors.npy", errors.astype(np.float32))
    ends = np.cumsum([len(frame) for frame in frames])[:-1]
    with_predictions = []
    for frame, force, energy in zip(frames, np.split(forces, ends), energies, strict=True):
        copy = frame.copy()
        copy.info["pred_energy"] = float(energy)
        copy.set_array("pred_forces", force.astype(float))
        with_predictions.append(copy)
    write_set(output, name, with_predictions, descriptors)


def table_row(name: str, frames: Sequence[Atoms], forces: np.ndarray, energies: np.ndarray) -> str:
    """One line of the table of accuracies, in Markdown."""
    reference = reference_forces(frames)
    natoms = np.array([len(frame) for frame in frames])
    reference_energies = np.array([frame.info["REF_energy"] for frame in frames])
    difference = forces - reference
    mae = np.abs(difference).mean()
    error_norm = np.linalg.norm(difference, axis=1).mean()
    mean_force = np.linalg.norm(reference, axis=1).mean()
    r2 = 1 - (difference**2).sum() / ((reference - reference.mean(axis=0)) ** 2).sum()
    energy_mae = 1000 * np.abs((energies - reference_energies) / natoms).mean()
    return (
        f"| {name} | {len(frames)} | {natoms.sum()} | {mae:.4f} | {error_norm:.4f} "
        f"| {mean_force:.3f} | {r2:.4f} | {energy_mae:.1f} | {lindemann_index(frames):.3f} |"
    )


TABLE_HEAD = (
    "| set | frames | atoms | force MAE (eV/Å) | mean error norm (eV/Å) | mean \\|F\\| (eV/Å) "
    "| force R² | energy MAE (meV/atom) | Lindemann index |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Make the sample data of ltau: train a small force field on EMT labels."
    )
    here = Path(__file__).resolve().parent
    parser.add_argument("--output", type=Path, default=here, help="folder to write to")
    parser.add_argument("--seed", type=int, default=SEED, help=f"random seed (default {SEED})")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"(default {EPOCHS})")
    return parser.parse_args()


def main() -> None:
    """Make the frames, train, evaluate, write the files and print the table."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    output = arguments.output
    began = time.perf_counter()

    print("Molecular dynamics with EMT ...", flush=True)
    train_frames = make_frames(arguments.seed, TRAIN)
    test_frames = {test.name: make_frames(arguments.seed, test) for test in TESTS}
    md_seconds = time.perf_counter() - began

    print("Training ...", flush=True)
    logs = prepare_output(output)

    def log(epoch: int, errors: np.ndarray) -> None:
        np.save(logs / f"force_errors_epoch_{epoch}.npy", errors)
        if epoch % 10 == 0 or epoch == arguments.epochs - 1:
            print(f"  epoch {epoch:3d}: mean force error {errors.mean():.4f} eV/Å", flush=True)

    model = train(train_frames, arguments.epochs, arguments.seed, on_epoch=log)

    print("Evaluating and writing ...\n", flush=True)
    descriptors, forces, energies = evaluate(model, train_frames)
    write_set(output, TRAIN.name, train_frames, descriptors)
    rows = [table_row(TRAIN.name, train_frames, forces, energies)]
    for name, frames in test_frames.items():
        descriptors, forces, energies = evaluate(model, frames)
        write_test_set(output, name, frames, descriptors, forces, energies)
        rows.append(table_row(name, frames, forces, energies))

    print(TABLE_HEAD, *rows, sep="\n")
    seconds = time.perf_counter() - began
    print(f"\nRuntime {seconds:.0f} s, of which {md_seconds:.0f} s molecular dynamics.")
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, ase {ase.__version__}, "
        f"numpy {np.__version__}, seed {arguments.seed}, {arguments.epochs} epochs."
    )


if __name__ == "__main__":
    main()
