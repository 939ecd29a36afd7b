"""The predicted error distribution of some rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ltau_cli.array_types import Bools, Floats, Integers

_TINY = 1e-200
_TAIL_FROM = 10  # of the hundred quantiles, so many from the end tell how the tail falls
_STEEPEST = 10.0  # exponent of a tail: rows to calibrate on cannot tell that there is none
_BLOCK = 1 << 20  # numbers of a (rows, levels) table that are held at a time


def widening(levels: Floats) -> Floats:
    """By how many standard deviations each level lies off the middle, (n_levels,) float64."""
    from scipy.special import ndtri

    return np.asarray(ndtri(levels))


@dataclass(frozen=True)
class Predicted:
    """Quantile u of a row's error is mean * ratio(u) * exp(z(u) * spread), z the normal's.

    So the ratios of true to mean error, as the calibration rows had them, widen where the mean
    itself is in doubt.
    """

    mean: Floats  # (n,), error units
    spread: Floats  # (n,): standard deviation of the logarithm of the mean
    stratum: Integers  # (n,): row of the tables below
    ratio_quantiles: Floats  # (n_strata, n_ratio_levels)
    ratio_levels: Floats  # (n_ratio_levels,)
    bound_ratio: Floats  # (n_strata, n_levels)
    levels: Floats  # (n_levels,)

    def __len__(self) -> int:
        return len(self.mean)

    def take(self, rows: Bools | slice) -> Predicted:
        """Return some of the rows."""
        return Predicted(
            self.mean[rows], self.spread[rows], self.stratum[rows], self.ratio_quantiles,
            self.ratio_levels, self.bound_ratio, self.levels,
        )  # fmt: skip

    def bounds(self) -> Floats:
        """Error that each level's share of the errors stays under, (n, n_levels), growing."""
        return self._times(self.bound_ratio, self.levels)

    def quantiles(self) -> Iterator[tuple[slice, Floats]]:
        """Yield some rows and their quantiles at the ratio levels, (m, n_ratio_levels), growing."""
        step = max(1, _BLOCK // len(self.ratio_levels))
        for start in range(0, len(self), step):
            part = slice(start, start + step)
            yield part, self.take(part)._times(self.ratio_quantiles, self.ratio_levels)

    def exceedance(self, thresholds: Floats) -> Floats:
        """P(error > threshold), (n, n_thresholds): linear between the quantiles, then a power.

        Beyond the last quantile the probability falls as a power of the error (Hill 1975, doi
        10.1214/aos/1176343247), with the exponent of the tail before it, but never to 0.
        """
        out = np.empty((len(self), len(thresholds)))
        share = np.concatenate([[0.0], self.ratio_levels])
        for part, quantiles in self.quantiles():
            knots = np.pad(quantiles, ((0, 0), (1, 0)))
            row = np.arange(len(knots))
            tail = self._tail(quantiles)
            for j, threshold in enumerate(thresholds):
                above = np.clip((knots <= threshold).sum(axis=1), 1, len(share) - 1)
                low, high = knots[row, above - 1], knots[row, above]
                width = high - low
                inside = np.clip(threshold - low, 0, width)  # so that no tiny width overflows
                way = np.where(width > 0, inside / np.where(width > 0, width, 1.0), 1.0)
                below = share[above - 1] + way * (share[above] - share[above - 1])
                beyond = np.maximum(threshold / np.maximum(knots[:, -1], _TINY), 1.0)
                out[part, j] = (1 - below) * beyond**-tail
        return out

    def _tail(self, quantiles: Floats) -> Floats:
        """Exponent of the power that the probability of an error falls with at last, (n,)."""
        from_level, last_level = self.ratio_levels[[-_TAIL_FROM, -1]]
        ratio = quantiles[:, -1] / np.maximum(quantiles[:, -_TAIL_FROM], _TINY)
        fall = np.log((1 - from_level) / (1 - last_level))
        out: Floats = fall / np.maximum(np.log(np.maximum(ratio, 1.0)), fall / _STEEPEST)
        return out

    def _times(self, ratio: Floats, levels: Floats) -> Floats:
        table = ratio[self.stratum] * np.exp(self.spread[:, None] * widening(levels))
        return self.mean[:, None] * np.maximum.accumulate(table, axis=1)
