"""Rows and their neighbors: scaled, ordered, weighed, merged."""

import numpy as np

from ltau_cli.core.kernels import compiled


@compiled
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


@compiled
def sort_candidates(rows, points, candidates, offered, found, own, distance):
    """Order candidate points by exact distance, those at equal distance by number.

    Point ``candidates[i, j]`` offers ``offered[i, j]`` samples to row i; ``found`` and ``own``
    are these in order.
    """
    n, width = candidates.shape
    for i in range(n):
        for j in range(width):
            p = candidates[i, j]
            square = 0.0
            for c in range(rows.shape[1]):
                difference = np.float64(rows[i, c]) - np.float64(points[p, c])
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


@compiled
def share_places(distance, own, k, most, weight, used):
    """Hand out ``k`` places among the samples of candidates in the order of their distance.

    Points tied at the k-th place share what is left in proportion to the samples they offer.
    Samples at one distance (those of a point, in whatever shards) fill at most ``most`` places.
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
            share = min(left, np.float64(min(tied, most)))
            for s in range(j, stop):
                weight[i, s] = share * own[i, s] / tied if tied > 0 else 0.0
            left -= share
            j = stop
        open_tie[i] = left > 0 or j == width
        used[i] = j
        for s in range(j, width):
            weight[i, s] = 0.0
    return open_tie


@compiled
def average_nearest(distance, weight, means):
    """Mean distance to the nearest 1, 2, 3, ... samples of each row, (n, k).

    Neighbors, nearest first, fill ``weight`` (n, width) places each.
    """
    for i in range(means.shape[0]):
        total, j, left = 0.0, 0, weight[i, 0]
        for place in range(means.shape[1]):
            wanted = 1.0
            while wanted > 0.0:
                if left > 0.0:
                    part = min(wanted, left)
                    total += part * distance[i, j]
                    wanted -= part
                    left -= part
                elif j + 1 < weight.shape[1]:
                    j += 1
                    left = weight[i, j]
                else:  # shared places may sum to a hair less
                    break
            means[i, place] = total / (place + 1)


@compiled
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
