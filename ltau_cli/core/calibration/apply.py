"""Calibrated columns of blocks of scores."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ltau_cli.array_types import Floats, Singles
from ltau_cli.core.calibration.maps import Rows
from ltau_cli.core.calibration.model import Calibration
from ltau_cli.core.calibration.predicted import Predicted
from ltau_cli.core.structures import Block


@dataclass(frozen=True)
class Calibrator:
    """A calibration, and what it is told of the scores it is applied to."""

    calibration: Calibration
    thresholds: Floats  # (n_thresholds,), error units
    feature_names: tuple[str, ...] = ()  # of the columns of ``features``

    def columns(self, blocks: Iterable[Block], log_distance: Floats | None) -> Iterator[Block]:
        """Add ``calibrated_error``, ``error_bound`` and ``calibrated_uncertainty`` to each block.

        Blocks have ``structure`` and ``group`` where they are known. ``log_distance``
        (n_structures,) is that of :func:`ltau_cli.core.structures.log_structure_distance`; None
        takes the ``local_distance`` of each row, where that is there.
        """
        for block in blocks:
            predicted = self.predict(block, log_distance)
            found = {"calibrated_error": predicted.mean, "error_bound": predicted.bounds()}
            if "calibrated_uncertainty" not in block:
                found["calibrated_uncertainty"] = predicted.exceedance(self.thresholds)
            # as they are stored, so that what is told of them is that of the artifact
            yield block | {name: to_single(values) for name, values in found.items()}

    def predict(self, block: Block, log_distance: Floats | None) -> Predicted:
        """Predict the error distribution of each row of a block; see :meth:`columns`."""
        local = block.get("local_distance")
        structure = None if local is None else local.astype(np.float64)
        if log_distance is not None:
            structure = np.exp(log_distance[block["structure"]])
        return self.calibration.predict(rows_of(block, structure, self.feature_names))


def to_single(values: Floats) -> Singles:
    """Round to float32, whose largest number stands for all above."""
    largest = float(np.finfo(np.float32).max)
    return np.asarray(np.minimum(values, largest), dtype=np.float32)


def rows_of(
    block: Block, structure_distance: Floats | None, feature_names: Sequence[str] = ()
) -> Rows:
    """Return what a calibration needs to know of the rows of a block.

    ``feature_names`` are those of the columns of ``features``.
    """
    return Rows(
        expected_error=block["expected_error"].astype(np.float64),
        relative_distance=block["relative_distance"].astype(np.float64),
        neighbor_distance=block["neighbor_distance"].astype(np.float64),
        structure_distance=structure_distance,
        structure=block.get("structure"),
        group=block.get("group"),
        last_epoch_error=block["last_epoch_error"].astype(np.float64),
        own={
            name: block["features"][:, i].astype(np.float64) for i, name in enumerate(feature_names)
        },
    )
