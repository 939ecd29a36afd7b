"""Calibration: bounds by hand, and their coverage in simulation."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.core.calibration import fit as cal
from ltau_cli.core.calibration import metrics
from ltau_cli.core.calibration.maps import Rows, power_law
from ltau_cli.errors import ComputeError

LEVELS = np.array([0.5, 0.8, 0.9])


def make(n, *, seed=0, law=lambda rows, rng: rng.gamma(2.0, 0.5, len(rows)), per_structure=0):
    """Rows in two groups, and true errors: the expected error times what ``law`` draws."""
    rng = np.random.default_rng(seed)
    structure = np.arange(n) // per_structure if per_structure else None
    rows = Rows(
        rng.lognormal(0, 0.5, n), rng.lognormal(0, 0.4, n), rng.lognormal(0, 0.4, n),
        structure=structure, group=rng.choice(["C", "H"], n),
    )  # fmt: skip
    return rows, rows.expected_error * law(rows, rng)


def fit(rows, truth, **options):
    options = {"methods": ["scale"], "levels": LEVELS} | options
    return cal.fit_calibration(
        rows, truth, thresholds=np.array([1.0]),
        uncertainty=np.linspace(0, 1, len(rows))[:, None], **options,
    )  # fmt: skip


def covered(calibration, rows, truth):
    predictor = calibration.predictor
    bounds = predictor.map.apply(rows)[:, None] * predictor.bound_ratio[calibration.cells.of(rows)]
    return (truth[:, None] <= bounds).mean(axis=0)


def test_conformal_rank_by_hand():
    ratio = np.random.default_rng(0).permutation(np.arange(1.0, 10.0))
    assert cal.conformal_quantile(ratio, 0.9) == 9  # the ceil(10 * 0.9) = 9th smallest
    assert cal.conformal_quantile(ratio, 0.89) == 9
    assert cal.conformal_quantile(ratio, 0.8) == 8
    assert cal.conformal_quantile(ratio, 0.5) == 5
    assert cal.conformal_quantile(np.array([7.0]), 0.5) == 7
    assert cal.conformal_quantile(np.arange(1.0, 20.0), 0.95) == 19


@pytest.mark.parametrize(("level", "need"), [(0.95, 19), (0.91, 11), (0.99, 99)])
def test_too_few_rows_for_a_level(level, need):
    said = f"a {level} bound needs at least {need} rows to fit on; there are {need - 1}"
    with pytest.raises(ComputeError, match=said):
        cal.conformal_quantile(np.ones(need - 1), level)
    assert cal.conformal_quantile(np.ones(need), level) == 1


@given(st.lists(st.floats(0.01, 100), min_size=20, max_size=60), st.floats(0.05, 0.95))
def test_bounds_grow_with_the_level(ratio, level):
    values = np.array(ratio)
    bounds = [cal.conformal_quantile(values, x) for x in sorted([0.5, level, 0.9])]
    assert bounds == sorted(bounds)


@pytest.mark.slow
def test_bounds_cover_as_promised_on_new_rows():
    shares = []
    for seed in range(12):
        rows, truth = make(1600, seed=seed)
        calibration = fit(rows.take(np.arange(100)), truth[:100]).calibration
        shares.append(covered(calibration, rows.take(np.arange(100, 1600)), truth[100:]))
    np.testing.assert_allclose(np.mean(shares, axis=0), LEVELS, atol=0.03)
    assert np.std(shares, axis=0).max() < 0.08


def test_folds_keep_structures_together():
    structure = np.random.default_rng(0).integers(0, 37, 500)
    fold = cal._folds(structure, 500, seed=0)
    for name in np.unique(structure):
        assert len(np.unique(fold[structure == name])) == 1
    sizes = np.bincount([fold[structure == name][0] for name in np.unique(structure)])
    assert sizes.tolist() == [4] * 7 + [3] * 3
    assert not np.array_equal(fold, cal._folds(structure, 500, seed=1))
    assert sorted(set(cal._folds(None, 4, seed=0))) == [0, 1, 2, 3]


def test_no_bound_is_made_of_a_map_that_saw_the_row():
    """Structures of a law of their own: what a map learns from one does not help with others."""
    rows, _ = make(300, per_structure=30)
    seen = []

    def spy(part, true_error):
        seen.append(set(part.structure))
        return power_law(part.floors(), expected_error=1.0)

    fold = cal._folds(rows.structure, len(rows), seed=0)
    cal._predict_unseen(spy, rows, np.ones(300), fold)
    assert len(seen) == 10
    for number, structures in enumerate(seen):
        assert structures == set(range(10)) - set(rows.structure[fold == number])


@pytest.mark.slow
def test_groups_get_bounds_that_hold_in_each():
    def law(rows, rng):
        return np.where(rows.group == "H", 4.0, 0.5) * rng.gamma(4.0, 0.25, len(rows))

    rows, truth = make(4000, law=law)
    new, new_truth = make(20_000, seed=1, law=law)
    pooled, by_group = fit(rows, truth), fit(rows, truth, by_group=True)
    assert by_group.calibration.cells.groups.tolist() == ["C", "H"]
    assert by_group.small_groups == []
    for name in ("C", "H"):
        own = new.group == name
        got = covered(by_group.calibration, new.take(own), new_truth[own])
        np.testing.assert_allclose(got, LEVELS, atol=0.03)
        of_all = covered(pooled.calibration, new.take(own), new_truth[own])
        assert abs(of_all - LEVELS)[0] > 0.3


@pytest.mark.slow
def test_small_and_unknown_groups_share_the_bounds_of_all():
    rows, truth = make(2000)
    group = rows.group.astype("U2")
    group[:49], group[49:90] = "Xe", "Rn"
    found = fit(replace(rows, group=group), truth * np.where(group == "C", 1, 3), by_group=True)
    assert found.small_groups == ["Rn", "Xe"]
    cells, bounds = found.calibration.cells, found.calibration.predictor.bound_ratio
    assert cells.groups.tolist() == ["C", "H"]
    of_all = fit(rows, truth * np.where(group == "C", 1, 3)).calibration.predictor.bound_ratio[0]
    some = replace(rows.take(np.arange(4)), group=np.array(["Xe", "Rn", "U", "H"]))
    got = bounds[cells.of(some)]
    np.testing.assert_array_equal(got[:3], np.tile(of_all, (3, 1)))
    assert (got[3] != of_all).all()
    nobody_says = replace(some, group=None)
    np.testing.assert_array_equal(bounds[cells.of(nobody_says)], np.tile(of_all, (4, 1)))


@pytest.mark.slow
def test_a_group_needs_as_many_rows_as_its_highest_level():
    rows, truth = make(1000)
    group = np.where(np.arange(1000) < 98, "Xe", "C")
    found = fit(replace(rows, group=group), truth, by_group=True, levels=np.array([0.5, 0.99]))
    assert found.small_groups == ["Xe"]
    group[98] = "Xe"
    found = fit(replace(rows, group=group), truth, by_group=True, levels=np.array([0.5, 0.99]))
    assert found.small_groups == []


def test_labels_match_though_one_file_has_numbers_and_the_other_text():
    numbers = cal.Cells(np.array([1, 8, 29]), np.zeros(0))
    rows = replace(make(4)[0], group=np.array(["29", "8", "C", "1"]))
    assert numbers.of(rows).tolist() == [2, 1, 3, 0]
    text = cal.Cells(np.array(["1", "29", "8"]), np.zeros(0))
    rows = replace(rows, group=np.array([29, 8, 7, 1]))
    assert text.of(rows).tolist() == [1, 2, 3, 0]


@pytest.mark.slow
def test_distance_bins_hold_near_and_far():
    def law(rows, rng):
        spread = np.where(rows.relative_distance > np.exp(0.27), 6.0, 1.0)
        return np.exp(rng.normal(0, 0.2, len(rows)) * spread)

    rows, truth = make(6000, law=law)
    new, new_truth = make(20_000, seed=1, law=law)
    found = fit(rows, truth, distance_bins=4).calibration
    edges = found.cells.distance_edges
    np.testing.assert_allclose(edges, np.quantile(rows.relative_distance, [0.25, 0.5, 0.75]))
    assert found.predictor.bound_ratio.shape == (4, 3)
    far = new.relative_distance > edges[-1]
    got = covered(found, new.take(far), new_truth[far])
    np.testing.assert_allclose(got, LEVELS, atol=0.03)
    pooled = covered(fit(rows, truth).calibration, new.take(far), new_truth[far])
    assert pooled[2] < 0.8
    both = fit(rows, truth, distance_bins=4, by_group=True).calibration
    assert both.predictor.bound_ratio.shape == (12, 3)
    cell = both.cells.of(new)
    assert sorted(set(cell)) == list(range(8))
    np.testing.assert_array_equal(cell // 4, new.group == "H")
    np.testing.assert_array_equal(cell % 4, found.cells.of(new))


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ({"distance": 1.04, "scale": 1.0, "isotonic": 1.0}, "distance"),
        ({"distance": 1.06, "scale": 1.04, "isotonic": 1.0}, "scale"),
        ({"distance": 1.06, "scale": 1.06, "isotonic": 1.0}, "isotonic"),
        ({"threshold": 1.0, "scale": 1.0}, "scale"),
        ({"threshold": 1.0}, "threshold"),
    ],
)
def test_methods_are_preferred_in_order(scores, chosen):
    assert cal._choose({name: np.full(20, score) for name, score in scores.items()}) == chosen


def test_no_method_wins_by_chance():
    few = {"distance": np.full(9, 1.5), "scale": np.full(9, 1.0)}
    assert cal._choose(few) == "distance"
    noise = np.random.default_rng(0).normal(1.0, 1.0, 20)
    assert cal._choose({"distance": noise, "scale": np.full(20, 0.9 * noise.mean())}) == "distance"


@pytest.mark.slow
def test_the_method_of_the_lowest_cross_validated_crps_is_taken():
    def law(rows, rng):  # no power of the expected error
        return np.where(rows.expected_error > 1, 20.0, 1.0) * rng.gamma(20.0, 0.05, len(rows))

    rows, truth = make(2000, law=law)
    found = fit(rows, truth, methods=list(cal.METHODS))
    assert found.calibration.method == "isotonic"
    assert list(found.compared) == list(cal.METHODS)
    assert found.compared["isotonic"]["crps"] < 0.9 * found.compared["scale"]["crps"]
    assert found.compared["scale"] == found.compared["threshold"]
    assert all(entry["standard_error"] > 0 for entry in found.compared.values())


@pytest.mark.slow
def test_the_same_rows_give_the_same_calibration():
    rows, truth = make(500, per_structure=10)
    rows = replace(rows, structure_distance=rows.relative_distance)
    options = {"methods": list(cal.METHODS), "by_group": True, "distance_bins": 2}
    one, two = (fit(rows, truth, **options, seed=3).calibration for _ in range(2))
    assert flat(one) == flat(two)


def flat(value):
    """Bytes of all arrays of a dataclass."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return {name: flat(item) for name, item in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return [flat(getattr(value, field.name)) for field in fields(value)]
    return value


def test_baselines():
    rows, truth = make(2000)
    found = fit(rows, truth).calibration
    assert list(found.baselines) == ["constant", "neighbor distance", "group mean"]
    few = rows.take(np.arange(9))
    np.testing.assert_allclose(found.baseline_mean("constant", few), truth.mean())
    means = {name: truth[rows.group == name].mean() for name in ("C", "H")}
    np.testing.assert_allclose(
        found.baseline_mean("group mean", few), [means[name] for name in few.group]
    )
    unknown = replace(few, group=np.full(9, "U"))
    np.testing.assert_allclose(found.baseline_mean("group mean", unknown), truth.mean())
    assert list(fit(replace(rows, group=None), truth).calibration.baselines) == [
        "constant", "neighbor distance",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # one error alone: a steep power
@pytest.mark.parametrize("method", cal.METHODS)
def test_true_errors_that_are_nearly_all_zero(method):
    rows, _ = make(100, per_structure=10)
    truth = np.zeros(100)
    truth[:10] = 1  # one structure alone
    with pytest.raises(ComputeError, match="only 10 of the 100 true errors"):
        fit(rows, truth, methods=[method])
    truth[50] = 1
    calibration = fit(rows, truth, methods=[method]).calibration
    assert (calibration.predictor.map.apply(rows) > 0).all()


@given(
    st.lists(st.floats(0, 1e3), min_size=1, max_size=30),
    st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=5),
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5),
)
def test_exceedance_is_a_probability_that_falls(ratios, means, thresholds):
    quantiles = np.quantile(ratios, cal.RATIO_LEVELS)[None]
    predictor = cal.Predictor(power_law(np.ones(4)), np.ones((1, 1)), quantiles)
    limits = np.array(sorted(thresholds))
    got = predictor.exceedance(np.array(means), np.zeros(len(means), dtype=int), limits)
    assert got.shape == (len(means), len(limits))
    assert ((got >= 0) & (got <= 1)).all()
    assert (np.diff(got, axis=1) <= 1e-12).all()


def test_exceedance_by_hand():
    quantiles = np.tile(cal.RATIO_LEVELS, (2, 1)) * [[1.0], [2.0]]  # uniform in 0..1 and 0..2
    predictor = cal.Predictor(power_law(np.ones(4)), np.ones((2, 1)), quantiles)
    got = predictor.exceedance(np.array([1.0, 1.0, 4.0]), np.array([0, 1, 0]), np.array([0.25, 9]))
    np.testing.assert_allclose(got, [[0.75, 0], [0.875, 0], [0.9375, 0]], atol=1e-12)


def test_threshold_scale_is_found():
    rng = np.random.default_rng(1)
    scale_of_row = rng.lognormal(size=20_000)
    uncertainty = np.exp(-1.0 / scale_of_row)  # P(error > 1) for exponential errors
    truth = 0.4 * rng.exponential(scale_of_row)  # true errors are 0.4 times those of the log
    assert cal.threshold_scale(truth, uncertainty, 1.0) == pytest.approx(0.4, rel=0.03)
    after = metrics.reliability(uncertainty, truth > 0.4)
    assert after.error < 0.02 < metrics.reliability(uncertainty, truth > 1).error


def test_reliability_by_hand():
    predicted = np.array([0.1] * 5 + [0.9] * 5)
    curve = metrics.reliability(predicted, np.array([0] * 4 + [1] + [1] * 5, bool))
    assert curve.n.tolist() == [1] * 10
    np.testing.assert_allclose(curve.error, (4 * 0.1 + 0.9 + 5 * 0.1) / 10)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), st.floats(0.01, 0.99))
def test_structures_are_never_split(structure, fraction):
    groups = np.array(structure)
    if len(set(structure)) < 2:
        with pytest.raises(ComputeError):
            cal.split_rows(groups, len(groups), fit_fraction=fraction, seed=0)
        return
    fit = cal.split_rows(groups, len(groups), fit_fraction=fraction, seed=0)
    assert fit.any()
    assert not fit.all()
    assert set(groups[fit]).isdisjoint(groups[~fit])
