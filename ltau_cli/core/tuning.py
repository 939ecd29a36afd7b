"""Compare the knobs of the method: scaling, neighbors, their weighting, epochs."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ltau_cli.array_types import Floats, Integers, Singles
from ltau_cli.core.calibration.fit import cross_validate
from ltau_cli.core.calibration.maps import Rows
from ltau_cli.core.calibration.metrics import rank_correlation
from ltau_cli.core.domain import distance_floor, relative_distance, rounding_distance
from ltau_cli.core.search.cells import CellSearcher, build_cells
from ltau_cli.core.search.loo import GroupLeftOut
from ltau_cli.core.search.neighbors import Neighbors, find_neighbors
from ltau_cli.core.search.points import find_points
from ltau_cli.core.search.scaling import fit_scaling
from ltau_cli.core.structures import structure_distance
from ltau_cli.epochs import EpochRange
from ltau_cli.results import Choice, Trial
from ltau_cli.settings import Metric, Scale, Weighting

SCALES: tuple[Scale, ...] = ("none", "standard", "whiten")
NEIGHBORS = (5, 10, 20, 30, 50)
WEIGHTINGS: tuple[Weighting, ...] = ("uniform", "inverse-distance")


@dataclass(frozen=True)
class ComparedRows:
    """Rows of known error that the knobs are compared on."""

    # (n, d): None takes the training samples themselves, each without its own structure
    descriptors: Singles | None
    true_error: Floats  # (n,): error units; NaN rows are left out
    structure: Integers | None  # (n,): numbers from 0


def tune(
    descriptors: Singles,
    group: Integers,
    mean_error: dict[EpochRange, Floats],
    compared: ComparedRows,
    *,
    metric: Metric,
    scales: Sequence[Scale] = SCALES,
    threads: int = 1,
    advance: Callable[[int], None] = lambda _steps: None,
) -> list[Trial]:
    """Compare all combinations of the knobs by the CRPS of the calibrated errors, the best first.

    Of training descriptors (n_samples, d); ``group`` (n_samples,) are left out together:
    structures, or each by itself; ``mean_error`` (n_samples,) that over each choice of epochs
    (error units). ``advance(1)`` is called after each scaling.
    """
    known = np.isfinite(compared.true_error)
    truth = compared.true_error[known]
    structure = None if compared.structure is None else compared.structure[known]
    trials = []
    for scale in scales:
        for choice, rows in _score(
            descriptors, group, mean_error, compared, scale, metric, threads
        ):
            part = rows.take(known)
            if structure is not None:
                distance = structure_distance(structure, part.relative_distance)
                part = replace(part, structure_distance=distance, structure=structure)
            predicted, _, scores = cross_validate("distance", part, truth)
            rank = rank_correlation(predicted, truth)
            trials.append(Trial(choice=choice, crps=float(scores.mean()), rank_correlation=rank))
        advance(1)
    return sorted(trials, key=lambda trial: trial.crps)


def _score(
    descriptors: Singles,
    group: Integers,
    mean_error: dict[EpochRange, Floats],
    compared: ComparedRows,
    scale: Scale,
    metric: Metric,
    threads: int,
) -> list[tuple[Choice, Rows]]:
    """Score the rows under each choice with this scaling."""
    n, width = descriptors.shape
    scaling = fit_scaling(lambda: iter([descriptors]), width, scale=scale, metric=metric)
    scaled = scaling.apply(descriptors, threads=threads)
    points = find_points(scaled, np.ones(n, dtype=np.int32), merge_within=0.0)
    unique = np.ascontiguousarray(scaled[points.first])
    searcher = CellSearcher(unique, build_cells(unique, threads=threads))
    left = n - int(np.bincount(group).max())
    neighbors = [k for k in NEIGHBORS if k <= left] or [max(1, left)]

    pairs = GroupLeftOut.of(points, np.zeros(n), group)

    def offered(candidates: Integers, rows: Integers) -> Integers:
        return points.multiplicity[candidates] - pairs.find(candidates, rows)[0]

    own = find_neighbors(
        searcher, unique[pairs.point], unique, offered, neighbors[-1], threads=threads
    )
    found = own
    if compared.descriptors is not None:
        found = find_neighbors(
            searcher, scaling.apply(compared.descriptors, threads=threads), unique,
            points.multiplicity, neighbors[-1], threads=threads,
        )  # fmt: skip
    results = []
    for k, weighting in itertools.product(neighbors, WEIGHTINGS):
        of_sample = pairs.to_samples(_nearest(own, k).mean_distance())
        floor = distance_floor(rounding_distance([(unique, points.multiplicity)]), of_sample)
        of_point = np.bincount(points.of_sample, weights=of_sample) / points.multiplicity
        near = _nearest(found, k)
        distance = near.mean_distance()
        near = near.weigh(weighting)
        place = np.maximum(near.point, 0)
        relative = relative_distance(distance, near.mean(of_point[place]), floor)
        for epochs, errors in mean_error.items():
            pooled = np.bincount(points.of_sample, weights=errors) / points.multiplicity
            expected = near.mean(pooled[place])
            if found is own:
                expected = pairs.to_samples(expected)
                rows = Rows(expected, pairs.to_samples(relative), pairs.to_samples(distance))
            else:
                rows = Rows(expected, relative, distance)
            choice = Choice(scale=scale, k=k, weighting=weighting, epochs=epochs)
            results.append((choice, rows))
    return results


def _nearest(found: Neighbors, k: int) -> Neighbors:
    """Return the k nearest of more neighbors."""
    before = np.cumsum(found.weight, axis=1) - found.weight
    weight = np.clip(k - before, 0.0, found.weight)
    return Neighbors(np.where(weight > 0, found.point, -1), weight, found.distance)
