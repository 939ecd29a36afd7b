"""The training descriptors in shards: read, scaled, and pooled where they coincide."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Floats, Integers, Singles
from ltau_cli.artifacts.errors import ChosenEpochs, ErrorsFile
from ltau_cli.core.search.points import Points, find_points
from ltau_cli.core.search.scaling import Scaling, fit_scaling
from ltau_cli.core.search.shards import cut_evenly
from ltau_cli.errors import InputError
from ltau_cli.readers.column import read_counts, tell_counts
from ltau_cli.readers.descriptors import Descriptors, spread
from ltau_cli.readers.place import Place
from ltau_cli.settings import Metric, Scale

messages = logging.getLogger("ltau")

BLOCK_VALUES = 1 << 22  # read at a time; changes the last digits of the scaling


@dataclass
class TrainingSet:
    """The logged samples of a training set and the points they coincide on."""

    source: Descriptors
    scaling: Scaling
    logged: Integers  # (n,): rows of the logged samples
    sample_start: list[int]  # first row of each shard, and the number of rows
    point_start: list[int]  # first point of each shard, and the number of points
    # of all shards; samples are counted among the logged ones. Points of different shards may have
    # the same descriptors
    points: Points
    threads: int

    @property
    def count(self) -> int:
        """Number of shards."""
        return len(self.point_start) - 1

    @property
    def n_points(self) -> int:
        """Points of all shards."""
        return self.point_start[-1]

    def of_all(self, values: Array, missing: float) -> Array:
        """Values of the logged samples among those of all samples, of which the rest is missing."""
        out = np.full((self.source.n, *values.shape[1:]), missing, dtype=values.dtype)
        out[self.logged] = values
        return out

    def read_points(self, shard: int) -> Singles:
        """Read the descriptors of the points of a shard, (n, d_search) float32, scaled.

        Those of a single shard stay in memory.
        """
        return self._only if self.count == 1 else self._read_points(shard)

    @cached_property
    def _only(self) -> Singles:
        return self._read_points(0)

    def _read_points(self, shard: int) -> Singles:
        part = slice(self.point_start[shard], self.point_start[shard + 1])
        rows = self.logged[self.points.first[part]]
        chosen = self.source.take(rows, int(rows[0]), int(rows[-1]) + 1)
        return np.ascontiguousarray(self.scaling.apply(chosen, threads=self.threads))


@dataclass(frozen=True)
class Samples:
    """What a log and descriptors together know of the samples of the log."""

    source: Descriptors  # in the order of the log
    # (n_samples,): logged errors; 0 also for what has no descriptors, so that it has no weight
    n_logged: npt.NDArray[np.int32]
    n_never_logged: int
    structure: Integers | None  # (n_samples,)
    # (n_samples,): of the network that described them; NaN where it is not known
    own_error: Floats | None

    @classmethod
    def of(cls, epochs: ChosenEpochs, source: Descriptors, natoms: Place | None = None) -> Samples:
        """Match the samples with the descriptors; ``natoms`` are the rows that each is."""
        log, n_logged = epochs.log, epochs.n_logged()
        source = _of_samples(source, log, natoms)
        n_never_logged = int(np.count_nonzero(n_logged == 0))
        structure, own_error = source.structure(), source.errors()
        source = _order_as_logged(source, log)
        if source.rows is not None:
            n_logged[source.rows < 0] = 0
            structure = None if structure is None else structure[source.rows]
            own_error = None if own_error is None else own_error[source.rows]
        if log.has("structure"):
            structure = log.read("structure")
        return cls(source, n_logged, n_never_logged, structure, own_error)


def _of_samples(source: Descriptors, log: ErrorsFile, natoms: Place | None) -> Descriptors:
    """Return descriptors of samples: where these are structures, the means over their rows."""
    if natoms is not None:
        return source.averaged(np.bincount(spread(read_counts(natoms), source.n, str(natoms))))
    structure = source.structure() if log.quantity == "energy" else None
    if structure is not None:
        return source.averaged(np.bincount(structure))
    if log.quantity == "energy" and source.n != log.shape[1]:
        raise InputError(
            f"{source.source.place} does not say which atoms are of one frame, {log.path} holds an "
            f"error of each of {log.shape[1]:,} frames",
            hint="give the number of atoms of each: --natoms FILE; or describe the frames",
        )
    return source


def _order_as_logged(source: Descriptors, log: ErrorsFile) -> Descriptors:
    """Put descriptors in the order of the samples of a log, where both tell theirs apart."""
    samples, rows = log.told(), source.told()
    at = samples.match(rows)
    if at is None:
        if rows.n != samples.n:
            raise InputError(
                f"{rows.name} has {rows.n:,} rows, {log.path} has {samples.n:,} samples",
                hint=tell_counts(rows.n, samples.n, source.beside("natoms")),
            )
        return source
    lacking, spare = np.flatnonzero(at < 0), np.setdiff1d(np.arange(rows.n), at)
    if len(lacking) == samples.n or (len(lacking) and len(spare)):
        raise InputError(
            f"{rows.name} is of other samples than {log.path}: it does not have "
            f"{samples.tell(lacking)}, and the log does not have {rows.tell(spare)}",
            hint="describe the very file that was trained on, or some of its frames",
        )
    for known, missing, other in ((samples, lacking, rows), (rows, spare, samples)):
        if len(missing):
            messages.warning(
                "%s: left out %s, which %s does not have",
                known.name, known.tell(missing), other.name,
            )  # fmt: skip
    return source.ordered(at)


def read_training_set(
    source: Descriptors,
    n_logged: npt.NDArray[np.int32],
    *,
    shards: int,
    scale: Scale,
    metric: Metric,
    merge_within: float,
    threads: int,
) -> TrainingSet:
    """Find the scaling and the points, shard by shard.

    ``source`` has all samples, those that were never logged too; ``n_logged`` (n_samples,) tells
    which. There are at most as many shards as logged samples, which are cut into equal ranges.
    """
    logged = np.flatnonzero(n_logged)
    cuts = cut_evenly(len(logged), shards)
    sample_start = [0, *(int(logged[cut]) for cut in cuts[1:-1]), source.n]

    def blocks() -> Iterator[Singles]:
        for start, block in source.blocks(max(1, BLOCK_VALUES // source.width)):
            yield block[n_logged[start : start + len(block)] > 0]

    scaling = fit_scaling(blocks, source.width, scale=scale, metric=metric)
    parts, point_start = [], [0]
    for shard in range(shards):
        own = slice(cuts[shard], cuts[shard + 1])
        rows = logged[own]
        scaled = scaling.apply(
            source.take(rows, sample_start[shard], sample_start[shard + 1]), threads=threads
        )
        points = find_points(scaled, n_logged[rows], merge_within=merge_within)
        del scaled  # before the next shard is read
        parts.append(
            Points(
                points.first + cuts[shard], points.of_sample + point_start[-1], points.multiplicity
            )
        )
        point_start.append(point_start[-1] + len(points.first))
    joined = Points(
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.of_sample for part in parts]),
        np.concatenate([part.multiplicity for part in parts]),
    )
    return TrainingSet(source, scaling, logged, sample_start, point_start, joined, threads)
