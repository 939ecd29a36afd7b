"""What the neighbors of a row say together."""

import numpy as np

from ltau_cli.core.kernels import compiled


@compiled
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


@compiled
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
