"""The log of a force field's training: an error per atom and one per frame, in file order."""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import InputError, OutputError
from ltau_cli.matching import fingerprint
from ltau_cli.packages import hooks
from ltau_cli.packages.recorder import Recorder, plain


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

    @classmethod
    def of_atoms(cls, name: str, frames: Iterable[Any]) -> FrameFile:
        """Describe a file whose frames were read as ``ase.Atoms``."""
        file = cls(name)
        for atoms in frames:
            file.add(atoms.get_chemical_symbols(), atoms.positions)
            file.config_types.append(str(atoms.info.get("config_type", "")))
        return file

    def add(self, species: Any, positions: Any) -> None:
        """Add a frame: symbols, or a tensor of atomic numbers, and positions (n_atoms, 3) in Å."""
        if hasattr(species, "tolist"):
            from ase.data import chemical_symbols

            species = [chemical_symbols[z] for z in species.tolist()]
        self.natoms.append(len(species))
        self.species += species
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
            self._drawn.append([int(number) for number in numbers])
            yield numbers

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
        of_frames: dict[str, npt.NDArray[Any]] = {"held_out": held_out}
        if any(any(file.config_types) for file in files):
            kinds = [k for f in files for k in f.config_types or [""] * len(f.natoms)]
            of_frames["config_type"] = np.array(kinds)
        of_atoms = {name: np.repeat(values, natoms) for name, values in of_frames.items()}
        of_atoms["structure"] = np.repeat(np.arange(len(natoms)), natoms)
        if all(file.species for file in files):
            of_atoms["species"] = np.array([s for file in files for s in file.species])
        frames = np.array([f for file in files for f in file.fingerprints])
        if len(frames) == len(natoms):
            of_atoms["fingerprint"] = np.repeat(frames, natoms, axis=0)
        folder = Path(hooks.folder)
        self._of_atoms = Recorder(len(of_atoms["structure"]), folder, labels=of_atoms)
        self._of_frames = Recorder(len(natoms), folder / "energy", labels=of_frames)
        self._drawn, self._forces, self._energies = drawn, forces, energies
        self._seen: list[tuple[npt.NDArray[np.int64], Any, Any]] = []
        self._n_epochs = 0
        hooks.tell(
            f"{trainer}, {len(natoms):,} frames of {', '.join(file.name for file in files)}, "
            f"{held_out.sum():,} of them held out, {self.start[-1]:,} atoms -> {folder}"
        )
        atexit.register(self._summarize)

    def record(self, frames: npt.NDArray[np.int64], force_errors: Any, energy_errors: Any) -> None:
        """Note the errors of a batch; NaN where there is no reference.

        ``frames`` (n_frames,) are their numbers, in the order of the batch; ``force_errors``
        (n_atoms,) the norms of all their atoms, ``energy_errors`` (n_frames,) per atom, tensors.
        """
        # Kept on the device until the epoch ends, so that no step waits for a copy.
        self._seen.append((frames, force_errors, energy_errors))

    def record_drawn(self, force_errors: Any, energy_errors: Any) -> None:
        """Note the errors of the batch that was drawn next, as :meth:`record` does."""
        assert self._drawn is not None
        self.record(self.trained[self._drawn.pop()], force_errors, energy_errors)

    def end_epoch(self) -> None:
        """Write the epoch; one that cannot be written is left out, and the training goes on."""
        for frames, forces, energies in self._seen:
            if forces is not None:
                atoms = [np.arange(self.start[f], self.start[f + 1]) for f in frames]
                self._of_atoms.record(np.concatenate(atoms), forces)
            if energies is not None:
                self._of_frames.record(frames, energies)
        self._seen.clear()
        written = [self._of_atoms] * self._forces + [self._of_frames] * self._energies
        for recorder in written:
            try:
                recorder.end_epoch()
            except OutputError as error:
                hooks.tell(f"this epoch is not recorded: {error}")
        self._n_epochs += 1

    def _summarize(self) -> None:
        hooks.tell(f"{self._n_epochs} epochs in {hooks.folder}; next: ltau ingest {hooks.folder}")


_logs: list[tuple[Any, FrameLog]] = []  # of this process, each with the loader of its training


def log_of(loader: Any, begin: Callable[[], FrameLog]) -> FrameLog:
    """Return the log of the training that draws from a loader; with a new one a log begins."""
    if not _logs or _logs[-1][0] is not loader:
        with hooks.or_refuse():
            _logs.append((loader, begin()))
    return _logs[-1][1]


def end_epoch() -> None:
    """End the epoch of the training that runs, if one has begun."""
    if _logs:
        _logs[-1][1].end_epoch()
