"""Training weights and keep-lists; suspects of wrong labels, against slow versions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.core import suspects
from ltau_cli.core.search.cells import ExactSearcher
from ltau_cli.core.search.points import find_points
from ltau_cli.core.search.shards import OneShard
from ltau_cli.core.weights import choose_kept, effective_size, weigh

FREE = {"floor": 0.0, "ceiling": 1e9}


def test_weights_by_hand():
    u = np.array([0.0, 1.0])  # one standard deviation below and above the mean
    e = np.e
    hard = weigh(u, emphasis="hard", temperature=1, **FREE)
    np.testing.assert_allclose(hard, [2 / (1 + e**2), 2 * e**2 / (1 + e**2)])
    easy = weigh(u, emphasis="easy", temperature=2, **FREE)
    np.testing.assert_allclose(easy, [2 * e / (1 + e), 2 / (1 + e)])
    assert hard[1] / hard[0] == pytest.approx(e**2)


def test_what_the_ceiling_takes_the_others_get():
    u = np.array([0.0, 0.0, 0.0, 1.0])
    got = weigh(u, emphasis="hard", temperature=0.01, floor=0.0, ceiling=2.0)
    np.testing.assert_allclose(got, [2 / 3, 2 / 3, 2 / 3, 2])
    got = weigh(u, emphasis="easy", temperature=0.01, floor=0.4, ceiling=10.0)
    np.testing.assert_allclose(got, [1.2, 1.2, 1.2, 0.4])


@given(
    u=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40),
    temperature=st.floats(0.001, 100),
    floor=st.floats(0, 1),
    ceiling=st.floats(1, 1000),
    emphasis=st.sampled_from(["hard", "easy"]),
)
def test_limits_mean_and_order_hold(u, temperature, floor, ceiling, emphasis):
    u = np.array(u, np.float32)
    w = weigh(u, emphasis=emphasis, temperature=temperature, floor=floor, ceiling=ceiling)
    assert w.mean() == pytest.approx(1, rel=1e-6)
    assert w.min() >= floor
    assert w.max() <= ceiling
    order = np.argsort(u, kind="stable")
    step = np.diff(w[order]) if emphasis == "hard" else -np.diff(w[order])
    assert (step >= 0).all()
    assert (w[order][1:][np.diff(u[order]) == 0] == w[order][:-1][np.diff(u[order]) == 0]).all()
    if u.std(dtype=float) > 1e-3:  # where no limit holds, the rule does
        z = u.astype(float) / u.std(dtype=float) / temperature
        inside = (w > floor * (1 + 1e-9)) & (w < ceiling * (1 - 1e-9)) & (w > 1e-200)
        constant = np.log(w[inside]) - (z if emphasis == "hard" else -z)[inside]
        assert np.ptp(constant) < 1e-6 * max(1, np.abs(z).max()) if inside.any() else True


@given(u=st.lists(st.integers(0, 100), min_size=2, max_size=30, unique=True))
def test_the_emphases_are_opposite(u):
    u = np.array(u) / 100
    hard = weigh(u, emphasis="hard", temperature=1, **FREE)
    easy = weigh(u, emphasis="easy", temperature=1, **FREE)
    np.testing.assert_allclose(hard * easy, (hard * easy)[0], rtol=1e-6)
    assert (np.argsort(hard) == np.argsort(u)).all()
    assert (np.argsort(-easy) == np.argsort(u)).all()


def test_equal_samples_weigh_the_same():
    for n in (1, 5):
        w = weigh(np.full(n, 0.3), emphasis="hard", temperature=1, floor=0.1, ceiling=10)
        assert w.tolist() == [1.0] * n


def test_effective_size_by_hand():
    assert effective_size(np.ones(7)) == pytest.approx(7)
    assert effective_size(np.array([2.0, 0.0])) == pytest.approx(1)
    assert effective_size(np.array([1.5, 0.5])) == pytest.approx(1.6)


def test_keep_by_hand():
    u = np.array([0.5, 0.1, 0.9, 0.5, 0.2])
    assert choose_kept(u, 2, emphasis="hard").tolist() == [0, 2]
    assert choose_kept(u, 3, emphasis="easy").tolist() == [0, 1, 4]


def test_robust_score_by_hand():
    own = np.exp([0.0, 1.0, 2.0, 3.0, 104.0])
    score = suspects.robust_score(own, np.ones(5))
    assert score[2] == 0
    np.testing.assert_allclose(score[[1, 3]], [-1 / 1.4826, 1 / 1.4826], rtol=1e-5)
    assert score[4] == pytest.approx(102 / 1.4826, rel=1e-5)
    assert suspects.robust_score(own, own).tolist() == [0] * 5
    assert suspects.robust_score(np.zeros(3), np.zeros(3)).tolist() == [0] * 3
    assert np.isfinite(suspects.robust_score(np.array([0.0, 1.0, 1.0]), np.zeros(3))).all()


@pytest.mark.parametrize("grouped", [False, True])
def test_nearest_training_samples_are_those_of_the_oracle(grouped):
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 6, (60, 2)).astype(np.float32)  # many coincide, many are tied
    group = np.arange(60) // 5 if grouped else None
    points = find_points(rows, np.ones(60, int))
    distinct = rows[points.first]
    shards = OneShard(distinct, ExactSearcher(distinct))
    wanted = np.arange(0, 60, 7)
    explained = suspects.explain(shards, points, group, wanted, 5)
    for suspect, got in zip(wanted, explained, strict=True):
        left = (np.arange(60) != suspect) if group is None else (group != group[suspect])
        distance = np.linalg.norm(rows - rows[suspect], axis=1)
        expected = np.sort(distance[left])[:5]
        np.testing.assert_allclose(got.distance, expected, rtol=1e-6)
        np.testing.assert_allclose(distance[got.sample], expected, rtol=1e-6)
        assert left[got.sample].all()
        assert len(set(got.sample.tolist())) == 5
