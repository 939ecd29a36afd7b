"""Training weights and keep-lists from what each sample's own trajectory says."""

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Floats, Integers
from ltau_cli.settings import Emphasis

_HALVINGS = 100


def weigh(
    uncertainty: npt.NDArray[np.floating],
    *,
    emphasis: Emphasis,
    temperature: float,
    floor: float,
    ceiling: float,
) -> Floats:
    """Weigh samples by their uncertainty U_i, (n,): the share of logged errors above the threshold.

    w_i = min(max(c exp(± U_i / (T s)), floor), ceiling), with + for ``hard`` and - for ``easy``, s
    the standard deviation of U, and c such that the mean weight is 1. The clipped mean rises with
    c from the floor to the ceiling, so there is such a c, found by bisection; both the limits and
    the mean hold. If all U are equal, all weights are 1. Of two samples that are T standard
    deviations apart, one weighs e times as much as the other; with T below 0.001 a weight would
    jump within the rounding of an uncertainty. 0 <= floor <= 1 <= ceiling.
    """
    values, place, counts = np.unique(
        uncertainty.astype(np.float64), return_inverse=True, return_counts=True
    )
    mean = np.average(values, weights=counts)
    spread = np.sqrt(np.average((values - mean) ** 2, weights=counts))
    if len(values) < 2 or spread == 0:
        return np.ones(len(uncertainty))
    sign = 1 if emphasis == "hard" else -1
    exponent = sign * (values - mean) / (temperature * spread)
    with np.errstate(divide="ignore"):  # a floor of 0
        lowest, highest = np.log([floor, ceiling])

    def clipped(shift: float) -> Floats:
        weights: Floats = np.exp(np.clip(exponent - shift, lowest, highest))
        return np.clip(weights, floor, ceiling)  # exp(log(x)) may miss x by its rounding

    low, high = exponent.min(), exponent.max()  # all weights are at least 1; at most 1
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if np.average(clipped(middle), weights=counts) >= 1:
            low = middle
        else:
            high = middle
    return clipped(low)[place.ravel()]


def effective_size(weights: Floats) -> float:
    """(sum w)^2 / sum w^2: equally weighted samples that tell as much (Kish, 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def choose_kept(uncertainty: npt.NDArray[np.floating], n: int, *, emphasis: Emphasis) -> Integers:
    """Return the ``n`` hardest or easiest samples in increasing order; of equal ones the first."""
    order = np.argsort(-uncertainty if emphasis == "hard" else uncertainty, kind="stable")
    return np.sort(order[:n])
