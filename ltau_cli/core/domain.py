"""How far from the training set: relative distances and p-values."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Bools, Floats, Integers, Singles

FLAGGED_BELOW = 0.01  # p-value of a row that is out of domain
FAR = 2.0  # relative distance of one, where no p-value can be so small
OUTLIERS = 2  # training samples that may be as far away as it, such as isolated atoms
FLOOR_SHARE = 0.25  # of the median distance of the training samples; theirs are rarely below


def rounding_distance(blocks: Iterable[tuple[Singles, Integers]]) -> float:
    """Distance that float32 descriptors (n, d) can tell apart; of (n,) samples each."""
    n, squares = 0, 0.0
    for descriptors, multiplicity in blocks:
        n += int(multiplicity.sum())
        length = np.einsum("ij,ij->i", descriptors, descriptors, dtype=np.float64)
        squares += float(length @ multiplicity)
    return float(np.finfo(np.float32).eps * np.sqrt(squares / n))


def distance_floor(rounding: float, loo_distance: npt.NDArray[np.floating]) -> float:
    """Distance below which differences of distances mean nothing, at the scale of the set.

    A quarter of the median leave-one-out distance (n_samples,) of the training samples that have
    one above 0, at least what float32 descriptors can tell apart, see :func:`rounding_distance`.
    """
    known = loo_distance[loo_distance > rounding]
    scale = FLOOR_SHARE * float(np.median(known)) if len(known) else 0.0
    return max(rounding, scale) or float(np.finfo(np.float32).tiny)


def relative_distance(distance: Floats, neighbors_own: Floats, floor: float) -> Floats:
    """Neighbor distance (n,) over the mean leave-one-out distance (n,) of those neighbors.

    About 1 inside the training set's cloud, larger outside: a local density ratio as in the local
    outlier factor (Breunig et al. 2000, doi 10.1145/335191.335388). Distances below the floor, see
    :func:`distance_floor`, count as it, so that coincident training points give a finite ratio.
    """
    ratio: Floats = np.maximum(distance, floor) / np.maximum(neighbors_own, floor)
    return ratio


def ood_pvalue(distance: Floats, reference: Singles) -> Floats:
    """p(x) = (1 + #{i : d_i >= d(x)}) / (n + 1) over the n training samples, (n_rows,), in (0, 1].

    Small means far from anything seen in training. The neighbor distances (n_rows,) are compared
    in float32, as the increasing leave-one-out distances (n_samples,) of the training samples are
    stored.
    """
    below = np.searchsorted(reference, distance.astype(np.float32), side="left")
    pvalue: Floats = (1 + len(reference) - below) / (len(reference) + 1)
    return pvalue


def least_pvalue(n_samples: int) -> float:
    """Return the p-value of a row that is farther away than all ``n_samples`` training samples."""
    return 1 / (n_samples + 1)


def out_of_domain(
    pvalue: npt.NDArray[np.floating],
    relative_distance: npt.NDArray[np.floating],
    least: float,
    below: float = FLAGGED_BELOW,
) -> Bools:
    """Tell which rows are unlike the training set, (n,) bool: whose p-value is below ``below``.

    Where so few samples were trained on that none can be (see :func:`least_pvalue`), those with a
    relative distance above :data:`FAR` that are farther away than all of these but
    :data:`OUTLIERS`.
    """
    if least < below:
        return pvalue < below
    farther = pvalue.astype(np.float32) <= np.float32((1 + OUTLIERS) * least)
    return farther & (relative_distance > FAR)


def rule_of_domain(least: float) -> str:
    """Return the words for what :func:`out_of_domain` judges by."""
    if least < FLAGGED_BELOW:
        return f"p < {FLAGGED_BELOW:g}"
    return f"relative distance above {FAR:g}; p cannot be below {least:.2g}"
