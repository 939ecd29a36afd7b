"""Slow, obvious versions of the fast kernels."""

import math

import numpy as np


def statistics(errors, edges, thresholds):
    """Per sample: counts, n_logged, mean, largest and share above each threshold."""
    edges, thresholds = ([float(np.float32(v)) for v in values] for values in (edges, thresholds))
    n = errors.shape[1]
    counts = np.zeros((n, len(edges) + 1), int)
    rest = []
    for i in range(n):
        own = [float(e) for e in errors[:, i] if not np.isnan(e)]
        for e in own:
            counts[i, sum(1 for edge in edges if e > edge)] += 1
        n_own = max(len(own), 1)
        above = [sum(e > t for e in own) / n_own for t in thresholds]
        rest.append((len(own), sum(own) / n_own, max(own, default=0.0), above))
    logged, mean, largest, above = zip(*rest, strict=True)
    return counts, np.array(logged), np.array(mean), np.array(largest), np.array(above)


def neighbor_weights(queries, samples, k, left_out=None):
    """(n_rows, n_samples) weights: the k nearest, ties at the k-th place sharing the rest.

    Samples at one distance fill at most half of the places.
    """
    result = np.zeros((len(queries), len(samples)))
    for i, query in enumerate(queries):
        differences = samples.astype(np.float64) - query.astype(np.float64)
        square = np.zeros(len(samples))
        for column in differences.T:
            square += column * column
        distance = np.sqrt(square)
        if left_out is not None:
            distance[left_out[i]] = np.inf
        left = float(k)
        for value in np.unique(distance):
            tied = np.flatnonzero(distance == value)
            if not np.isfinite(value):
                break
            share = min(left, len(tied), (k + 1) // 2)
            result[i, tied] = share / len(tied)
            left -= share
            if left <= 0:
                break
    return result


def mixture(weights, counts, largest, edges, levels, thresholds):
    """Quantiles, exceedance and CDF of the weighted mean of the samples' CDFs, piecewise linear."""
    quantiles, above, cdfs = [], [], []
    for row in weights:
        used = row > 0
        own = counts[used] / counts[used].sum(axis=1, keepdims=True)
        mass = (row[used, None] * own).sum(axis=0) / row.sum()
        top = largest[used].max()
        x = [0.0]
        f = [0.0]
        for b, part in enumerate(mass):
            high = min(edges[b], top) if b < len(edges) else top
            x.append(max(high, x[-1]))
            f.append(f[-1] + part)
        quantiles.append([_inverse(x, f, level) for level in levels])
        above.append([0.0 if t >= top else 1 - _interpolate(x, f, t) for t in thresholds])
        cdfs.append(np.cumsum(mass)[:-1])
    return np.array(quantiles), np.array(above), np.array(cdfs)


def _inverse(x, f, level):
    level *= 1 - 1e-12
    for b in range(1, len(x)):
        if f[b] >= level or b == len(x) - 1:
            part = (level - f[b - 1]) / (f[b] - f[b - 1]) if f[b] > f[b - 1] else 1.0
            return x[b - 1] + (x[b] - x[b - 1]) * min(max(part, 0.0), 1.0)
    raise AssertionError


def _interpolate(x, f, at):
    value = 0.0
    for b in range(1, len(x)):
        if x[b] <= at:
            value = f[b]
        elif x[b - 1] < at:
            value = f[b - 1] + (f[b] - f[b - 1]) * (at - x[b - 1]) / (x[b] - x[b - 1])
    return value


def merged_candidates(lists, k):
    """Of lists of (distance, point, samples): those that hold k places, and what is tied there."""
    ordered = sorted(entry for one in lists for entry in one)
    places, kept = 0, []
    for distance in sorted({entry[0] for entry in ordered}):
        if places >= k:
            break
        tied = [entry for entry in ordered if entry[0] == distance]
        kept += tied
        places += min(sum(entry[2] for entry in tied), (k + 1) // 2)
    return kept


def training_weights(uncertainty, *, sign=1, temperature=3.0):
    """Without limits: the softmax, times n."""
    raw = np.exp(sign * uncertainty / (temperature * np.std(uncertainty)))
    return raw / raw.mean()


def walk_graph(query, rows, edges, tree, *, width, n_leaves, stretch, limit):
    """Rows found from the nearest leaves along the edges, and how many were compared; or None.

    ``edges`` is a list of lists; ``tree`` gives ``(hyperplane, offset, first, second)`` or, for a
    leaf, the list of its rows.
    """
    square = np.square(rows - query).sum(axis=1)
    compared, expanded, leaves, opened = [], set(), 0, [(0.0, 0)]

    def look_at(new):
        compared.extend(row for row in dict.fromkeys(new) if row not in compared)

    while opened and leaves < n_leaves:
        margin, node = opened.pop(min(range(len(opened)), key=lambda place: opened[place][0]))
        if isinstance(tree[node], list):
            leaves += 1
            look_at(tree[node])
            continue
        hyperplane, offset, first, second = tree[node]
        side = hyperplane @ query + offset
        near, far = (first, second) if side > 0 else (second, first)
        opened += [(margin, near), (max(margin, abs(side)), far)]
    while len(compared) <= limit:
        found = sorted(compared, key=lambda row: square[row])[:width]
        reach = stretch * square[found[-1]] if len(found) == width else np.inf
        left = [row for row in compared if row not in expanded and square[row] <= reach]
        if not left:
            return (found, len(compared)) if len(found) == width else None
        nearest = min(left, key=lambda row: square[row])
        expanded.add(nearest)
        look_at(edges[nearest])
    return None


def trimmed_mean(values: np.ndarray) -> float:
    """Mean of values (n,) without the largest 1 %, one at least."""
    return float(np.sort(values.astype(float))[: -max(1, len(values) // 100)].mean())


def trajectory(forces: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Mean distance of the forces by kept weights from the final ones, atom by atom."""
    return np.array(
        [
            sum(math.dist(one[atom], forces[atom]) for one in kept) / len(kept)
            for atom in range(len(forces))
        ]
    )
