"""Error CDFs on a common grid, and the exact statistics that need no grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Floats, Integers, Singles
from ltau_cli.core.kernels import log as kernels
from ltau_cli.core.threads import share_rows
from ltau_cli.errors import UsageError
from ltau_cli.settings import Grid


def make_edges(
    *, bins: int, low: float, high: float, grid: Grid, thresholds: npt.ArrayLike = ()
) -> Floats:
    """Edges of the common grid, (n_bins + 1,) float64, strictly increasing, in error units.

    Bin b holds errors in (edges[b - 1], edges[b]]; below the first edge is the underflow bin,
    above the last the overflow bin. Every threshold becomes an edge, so the CDF is exact there.
    Needs ``0 <= low < high``, and ``low > 0`` on a log grid.
    """
    if not (np.isfinite(low) and np.isfinite(high) and 0 <= low < high):
        raise UsageError(f"the range of the bins must be 0 <= LOW < HIGH, not {low:g} {high:g}")
    if grid == "log" and low <= 0:
        raise UsageError(
            "a log grid needs a range above 0", hint="give --range LOW HIGH or --grid linear"
        )
    space = np.geomspace if grid == "log" else np.linspace
    edges = space(low, high, bins + 1)
    edges[0], edges[-1] = low, high
    return np.unique(np.concatenate([edges, np.asarray(thresholds, dtype=np.float64)]))


def default_range(
    *, smallest: float, largest: float, threshold: float, grid: Grid
) -> tuple[float, float]:
    """Range of the grid when none is asked for, in error units.

    Up to the largest error, so the overflow bin is empty. A linear grid starts at 0; a log grid
    at 1 % of the threshold (or at the smallest positive error where that is larger): finer
    differences among errors that small help nobody and would cost resolution where it matters.
    """
    if largest <= 0:
        return 1e-9, 1.0
    if grid == "linear":
        return 0.0, largest
    low = max(smallest, 0.01 * threshold) if threshold > 0 else smallest
    return (low, largest) if low < largest else (0.5 * largest, largest)


@dataclass
class SampleStatistics:
    """What the error log says of each sample."""

    # (n, n_edges + 1) unsigned int: errors per bin: underflow, the bins, overflow
    counts: npt.NDArray[np.unsignedinteger]
    n_logged: Integers  # (n,): errors that were not missing
    # (n,): mean error (error units), from the errors themselves; 0 where nothing was logged
    mean_error: Floats
    max_error: Singles  # (n,): largest error (error units)
    # (n, n_thresholds): share of the errors above each threshold
    uncertainty: Floats


def lookup_table(edges: Floats) -> npt.NDArray[np.uint16 | np.uint32]:
    """First candidate bin of every float32, by its leading bits (32,768 entries)."""
    heads = np.arange(1 << (31 - kernels.LOOKUP_SHIFT), dtype=np.int32) << kernels.LOOKUP_SHIFT
    with np.errstate(invalid="ignore"):  # the last ones are NaN, which no kernel looks up
        smallest = heads.view(np.float32).astype(np.float64)
    smallest[~np.isfinite(smallest)] = np.inf
    first = np.searchsorted(edges, smallest, side="left")
    return first.astype(np.uint16 if len(edges) < 2**16 else np.uint32)


def _as_logged(values: Floats) -> Floats:
    """Round to the precision of the log: a logged 0.1 does not exceed 0.1."""
    return values.astype(np.float32).astype(np.float64)


def summarize_samples(
    errors: Singles, edges: Floats, thresholds: Floats, *, threads: int = 1
) -> SampleStatistics:
    """Count a block (n_epochs, n) of the error log on the grid and take its exact statistics.

    The CDF is F_i(eps) = #{t : e[t, i] <= eps} / n_i, and U_i the share of errors above the
    threshold (Vita et al., doi 10.1088/2632-2153/adb4b9). Errors are at least 0, in error units;
    NaN is missing and counted nowhere. The edges (n_edges,) increase, and hold every threshold
    (n_thresholds,); errors are compared with them in float32, the precision of the log.
    """
    errors = np.ascontiguousarray(errors, dtype=np.float32)
    edges, thresholds = _as_logged(edges), _as_logged(thresholds)
    n = errors.shape[1]
    counts = np.zeros((n, len(edges) + 1), dtype=np.min_scalar_type(len(errors)))
    n_logged = np.zeros(n, dtype=np.int64)
    total = np.zeros(n)
    largest = np.zeros(n, dtype=np.float32)
    above = np.zeros((n, len(thresholds)), dtype=np.int64)
    beyond = np.searchsorted(edges, thresholds) + 1  # the first bin above each threshold
    bits = errors.view(np.int32)
    lookup = lookup_table(edges)

    def count(start: int, stop: int) -> None:
        kernels.count_block(
            errors, bits, start, stop, edges, lookup, beyond,
            counts, n_logged, total, largest, above,
        )  # fmt: skip

    share_rows(count, n, threads)
    divisor = np.maximum(n_logged, 1)
    return SampleStatistics(counts, n_logged, total / divisor, largest, above / divisor[:, None])


def last_errors(errors: Singles, runs: Sequence[Integers]) -> Floats:
    """Mean over the runs of the last error that each run logged of a sample, (n,) float64.

    Of errors (n_epochs, n), NaN where missing, and the epochs of each run, in order; 0 where
    nothing was logged.
    """
    total, n_runs = np.zeros(errors.shape[1]), np.zeros(errors.shape[1], dtype=np.int64)
    for epochs in runs:
        last = np.full(errors.shape[1], np.nan)
        for epoch in epochs[::-1]:
            missing = np.isnan(last)
            if not missing.any():
                break
            last[missing] = errors[epoch, missing]
        known = ~np.isnan(last)
        total[known] += last[known]
        n_runs += known
    return total / np.maximum(n_runs, 1)
