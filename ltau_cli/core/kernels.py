"""The compiled inner loops.

Every kernel runs serially over the rows it is given and releases the GIL; the callers share rows
among threads. A row's result never depends on which rows stand beside it, so any split into
blocks gives the same bytes. Each kernel has a slow, obvious twin in the tests.
"""

from __future__ import annotations

import numba
import numpy as np

LOOKUP_SHIFT = 16  # sign, exponent and 7 mantissa bits of a float32 index the lookup table

_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


@_compiled
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


@_compiled
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


@_compiled
def transform_rows(rows, shift, transform, out):
    """``(rows - shift) @ transform``, every row by itself, in the same order of additions."""
    centered = np.empty(rows.shape[1])
    for i in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            centered[c] = np.float64(rows[i, c]) - shift[c]
        for j in range(transform.shape[1]):
            total = 0.0
            for c in range(rows.shape[1]):
                total += centered[c] * transform[c, j]
            out[i, j] = total


@_compiled
def find_leaves(queries, hyperplanes, offsets, children, leaf):
    """Walk each query (n, d) float32 down a search tree; ``leaf`` (n,) gets the node it ends at.

    Node i sends a query x to its first child where hyperplanes[i] . x + offsets[i] > 0, else to its
    second; a first child of 0 or less marks a leaf.
    """
    for i in range(queries.shape[0]):
        node = 0
        for _ in range(children.shape[0]):  # a damaged tree must not lead round in circles
            if not 0 < children[node, 0] < children.shape[0]:
                break
            side = offsets[node]
            for column in range(queries.shape[1]):
                side += hyperplanes[node, column] * queries[i, column]
            node = children[node, 0] if side > 0 else children[node, 1] % children.shape[0]
        leaf[i] = node


@_compiled
def sort_candidates(queries, points, candidates, offered, found, own, distance):
    """Order candidate points by exact distance, those at equal distance by number.

    Point ``candidates[i, j]`` offers ``offered[i, j]`` samples to query i; ``found`` and ``own``
    are these in order.
    """
    n, width = candidates.shape
    for i in range(n):
        for j in range(width):
            p = candidates[i, j]
            square = 0.0
            for c in range(queries.shape[1]):
                difference = np.float64(queries[i, c]) - np.float64(points[p, c])
                square += difference * difference
            d = np.sqrt(square)
            slot = j
            while slot > 0 and (
                distance[i, slot - 1] > d or (distance[i, slot - 1] == d and found[i, slot - 1] > p)
            ):
                distance[i, slot] = distance[i, slot - 1]
                found[i, slot] = found[i, slot - 1]
                own[i, slot] = own[i, slot - 1]
                slot -= 1
            distance[i, slot] = d
            found[i, slot] = p
            own[i, slot] = offered[i, j]


@_compiled
def share_places(distance, own, k, weight, used):
    """Hand out ``k`` places among the samples of candidates in the order of their distance.

    Points tied at the k-th place share what is left in proportion to the samples they offer.
    ``used`` is how many candidates were looked at. Returns the rows whose tie may go on beyond the
    candidates, or that lack samples, as a boolean array.
    """
    n, width = distance.shape
    open_tie = np.zeros(n, dtype=np.bool_)
    for i in range(n):
        left = np.float64(k)
        j = 0
        while j < width and left > 0:
            stop = j
            tied = 0
            while stop < width and distance[i, stop] == distance[i, j]:
                tied += own[i, stop]
                stop += 1
            share = min(left, np.float64(tied))
            for s in range(j, stop):
                weight[i, s] = share * own[i, s] / tied if tied > 0 else 0.0
            left -= share
            j = stop
        open_tie[i] = left > 0 or j == width
        used[i] = j
        for s in range(j, width):
            weight[i, s] = 0.0
    return open_tie


@_compiled
def merge_candidates(found_a, own_a, distance_a, found_b, own_b, distance_b, found, own, distance):
    """Merge two ordered lists of candidates per row into one, as wide as both together."""
    for i in range(found.shape[0]):
        a = 0
        b = 0
        for slot in range(found.shape[1]):
            first = b == found_b.shape[1]
            if not first and a < found_a.shape[1]:
                first = distance_a[i, a] < distance_b[i, b] or (
                    distance_a[i, a] == distance_b[i, b] and found_a[i, a] < found_b[i, b]
                )
            if first:
                found[i, slot] = found_a[i, a]
                own[i, slot] = own_a[i, a]
                distance[i, slot] = distance_a[i, a]
                a += 1
            else:
                found[i, slot] = found_b[i, b]
                own[i, slot] = own_b[i, b]
                distance[i, slot] = distance_b[i, b]
                b += 1


@_compiled
def average_values(found, weight, values, out):
    """Weighted mean over neighbors of per-point values, (n_points, m) float32 to (n, m)."""
    for i in range(found.shape[0]):
        places = 0.0
        for j in range(found.shape[1]):
            places += weight[i, j]
        for c in range(values.shape[1]):
            mean = 0.0
            for j in range(found.shape[1]):
                if weight[i, j] > 0.0:
                    mean += weight[i, j] * values[found[i, j], c]
            out[i, c] = mean / places


@_compiled
def average_cdfs(found, weight, counts, largest, edges, levels, thresholds, quantiles, above, cdf):
    """Mix the neighbors' CDFs; fill quantiles (n, n_levels), P(error > threshold), and the CDF.

    ``counts`` is (n_points, n_edges + 1): underflow, the bins, overflow. Between edges the CDF is
    taken as linear; the last bin in use ends at the neighbors' largest error. ``cdf`` is
    (n, n_edges), or (0, n_edges) where it is not wanted.
    """
    n_edges = edges.shape[0]
    mass = np.empty(n_edges + 1)
    for i in range(found.shape[0]):
        mass[:] = 0.0
        places = 0.0
        top = 0.0
        for j in range(found.shape[1]):
            if weight[i, j] <= 0.0:
                continue
            p = found[i, j]
            n_errors = 0
            for b in range(n_edges + 1):
                n_errors += counts[p, b]
            share = weight[i, j] / n_errors
            for b in range(n_edges + 1):
                mass[b] += share * counts[p, b]
            places += weight[i, j]
            top = max(top, np.float64(largest[p]))
        for level in range(levels.shape[0]):
            wanted = levels[level] * places * (1.0 - 1e-12)
            below = 0.0
            b = 0
            while b < n_edges and below + mass[b] < wanted:
                below += mass[b]
                b += 1
            low = edges[b - 1] if b > 0 else 0.0
            high = min(edges[b], top) if b < n_edges else top
            high = max(low, high)
            part = (wanted - below) / mass[b] if mass[b] > 0.0 else 1.0
            quantiles[i, level] = low + (high - low) * min(max(part, 0.0), 1.0)
        for t in range(thresholds.shape[0]):
            threshold = thresholds[t]
            under = 0.0
            b = 0
            while b < n_edges and edges[b] <= threshold:
                under += mass[b]
                b += 1
            low = edges[b - 1] if b > 0 else 0.0
            high = min(edges[b], top) if b < n_edges else top
            if threshold >= top:
                under = places
            elif high > low and threshold > low:
                under += mass[b] * (threshold - low) / (high - low)
            above[i, t] = min(max(1.0 - under / places, 0.0), 1.0)
        if cdf.shape[0] > 0:
            under = 0.0
            for b in range(n_edges):
                under += mass[b]
                cdf[i, b] = min(under / places, 1.0)
