"""Cells of near points: the nearest ones are read, the others are proven to be too far away."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Integers, Singles
from ltau_cli.core.kernels import search as kernels
from ltau_cli.core.threads import share_rows

# Measured on 144,865 x 64 latent vectors of a force field and 13,500 x 24 of another.
CELLS = 5.0  # times the square root of the number of points
POINTS_PER_CELL = 16  # at least, on average
AXES = 8
ROUNDS = 4  # of k-means
SAMPLED = 16  # points per cell that k-means looks at
LANDMARKS = 16  # one of so many centers tells which rows are near one another
ROWS = 64  # compared with all centers at a time

CELL_ARRAYS = (
    "cell_point", "cell_start", "cell_center", "cell_axes", "cell_low", "cell_high", "cell_rest",
    "cell_radius",
)  # fmt: skip

TINY = 1e-30  # room that points at one place have


class CellSearcher:
    """Reads the cells of points (n_points, d) that may hold a neighbor, the most promising first.

    Every cell is enclosed by a ball and, inside it, by a box along its own principal axes with
    some thickness beside them. Latent spaces are islands of few dimensions, so the box is thin and
    its distance from a row close to that of its points, even for a row far away. A cell is
    left out once the bound of its distance exceeds the last distance found. So the nearest points
    are found, for every row: otherwise one of them was left out, whose distance is at least that
    bound.
    Of a cell that is read, points whose places along its axes are too far away are not compared.
    ``arrays`` are those of :func:`build_cells`; a ValueError says that they do not fit the points.
    """

    spare = 2  # a sample that is left out of its own neighbors, and whether a tie goes on

    def __init__(self, points: Singles, arrays: Mapping[str, Array]) -> None:
        start, point = arrays["cell_start"], arrays["cell_point"]
        if start[0] != 0 or start[-1] != len(points) or (np.diff(start) < 1).any():
            raise ValueError("cell_start does not fit the points")
        if not (np.bincount(point, minlength=1) == 1).all():
            raise ValueError("cell_point does not hold every point once")
        self._cells: Any = [np.ascontiguousarray(arrays[name]) for name in CELL_ARRAYS]
        self._points = points[arrays["cell_point"]]
        self._centers = _Centers(arrays["cell_center"])
        self._landmarks = _Centers(arrays["cell_center"][::LANDMARKS])
        self._slack = np.float32(slack(points.shape[1]))
        n_axes = arrays["cell_axes"].shape[1]
        flat_rest = np.empty(len(start) - 1, dtype=np.float32)
        places = kernels.place_sketch(start, len(start) - 1) + kernels.BLOCK
        sketch = np.empty(places * (n_axes + 1), dtype=np.float32)
        n_flat = min(kernels.FLAT, n_axes)
        enclosed: Any = (*self._cells[1:4], n_flat, self._slack, flat_rest, sketch)
        kernels.sketch_points(self._points, *enclosed)
        self._cells += [flat_rest, sketch]

    def check(self) -> None:
        """Raise a ValueError unless every point lies where its cell says, as the proof needs it."""
        _, start, centers, axes, low, high, rest, radius, _, _ = self._cells
        for cell, (first, last) in enumerate(itertools.pairwise(start)):
            away = self._points[first:last].astype(np.float64) - centers[cell]
            along = away @ axes[cell].T.astype(np.float64)
            length = np.linalg.norm(away, axis=1)
            beside = np.linalg.norm(away - along @ axes[cell], axis=1)
            room = 1e-3 * length.max() + TINY
            inside = (along >= low[cell] - room).all() and (along <= high[cell] + room).all()
            if not (
                inside
                and (beside <= rest[cell] + room).all()
                and length.max() <= radius[cell] + room
            ):
                raise ValueError(f"cell {cell} does not hold its points")

    def candidates(self, rows: Singles, width: int, *, threads: int = 1) -> Integers:
        """Return the ``width`` nearest points of each row, nearest first."""
        # Rows after one another visit the same cells: these are in the processor's cache then.
        order = np.argsort(self._landmarks.nearest(rows, threads), kind="stable")
        rows = rows[order]
        found = np.empty((len(rows), width), dtype=np.int64)
        centers = self._centers

        def work(start: int, stop: int) -> None:
            products = np.empty((ROWS, len(centers.half)), dtype=np.float32)
            for first in range(start, stop, ROWS):
                part = slice(first, min(first + ROWS, stop))
                centers.compare(rows[part], products)
                kernels.search_cells(
                    rows[part], products, centers.half, self._slack, found[part],
                    self._points, *self._cells,
                )  # fmt: skip

        share_rows(work, len(rows), threads)
        in_order = np.empty_like(found)
        in_order[order] = found
        return in_order


def build_cells(
    points: Singles, *, seed: int = 0, n_cells: int | None = None, threads: int = 1
) -> dict[str, Array]:
    """Sort distinct points (n_points, d) into cells by k-means and describe the cells.

    Of ``n_cells`` at most: 5 sqrt(n_points), with 16 points in each at least. Gives ``cell_point``
    (n_points,) int32, cell by cell; ``cell_start`` (n_cells + 1,) int64, the first of each; and
    float32, see :func:`ltau_cli.core.kernels.search.describe_cells`: ``cell_center`` (n_cells, d),
    ``cell_axes`` (n_cells, m, d), ``cell_low`` and ``cell_high`` (n_cells, m), ``cell_rest`` and
    ``cell_radius`` (n_cells,).
    """
    n, width = points.shape
    if n_cells is None:
        n_cells = max(1, min(int(CELLS * np.sqrt(n)), n // POINTS_PER_CELL))
    center = _find_centers(points, n_cells, seed, threads)
    cell = _Centers(center).nearest(points, threads)
    used, cell = np.unique(cell, return_inverse=True)
    order = np.argsort(cell, kind="stable")
    n_cells, n_axes = len(used), min(AXES, width)
    cells: dict[str, Array] = {
        "cell_point": order.astype(np.int32),
        "cell_start": np.concatenate([[0], np.cumsum(np.bincount(cell))]).astype(np.int64),
        "cell_center": center[used],
        "cell_axes": np.empty((n_cells, n_axes, width), dtype=np.float32),
        "cell_low": np.empty((n_cells, n_axes), dtype=np.float32),
        "cell_high": np.empty((n_cells, n_axes), dtype=np.float32),
        "cell_rest": np.empty(n_cells, dtype=np.float32),
        "cell_radius": np.empty(n_cells, dtype=np.float32),
    }
    in_order = points[order]

    def describe(first: int, last: int) -> None:
        described: Any = [cells[name] for name in CELL_ARRAYS[1:]]
        kernels.describe_cells(in_order, first, last, np.float32(slack(width)), *described)

    share_rows(describe, n_cells, threads)
    return cells


class ExactSearcher(CellSearcher):
    """Reads every point for every row: one cell that is never left out."""

    def __init__(self, points: Singles) -> None:
        n, width = points.shape
        no_axes = np.empty((1, 0), dtype=np.float32)
        whole = np.full(1, np.inf, dtype=np.float32)
        super().__init__(points, {
            "cell_point": np.arange(n, dtype=np.int32),
            "cell_start": np.array([0, n]),
            "cell_center": np.zeros((1, width), dtype=np.float32),
            "cell_axes": np.empty((1, 0, width), dtype=np.float32),
            "cell_low": no_axes, "cell_high": no_axes, "cell_rest": whole, "cell_radius": whole,
        })  # fmt: skip


def slack(width: int) -> float:
    """Several times the relative rounding error of a sum of ``width`` products of float32."""
    return 8 * (width + 8) * 2.0**-24


def _find_centers(points: Singles, n_cells: int, seed: int, threads: int) -> Singles:
    """Lloyd's k-means on a sample; the same for any number of threads."""
    if n_cells == 1:
        mean: Singles = points.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean[None]
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(points), min(SAMPLED * n_cells, len(points)), replace=False)
    sample = points[np.sort(chosen)]
    center: Singles = sample[np.sort(rng.choice(len(sample), n_cells, replace=False))]
    for _ in range(ROUNDS):
        cell = _Centers(center).nearest(sample, threads)
        order = np.argsort(cell, kind="stable")
        used, first, count = np.unique(cell[order], return_index=True, return_counts=True)
        total = np.add.reduceat(sample[order], first, axis=0, dtype=np.float64)
        center[used] = total / count[:, None]
    return center


class _Centers:
    """Centers (n_cells, d) laid out for the comparison with rows.

    ``half``, (n_tiles * TILE,) float32, are half their squares, huge beyond the last center.
    """

    def __init__(self, center: Singles) -> None:
        n, width = center.shape
        self._n = n
        padded = np.zeros((n + -n % kernels.TILE, width + -width % 4), dtype=np.float32)
        padded[:n, :width] = center
        self.half = np.full(len(padded), np.finfo(np.float32).max, dtype=np.float32)
        with np.errstate(over="ignore"):
            self.half[:n] = np.einsum("ij,ij->i", center, center, dtype=np.float64) / 2
        tiles = padded.reshape(-1, kernels.TILE, padded.shape[1]).transpose(0, 2, 1)
        self._tiles = np.ascontiguousarray(tiles)

    def compare(self, rows: Singles, products: Singles) -> None:
        """Fill ``products`` (at least n, n_tiles * TILE), see ``kernels.multiply_tiles``."""
        padded = np.zeros((len(rows) + -len(rows) % 4, self._tiles.shape[1]), dtype=np.float32)
        padded[: len(rows), : rows.shape[1]] = rows
        kernels.multiply_tiles(padded, self._tiles, self.half, products)

    def nearest(self, rows: Singles, threads: int) -> Integers:
        """Return the nearest center of each row, (n,)."""
        nearest = np.empty(len(rows), dtype=np.int64)

        def work(start: int, stop: int) -> None:
            products = np.empty((ROWS, len(self.half)), dtype=np.float32)
            for first in range(start, stop, ROWS):
                part = slice(first, min(first + ROWS, stop))
                self.compare(rows[part], products)
                kernels.find_smallest(products[: part.stop - first], nearest[part])

        share_rows(work, len(rows), threads)
        # squares that overflow are nearest to no center
        return np.asarray(np.minimum(nearest, self._n - 1), dtype=np.int64)
