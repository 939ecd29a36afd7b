"""The frames that a model is to describe: what is known of them before it runs."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Floats, Integers
from ltau_cli.artifacts.described import ReferenceFrame
from ltau_cli.errors import InputError, UsageError
from ltau_cli.readers.frames import (
    ISOLATED,
    REFERENCES,
    FrameLabels,
    about,
    check_no_scores,
    label_atoms,
    names_of,
    quantities,
    read_frames,
)

NONE = "none"  # reference of frames that have none


@dataclass(frozen=True)
class GivenFrames:
    """Frames of one or several files, one after the other; iterating reads them again."""

    paths: tuple[Path, ...]
    number: Integers  # (n_frames,): place of each frame among all in the files, from 0
    natoms: Integers  # (n_frames,)
    labels: FrameLabels  # of every atom
    # numbers of frames of single atoms (``config_type=IsolatedAtom``) that are left out
    isolated: tuple[int, ...]
    # name of the reference ``forces`` and ``energy`` in the frames, where there is any
    keys: dict[str, str]
    n_without: dict[str, int]  # frames that have no reference of the name, where others have
    heads: tuple[str, ...]  # of the network, that evaluates each frame; empty if not known

    @property
    def ends(self) -> Integers:
        """The atom after the last one of each frame, (n_frames,)."""
        return np.cumsum(self.natoms)

    def __len__(self) -> int:
        return len(self.natoms)

    def __iter__(self) -> Iterator[Any]:
        wanted = zip(self.number.tolist(), self.heads, strict=True)
        following, head = next(wanted)
        for number, frame in enumerate(itertools.chain.from_iterable(map(read_frames, self.paths))):
            if number == following:
                frame.info["head"] = head
                yield frame
                following, head = next(wanted, (-1, ""))

    def batches(self, size: int, first: int = 0) -> Iterator[list[Any]]:
        """Yield lists of ``size`` frames from frame ``first`` on, which begins a batch."""
        frames = itertools.islice(self, first, None)
        while batch := list(itertools.islice(frames, size)):
            yield batch

    def with_references(self) -> Iterator[ReferenceFrame]:
        """Yield each frame with its references."""
        for frame in self:
            yield ReferenceFrame(frame, self.reference_forces(frame), self.reference_energy(frame))

    def reference_forces(self, frame: Any) -> Floats:
        """Return the reference forces of a frame, (n_atoms, 3) eV/Å; NaN if it has none."""
        values = self._reference(frame, "forces")
        if values is None:
            return np.full((len(frame), 3), np.nan)
        if values.shape != (len(frame), 3):
            raise InputError(
                f"{self.paths[0]}: {self.keys['forces']} has shape {values.shape} in a frame of "
                f"{len(frame)} atoms"
            )
        return values

    def reference_energy(self, frame: Any) -> float:
        """Return the reference energy of a frame, eV; NaN if it has none."""
        values = self._reference(frame, "energy")
        if values is None:
            return np.nan
        if values.size != 1:
            raise InputError(f"{self.paths[0]}: {self.keys['energy']} of a frame is not one number")
        return float(values.reshape(()))

    def _reference(self, frame: Any, quantity: str) -> Floats | None:
        there = quantities(frame)
        key = self.keys.get(quantity)
        return None if key not in there else np.asarray(there[key], dtype=np.float64)


def look_through(
    paths: Sequence[Path],
    *,
    isolated: bool = False,
    reference: str | None = None,
    heads: Sequence[str] = (),
) -> GivenFrames:
    """Read what is needed to plan the work on extxyz files, or described artifacts.

    Frames of isolated atoms are left out, unless ``isolated``. ``reference`` is the name of the
    reference forces; None takes the first of :data:`REFERENCES` that is there, "none" none.
    ``heads`` is one of all frames, or one of each file; else frames name their own.
    """
    if len(heads) not in (0, 1, len(paths)):
        raise UsageError(
            f"--head is given {len(heads)} times, there are {len(paths)} files of frames",
            hint="give one for all, or one for each file, in their order",
        )
    number: list[int] = []
    told = []
    alone: list[int] = []
    of_frames: list[str] = []
    names = {} if reference == NONE else REFERENCES
    if reference not in (None, NONE):
        names = names | {"forces": (reference,)}
    seen: dict[str, Counter[str]] = {quantity: Counter() for quantity in names}
    of_files = tuple(heads) * len(paths) if len(heads) == 1 else heads or ("",) * len(paths)
    frames = (
        (frame, head)
        for path, head in zip(paths, of_files, strict=True)
        for frame in read_frames(path, placed=True)
    )
    for i, (frame, head) in enumerate(frames):
        own = about(frame)
        if len(frame) == 1 and own[1].lower() == ISOLATED and not isolated:
            alone.append(i)
            continue
        number.append(i)
        of_frames.append(head or str(frame.info.get("head", "")))
        told.append(own)
        there = quantities(frame)
        for quantity, known in names.items():
            found = names_of(known, there)
            seen[quantity].update(found)
            if found and reference is None and (quantity == "forces" or not seen["forces"]):
                check_no_scores(there, found[0], f"{paths[0]}, frame {i}")
    if not number:
        raise InputError(
            f"{paths[0]} holds isolated atoms only", hint="to describe these: --isolated"
        )
    keys = {
        quantity: names_of(known, seen[quantity])[0]
        for quantity, known in names.items()
        if seen[quantity]
    }
    if reference not in (None, NONE) and "forces" not in keys:
        raise InputError(f"{paths[0]}: no frame has {reference}")
    return GivenFrames(
        tuple(paths),
        np.array(number),
        np.array([len(species) for species, *_ in told]),
        label_atoms(told),
        tuple(alone),
        keys,
        {quantity: len(number) - seen[quantity][key] for quantity, key in keys.items()},
        tuple(of_frames),
    )
