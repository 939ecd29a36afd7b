"""Choose frames with large errors that are unlike one another."""

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Floats, Integers, Singles

SMALLEST_SPREAD = 1e-6  # of the largest; columns below it hold rounding noise
RANDOM_PAIRS = 100_000  # pairs that a mean distance is estimated from


def summarize(
    structure: Integers, values: npt.NDArray[np.floating], n: int, by: str | float
) -> Floats:
    """Return one value for each of ``n`` structures, (n,), from finite ones of their rows.

    ``structure`` (n_rows,) goes from 0 to ``n - 1``, none left out, in any order. ``by`` is
    ``max``, ``mean``, or p in (0, 1), the quantile inf{v : F(v) >= p}.
    """
    values = values.astype(np.float64)
    counts = np.bincount(structure, minlength=n)
    if by == "mean":
        return np.asarray(np.bincount(structure, values, minlength=n) / counts)
    p = 1.0 if by == "max" else float(by)
    ordered = values[np.lexsort((values, structure))]
    first = np.cumsum(counts) - counts
    place = np.ceil(p * counts * (1 - 1e-12)).astype(np.int64) - 1  # p * counts may round up
    return np.asarray(ordered[first + np.maximum(place, 0)])


def standardize(descriptors: npt.NDArray[np.floating]) -> Singles:
    """Shift and scale columns to mean 0 and variance 1; those that do not vary are left out."""
    spread = descriptors.std(axis=0, dtype=np.float64)
    varies = spread > SMALLEST_SPREAD * spread.max(initial=0.0)
    kept = descriptors[:, varies].astype(np.float64)
    scaled: Floats = (kept - kept.mean(axis=0)) / spread[varies]
    return scaled.astype(np.float32)


def choose_largest(values: Floats, n: int) -> Integers:
    """Return the ``n`` with the largest values, in that order; of equal ones the first."""
    return np.argsort(-values, kind="stable")[:n]


def choose_diverse(values: Floats, descriptors: Singles, n: int) -> Integers:
    """Choose ``n`` by greedy farthest-point search with distances weighted by values, as errors.

    Of values (n_points,) of at least 0 and scaled descriptors (n_points, d); returns their numbers
    in the order of choice.

    The first choice has the largest value; each next one has the largest product of its value and
    its distance to the nearest one chosen before. A near-copy of a chosen point has a distance of
    about 0, so it comes last however large its value is; there is nothing to tune.

    This is the greedy heuristic for the weighted p-centre problem (Dyer and Frieze, Oper. Res.
    Lett. 3, 285 (1985), doi 10.1016/0167-6377(85)90002-1). With equal weights it is the k-center
    greedy of Sener and Savarese (ICLR 2018, arXiv 1708.00489); Zaverkin et al. (Digital Discovery
    1, 605 (2022), doi 10.1039/D2DD00034B) compare such choices for interatomic potentials.
    """
    order = choose_largest(values, len(values))  # ties go to the larger value
    weight, points = values[order], descriptors[order]
    distance = np.full(len(points), np.inf)
    chosen = np.zeros(n, dtype=np.int64)
    for i in range(n):
        if i:
            score = weight * distance
            score[chosen[:i]] = -1.0
            chosen[i] = np.argmax(score)
        np.minimum(distance, _distances(points, points[chosen[i]]), out=distance)
    return order[chosen]


def distance_to_nearest(descriptors: Singles, chosen: Singles) -> Floats:
    """Return the distance of each point, (n, d), from the nearest of those chosen before, (m, d).

    Infinite where none was chosen.
    """
    nearest = np.full(len(descriptors), np.inf)
    for point in chosen:
        np.minimum(nearest, _distances(descriptors, point), out=nearest)
    return nearest


def mean_distance(descriptors: Singles) -> float:
    """Return the mean distance of two different points, of random pairs if many; 0 for one."""
    n = len(descriptors)
    if n < 2:
        return 0.0
    if n * (n - 1) // 2 <= RANDOM_PAIRS:
        total = sum(_distances(descriptors[i + 1 :], descriptors[i]).sum() for i in range(n - 1))
        return float(total / (n * (n - 1) // 2))
    rng = np.random.default_rng(0)
    one = rng.integers(n, size=RANDOM_PAIRS)
    other = (one + rng.integers(1, n, size=RANDOM_PAIRS)) % n
    return float(np.linalg.norm(descriptors[one] - descriptors[other], axis=1).mean())


def _distances(points: Singles, point: Singles) -> Floats:
    difference = points - point
    squared: Floats = np.einsum("ij,ij->i", difference, difference, dtype=np.float64)
    return np.sqrt(squared)
