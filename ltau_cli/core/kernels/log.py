"""Blocks of an error log: what is in them, and their counts on a grid."""

import numpy as np

from ltau_cli.core.kernels import compiled

LOOKUP_SHIFT = 16  # sign, exponent and 7 mantissa bits of a float32 index the lookup table


@compiled
def survey_block(errors, total, logged, zeros, infinite, smallest, largest, n_logged, low, high):
    """Take stock of a block of the error log, (n_epochs, n) float32, and clean it in place.

    Infinities become NaN, -0.0 becomes 0.0. Sums go on from sample to sample, so they do not
    depend on the blocks. Returns the place of the first negative error, or (-1, -1).
    """
    for t in range(errors.shape[0]):
        row = errors[t]
        row_total, row_smallest, row_largest, row_logged = total[t], smallest[t], largest[t], 0
        for i in range(row.shape[0]):
            error = row[i]
            if 0.0 < error < np.inf:
                row_smallest = min(row_smallest, error)
            elif error == 0.0:
                row[i] = 0.0
                zeros[t] += 1
            elif error < 0.0 and error > -np.inf:
                return t, i
            else:
                infinite[t] += error == error
                row[i] = np.nan
                continue
            row_largest = max(row_largest, error)
            row_total += error
            row_logged += 1
            n_logged[i] += 1
            low[i] = min(low[i], error)
            high[i] = max(high[i], error)
        total[t], smallest[t], largest[t] = row_total, row_smallest, row_largest
        logged[t] += row_logged
    return -1, -1


@compiled
def count_block(
    errors, bits, start, stop, edges, lookup, beyond, counts, n_logged, total, largest, above
):
    """Add samples start..stop of an error log, (n_epochs, n) float32, to their statistics.

    ``bits`` is ``errors`` viewed as int32 and ``lookup[bits >> 16]`` the first edge that can hold
    the value: positive floats sort like their bits, so this works for any edges. ``beyond`` holds
    the first bin above each threshold. A few hundred samples at a time keep their counts in the
    processor's cache.
    """
    n_edges = edges.shape[0]
    for first in range(start, stop, 256):
        last = min(first + 256, stop)
        for t in range(errors.shape[0]):
            for i in range(first, last):
                error = errors[t, i]
                if error != error:
                    continue
                b = np.int64(lookup[max(bits[t, i], 0) >> LOOKUP_SHIFT])
                while b < n_edges and error > edges[b]:
                    b += 1
                counts[i, b] += 1
                n_logged[i] += 1
                total[i] += error
                largest[i] = max(largest[i], error)
        for i in range(first, last):
            for j in range(beyond.shape[0]):
                for over in range(beyond[j], n_edges + 1):
                    above[i, j] += counts[i, over]
