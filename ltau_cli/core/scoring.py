"""Score blocks of descriptors with a fitted model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Floats, Integers, Singles
from ltau_cli.core.domain import (
    distance_floor,
    least_pvalue,
    ood_pvalue,
    relative_distance,
    rounding_distance,
)
from ltau_cli.core.mixture import average_cdfs, average_values, gather_rows
from ltau_cli.core.search.neighbors import Neighbors
from ltau_cli.core.search.points import Points
from ltau_cli.core.search.scaling import Scaling
from ltau_cli.core.search.shards import Shards, find_in_shards
from ltau_cli.core.structures import Block
from ltau_cli.core.threads import available_threads
from ltau_cli.errors import UsageError
from ltau_cli.settings import QUANTILES, Weighting

FLOOR_VALUES = 1 << 22  # read at a time; changes the last digits of the distance floor
RowReader = Callable[[Integers], Array]


@dataclass
class Model:
    """A fitted model in memory."""

    # bin edges (n_edges,) and thresholds (n_thresholds,), in error units
    edges: Floats
    thresholds: Floats
    # (n_points, n_edges + 1), or ``counts(points)`` reads those of points whose numbers increase
    counts: npt.NDArray[np.unsignedinteger] | RowReader
    mean_error: Singles  # (n_points,)
    max_error: Singles  # (n_points,)
    last_epoch_error: Singles  # (n_points,): mean of the last logged errors
    uncertainty: Singles  # (n_points, n_thresholds)
    multiplicity: Integers  # (n_points,)
    shards: Shards  # the points, scaled, and the search for the nearest
    scaling: Scaling  # applied to the rows that are scored
    points: Points  # which sample belongs to which point
    # (n_samples,): leave-one-out neighbor distances for ``k`` neighbors
    loo_distance: Singles
    # ``loo_share(k)`` gives the mean leave-one-out distances to k neighbors over those to
    # ``self.k``, (n_samples,) float16, for every k up to ``self.k``
    loo_share: Callable[[int], npt.NDArray[np.float16]]
    loo_group: Integers | None  # (n_samples,): samples that were left out together
    k: int
    weighting: Weighting
    fingerprint: str  # same for models made of the same inputs with the same options

    @property
    def n_samples(self) -> int:
        """Training samples."""
        return len(self.loo_distance)

    def loo_distance_of(self, k: int) -> Singles:
        """Return the leave-one-out distances to k neighbors, (n_samples,)."""
        if k == self.k:
            return self.loo_distance
        if not 1 <= k <= self.k:
            raise UsageError(
                f"-k {k}: the model has leave-one-out distances to at most {self.k} neighbors, "
                "and without them there are no p-values",
                hint=f"use -k {self.k} or less, or fit again with -k {k}",
            )
        return self.loo_distance * self.loo_share(k).astype(np.float32)


class Scorer:
    """Scores one block of descriptors.

    Parameters
    ----------
    model : Model
    k : int
        Neighbors; the model's by default.
    thresholds : (n_thresholds,) float64
        Error units; the model's by default.
    quantiles : (n_levels,) float64
        Levels in (0, 1).
    threshold_scale : (n_thresholds,) float64, optional
        Also give the probability that the error exceeds ``threshold / scale``.
    with_cdf : bool
    threads : int
        All by default; the result does not depend on it.
    """

    def __init__(
        self,
        model: Model,
        *,
        k: int | None = None,
        thresholds: npt.ArrayLike | None = None,
        quantiles: npt.ArrayLike = QUANTILES,
        threshold_scale: Floats | None = None,
        with_cdf: bool = False,
        threads: int | None = None,
    ) -> None:
        threads = threads or available_threads()
        k = k or model.k
        self.model = model
        self.k = k
        self.thresholds = np.atleast_1d(
            np.asarray(model.thresholds if thresholds is None else thresholds, dtype=np.float64)
        )
        self.quantiles = np.asarray(quantiles, dtype=np.float64)
        self.threshold_scale = threshold_scale
        self.with_cdf = with_cdf
        self.threads = threads
        self.loo_distance = model.loo_distance_of(k)
        self.rounding = rounding_distance(_blocks_of_points(model))
        self.floor = distance_floor(self.rounding, self.loo_distance)
        total = np.bincount(model.points.of_sample, weights=self.loo_distance)
        own_distance = (total / model.multiplicity).astype(np.float32)
        self._exact = np.column_stack(
            [model.mean_error, own_distance, model.uncertainty, model.last_epoch_error]
        )
        self._reference = np.sort(self.loo_distance)

    @property
    def least_pvalue(self) -> float:
        """The smallest that there can be."""
        return least_pvalue(len(self._reference))

    def score(self, block: Singles) -> Block:
        """Score some rows.

        Parameters
        ----------
        block : (n, d) float32
            Descriptors.

        Returns
        -------
        dict of str to (n, ...) array
            ``expected_error`` (error units), ``uncertainty`` (n, n_thresholds), ``quantiles``
            (n, n_levels), ``neighbor_distance``, ``relative_distance``, ``ood_pvalue``,
            ``in_training`` (whether a training sample has the same descriptors),
            ``last_epoch_error`` (expected error by the last epoch alone; error units), and what
            else was asked for.
        """
        model = self.model
        block = np.asarray(block, dtype=np.float32)
        scaled = model.scaling.apply(block, threads=self.threads)
        found = find_in_shards(
            model.shards, scaled, model.multiplicity, self.k, threads=self.threads
        )
        parts = [self._average(neighbors) for _, neighbors in found]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _average(self, found: Neighbors) -> Block:
        """Return the datasets of some rows from their neighbors."""
        model, threads = self.model, self.threads
        distance, in_training = found.mean_distance(), found.distance[:, 0] <= self.rounding
        found = found.weigh(model.weighting)
        means = average_values(found, self._exact, threads=threads)
        if callable(model.counts):
            near, points, counts = gather_rows(found, model.counts)
            largest = model.max_error[points]
        else:
            near, counts, largest = found, model.counts, model.max_error
        mixture = average_cdfs(
            near, counts, largest, model.edges,
            levels=self.quantiles, thresholds=self._mixture_thresholds(),
            with_cdf=self.with_cdf, threads=threads,
        )  # fmt: skip
        expected = means[:, 0]
        result: Block = {
            "expected_error": expected,
            "uncertainty": self._uncertainty(means[:, 2:], mixture.above),
            "quantiles": mixture.quantiles,
            "neighbor_distance": distance,
            "relative_distance": relative_distance(distance, means[:, 1], self.floor),
            "ood_pvalue": ood_pvalue(distance, self._reference),
            "in_training": in_training,
            "last_epoch_error": means[:, -1],
        }
        if self.threshold_scale is not None:
            result["calibrated_uncertainty"] = mixture.above[:, len(self.thresholds) :]
        if self.with_cdf:
            result["cdf"] = mixture.cdf
        return result

    def _mixture_thresholds(self) -> Floats:
        """Thresholds to read off the mixture: the plain ones, then the calibrated ones.

        Errors being s times those of the mixture, P(error > eps) is the mixture's at eps / s.
        """
        if self.threshold_scale is None:
            return self.thresholds
        return np.concatenate([self.thresholds, self.thresholds / self.threshold_scale])

    def _uncertainty(self, exact: Floats, above: Floats) -> Floats:
        """Exact exceedance where the model has the threshold, else the mixture's."""
        result: Floats = above[:, : len(self.thresholds)].copy()
        for column, threshold in enumerate(self.thresholds):
            same = np.flatnonzero(self.model.thresholds == threshold)
            if len(same):
                result[:, column] = exact[:, same[0]]
        return result


def _blocks_of_points(model: Model) -> Iterator[tuple[Singles, Integers]]:
    """Descriptors and multiplicities of all points."""
    rows = max(1, FLOOR_VALUES // model.shards.width)
    for start in range(0, len(model.multiplicity), rows):
        part = model.multiplicity[start : start + rows]
        yield model.shards.descriptors(start, start + len(part)), part
