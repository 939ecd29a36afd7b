"""Structured rows to finished blocks, with what takes all rows to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.scores import WRITE_ROWS, to_block
from ltau_cli.artifacts.spool import Spool
from ltau_cli.core.structures import Block, local_distance, log_structure_distance
from ltau_cli.readers.frames import neighbors_of, read_frames
from ltau_cli.stages.scoring.work import Work


def finished_blocks(spool: Spool, work: Work) -> Iterator[Block]:
    """Yield what the spool holds, with what else is known of the rows."""
    calibrator, structure = work.shared.calibrator, work.structure
    log_distance = None
    if work.shared.cutoff is not None:
        return complete(
            (rows for _, rows in spool.blocks(WRITE_ROWS)),
            work,
            None,
            _local_distances(spool, work),
        )
    if calibrator is not None and calibrator.calibration.predictor.map.needs_structures:
        assert structure is not None, "checked when the file was opened"
        first = work.header.first
        log_distance = log_structure_distance(
            (
                (structure[first + done : first + done + len(rows)], rows["relative_distance"])
                for done, rows in spool.blocks(WRITE_ROWS)
            ),
            int(structure.max()) + 1,
        )
    return complete((rows for _, rows in spool.blocks(WRITE_ROWS)), work, log_distance)


def _local_distances(spool: Spool, work: Work) -> npt.NDArray[np.float32]:
    """Average the relative distances around each atom of the frames, (n,)."""
    cutoff, frames = work.shared.cutoff, work.frames
    assert cutoff is not None, "by the caller"
    assert frames is not None, "checked when the file was opened"
    distance = np.concatenate([rows["relative_distance"] for _, rows in spool.blocks(WRITE_ROWS)])
    found = np.empty_like(distance)
    start = -work.header.first
    for frame in read_frames(frames):
        stop = start + len(frame)
        if start >= 0 and stop <= len(distance):
            pairs = neighbors_of(frame, cutoff)
            found[start:stop] = local_distance(distance[start:stop], *pairs)
        start = stop
    return found


def complete(
    parts: Iterable[npt.NDArray[Any]],
    work: Work,
    log_distance: npt.NDArray[np.float64] | None,
    local: npt.NDArray[np.float32] | None = None,
) -> Iterator[Block]:
    """Turn structured rows into blocks with structures, labels and calibrated columns."""
    calibrator = work.shared.calibrator
    blocks = _with_labels(parts, work, local)
    if calibrator is None:
        return blocks
    names = tuple(work.header.parameters["features"])
    return replace(calibrator, feature_names=names).columns(blocks, log_distance)


def _with_labels(
    parts: Iterable[npt.NDArray[Any]], work: Work, local: npt.NDArray[np.float32] | None
) -> Iterator[Block]:
    fit_hash = work.shared.fit_hash
    start = work.header.first
    for rows in parts:
        stop = start + len(rows)
        block = to_block(rows)
        if work.structure is not None:
            block["structure"] = work.structure[start:stop]
        block |= {name: labels[start:stop] for name, labels in work.labels.items()}
        if local is not None:
            block["local_distance"] = local[start - work.header.first : stop - work.header.first]
        if work.features.shape[1]:
            block["features"] = work.features[start:stop]
        if fit_hash is not None:
            block["in_calibration"] = np.isin(block["row_hash"], fit_hash)
        yield block
        start = stop
