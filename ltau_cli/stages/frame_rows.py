"""Which rows of a scores artifact belong to which of the user's frames."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ltau_cli.array_types import Integers
from ltau_cli.artifacts.described import find_origin
from ltau_cli.artifacts.read import damaged
from ltau_cli.artifacts.scores import WRITE_ROWS, ScoresFile
from ltau_cli.errors import InputError
from ltau_cli.matching import Known
from ltau_cli.readers.frames import label_frames, read_frame_labels
from ltau_cli.readers.place import Place

STRUCTURE_DIM = "n_structures"
_HINT = "give the very frames whose descriptors were scored, in the same order"


@dataclass(frozen=True)
class FrameRows:
    """The rows of some frames: those of frame i are ``ends[i - 1]..ends[i]``."""

    ends: Integers  # (n_frames,): the row after the last one of each frame
    per_atom: bool  # whether a row is an atom; otherwise it is a whole frame

    def structure(self, start: int, stop: int) -> Integers:
        """Return the frame of each of the rows ``start..stop``."""
        return np.searchsorted(self.ends, np.arange(start, stop), side="right")


def match_frames(path: Path, artifact: ScoresFile) -> FrameRows:
    """Match the frames of a file with the rows of the scores, by the number of their atoms.

    Without structures in the scores, rows are atoms if there are as many, else frames.
    """
    find_origin(Place(path))
    labels = read_frame_labels(path)
    natoms = np.bincount(labels["structure"])
    n, ends = artifact.n, np.cumsum(natoms)
    if artifact.has("structure"):
        rows = FrameRows(ends, per_atom=True)
        _check_structure(path, artifact, rows)
        artifact.told().check(Known(path, n, labels))
        return rows
    if artifact.parameters.get("averaged") or ends[-1] != n == len(natoms):
        _check_same(path, len(natoms), ends[-1], f"{artifact.path} has {n:,} rows, one for each "
                    "frame", len(natoms) == n)  # fmt: skip
        artifact.told().check(Known(path, n, label_frames(labels)))
        return FrameRows(np.arange(1, n + 1), per_atom=False)
    _check_same(path, len(natoms), ends[-1], f"{artifact.path} has {n:,} rows", ends[-1] == n)
    artifact.told().check(Known(path, n, labels))
    return FrameRows(ends, per_atom=True)


def read_structure(artifact: ScoresFile, rows: FrameRows | None, start: int, stop: int) -> Integers:
    """Return the structure of the rows ``start..stop``, from 0.

    Without frames and without structures in the scores, every row is a structure.
    """
    if rows is not None:
        return rows.structure(start, stop)
    if artifact.has("structure"):
        return artifact.read("structure", start, stop)
    return np.arange(start, stop)


def count_structures(artifact: ScoresFile, rows: FrameRows | None) -> int:
    """Return the number of structures; see :func:`read_structure`."""
    if rows is not None:
        return len(rows.ends)
    n = artifact.n
    if not artifact.has("structure"):
        return n
    seen = np.zeros(n, dtype=bool)
    for start in range(0, n, WRITE_ROWS):
        seen[artifact.read("structure", start, start + WRITE_ROWS)] = True
    n_structures = int(seen.sum())
    if not seen[:n_structures].all() or artifact.sizes.get(STRUCTURE_DIM) not in (
        None,
        n_structures,
    ):
        raise damaged(artifact.path, "its structures are not numbered from 0 without gaps")
    return n_structures


def _check_structure(path: Path, artifact: ScoresFile, rows: FrameRows) -> None:
    """Check that the structures of the scores are the frames, in their order."""
    n, n_structures, n_frames = artifact.n, count_structures(artifact, None), len(rows.ends)
    there = f"{artifact.path} has {n_structures:,} structures with {n:,} rows"
    _check_same(path, n_frames, rows.ends[-1], there, n_frames == n_structures)
    for start in range(0, n, WRITE_ROWS):
        stored = artifact.read("structure", start, start + WRITE_ROWS)
        expected = rows.structure(start, start + len(stored))
        if not np.array_equal(stored, expected):
            frame = int(min(np.minimum(stored, expected)[stored != expected]))
            natoms = np.diff(rows.ends, prepend=0)[frame]
            raise InputError(
                f"{path}, frame {frame}: its {natoms:,} atoms are not "
                f"the rows of structure {frame} in {artifact.path}",
                hint=_HINT,
            )
    _check_same(path, n_frames, rows.ends[-1], there, rows.ends[-1] == n)


def _check_same(path: Path, n_frames: int, n_atoms: int, there: str, same: bool) -> None:
    if not same:
        raise InputError(
            f"{path} has {n_frames:,} frames with {n_atoms:,} atoms, {there}", hint=_HINT
        )
