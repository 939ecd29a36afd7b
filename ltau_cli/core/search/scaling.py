"""Scale descriptors before distances are measured."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ltau_cli.array_types import Floats, Singles
from ltau_cli.core.kernels import neighbors as kernels
from ltau_cli.core.threads import share_rows
from ltau_cli.errors import ComputeError
from ltau_cli.settings import Metric, Scale

SMALLEST_VARIANCE = 1e-6  # of the largest; directions below it hold rounding noise
# Of the mean variance so much is added to that of each direction: those that the training set
# hardly fills, where strangers live, would be blown up. See docs/calibration.md.
SHRINKAGE = 0.01


@dataclass(frozen=True)
class Scaling:
    """A linear map of descriptors, then for the cosine metric to unit length."""

    shift: Floats  # (d,): subtracted first
    # (d, d_search): applied then; None leaves the columns as they are
    transform: Floats | None
    metric: Metric  # with cosine, distances are those between unit vectors: sqrt(2 - 2 cos)

    @property
    def width(self) -> int:
        """Columns of what has been mapped."""
        return len(self.shift) if self.transform is None else self.transform.shape[1]

    def apply(self, descriptors: Singles, *, threads: int = 1) -> Singles:
        """Map descriptors (n, d) float32 to (n, d_search) float32; each row by itself."""
        if self.transform is None and self.metric == "euclidean":
            return descriptors
        if self.transform is None:
            mapped = descriptors.astype(np.float32)
        else:
            mapped = np.empty((len(descriptors), self.transform.shape[1]), dtype=np.float32)
            shift, transform = self.shift, self.transform

            def work(start: int, stop: int) -> None:
                kernels.transform_rows(
                    descriptors[start:stop], shift, transform, mapped[start:stop]
                )

            share_rows(work, len(descriptors), threads)
            if not np.isfinite(mapped).all():
                raise ComputeError(
                    "descriptors are too large to be scaled in single precision",
                    hint="compare their size with that of the training set's",
                )
        if self.metric == "cosine":
            length = np.sqrt(np.einsum("ij,ij->i", mapped, mapped, dtype=np.float64))
            mapped = (mapped / np.where(length > 0, length, 1)[:, None]).astype(np.float32)
        return np.ascontiguousarray(mapped)


def fit_scaling(
    blocks: Callable[[], Iterable[Singles]], width: int, *, scale: Scale, metric: Metric
) -> Scaling:
    """Find the map from the training descriptors, which are gone through twice.

    ``blocks()`` gives them, (n, width) float32, in blocks; the last digits depend on how they are
    cut. The scale ``standard`` gives each column unit variance; ``whiten`` gives unit covariance
    but for :data:`SHRINKAGE`, leaving out directions whose variance is below 1e-6 of the largest.
    """
    if scale == "none":
        return Scaling(np.zeros(width), None, metric)
    n, total = 0, np.zeros(width)
    for block in blocks():
        n += len(block)
        total += block.sum(axis=0, dtype=np.float64)
    shift = total / n
    if scale == "standard":
        squares = np.zeros(width)
        for block in blocks():
            squares += ((block - shift) ** 2).sum(axis=0)
        deviation = np.sqrt(squares / n)
        return Scaling(shift, np.diag(1 / np.where(deviation > 0, deviation, 1)), metric)
    covariance = np.zeros((width, width))
    for block in blocks():
        centered = block - shift
        covariance += centered.T @ centered
    variance, directions = np.linalg.eigh(covariance / n)
    kept = variance > SMALLEST_VARIANCE * max(float(variance[-1]), np.finfo(np.float64).tiny)
    if not kept.any():
        return Scaling(shift, np.eye(width), metric)
    deviation = np.sqrt(variance[kept] + SHRINKAGE * float(variance.mean()))
    return Scaling(shift, directions[:, kept] / deviation, metric)
