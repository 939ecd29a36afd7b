"""Maps to calibrated errors: synthetic rows whose law is known, and cases by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ltau_cli.core.calibration import maps
from ltau_cli.core.calibration.maps import FEATURES, PRIOR_BY_ROW, PRIOR_WITH_STRUCTURES, Rows

FITS = (maps.fit_scale, maps.fit_constant, maps.fit_neighbor_distance, maps.fit_distance,
        maps.fit_isotonic)  # fmt: skip


def make_rows(n_structures, *, spread=1.0, per_structure=10, seed=0):
    """Rows in structures that are far from the training set by different amounts."""
    rng = np.random.default_rng(seed)
    n = n_structures * per_structure
    structure = np.repeat(np.arange(n_structures), per_structure)
    log_r = rng.normal(0, spread, n_structures)[structure] + rng.normal(0, 0.3, n)
    of_structure = np.exp(np.bincount(structure, log_r) / per_structure)[structure]
    expected = rng.lognormal(0, 0.5, n)
    return Rows(expected, np.exp(log_r), 0.2 * np.exp(log_r), of_structure, structure)


def errors_of(rows, *, b, c, g=0.0, constant=0.3, seed=1):
    """True errors with these exponents of expected error, relative and structure distance."""
    noise = np.random.default_rng(seed).gamma(3.0, 1 / 3, len(rows))
    far = 1.0 if rows.structure_distance is None else rows.structure_distance**g
    return constant * rows.expected_error**b * rows.relative_distance**c * far * noise


def exponents(error_map):
    return dict(zip(FEATURES, error_map.coefficients[1:], strict=True))


@pytest.mark.parametrize(("b", "c", "g"), [(1.0, 0.6, 2.0), (0.7, 0.2, 1.2), (1.5, 1.0, 0.0)])
def test_known_exponents_are_found_where_the_rows_tell(b, c, g):
    rows = make_rows(1000)
    found = exponents(maps.fit_distance(rows, errors_of(rows, b=b, c=c, g=g)))
    wanted = {"expected_error": b, "relative_distance": c, "structure_distance": g}
    assert found == pytest.approx({**wanted, "neighbor_distance": 0}, abs=0.16)


def test_few_structures_hardly_move_the_exponents():
    """Four structures of the very same distance tell nothing of what distance does."""
    rows = make_rows(4, spread=0.0)
    found = exponents(maps.fit_distance(rows, errors_of(rows, b=1.0, c=0.6, g=-1.0)))
    assert found == pytest.approx({**PRIOR_WITH_STRUCTURES, "neighbor_distance": 0}, abs=0.1)
    rows = make_rows(1000)
    found = exponents(maps.fit_distance(rows, errors_of(rows, b=1.0, c=0.6, g=-1.0)))
    assert found["structure_distance"] == pytest.approx(-1, abs=0.2)


def test_more_structures_of_the_same_kind_weigh_more():
    distance = []
    for n in (3, 30, 300):
        rows = make_rows(n)
        found = exponents(maps.fit_distance(rows, errors_of(rows, b=1.0, c=0.6, g=1.0)))
        distance.append(abs(found["structure_distance"] - 1.0))
    assert distance[0] > distance[1] > distance[2]


def test_rows_of_no_structure_count_one_by_one():
    rows = make_rows(300)
    alone = replace(rows, structure=None, structure_distance=None)
    fitted = maps.fit_distance(alone, errors_of(alone, b=1.0, c=0.8))
    assert not fitted.needs_structures
    assert exponents(fitted) == pytest.approx(
        {"expected_error": 1, "relative_distance": 0.8, "structure_distance": 0,
         "neighbor_distance": 0}, abs=0.05,
    )  # fmt: skip
    three = alone.take(np.arange(3))
    found = exponents(maps.fit_distance(three, np.ones(3)))
    assert found["relative_distance"] == pytest.approx(PRIOR_BY_ROW["relative_distance"], abs=0.3)
    assert maps.fit_distance(rows, errors_of(rows, b=1, c=0.8)).needs_structures


def test_neighbor_distance_alone():
    rows = make_rows(1000, spread=0.3)
    truth = 0.5 * rows.neighbor_distance**0.8
    fitted = maps.fit_neighbor_distance(rows, truth)
    assert exponents(fitted)["neighbor_distance"] == pytest.approx(0.8, abs=1e-4)
    np.testing.assert_allclose(fitted.apply(rows), truth, rtol=1e-3)


def test_scale_and_constant_by_hand():
    rows = Rows(np.array([1.0, 2.0, 4.0]), np.ones(3), np.ones(3))
    truth = np.array([2.0, 2.0, 2.0])  # ratios 2, 1 and 1/2
    np.testing.assert_allclose(maps.fit_scale(rows, truth).apply(rows), np.array([1, 2, 4]) * 7 / 6)
    truth = np.array([0.0, 1.0, 5.0])
    np.testing.assert_allclose(maps.fit_constant(rows, truth).apply(rows), 2.0)


@pytest.mark.parametrize("fit", [f for f in FITS if f is not maps.fit_isotonic])
def test_true_over_predicted_error_is_one_on_average(fit):
    rows = make_rows(50)
    truth = errors_of(rows, b=0.9, c=0.5, g=1.0)
    assert np.mean(truth / fit(rows, truth).apply(rows)) == pytest.approx(1)


def test_isotonic_grows_and_goes_through_the_pooled_means():
    rows = Rows(np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4), np.ones(4))
    fitted = maps.fit_isotonic(rows, np.array([1.0, 3.0, 2.0, 6.0]))
    np.testing.assert_allclose(fitted.apply(rows), [1, 2.5, 2.5, 6])
    outside = Rows(np.array([0.0, 1.5, 9.0]), np.ones(3), np.ones(3))
    np.testing.assert_allclose(fitted.apply(outside), [1, 1.75, 6])
    rows = make_rows(100)
    fitted = maps.fit_isotonic(rows, errors_of(rows, b=1.0, c=0.5))
    order = np.argsort(rows.expected_error)
    assert (np.diff(fitted.apply(rows)[order]) >= 0).all()


@pytest.mark.parametrize("fit", FITS)
def test_true_errors_of_zero_are_legal(fit):
    rows = make_rows(50)
    truth = errors_of(rows, b=1.0, c=0.6, g=2.0)
    wanted = np.median(fit(rows, truth).apply(rows))
    truth[::7] = 0
    predicted = fit(rows, truth).apply(rows)
    assert (predicted > 0).all()
    assert np.median(predicted) == pytest.approx(wanted, rel=0.4)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("feature", ["expected_error", "relative_distance", "neighbor_distance"])
@pytest.mark.parametrize("n_zero", [1, 50])
def test_a_feature_of_zero_spoils_no_other_row(fit, feature, n_zero):
    """Atoms of a perfect crystal have no error; rows that were trained on have no distance."""
    rows = make_rows(100, spread=0.3)
    truth = errors_of(rows, b=1.0, c=0.6, g=2.0)
    if feature == "expected_error" and n_zero > 1:
        truth[:n_zero] = 0
    wanted = fit(rows, truth).apply(rows)
    values = getattr(rows, feature).copy()
    values[:n_zero] = 0
    damaged = replace(rows, **{feature: values})
    got = fit(damaged, truth).apply(damaged)
    assert (got > 0).all()
    assert np.median(got[50:] / wanted[50:]) == pytest.approx(1, rel=0.35)


def test_only_zeros():
    rows = Rows(np.zeros(5), np.zeros(5), np.zeros(5), np.zeros(5), np.arange(5))
    for fit in FITS:
        np.testing.assert_allclose(fit(rows, np.full(5, 2.0)).apply(rows), 2)


def test_an_unknown_feature_is_not_taken_for_zero():
    rows = replace(make_rows(3), structure_distance=None)
    fitted = maps.fit_distance(make_rows(3), np.ones(30))
    with pytest.raises(ValueError, match="structure_distance"):
        fitted.apply(rows)
