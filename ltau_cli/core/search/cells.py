"""Cells of near points: the nearest ones are read, the others are proven to be too far away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.core import kernels
from ltau_cli.core.threads import share_rows

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

# Measured on 144,865 x 64 latent vectors of a force field and 13,500 x 24 of another.
CELLS = 5.0  # times the square root of the number of points
POINTS_PER_CELL = 16  # at least, on average
AXES = 8
ROUNDS = 4  # of k-means
SAMPLED = 16  # points per cell that k-means looks at
ROWS = 64  # compared with all centers at a time

CELL_ARRAYS = (
    "point", "start", "center", "axes", "low", "high", "rest", "radius"
)  # fmt: skip


class CellSearcher:
    """Reads the cells that may hold a neighbor, the most promising first.

    Every cell is enclosed by a ball and, inside it, by a box along its own principal axes with
    some thickness beside them. Latent spaces are islands of few dimensions, so the box is thin and
    its distance from a query close to that of its points, even for a query far away. A cell is
    left out once the bound of its distance, times ``factor``, exceeds the last distance found. So
    the j-th distance found is at most ``factor`` times the true one, for every query and every j:
    otherwise one of the j nearest points was left out, whose distance is at least that bound.

    Parameters
    ----------
    points : (n_points, d) float32
    arrays : mapping
        What :func:`build_cells` gives.
    factor : float
        At least 1; with 1, the nearest points are found exactly.
    """

    spare = 2  # a sample that is left out of its own neighbors, and whether a tie goes on

    def __init__(
        self, points: Floats, arrays: Mapping[str, npt.NDArray[Any]], *, factor: float = 1.0
    ) -> None:
        self._arrays = {name: np.ascontiguousarray(arrays[name]) for name in CELL_ARRAYS}
        self._rows = points[arrays["point"]]
        self._centers = _Centers(arrays["center"])
        self._factor = factor
        self._slack = _slack(points.shape[1])

    def candidates(self, queries: Floats, width: int, *, threads: int = 1) -> Integers:
        """Return the ``width`` nearest points of each query, nearest first."""
        found = np.empty((len(queries), width), dtype=np.int64)
        cells, centers = self._arrays, self._centers

        def work(start: int, stop: int) -> None:
            products = np.empty((ROWS, len(centers.half)), dtype=np.float32)
            for first in range(start, stop, ROWS):
                rows = slice(first, min(first + ROWS, stop))
                centers.compare(queries[rows], products)
                kernels.search_cells(
                    queries[rows], products, centers.half, self._rows, cells["point"],
                    cells["start"], cells["center"], cells["axes"], cells["low"], cells["high"],
                    cells["rest"], cells["radius"], self._factor, self._slack, found[rows],
                )  # fmt: skip

        share_rows(work, len(queries), threads)
        return found


def build_cells(
    points: Floats, *, seed: int = 0, n_cells: int | None = None, threads: int = 1
) -> dict[str, npt.NDArray[Any]]:
    """Sort points into cells by k-means and describe the cells.

    Parameters
    ----------
    points : (n_points, d) float32
        Distinct.
    seed : int
        Of the first centers.
    n_cells : int, optional
        Default 5 sqrt(n_points), with 16 points in each at least; with 1, every point is read.
    threads : int
        Changes nothing but the speed.

    Returns
    -------
    dict
        ``point`` (n_points,) int32, cell by cell; ``start`` (n_cells + 1,) int64, the first of
        each; ``center`` (n_cells, d), ``axes`` (n_cells, m, d), ``low``, ``high`` (n_cells, m),
        ``rest`` and ``radius`` (n_cells,) float32, see
        :func:`ltau_cli.core.kernels.describe_cells`.
    """
    n, width = points.shape
    if n_cells is None:
        n_cells = max(1, min(int(CELLS * np.sqrt(n)), n // POINTS_PER_CELL))
    center = _find_centers(points, n_cells, seed, threads)
    cell = _Centers(center).nearest(points, threads)
    used, cell = np.unique(cell, return_inverse=True)
    order = np.argsort(cell, kind="stable")
    n_cells, n_axes = len(used), min(AXES, width)
    cells = {
        "point": order.astype(np.int32),
        "start": np.concatenate([[0], np.cumsum(np.bincount(cell))]).astype(np.int64),
        "center": center[used],
        "axes": np.empty((n_cells, n_axes, width), dtype=np.float32),
        "low": np.empty((n_cells, n_axes), dtype=np.float32),
        "high": np.empty((n_cells, n_axes), dtype=np.float32),
        "rest": np.empty(n_cells, dtype=np.float32),
        "radius": np.empty(n_cells, dtype=np.float32),
    }
    rows = points[order]

    def describe(first: int, last: int) -> None:
        kernels.describe_cells(
            rows, cells["start"], first, last, cells["center"], cells["axes"], cells["low"],
            cells["high"], cells["rest"], cells["radius"], _slack(width),
        )  # fmt: skip

    share_rows(describe, n_cells, threads)
    return cells


def _slack(width: int) -> np.float32:
    """Several times the relative rounding error of a sum of ``width`` products of float32."""
    return np.float32(8 * (width + 8) * 2.0**-24)


def _find_centers(points: Floats, n_cells: int, seed: int, threads: int) -> Floats:
    """Lloyd's k-means on a sample; the same for any number of threads."""
    if n_cells == 1:
        return points.mean(axis=0, dtype=np.float64).astype(np.float32)[None]
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(points), min(SAMPLED * n_cells, len(points)), replace=False)
    sample = points[np.sort(chosen)]
    center = sample[np.sort(rng.choice(len(sample), n_cells, replace=False))]
    for _ in range(ROUNDS):
        cell = _Centers(center).nearest(sample, threads)
        order = np.argsort(cell, kind="stable")
        used, first, count = np.unique(cell[order], return_index=True, return_counts=True)
        total = np.add.reduceat(sample[order], first, axis=0, dtype=np.float64)
        center[used] = total / count[:, None]
    return center


class _Centers:
    """Centers laid out for the comparison with rows.

    Parameters
    ----------
    center : (n_cells, d) float32

    Attributes
    ----------
    half : (n_tiles * TILE,) float32
        Half their squares; those beyond the last center are huge.
    """

    def __init__(self, center: Floats) -> None:
        n, width = center.shape
        padded = np.zeros((n + -n % kernels.TILE, width + -width % 4), dtype=np.float32)
        padded[:n, :width] = center
        self.half = np.full(len(padded), np.finfo(np.float32).max, dtype=np.float32)
        with np.errstate(over="ignore"):
            self.half[:n] = np.einsum("ij,ij->i", center, center, dtype=np.float64) / 2
        tiles = padded.reshape(-1, kernels.TILE, padded.shape[1]).transpose(0, 2, 1)
        self._tiles = np.ascontiguousarray(tiles)

    def compare(self, rows: Floats, products: Floats) -> None:
        """Fill ``products`` (at least n, n_tiles * TILE), see ``kernels.multiply_tiles``."""
        padded = np.zeros((len(rows) + -len(rows) % 4, self._tiles.shape[1]), dtype=np.float32)
        padded[: len(rows), : rows.shape[1]] = rows
        kernels.multiply_tiles(padded, self._tiles, self.half, products)

    def nearest(self, rows: Floats, threads: int) -> Integers:
        """Return the nearest center of each row, (n,)."""
        nearest = np.empty(len(rows), dtype=np.int64)

        def work(start: int, stop: int) -> None:
            products = np.empty((ROWS, len(self.half)), dtype=np.float32)
            for first in range(start, stop, ROWS):
                part = slice(first, min(first + ROWS, stop))
                self.compare(rows[part], products)
                kernels.find_smallest(products[: part.stop - first], nearest[part])

        share_rows(work, len(rows), threads)
        return nearest
