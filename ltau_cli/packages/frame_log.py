"""The log of a force field's training: an error per atom and one per frame, in file order."""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Integers
from ltau_cli.errors import InputError, OutputError
from ltau_cli.matching import fingerprint
from ltau_cli.offsets import formulas
from ltau_cli.packages import hooks
from ltau_cli.packages.recorder import Recorder, plain
from ltau_cli.packages.references import ZERO, compare
from ltau_cli.packages.weights import KeptWeights

PATIENCE = 10.0  # seconds that the end of a training waits for the last epoch of other processes


@dataclass
class FrameFile:
    """All frames of a training file, also those that are not trained on."""

    name: str
    natoms: list[int] = field(default_factory=list)
    species: list[str] = field(default_factory=list)
    """Of all atoms, frame after frame; empty if not known."""
    config_types: list[str] = field(default_factory=list)
    """Of each frame; empty if not known."""
    fingerprints: list[tuple[int, int]] = field(default_factory=list)
    """Of each frame, where species are known; see :mod:`ltau_cli.matching`."""
    paths: list[Path] = field(default_factory=list)
    """Where the trainer read the frames, if from extxyz files."""

    @classmethod
    def of_paths(cls, name: str, paths: Iterable[Any]) -> FrameFile:
        """Return a file without frames as yet; ``name`` is for what has no path."""
        told = [Path(path).absolute() for path in paths]
        known = bool(told) and all(path.suffix in (".xyz", ".extxyz") for path in told)
        return cls(", ".join(map(str, paths)) or name, paths=told if known else [])

    @classmethod
    def of_atoms(cls, name: str, paths: Iterable[Any], frames: Iterable[Any]) -> FrameFile:
        """Describe files whose frames were read as ``ase.Atoms``."""
        file = cls.of_paths(name, paths)
        for atoms in frames:
            file.add(atoms.get_chemical_symbols(), atoms.positions)
            file.config_types.append(str(atoms.info.get("config_type", "")))
        return file

    @classmethod
    def of_structures(cls, dataset: Any) -> FrameFile:
        """Describe a data set of pymatgen's structures, which a script may have moved into a box.

        So they have no fingerprints.
        """
        file = cls(type(dataset).__name__)
        for structure in dataset.structures:
            file.add([site.specie.symbol for site in structure])
        return file

    def add(self, species: Any, positions: Any = None) -> None:
        """Add a frame: symbols, or a tensor of atomic numbers, and positions (n_atoms, 3) in Å.

        Without positions it has no fingerprint.
        """
        if hasattr(species, "tolist"):
            from ase.data import chemical_symbols

            species = [chemical_symbols[z] for z in species.tolist()]
        self.natoms.append(len(species))
        self.species += species
        if positions is not None:
            self.fingerprints.append(fingerprint(species, plain(positions)))


def number_samples(
    dataset: Any, describe: Callable[[Any], FrameFile]
) -> tuple[list[FrameFile], list[int]]:
    """Find the samples of a PyTorch data set among the frames of the sets it is a part of.

    It may be a subset, or several sets one after the other; ``describe`` is called with each that
    is neither. Returns their files, and the frame at each position of the data set.
    """
    if hasattr(dataset, "datasets"):  # ConcatDataset
        files: list[FrameFile] = []
        numbers: list[int] = []
        for part in dataset.datasets:
            first = sum(len(file.natoms) for file in files)
            new, own = number_samples(part, describe)
            files += new
            numbers += [first + number for number in own]
        return files, numbers
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):  # Subset
        files, numbers = number_samples(dataset.dataset, describe)
        return files, [numbers[int(i)] for i in dataset.indices]
    return [describe(dataset)], list(range(len(dataset)))


class DrawnBatches:
    """Notes what the sampler of a PyTorch loader draws, batch by batch.

    A loader gives its batches in the order in which they were drawn, with any number of workers.
    Neither samples nor random numbers are touched.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self._drawn: deque[list[int]] = deque()
        sampler = getattr(loader, "batch_sampler", None)
        if sampler is None:
            raise InputError(f"samples of a {type(loader).__name__} cannot be told apart")
        # The loader guards this attribute, since it comes too late once batches are being drawn.
        vars(loader)["batch_sampler"] = _Watched(sampler, self._drawn)

    def pop(self) -> list[int]:
        """Return the positions in ``loader.dataset`` of the batch that comes next."""
        return self._drawn.popleft()


class _Watched:
    """A batch sampler that notes what it draws; a new pass forgets the last one."""

    def __init__(self, sampler: Any, drawn: deque[list[int]]) -> None:
        self._sampler = sampler
        self._drawn = drawn

    def __iter__(self) -> Iterator[list[int]]:
        self._drawn.clear()
        for numbers in self._sampler:
            self._note(numbers)
            yield numbers

    @hooks.guard
    def _note(self, numbers: Iterable[Any]) -> None:
        self._drawn.append([int(number) for number in numbers])

    def __len__(self) -> int:
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._sampler, name)


class FrameLog:
    """Records batches of frames: force errors to ``logs/``, energy errors to ``logs/energy/``.

    The samples are all atoms of the training files, one file after the other, as ``ltau describe``
    reads them; what is held out is missing in every epoch, and marked as ``held_out``.

    Parameters
    ----------
    trainer : str
        Name and version, for the message.
    files : sequence of FrameFile
    trained : sequence of int
        Number of the frame, counted through the files, at each position of the trainer's set.
    drawn : DrawnBatches, optional
        Of the trainer's set, for :meth:`record_drawn`.
    forces, energies : bool
        What the trainer is fitted to.
    """

    def __init__(
        self,
        trainer: str,
        files: Sequence[FrameFile],
        trained: Sequence[int],
        *,
        drawn: DrawnBatches | None = None,
        forces: bool = True,
        energies: bool = True,
    ) -> None:
        if not (forces or energies):
            raise InputError(f"{trainer} is trained on neither forces nor energies here")
        natoms = np.array([n for file in files for n in file.natoms], dtype=np.int64)
        self.start = np.concatenate([[0], np.cumsum(natoms)])
        self.trained = np.asarray(trained, dtype=np.int64)
        held_out = np.ones(len(natoms), dtype=bool)
        held_out[self.trained] = False
        of_frames: dict[str, Array] = {"held_out": held_out}
        if any(any(file.config_types) for file in files):
            kinds = [k for f in files for k in f.config_types or [""] * len(f.natoms)]
            of_frames["config_type"] = np.array(kinds)
        of_atoms = {name: np.repeat(values, natoms) for name, values in of_frames.items()}
        of_atoms["structure"] = np.repeat(np.arange(len(natoms)), natoms)
        if all(file.species for file in files):
            of_atoms["species"] = np.array([s for file in files for s in file.species])
            of_frames["formula"] = formulas(of_atoms["species"], natoms)
        frames = np.array([f for file in files for f in file.fingerprints])
        if len(frames) == len(natoms):
            of_frames["fingerprint"] = frames
            of_atoms["fingerprint"] = np.repeat(frames, natoms, axis=0)
        folder = Path(hooks.folder)
        self._of_atoms = Recorder(len(of_atoms["structure"]), folder, labels=of_atoms)
        self._of_frames = Recorder(
            len(natoms), folder / "energy", labels=of_frames, quantity="energy"
        )
        self._files = files if forces and any(file.paths for file in files) else []  # to compare
        self._drawn, self._forces, self._energies = drawn, forces, energies
        self._species = of_atoms.get("species")  # to check in the first epoch
        self._seen: list[tuple[Integers, Any, Any, Any, Any]] = []
        self._n_epochs = 0
        self._weights = KeptWeights(folder, int(os.environ.get("LTAU_RECORD_KEEP", 0)))
        hooks.tell(
            f"{trainer}, {len(natoms):,} frames of {', '.join(file.name for file in files)}, "
            f"{held_out.sum():,} of them held out, {self.start[-1]:,} atoms -> {folder}"
        )
        atexit.register(hooks.attempt, self._summarize)

    def record(
        self,
        frames: Integers,
        force_errors: Any,
        energy_errors: Any,
        reference: Any = None,
        numbers: Any = None,
    ) -> None:
        """Note the errors of a batch; NaN where there is no reference.

        ``frames`` (n_frames,) are their numbers, in the order of the batch; ``force_errors``
        (n_atoms,) the norms of all their atoms, ``energy_errors`` (n_frames,) predicted minus
        reference per atom, and
        ``reference`` (n_atoms, 3) the forces that the atoms are trained on, and ``numbers``
        (n_atoms,) their atomic numbers, tensors: in the first epoch they are compared with what the
        files have of these frames.
        """
        # Kept on the device until the epoch ends, so that no step waits for a copy.
        first = not self._n_epochs
        seen = (reference if self._files and first else None, numbers if first else None)
        self._seen.append((frames, force_errors, energy_errors, *seen))

    def record_drawn(
        self, force_errors: Any, energy_errors: Any, reference: Any = None, numbers: Any = None
    ) -> None:
        """Note the errors of the batch that was drawn next, as :meth:`record` does."""
        assert self._drawn is not None
        frames = self.trained[self._drawn.pop()]
        self.record(frames, force_errors, energy_errors, reference, numbers)

    @hooks.guard
    def end_epoch(self, save: Callable[[Path], object] | None = None, ending: str = "") -> None:
        """Write the epoch; one that cannot be written is left out, and the training goes on.

        ``save(path)`` writes the weights as they are, as ``ltau describe`` reads a network.
        """
        if not self._n_epochs and not self._is_of_frames():
            return
        for frames, forces, energies, *_ in self._seen:
            if forces is not None:
                self._of_atoms.record(self._atoms_of(frames), forces)
            if energies is not None:
                self._of_frames.record(frames, energies)
        seen, self._seen = self._seen, []
        written = [self._of_atoms] * self._forces + [self._of_frames] * self._energies
        for recorder in written:
            try:
                recorder.end_epoch()
            except OutputError as error:
                hooks.tell(f"this epoch is not recorded: {error}")
        if self._weights.number and save is not None and written[0].is_first:
            try:
                self._weights.keep(written[0].n_epochs - 1, save, ending)
            except Exception as error:  # whatever the trainer's own way to save raises
                hooks.tell(f"the weights of this epoch are not kept: {error!s:.200}")
        self._n_epochs += 1
        if self._n_epochs > 1 or not self._of_atoms.is_first:
            return
        files, self._files = self._files, []
        known = self._species is not None and all(one[4] is not None for one in seen)
        checked = ["species"] * known
        if files:
            try:
                checked += ["forces"] * self._compare(files, seen)
            except Exception as error:  # what other people's files hold must not end a training
                hooks.tell(f"its forces cannot be compared with those of its files: {error!r}")
        if not checked:
            return
        hooks.tell(f"checked: {' and '.join(checked)} of what was drawn are those of its frames")
        with contextlib.suppress(OutputError):  # a full disk, which was told
            for recorder in written:
                recorder.remark(checked=np.array(checked))

    def _is_of_frames(self) -> bool:
        """Whether what was drawn is of the frames that it is taken for; else recording stops."""
        from ase.data import chemical_symbols

        for frames, forces, _, _, numbers in self._seen:
            atoms = self._atoms_of(frames)
            n = next((len(one) for one in (numbers, forces) if one is not None), len(atoms))
            wrong = f"has {n:,} atoms, these frames have {len(atoms):,}" if n != len(atoms) else ""
            if not wrong and numbers is not None and self._species is not None:
                drawn = np.array(chemical_symbols)[plain(numbers).ravel()]
                differ = np.flatnonzero(drawn != self._species[atoms])
                if len(differ):
                    place = differ[0]
                    wrong = f"has {drawn[place]} where they have {self._species[atoms][place]}"
            if wrong:
                some = ", ".join(map(str, frames[:5])) + ", ..." * (len(frames) > 5)
                hooks.stop(
                    f"what was drawn for frames {some} {wrong}; keep its checkpoints and evaluate "
                    "them: ltau describe"
                )
                return False
        return True

    def _atoms_of(self, frames: Integers) -> Integers:
        return np.concatenate([np.arange(self.start[f], self.start[f + 1]) for f in frames])

    def _compare(self, files: Sequence[FrameFile], seen: Sequence[tuple[Any, ...]]) -> bool:
        """Compare the forces of the first epoch with those of the files; mark who has others.

        Returns whether they were found in all of them.
        """
        compared = [file for file in files if file.paths]
        given = np.full((self.start[-1], 3), np.nan, dtype=np.float32)
        for frames, _, _, reference, _ in seen:
            if reference is not None:
                given[self._atoms_of(frames)] = reference.detach().cpu()
        marks = np.zeros(len(given), dtype="U5")
        first = 0
        for file in files:
            own = slice(first, first + sum(file.natoms))
            first = own.stop
            found = compare(file.paths, file.natoms, given[own]) if file.paths else None
            if found is None:
                if file.paths:
                    compared.remove(file)
                    hooks.tell(
                        "the forces that it is trained on are not found in "
                        f"{file.name}: other units, or other frames"
                    )
                continue
            name, marks[own] = found
            hooks.tell(f"the forces that it is trained on are {name} of {file.name}")
        (others,) = np.nonzero(marks)
        if len(others):
            frames = np.searchsorted(self.start, others, side="right") - 1
            on = "other forces than the file has"
            if (marks[others] == ZERO).all():
                on = "a force of zero (as fixed atoms are), not that of the file"
            line = (
                f"{len(others):,} atoms of {len(np.unique(frames)):,} frames are trained on {on}; "
                f"the first is atom {others[0] - self.start[frames[0]]} of frame {frames[0]}"
            )
            hooks.tell(f"warning: {line}")
            self._of_atoms.remark(line, other_reference=marks != "")
        return len(compared) == sum(bool(file.paths) for file in files) > 0

    def _summarize(self) -> None:
        """Tell what has been written, and what has not."""
        recorder = self._of_atoms if self._forces else self._of_frames
        missing, world = _wait_for(recorder)
        n, folder = recorder.n_written, hooks.folder
        if missing and recorder.tells_for(missing):
            ranks = ", ".join(map(str, missing))
            hooks.tell(
                f"processes {ranks} of {world} recorded nothing, {self._n_epochs - n} epochs are "
                f"left in parts in {folder}: give every process on every node PYTHONPATH and "
                "LTAU_RECORD_OUTPUT as ltau record sets them (mpirun -x, srun --export=ALL), or "
                "start ltau record on every node"
            )
        elif n < self._n_epochs and recorder.is_first:
            hooks.tell(f"{self._n_epochs - n} of {self._n_epochs} epochs could not be written")
        if self._weights.number and recorder.is_first:
            kept = self._weights.finish(recorder.n_epochs)
            hooks.tell(
                f"weights of {kept} epoch{'s' * (kept != 1)} in {self._weights.folder}; next: ltau "
                f"describe --trajectory {folder}"
            )
        if n and recorder.is_first:
            end = ", where the recording stopped" if hooks.stopped else ""
            hooks.tell(f"{n} epochs in {folder}{end}; next: ltau ingest {folder}")


def _wait_for(recorder: Recorder) -> tuple[list[int], int]:
    """Return the processes that did not end an epoch, once there was time for it."""
    give_up = time.monotonic() + PATIENCE
    while (found := recorder.missing_ranks())[0] and time.monotonic() < give_up:
        time.sleep(0.1)
    return found


def unwrapped(network: Any) -> Any:
    """Return the network that PyTorch trains in several processes."""
    return network.module if type(network).__name__ == "DistributedDataParallel" else network


_logs: list[tuple[Any, FrameLog]] = []  # of this process, each with the loader of its training


def log_of(loader: Any, begin: Callable[[], FrameLog]) -> FrameLog:
    """Return the log of the training that draws from a loader; with a new one a log begins."""
    if not _logs or _logs[-1][0] is not loader:
        with hooks.or_refuse():
            _logs.append((loader, begin()))
    return _logs[-1][1]


def end_epoch(save: Callable[[Path], object] | None = None, ending: str = "") -> None:
    """End the epoch of the training that runs, if one has begun; see :class:`FrameLog`."""
    if _logs:
        _logs[-1][1].end_epoch(save, ending)
