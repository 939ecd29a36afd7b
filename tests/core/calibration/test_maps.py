"""Maps to calibrated errors: synthetic rows whose law is known, and cases by hand."""

from dataclasses import replace

import numpy as np
import pytest

from ltau_cli.core.calibration import maps
from ltau_cli.core.calibration.maps import FEATURES, PRIORS, Rows

FITS = (maps.fit_scale, maps.fit_constant, maps.fit_neighbor_distance, maps.fit_distance)


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


def farther(rows, factor):
    return replace(rows, relative_distance=factor * rows.relative_distance,
                   structure_distance=factor * rows.structure_distance)  # fmt: skip


def alone(rows):
    """Rows of no structure."""
    return replace(rows, structure=None, structure_distance=None)


def exponents(error_map):
    return dict(zip(FEATURES, error_map.coefficients[1:], strict=True))


@pytest.mark.parametrize(("b", "c", "g"), [(1.0, 0.6, 2.0), (0.8, 0.4, 1.7), (1.3, 0.9, 2.3)])
def test_exponents_are_found_where_the_rows_tell(b, c, g):
    rows = make_rows(1000, spread=0.5)
    found = exponents(maps.fit_distance(rows, errors_of(rows, b=b, c=c, g=g)))
    wanted = {"expected_error": b, "relative_distance": c, "structure_distance": g}
    assert {f: found[f] for f in wanted} == pytest.approx(wanted, abs=0.25)
    assert found["neighbor_distance"] == found["far_row"] == 0


def test_the_law_bends_where_errors_grow_more_slowly_and_the_doubt_grows():
    rows = make_rows(60, spread=0.1)
    fitted = maps.fit_distance(rows, errors_of(rows, b=1.0, c=0.6, g=1.7))
    r = np.array([1.0, 1.4, 1.5, 2.2, 3.0, 50.0])
    far = Rows(np.ones(6), np.ones(6), np.ones(6), r, np.arange(6))
    slope = np.diff(np.log(fitted.apply(far))) / np.diff(np.log(r))
    assert slope[0] == pytest.approx(1.7, abs=0.1)
    assert slope[2:4] == pytest.approx(0.7, abs=0.1)
    assert slope[4] == 0
    spread = fitted.spread(far)
    assert (np.diff(spread[1:5]) > 0).all()
    assert spread[0] < 0.1
    # the exponent beyond 1.5 is 0.7 +- 0.35: the doubt grows by 0.35 of the logarithm
    assert spread[4] ** 2 - spread[2] ** 2 == pytest.approx((0.35 * np.log(2)) ** 2, rel=0.1)
    assert spread[5] == spread[4]
    assert np.quantile(fitted.spread(rows), 0.95) < 0.2


def test_doubt_beyond_the_bend_is_that_of_the_exponent_there():
    """Not of the bend: an exponent before it that is too large says nothing of the one beyond."""
    rows = make_rows(4, spread=0.0)  # tells nothing, so that all of the prior's doubt is left
    fitted = maps.fit_distance(rows, errors_of(rows, b=1.0, c=0.45))
    at = dict(zip(FEATURES, np.eye(len(FEATURES)), strict=True))
    beyond = at["structure_distance"] + at["far_structure"]
    wanted = PRIORS["trained"]["far_structure"]
    assert fitted.coefficients[1:] @ beyond == pytest.approx(wanted.mean, abs=0.05)
    assert beyond @ fitted.covariance @ beyond == pytest.approx(wanted.spread**2, rel=0.05)


@pytest.mark.parametrize(
    ("source", "far"), [("structure_distance", "far_structure"), ("relative_distance", "far_row")]
)
def test_errors_do_not_shrink_beyond_the_bend_either(source, far):
    both = maps.join_rows([make_rows(100, spread=0.7), make_rows(100, spread=0.7, seed=2)])
    both = alone(both) if source == "relative_distance" else both
    distance, bend = getattr(both, source), maps.FAR[far]
    truth = both.expected_error * np.minimum(distance, bend) ** 2 / np.maximum(distance, bend)
    found = exponents(maps.fit_distance(both, truth))
    assert found[source] > 1
    assert found[source] + found[far] == pytest.approx(0)


def test_an_exponent_that_was_set_to_zero_is_as_much_in_doubt_as_another():
    """A few rows farther away, whose errors are smaller, do not say that bars stop to widen."""
    near, few = make_rows(20, spread=0.05), make_rows(8, spread=0.1, seed=2)
    both = maps.join_rows([near, farther(few, 2)])
    r = np.array([2.0, 4.0, 8.0])
    far = Rows(np.ones(3), np.ones(3), np.ones(3), r, np.arange(3))
    spread, beyond = {}, {}
    for shrinks in (0.0, 9.0):
        truth = errors_of(both, b=1.0, c=0.5, g=1.0)
        truth[len(near) :] /= 1 + shrinks
        fitted = maps.fit_distance(both, truth)
        found = exponents(fitted)
        beyond[shrinks] = found["structure_distance"] + found["far_structure"]
        spread[shrinks] = np.diff(fitted.spread(far))
    assert beyond[9.0] == pytest.approx(0)
    assert beyond[0.0] > 0.1
    np.testing.assert_allclose(spread[9.0], spread[0.0], rtol=0.3)


def test_far_rows_of_a_second_set_take_the_place_of_the_prior():
    """Errors do not grow with distance here; ten structures that say so are enough."""
    near, far = make_rows(60, spread=0.05), make_rows(10, spread=0.05, seed=2)
    moved = farther(far, 2.5)
    both = maps.join_rows([near, moved])
    truth = errors_of(both, b=1.0, c=0.0)
    by_near = maps.fit_distance(near, truth[: len(near)])
    joined = maps.fit_distance(both, truth)
    true_far = truth[len(near) :].mean()
    assert by_near.apply(moved).mean() > 3 * true_far
    assert joined.apply(moved).mean() == pytest.approx(true_far, rel=0.15)
    assert joined.apply(near).mean() == pytest.approx(truth[: len(near)].mean(), rel=0.15)
    assert joined.spread(moved).mean() < 0.6 * by_near.spread(moved).mean()


def test_few_structures_hardly_move_the_exponents():
    """Four structures of the very same distance tell nothing of what distance does."""
    rows = make_rows(4, spread=0.0)
    found = exponents(maps.fit_distance(rows, errors_of(rows, b=1.0, c=0.6, g=-1.0)))
    wanted = {f: belief.mean for f, belief in PRIORS["trained"].items()}
    wanted["far_structure"] -= wanted["structure_distance"]
    assert {f: found[f] for f in wanted} == pytest.approx(wanted, abs=0.1)


def test_rows_of_a_table_decide_for_themselves():
    """They are independent: two hundred move the exponents, which atoms' rows hardly do."""
    rows = make_rows(20, spread=0.2)
    truth = errors_of(rows, b=0.6, c=0.0)
    atoms = replace(alone(rows), last_epoch_error=rows.expected_error)
    table = replace(atoms, is_table=True)
    assert [maps.name_prior(one) for one in (rows, atoms, table)] == [
        "trained", "trained, by row", "table"
    ]  # fmt: skip
    found = exponents(maps.fit_distance(table, truth))
    assert found["expected_error"] + found["last_epoch_error"] == pytest.approx(0.6, abs=0.15)
    last = exponents(maps.fit_last_epoch(table, truth))
    assert (last["expected_error"], last["last_epoch_error"]) == (0, pytest.approx(0.6, abs=0.15))
    assert found["relative_distance"] < 0.2
    assert found["far_row"] == 0
    assert exponents(maps.fit_distance(atoms, truth))["relative_distance"] > 0.3
    r = np.array([1.0, 1.2, 2.0, 4.0, 6.0, 12.0])
    far = Rows(np.ones(6), r, np.ones(6), last_epoch_error=np.ones(6), is_table=True)
    fitted = maps.fit_distance(table.take(np.arange(40)), truth[:40])
    slope = np.diff(np.log(fitted.apply(far))) / np.diff(np.log(r))
    before, beyond = slope[[0, 4]], slope[2]
    assert before[0] == pytest.approx(before[1])  # beyond 5 as before 1.25
    assert beyond > before[0]
    both = maps.join_rows([table, table])
    assert (both.is_table, len(both), both.take(both.dataset == 0).is_table) == (True, 400, True)


@pytest.mark.parametrize("with_structures", [True, False])
def test_errors_never_shrink_with_a_distance(with_structures):
    rows = make_rows(1000) if with_structures else alone(make_rows(1000))
    found = exponents(maps.fit_distance(rows, errors_of(rows, b=1.0, c=-1.5, g=-2.0)))
    assert found["relative_distance"] >= 0
    assert found["structure_distance"] >= 0


def test_structures_of_one_row_are_no_structures():
    rows = replace(make_rows(500, per_structure=1), structure=np.arange(500))
    rows = replace(rows, structure_distance=rows.relative_distance)
    truth = errors_of(rows, b=1.0, c=1.5)
    fitted = maps.fit_distance(rows, truth)
    coefficients = maps.fit_distance(alone(rows), truth).coefficients
    np.testing.assert_array_equal(fitted.coefficients, coefficients)
    assert not fitted.needs_structures
    assert maps.fit_distance(make_rows(300), errors_of(make_rows(300), b=1, c=1)).needs_structures


@pytest.mark.parametrize("with_structures", [True, False])
def test_more_rows_do_not_make_the_bars_shorter_far_away(with_structures):
    """What distance does to errors in domain says little of what it does far away.

    In domain R is mostly noise, so its exponent is fitted too small, and no number of structures
    mends that: the true law is R^2.6, of which the calibration rows show a tenth.
    """
    rng = np.random.default_rng(0)

    def draw(n, shift):
        structure = np.repeat(np.arange(n), 10)
        true_r = shift + rng.normal(0, 0.02, n)
        log_r = true_r[structure] + rng.normal(0, 0.2, 10 * n)
        whole = np.exp(np.bincount(structure, log_r) / 10)[structure]
        rows = Rows(np.ones(10 * n), np.exp(log_r), np.exp(log_r), whole, structure)
        rows = rows if with_structures else alone(rows)
        return rows, np.exp(2.6 * true_r[structure]) * rng.gamma(3.0, 1 / 3, 10 * n)

    far, far_truth = draw(200, 0.35)
    ratio = {}
    for n in (10, 100, 1000):
        means = []
        for _ in range(5):
            rows, truth = draw(n, 0.0)
            means.append((maps.fit_distance(rows, truth).apply(far) / far_truth.mean()).mean())
        ratio[n] = np.mean(means)
    assert ratio[1000] > 0.93 * ratio[10]
    assert ratio[1000] > (0.8 if with_structures else 0.5)


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


@pytest.mark.parametrize("fit", FITS)
def test_true_over_predicted_error_is_one_on_average(fit):
    rows = make_rows(50)
    truth = errors_of(rows, b=0.9, c=0.5, g=1.0)
    assert np.mean(truth / fit(rows, truth).apply(rows)) == pytest.approx(1)


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


def test_a_feature_of_the_users_own_has_an_exponent_of_its_own():
    """What it is worth is learned; noise is worth next to nothing."""
    rows, rng = make_rows(200), np.random.default_rng(5)
    spread, noise = rng.lognormal(0, 0.7, (2, len(rows)))
    truth = errors_of(rows, b=1.0, c=0.6, g=2.0) * spread**0.8
    fitted = maps.fit_distance(replace(rows, own={"spread": spread, "noise": noise}), truth)
    assert fitted.features == (*FEATURES, "spread", "noise")
    found = fitted.exponents()
    assert found["spread"] == pytest.approx(0.8, abs=0.15)
    assert found["noise"] == pytest.approx(0, abs=0.1)
    silent = replace(rows, own={"spread": np.zeros(len(rows))})
    assert "spread" not in maps.fit_distance(silent, truth).exponents()
    assert fitted.used >= {"spread", "noise", "structure_distance"}
    reordered = replace(rows, own={"noise": noise, "spread": spread})
    np.testing.assert_allclose(fitted.apply(reordered), fitted.apply(
        replace(rows, own={"spread": spread, "noise": noise})))  # fmt: skip
    with pytest.raises(ValueError, match="spread is not known"):
        fitted.apply(rows)


def test_the_last_epoch_takes_the_place_of_the_trajectory():
    rows = make_rows(200)
    last = rows.expected_error * np.random.default_rng(3).lognormal(0, 1, len(rows))
    known = replace(rows, last_epoch_error=last)
    truth = errors_of(replace(rows, expected_error=last), b=1.0, c=0.6, g=2.0)
    found = maps.fit_last_epoch(known, truth).exponents()
    assert found["last_epoch_error"] == pytest.approx(1, abs=0.05)
    assert "expected_error" not in found
