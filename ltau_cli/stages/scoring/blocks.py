"""Descriptors to scored rows, piece by piece, and these to blocks of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Floats, Integers, Singles
from ltau_cli.artifacts.model import ModelFile
from ltau_cli.artifacts.provenance import stamp
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import to_block
from ltau_cli.core.structures import Block, local_distance, log_structure_distance
from ltau_cli.pieces.store import Store
from ltau_cli.pieces.workers import keep_open
from ltau_cli.readers.descriptors import Descriptors, open_descriptors
from ltau_cli.readers.frames import neighbors_of, read_frames
from ltau_cli.readers.place import Place
from ltau_cli.settings import ScoreSettings
from ltau_cli.stages.scoring.loaded import Loaded
from ltau_cli.stages.scoring.rows import Rows

# Gives scored rows (m,) of all, one block after the other, each time it is called.
ReadBlocks = Callable[[], Iterator[Array]]


@dataclass(frozen=True)
class ScoreRows:
    """The task of scoring some rows of a descriptor file."""

    model: Path
    fingerprint: str  # of the model
    settings: ScoreSettings
    descriptors: Place  # with the calibration and the model, at absolute paths
    natoms: tuple[int, ...] | None  # rows of the file that each row is the mean of
    what: ClassVar[str] = "rows"

    @classmethod
    def of(cls, rows: Rows) -> ScoreRows:
        """Name the files of opened rows."""
        loaded, place, settings = rows.loaded, rows.place, rows.loaded.settings
        if settings.calibration is not None:
            settings = replace(settings, calibration=settings.calibration.absolute())
        natoms = rows.source.natoms
        return cls(
            loaded.path.absolute(), loaded.scorer.model.fingerprint, settings,
            replace(place, path=place.path.absolute()), None if natoms is None else tuple(natoms),
        )  # fmt: skip

    def open(self, _store: Store, threads: int) -> tuple[Loaded, Descriptors]:
        """Open model and descriptors, which a worker keeps for the next piece."""
        file = (self.descriptors, stamp(self.descriptors.path.stat()))
        return (
            keep_open("model", (self.model, self.fingerprint, self.settings, threads), lambda stack:
                 Loaded.of(stack.enter_context(open_artifact(self.model, ModelFile)),
                           self.settings, threads)),
            keep_open("rows", (file, self.natoms), lambda stack:
                 self._averaged(stack.enter_context(open_descriptors(self.descriptors)))),
        )  # fmt: skip

    def _averaged(self, source: Descriptors) -> Descriptors:
        return source if self.natoms is None else source.averaged(np.array(self.natoms))

    def make(self, opened: tuple[Loaded, Descriptors], start: int, end: int) -> dict[str, Any]:
        """Score rows ``start..end``."""
        loaded, source = opened
        ((_, block),) = source.blocks(end - start, start, end)
        return {"rows": loaded.score(block)}


def needs_all_rows(rows: Rows) -> bool:
    """Whether something of a row takes all rows to know."""
    return rows.loaded.cutoff is not None or rows.loaded.needs_structures


def finished_blocks(read: ReadBlocks, rows: Rows) -> Iterator[Block]:
    """Yield scored rows with structures, labels and calibrated columns.

    Where :func:`needs_all_rows`, they are read twice.
    """
    calibrator, log_distance, local = rows.loaded.calibrator, None, None
    cutoff = rows.loaded.cutoff
    if cutoff is not None:
        assert rows.frames is not None, "checked when the file was opened"
        distance = np.concatenate([block["relative_distance"] for block in read()])
        local = _local_distances(distance, rows.frames, cutoff)
    elif rows.loaded.needs_structures:
        log_distance = _log_distances(read(), rows)
    blocks = _with_labels(read(), rows, local)
    if calibrator is None:
        return blocks
    return replace(calibrator, feature_names=tuple(rows.features)).columns(blocks, log_distance)


def _local_distances(distance: Singles, frames: Path, cutoff: float) -> Singles:
    """Average the relative distances around each atom of the frames, (n,)."""
    found = np.empty_like(distance)
    start = 0
    for frame in read_frames(frames, placed=True):
        end = start + len(frame)
        found[start:end] = local_distance(distance[start:end], *neighbors_of(frame, cutoff))
        start = end
    return found


def _log_distances(blocks: Iterator[Array], rows: Rows) -> Floats:
    structure = rows.structure
    assert structure is not None, "checked when the file was opened"

    def distances() -> Iterator[tuple[Integers, npt.NDArray[np.floating]]]:
        start = 0
        for block in blocks:
            yield structure[start : start + len(block)], block["relative_distance"]
            start += len(block)

    return log_structure_distance(distances(), int(structure.max()) + 1)


def _with_labels(blocks: Iterator[Array], rows: Rows, local: Singles | None) -> Iterator[Block]:
    beside = rows.labels | ({} if rows.structure is None else {"structure": rows.structure})
    beside |= {} if local is None else {"local_distance": local}
    start = 0
    for scored in blocks:
        own = slice(start, start + len(scored))
        block = to_block(scored) | {name: values[own] for name, values in beside.items()}
        if rows.features:
            block["features"] = np.stack([v[own] for v in rows.features.values()], axis=1)
        if rows.loaded.fit_hash is not None:
            block["in_calibration"] = np.isin(block["row_hash"], rows.loaded.fit_hash)
        yield block
        start = own.stop
