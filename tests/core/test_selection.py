"""The choice of diverse frames, against a slow version."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.core import selection

# The oracle: slow and obvious


def oracle_choice(uncertainty, points, n):
    chosen = [int(np.argmax(uncertainty))]
    while len(chosen) < n:
        rest = [i for i in range(len(points)) if i not in chosen]

        def gain(i):
            nearest = min(np.linalg.norm(points[i] - points[j]) for j in chosen)
            return uncertainty[i] * nearest, uncertainty[i], -i

        chosen.append(max(rest, key=gain))
    return chosen


@given(seed=st.integers(0, 10**6), n_points=st.integers(1, 12), copies=st.booleans())
def test_diverse_choice_is_that_of_the_oracle(seed, n_points, copies):
    rng = np.random.default_rng(seed)
    # whole numbers: no rounding, and many ties
    points = rng.integers(0, 2 if copies else 50, (n_points, 3)).astype(np.float32)
    uncertainty = rng.integers(0, 4 if copies else 1000, n_points).astype(float)
    for n in {1, n_points // 2 + 1, n_points}:
        got = selection.choose_diverse(uncertainty, points, n)
        assert len(set(got.tolist())) == n
        expected = oracle_choice(uncertainty, points, n)
        assert got.tolist() == expected


def test_fewer_frames_are_the_first_of_more():
    rng = np.random.default_rng(0)
    points, uncertainty = rng.normal(size=(60, 4)).astype(np.float32), rng.random(60)
    more = selection.choose_diverse(uncertainty, points, 40)
    for n in (1, 7, 39):
        np.testing.assert_array_equal(selection.choose_diverse(uncertainty, points, n), more[:n])


@given(
    data=st.lists(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=9), min_size=1),
    seed=st.integers(0, 1000),
    p=st.sampled_from([0.1, 0.25, 0.5, 0.9, 1 / 3]),
)
def test_summaries_of_structures(data, seed, p):
    order = np.random.default_rng(seed).permutation(sum(map(len, data)))
    structure = np.repeat(np.arange(len(data)), [len(values) for values in data])[order]
    values = np.concatenate(data).astype(np.float32)[order]
    of = [np.array(frame, np.float32).astype(float) for frame in data]
    for by, expected in {
        "max": [frame.max() for frame in of],
        p: [np.quantile(frame, p, method="inverted_cdf") for frame in of],
    }.items():
        np.testing.assert_array_equal(
            selection.summarize(structure, values, len(data), by), expected
        )
    np.testing.assert_allclose(
        selection.summarize(structure, values, len(data), "mean"), [f.mean() for f in of]
    )


def test_columns_that_do_not_vary_say_nothing():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 3)) * [1, 1000, 1e-9] + [0, 5, 7]
    scaled = selection.standardize(points)
    assert scaled.shape == (50, 2)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-6)
    assert selection.standardize(np.ones((4, 3))).shape == (4, 0)


def test_mean_distance_of_many_points_is_estimated_well():
    points = np.random.default_rng(1).normal(size=(700, 5)).astype(np.float32)
    pairs = np.linalg.norm(points[:, None] - points, axis=2)
    exact = pairs.sum() / (700 * 699)
    assert selection.mean_distance(points) == pytest.approx(exact, rel=0.01)
    few = points[:100]
    pairs = np.linalg.norm(few[:, None] - few, axis=2)
    assert selection.mean_distance(few) == pytest.approx(pairs.sum() / (100 * 99), rel=1e-6)
    assert selection.mean_distance(points[:1]) == 0
