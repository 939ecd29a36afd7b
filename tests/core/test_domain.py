"""Out of domain: p-values and relative distances, by hand."""

import numpy as np

from ltau_cli.core.domain import (
    distance_floor,
    least_pvalue,
    ood_pvalue,
    out_of_domain,
    relative_distance,
    rounding_distance,
)
from ltau_cli.core.search.cells import ExactSearcher
from ltau_cli.core.search.loo import leave_one_out
from ltau_cli.core.search.neighbors import find_neighbors
from ltau_cli.core.search.points import find_points
from ltau_cli.core.search.shards import OneShard


def test_pvalue_by_hand():
    reference = np.array([1.0, 1.0, 2.0, 3.0], np.float32)
    got = ood_pvalue(np.array([0.5, 1.0, 1.5, 3.0, 4.0]), reference)
    np.testing.assert_allclose(got, np.array([5, 5, 3, 2, 1]) / 5)


def test_outliers_of_a_small_training_set_hide_no_far_rows():
    """Of 60 samples two are isolated atoms: what is far away otherwise has p = 3 / 61."""
    reference = np.sort(np.append(np.linspace(0.5, 1.5, 58), [100.0, 100.0])).astype(np.float32)
    distance = np.array([1.0, 1.4, 1.6, 44.0, 200.0])
    pvalue, least = ood_pvalue(distance, reference), least_pvalue(60)
    assert out_of_domain(pvalue, distance, least).tolist() == [False, False, False, True, True]
    assert not out_of_domain(pvalue, distance, least_pvalue(1000)).any()  # there p decides alone


def test_relative_distance_of_coincident_points_is_finite():
    points = np.full((4, 3), 2.0, np.float32)
    floor = distance_floor(rounding_distance([(points, np.array([1, 1, 3, 1]))]), np.zeros(6))
    got = relative_distance(np.array([0.0, 1.0]), np.array([0.0, 0.0]), floor)
    assert got[0] == 1
    assert np.isfinite(got[1])
    zeros = [(np.zeros((2, 2), np.float32), np.array([1, 1]))]
    assert distance_floor(rounding_distance(zeros), np.zeros(2)) > 0


def test_the_floor_is_a_quarter_of_the_median_of_what_does_not_coincide():
    points = [(np.ones((5, 3), np.float32), np.ones(5, int))]
    distance = np.array([0, 0, 0, 0, 0, 2.0, 4.0, 8.0, np.nan])
    assert distance_floor(rounding_distance(points), distance) == 1
    assert relative_distance(np.array([3.0]), np.array([0.0]), 1.0) == 3


def test_a_perfect_crystal_does_not_make_bars_explode():
    """40 thermal frames and 64 identical rows; colder frames near the crystal are in domain."""
    rng = np.random.default_rng(0)
    site = rng.normal(size=6)
    thermal = site + 0.3 * rng.normal(size=(40 * 64, 6))
    train = np.concatenate([thermal, np.tile(site, (64, 1))]).astype(np.float32)
    colder = (site + 0.1 * rng.normal(size=(500, 6))).astype(np.float32)
    points = find_points(train, np.ones(len(train), int))
    shards = OneShard(train[points.first], ExactSearcher(train[points.first]))
    mean_error = np.where(np.arange(len(train)) < len(thermal), 0.05, 1e-4)
    loo = leave_one_out(shards, points, mean_error, None, 30)
    own = np.bincount(points.of_sample, loo.distance) / points.multiplicity
    rounding = rounding_distance([(train[points.first], points.multiplicity)])
    floor = distance_floor(rounding, loo.distance)
    found = find_neighbors(
        ExactSearcher(train[points.first]), colder, train[points.first], points.multiplicity, 30
    )
    place = np.maximum(found.point, 0)
    r = relative_distance(found.mean_distance(), found.mean(own[place]), floor)
    assert r.max() < 2
    of_point = np.bincount(points.of_sample, mean_error) / points.multiplicity
    assert found.mean(of_point[place]).min() > 0.02  # the crystal fills half of the places at most
