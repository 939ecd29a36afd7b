"""Search in cells, against reading every point in double precision; queries that try a search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.core.kernels import search as kernels
from ltau_cli.core.search.cells import CELL_ARRAYS, CellSearcher, ExactSearcher, build_cells, slack
from ltau_cli.core.search.trials import TrialSet, make_trials, recall
from ltau_cli.results import SearchTrials


def distances(points, queries):
    difference = queries[:, None].astype(np.float64) - points[None].astype(np.float64)
    return np.sqrt((difference**2).sum(axis=2))


def nearest(points, queries, width):
    """By distance, then by number."""
    return np.argsort(distances(points, queries), axis=1, kind="stable")[:, :width]


def islands(rng, n, d, *, spread=0.05, n_islands=7, thickness=2):
    """Flat clouds of few dimensions, as latent spaces are."""
    center = rng.normal(size=(n_islands, d))
    plane = rng.normal(size=(n_islands, thickness, d))
    which = rng.integers(n_islands, size=n)
    inside = rng.normal(size=(n, 1, thickness)) @ plane[which]
    return (center[which] + spread * inside[:, 0]).astype(np.float32)


@st.composite
def tables(draw):
    """Points and queries of all sorts: islands, duplicates, ties, points far away."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n, d = draw(st.integers(1, 300)), draw(st.integers(1, 9))
    points = islands(rng, n, d)
    sort = draw(st.sampled_from(["islands", "grid", "equal", "tiny", "crystal"]))
    if sort == "grid":
        points = rng.integers(-2, 3, size=(n, d)).astype(np.float32)
    elif sort == "equal":
        points[:] = points[0]
    elif sort == "tiny":
        points *= np.float32(1e-22)
    elif sort == "crystal":  # few environments, told apart by rounding noise
        points = points[rng.integers(min(n, 4), size=n)]
        points += rng.normal(scale=1e-7, size=(n, d)).astype(np.float32)
    queries = [points[:5], points[:5] * np.float32(1.001), rng.normal(size=(3, d))]
    far = draw(st.sampled_from([1.0, 30.0, 1e4, 1e19, 1e30]))
    queries.append(far * rng.normal(size=(3, d)))
    return points, np.concatenate(queries).astype(np.float32), rng


@given(tables(), st.integers(1, 40), st.integers(1, 60))
def test_cells_find_the_nearest_points(table, n_cells, width):
    points, queries, _ = table
    width = min(width, len(points))
    searcher = CellSearcher(points, build_cells(points, n_cells=min(n_cells, len(points))))
    wanted = nearest(points, queries, width)
    np.testing.assert_array_equal(searcher.candidates(queries, width), wanted)
    np.testing.assert_array_equal(ExactSearcher(points).candidates(queries, width), wanted)


def bounds(query, cells, slack, *, rest=None, n_axes=None, enough=np.inf):
    """Bound of the squared distance of every cell by its first axes; infinite where dropped."""
    n = len(cells["cell_center"])
    box, beside, bound = np.empty((3, n), np.float32)
    number = np.arange(n)
    left = kernels._bound_cells(
        query.astype(np.float32), number, n, 0, n_axes or cells["cell_axes"].shape[1],
        cells["cell_center"], cells["cell_axes"], cells["cell_low"], cells["cell_high"],
        cells["cell_rest"] if rest is None else rest, np.float32(slack), np.float32(enough),
        box, beside, bound,
    )  # fmt: skip
    result = np.full(n, np.inf)
    result[number[:left]] = bound[:left]
    return result


def make_sketch(points, cells, slack):
    """Rows in the order of the cells, their thickness beside the first axes, and their sketches."""
    start, axes = cells["cell_start"], cells["cell_axes"]
    rows, n_axes = points[cells["cell_point"]], axes.shape[1]
    flat_rest = np.empty(len(axes), np.float32)
    places = kernels.place_sketch(start, len(axes)) + kernels.BLOCK
    sketch = np.full(places * (n_axes + 1), np.nan, np.float32)
    kernels.sketch_points(
        rows, start, cells["cell_center"], axes, min(kernels.FLAT, n_axes), slack, flat_rest, sketch
    )
    return rows, flat_rest, sketch


def slack_of(points):
    return np.float32(slack(points.shape[1]))


def choose_rows(query, c, cells, sketch, reach, slack):
    """Rows of cell c that the kernel does not rule out."""
    n = np.diff(cells["cell_start"]).max() + kernels.BLOCK
    row, square = np.empty(n, np.int64), np.empty(n, np.float32)
    along = np.empty(cells["cell_axes"].shape[1] + 1, np.float32)
    found = kernels._choose_points(
        query, c, cells["cell_start"], cells["cell_center"], cells["cell_axes"],
        cells["cell_radius"], sketch, np.float32(reach), slack, along, square, row,
    )  # fmt: skip
    return row[:found].tolist()


@given(tables(), st.integers(1, 20))
def test_sketches_say_where_the_rows_lie(table, n_cells):
    points, _, _ = table
    cells = build_cells(points, n_cells=min(n_cells, len(points)))
    start, axes = cells["cell_start"], cells["cell_axes"].astype(np.float64)
    rows, _, sketch = make_sketch(points, cells, slack_of(points))
    m, end = axes.shape[1], 0
    for c, center in enumerate(cells["cell_center"]):
        place = kernels.place_sketch(start, c)
        assert place >= end
        assert place % kernels.BLOCK == 0
        n = start[c + 1] - start[c]
        end = place + -(-n // kernels.BLOCK) * kernels.BLOCK
        part = sketch[place * (m + 1) : end * (m + 1)].reshape(m + 1, -1)
        away = rows[start[c] : start[c + 1]].astype(np.float64) - center
        along = away @ axes[c].T
        beside = np.linalg.norm(away - along @ axes[c], axis=1)
        room = 1e-6 * np.linalg.norm(away, axis=1).max() + 1e-30
        np.testing.assert_allclose(part[:m, :n].T, along, rtol=0, atol=room)
        np.testing.assert_allclose(part[m, :n], beside, rtol=0, atol=room)


@given(tables(), st.integers(1, 20))
def test_no_row_within_reach_is_ruled_out(table, n_cells):
    points, queries, _ = table
    cells = build_cells(points, n_cells=min(n_cells, len(points)))
    start = cells["cell_start"]
    rows, _, sketch = make_sketch(points, cells, slack_of(points))
    for query in queries:
        true = distances(rows, query[None])[0]
        for c, reach in enumerate(np.resize(np.sort(true), len(start) - 1)):
            chosen = choose_rows(query, c, cells, sketch, reach, slack_of(points))
            own = np.arange(start[c], start[c + 1])
            assert set(own[true[own] <= reach]) <= set(chosen) <= set(own)
            assert chosen == sorted(set(chosen))


def test_rows_that_are_no_number_are_not_ruled_out():
    rng = np.random.default_rng(0)
    points = islands(rng, 100, 6)
    cells = build_cells(points, n_cells=1)
    _, _, sketch = make_sketch(points, cells, slack_of(points))
    for query in (np.full(6, np.nan), np.full(6, 1e38), np.full(6, np.inf)):
        chosen = choose_rows(query.astype(np.float32), 0, cells, sketch, 1, slack_of(points))
        assert chosen == list(range(100)) or query[0] == 1e38
    assert choose_rows(points[0], 0, cells, sketch, np.inf, slack_of(points)) == list(range(100))


def test_few_rows_are_compared():
    """Of the cells that have to be read: those whose place along the axes is near enough."""
    rng = np.random.default_rng(0)
    points = islands(rng, 6_000, 24, n_islands=30)
    cells = build_cells(points)
    rows, _, sketch = make_sketch(points, cells, slack_of(points))
    compared = near = read = 0
    for query in islands(np.random.default_rng(0), 6_000, 24, n_islands=30)[:50] * 1.001:
        true = distances(rows, query[None])[0]
        reach = np.sort(true)[9]
        for c in np.flatnonzero(bounds(query, cells, 1e-4) <= reach**2):
            compared += len(choose_rows(query, c, cells, sketch, reach, slack_of(points)))
            read += cells["cell_start"][c + 1] - cells["cell_start"][c]
        near += 10
    assert near <= compared < 1.2 * near < 0.5 * read


@given(
    st.lists(st.floats(0, width=32) | st.sampled_from([np.nan, -np.nan, np.inf, 1.0, 2.0])),
    st.integers(1, 30),
)
def test_the_rank_is_that_of_a_sort(values, width):
    key = np.array(values, np.float32)
    bits = np.empty(1, np.int32)
    got = kernels._rank(key, len(key), width, bits, bits.view(np.float32))
    small = np.sort(key[key <= np.float32(kernels.HUGE)])
    assert got == (small[width - 1] if len(small) >= width else np.inf)


@given(tables(), st.integers(1, 20))
def test_bounds_lie_below_every_distance_of_the_cell(table, n_cells):
    points, queries, _ = table
    cells = build_cells(points, n_cells=min(n_cells, len(points)))
    slack = slack_of(points)
    start, center, axes = cells["cell_start"], cells["cell_center"], cells["cell_axes"]
    n_flat = min(kernels.FLAT, axes.shape[1])
    rows, flat_rest, _ = make_sketch(points, cells, slack)
    true = np.empty((len(queries), len(center)))
    for c in range(len(center)):
        own = rows[start[c] : start[c + 1]]
        true[:, c] = distances(own, queries).min(axis=1) ** 2
        away = own.astype(np.float64) - center[c]
        flat = axes[c, :n_flat].astype(np.float64)
        beside = np.linalg.norm(away - away @ flat.T @ flat, axis=1).max()
        length = np.linalg.norm(away, axis=1).max()
        assert beside <= flat_rest[c] <= beside + 0.05 * length
        assert length <= cells["cell_radius"][c]
    for query, least in zip(queries, true, strict=True):
        assert not (bounds(query, cells, slack) > least).any()
        few = bounds(query, cells, slack, rest=flat_rest, n_axes=n_flat)
        assert not (few > least).any()


def test_the_bound_of_a_flat_cell_by_hand():
    """A square in the plane, seen from above and from the side."""
    points = np.array([[1, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0]], np.float32)
    cells = build_cells(points, n_cells=1)

    def bound(*query, enough=np.inf):
        return np.sqrt(max(bounds(np.array(query), cells, 0.0, enough=enough)[0], 0))

    assert bound(0, 0, 5) == pytest.approx(5, rel=0.01)
    axis = cells["cell_axes"][0, 0]
    assert bound(*(7 * axis)) == pytest.approx(7 - cells["cell_high"][0, 0], rel=0.01)
    assert bound(0.5, 0.5, 0) == pytest.approx(0, abs=0.01)
    assert bound(0, 0, 5, enough=30) < 6
    assert bound(0, 0, 5, enough=20) == np.inf


def test_most_cells_are_never_read():
    """Even far out of the training set: else this would be exact search with detours."""
    rng = np.random.default_rng(0)
    points = islands(rng, 6_000, 24, n_islands=30)
    cells = build_cells(points)
    queries = np.concatenate([islands(rng, 50, 24), 3 * rng.normal(size=(50, 24))])
    queries = queries.astype(np.float32)
    true = np.sort(distances(points, queries), axis=1)[:, 9] ** 2
    read = [bounds(query, cells, 1e-4) <= limit for query, limit in zip(queries, true, strict=True)]
    assert np.mean(read) < 0.15


@given(st.integers(0, 10**6), st.integers(1, 3))
def test_the_smallest_value_is_the_first_of_equals(seed, tiles):
    values = np.random.default_rng(seed).integers(0, 50, (3, tiles * kernels.TILE))
    found = np.empty(3, np.int64)
    kernels.find_smallest(values.astype(np.float32), found)
    np.testing.assert_array_equal(found, values.argmin(axis=1))


def test_many_points_at_nearly_one_distance():
    """More rows are kept than there is room for at first: none of them can be ruled out."""
    rng = np.random.default_rng(0)
    around = rng.normal(size=(3_000, 6))
    around /= np.linalg.norm(around, axis=1)[:, None]
    points = around.astype(np.float32)
    queries = (1e-3 * rng.normal(size=(4, 6))).astype(np.float32)
    queries[0] = 0
    searcher = CellSearcher(points, build_cells(points, n_cells=150))
    np.testing.assert_array_equal(searcher.candidates(queries, 12), nearest(points, queries, 12))


def test_neither_threads_nor_blocks_change_anything(train):
    one, other = (build_cells(train, seed=3, threads=threads) for threads in (1, 3))
    assert list(one) == list(CELL_ARRAYS)
    for name in CELL_ARRAYS:
        np.testing.assert_array_equal(one[name], other[name])
        assert one[name].dtype == other[name].dtype
    searcher = CellSearcher(train, one)
    queries = train[:700] * np.float32(1.1)
    whole = searcher.candidates(queries, 12, threads=3)
    parts = [searcher.candidates(queries[i : i + 37], 12) for i in range(0, 700, 37)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("change", [
    ("cell_start", lambda a: a[:-1]),
    ("cell_start", lambda a: a[::-1]),
    ("cell_point", lambda a: np.zeros_like(a)),
    ("cell_point", lambda a: a + 1),
])  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(train, change):
    name, damage = change
    cells = build_cells(train[:500], n_cells=5)
    with pytest.raises(ValueError, match=name):
        CellSearcher(train[:500], cells | {name: damage(cells[name])})


def test_recall_by_hand():
    exact = np.array([[1, 2], [3, 4]])
    assert recall(np.array([[2, 1], [3, 9]]), exact).tolist() == [1.0, 0.5]


def test_what_is_lost_and_too_long_by_hand():
    points = np.array([[0.0], [1.0], [4.0], [9.0]], np.float32)
    queries = np.zeros((2, 1), np.float32)
    trials = TrialSet(points, queries, np.array([[0, 1], [0, 1]]))

    class Poor:
        def candidates(self, queries, width, *, threads=1):
            return np.array([[0, 1], [2, 3]])

    found = trials.measure(Poor())
    assert found == SearchTrials(recall=0.5, lost=0.5, too_long=(4 + 9) / 1 - 1)


def test_trials_are_no_training_points_and_the_same_for_the_same_seed(train):
    exact = ExactSearcher(train)
    one, other = (make_trials(train, exact, 10, seed=0, n=200) for _ in range(2))
    for a, b in ((one.near, other.near), (one.far, other.far)):
        assert a.rows.shape == (200, 16)
        distance = np.linalg.norm(a.rows[:, None] - train[None], axis=2)
        assert (distance > 0).all()
        np.testing.assert_array_equal(a.nearest[:, 0], distance.argmin(axis=1))
        np.testing.assert_array_equal(a.rows, b.rows)
    near, far = (t.rows[:, None] - train[t.nearest] for t in (one.near, one.far))
    assert np.linalg.norm(far, axis=2).mean() > 2 * np.linalg.norm(near, axis=2).mean()


def test_an_exact_search_misses_nothing(train):
    trials = make_trials(train, ExactSearcher(train), 10, seed=1, n=100)
    for found in trials.measure(ExactSearcher(train)):
        assert found == SearchTrials(recall=1.0, lost=0.0, too_long=0.0)
