"""Calibration: bounds by hand, and their coverage in simulation."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ltau_cli.core.calibration import fit as cal
from ltau_cli.core.calibration import metrics
from ltau_cli.core.calibration.maps import Rows, join_rows, power_law
from ltau_cli.core.calibration.predicted import Predicted
from ltau_cli.core.calibration.threshold import StoredCdf, find_threshold_scale
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
    return cal.fit_calibration(rows, truth, thresholds=np.array([1.0]), **options)


def covered(calibration, rows, truth):
    return (truth[:, None] <= calibration.predict(rows).bounds()).mean(axis=0)


def conformal(ratio, level, draw=None):
    draw = np.arange(len(ratio)) if draw is None else draw
    weight = 1 / np.bincount(draw)[draw]
    levels = np.array([level])
    return cal.weighted_quantiles(np.array(ratio), levels, weight, len(np.unique(draw)))[0]


def test_conformal_rank_by_hand():
    ratio = np.random.default_rng(0).permutation(np.arange(1.0, 10.0))
    assert conformal(ratio, 0.9) == 9  # the ceil(10 * 0.9) = 9th smallest
    assert conformal(ratio, 0.89) == 9
    assert conformal(ratio, 0.8) == 8
    assert conformal(ratio, 0.5) == 5
    assert conformal([7.0], 0.5) == 7
    assert conformal(np.arange(1.0, 20.0), 0.95) == 19


def test_every_structure_counts_once_however_many_rows_it_has():
    ratio = [1.0, 2.0, 3.0, 4.0, 9.0]  # weights 1/12 four times, 1/3 once, 1/3 yet to come
    draw = np.array([0, 0, 0, 0, 1])
    assert conformal(ratio, 0.33, draw) == 4
    assert conformal(ratio, 0.34, draw) == 9
    assert conformal(ratio, 0.25, draw) == 3
    assert conformal(ratio, 0.9, draw) == 9  # two structures cannot tell: the largest


@pytest.mark.parametrize(
    ("level", "need"), [(0.5, 1), (0.9, 9), (0.91, 11), (0.95, 19), (0.99, 99)]
)
def test_draws_needed_for_a_level(level, need):
    assert cal.draws_needed(level) == need
    assert conformal(np.arange(float(need)), level) == need - 1


def test_too_few_structures_for_a_level_are_told():
    rows, truth = make(240, per_structure=20)
    found = fit(rows, truth, levels=np.array([0.9, 0.95]))
    assert found.n_draws == 12
    assert found.missing == {0.95: 7}
    found = fit(replace(rows, draws=rows.structure // 3), truth, levels=np.array([0.7, 0.9]))
    assert found.n_draws == 4
    assert found.missing == {0.9: 5}
    largest = fit(rows, truth, levels=np.array([0.95])).calibration.predictor.bound_ratio
    assert largest == fit(rows, truth, levels=np.array([0.99])).calibration.predictor.bound_ratio


def test_bounds_hold_for_new_structures_that_differ():
    """Errors of a structure have a factor in common; rows of one are no independent draws."""

    def law(rows, rng):
        factor = rng.lognormal(0, 0.8, rows.structure.max() + 1)
        return factor[rows.structure] * rng.gamma(8.0, 0.125, len(rows))

    hierarchical, by_row = [], []
    for seed in range(30):
        rows, truth = make(20 * 300, seed=seed, law=law, per_structure=20)
        fitted_on = rows.structure < 12
        new, new_truth = rows.take(~fitted_on), truth[~fitted_on]
        own = fit(rows.take(fitted_on), truth[fitted_on], levels=np.array([0.9])).calibration
        hierarchical.append(covered(own, new, new_truth)[0])
        alone = replace(rows, structure=None)
        own = fit(alone.take(fitted_on), truth[fitted_on], levels=np.array([0.9])).calibration
        by_row.append(covered(own, alone.take(~fitted_on), new_truth)[0])
    assert np.mean(hierarchical) > 0.9
    assert np.quantile(hierarchical, 0.1) > np.quantile(by_row, 0.1) + 0.05


@given(st.lists(st.floats(0.01, 100), min_size=20, max_size=60), st.floats(0.05, 0.95))
def test_bounds_grow_with_the_level(ratio, level):
    bounds = [conformal(ratio, x) for x in sorted([0.5, level, 0.9])]
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
    draw = np.unique(structure, return_inverse=True)[1]
    fold = cal._folds(draw, seed=0)
    for name in np.unique(structure):
        assert len(np.unique(fold[structure == name])) == 1
    sizes = np.bincount([fold[structure == name][0] for name in np.unique(structure)])
    assert sizes.tolist() == [4] * 7 + [3] * 3
    assert not np.array_equal(fold, cal._folds(draw, seed=1))
    assert sorted(set(cal._folds(np.arange(4), seed=0))) == [0, 1, 2, 3]


def test_no_bound_is_made_of_a_map_that_saw_the_row():
    """Structures of a law of their own: what a map learns from one does not help with others."""
    rows, _ = make(300, per_structure=30)
    seen = []

    def spy(part, true_error):
        seen.append(set(part.structure))
        return power_law(part, expected_error=1.0)

    fold = cal._folds(rows.draw, seed=0)
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
    assert by_group.calibration.strata.groups.tolist() == ["C", "H"]
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
    strata, bounds = found.calibration.strata, found.calibration.predictor.bound_ratio
    assert strata.groups.tolist() == ["C", "H"]
    of_all = fit(rows, truth * np.where(group == "C", 1, 3)).calibration.predictor.bound_ratio[0]
    some = replace(rows.take(np.arange(4)), group=np.array(["Xe", "Rn", "U", "H"]))
    got = bounds[strata.of(some)]
    np.testing.assert_array_equal(got[:3], np.tile(of_all, (3, 1)))
    assert (got[3] != of_all).all()
    nobody_says = replace(some, group=None)
    np.testing.assert_array_equal(bounds[strata.of(nobody_says)], np.tile(of_all, (4, 1)))


@pytest.mark.slow
def test_a_group_needs_as_many_rows_as_its_highest_level():
    rows, truth = make(1000)
    group = np.where(np.arange(1000) < 98, "Xe", "C")
    found = fit(replace(rows, group=group), truth, by_group=True, levels=np.array([0.5, 0.99]))
    assert found.small_groups == ["Xe"]
    group[98] = "Xe"
    found = fit(replace(rows, group=group), truth, by_group=True, levels=np.array([0.5, 0.99]))
    assert found.small_groups == []


def test_a_group_of_one_structure_has_no_bounds_of_its_own():
    rows, truth = make(1200, per_structure=60)
    group = np.where(rows.structure == 0, "Xe", rows.group)
    found = fit(replace(rows, group=group), truth, by_group=True)
    assert found.small_groups == ["Xe"]  # 60 rows, but 9 structures are needed
    assert found.calibration.strata.groups.tolist() == ["C", "H"]


def test_small_distance_bins_are_merged_and_told():
    def law(rows, rng):
        return np.where(rows.relative_distance > 1, 4.0, 1.0) * rng.gamma(8.0, 0.125, len(rows))

    rows, truth = make(400, law=law)
    found = fit(rows, truth, distance_bins=20)  # 20 rows each
    assert found.merged == {None: 6}
    strata = found.calibration.strata
    assert np.bincount(strata.bins(rows)).min() >= cal.SMALLEST_STRATUM
    assert len(np.unique(found.calibration.predictor.bound_ratio[:, 0])) == 6
    assert fit(rows, truth, distance_bins=4).merged == {}


def test_a_small_bin_of_a_group_is_merged_within_the_group():
    """The far rows of O are 40: they get the bounds of O's middle and far rows, not of all."""
    r = np.repeat([0.5, 1.0, 2.0] * 2, [68, 67, 40, 200, 200, 227])
    group = np.repeat(["O", "C"], [175, 627])
    rng = np.random.default_rng(0)
    rows = Rows(np.ones(802), r * rng.uniform(0.99, 1.01, 802), r, group=group)
    truth = np.where(group == "O", 0.3, 1.3) * rng.gamma(50.0, 0.02, 802)
    found = fit(rows, truth, distance_bins=3, by_group=True)
    assert found.merged == {"O": 2}
    strata, bounds = found.calibration.strata, found.calibration.predictor.bound_ratio[:, 2]
    own = {name: bounds[2 - np.arange(3)[::-1] + 3 * i] for i, name in enumerate(strata.groups)}
    assert own["O"][1] == own["O"][2] < 0.5 * own["C"].min()
    assert own["O"][0] != own["O"][1]


def test_labels_match_though_one_file_has_numbers_and_the_other_text():
    numbers = cal.Strata(np.array([1, 8, 29]), np.zeros(0))
    rows = replace(make(4)[0], group=np.array(["29", "8", "C", "1"]))
    assert numbers.of(rows).tolist() == [2, 1, 3, 0]
    text = cal.Strata(np.array(["1", "29", "8"]), np.zeros(0))
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
    edges = found.strata.distance_edges
    np.testing.assert_allclose(edges, np.quantile(rows.relative_distance, [0.25, 0.5, 0.75]))
    assert found.predictor.bound_ratio.shape == (4, 3)
    far = new.relative_distance > edges[-1]
    got = covered(found, new.take(far), new_truth[far])
    np.testing.assert_allclose(got, LEVELS, atol=0.03)
    pooled = covered(fit(rows, truth).calibration, new.take(far), new_truth[far])
    assert pooled[2] < 0.8
    both = fit(rows, truth, distance_bins=4, by_group=True).calibration
    assert both.predictor.bound_ratio.shape == (12, 3)
    stratum = both.strata.of(new)
    assert sorted(set(stratum)) == list(range(8))
    np.testing.assert_array_equal(stratum // 4, new.group == "H")
    np.testing.assert_array_equal(stratum % 4, found.strata.of(new))


@pytest.mark.parametrize(("scores", "chosen"), [
    ({"distance": 1.04, "scale": 1.0, "threshold": 1.0}, "distance"),
    ({"distance": 1.06, "scale": 1.04, "threshold": 1.0}, "scale"),
    ({"distance": 1.06, "scale": 1.06, "threshold": 1.0}, "threshold"),
    ({"threshold": 1.0, "scale": 1.0}, "scale"),
    ({"threshold": 1.0}, "threshold"),
])  # fmt: skip
def test_methods_are_preferred_in_order(scores, chosen):
    compared = {name: np.full(20, score) for name, score in scores.items()}
    assert cal._choose(compared, several_sets=True) == chosen
    preferred = [name for name in cal.METHODS if name in scores]
    assert cal._choose(compared, several_sets=False) == preferred[0]


def test_no_method_wins_by_chance():
    few = {"distance": np.full(9, 1.5), "scale": np.full(9, 1.0)}
    assert cal._choose(few, several_sets=True) == "distance"
    noise = np.random.default_rng(0).normal(1.0, 1.0, 20)
    scores = {"distance": noise, "scale": np.full(20, 0.9 * noise.mean())}
    assert cal._choose(scores, several_sets=True) == "distance"


@pytest.mark.slow
def test_the_method_of_the_lowest_cross_validated_crps_is_taken():
    def law(rows, rng):
        return np.where(rows.relative_distance > 1, 20.0, 1.0) * rng.gamma(20.0, 0.05, len(rows))

    one_set, truth = make(2000, law=law)
    assert fit(one_set, truth, methods=list(cal.TRIED)).calibration.method == "distance"
    rows = replace(one_set, dataset=np.arange(2000) // 1000)
    found = fit(rows, truth, methods=list(cal.TRIED))
    assert found.calibration.method == "distance"
    assert list(found.compared) == list(cal.TRIED)
    assert found.compared["distance"].crps < 0.9 * found.compared["scale"].crps
    assert all(entry.standard_error > 0 for entry in found.compared.values())


@pytest.mark.slow
def test_the_same_rows_give_the_same_calibration():
    rows, truth = make(500, per_structure=10)
    rows = replace(rows, structure_distance=rows.relative_distance)
    options = {"methods": list(cal.TRIED), "by_group": True, "distance_bins": 2}
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
    np.testing.assert_allclose(found.predict(few, "constant").mean, truth.mean())
    means = {name: truth[rows.group == name].mean() for name in ("C", "H")}
    np.testing.assert_allclose(
        found.predict(few, "group mean").mean, [means[name] for name in few.group]
    )
    unknown = replace(few, group=np.full(9, "U"))
    np.testing.assert_allclose(found.predict(unknown, "group mean").mean, truth.mean())
    assert list(fit(replace(rows, group=None), truth).calibration.baselines) == [
        "constant", "neighbor distance",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # one error alone: a steep power
@pytest.mark.parametrize("method", cal.TRIED)
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
@example(ratios=[2.2e-311], means=[1.0], thresholds=[1.0])
@example(ratios=[0.0], means=[1.0], thresholds=[1.0])
def test_exceedance_is_a_probability_that_falls(ratios, means, thresholds):
    quantiles = np.quantile(ratios, cal.RATIO_LEVELS)[None]
    limits = np.array(sorted(thresholds))
    predicted = predict(means, quantiles, spread=0.5)
    got = predicted.exceedance(limits)
    assert got.shape == (len(means), len(limits))
    assert ((got >= 0) & (got <= 1)).all()
    assert (np.diff(got, axis=1) <= 1e-12).all()


def predict(mean, quantiles, *, spread=0.0, stratum=None, bound=1.0, level=0.9):
    mean = np.array(mean, dtype=np.float64)
    return Predicted(
        mean, np.full(len(mean), spread), np.zeros(len(mean), int) if stratum is None else stratum,
        quantiles, cal.RATIO_LEVELS, np.full((len(quantiles), 1), bound), np.array([level]),
    )  # fmt: skip


def test_exceedance_by_hand():
    quantiles = np.tile(cal.RATIO_LEVELS, (2, 1)) * [[1.0], [2.0]]  # uniform in 0..1 and 0..2
    predicted = predict([1.0, 1.0, 4.0], quantiles, stratum=np.array([0, 1, 0]))
    got = predicted.exceedance(np.array([0.25]))
    np.testing.assert_allclose(got, [[0.75], [0.875], [0.9375]], atol=1e-12)


def test_no_error_is_impossible():
    """Beyond the largest ratio seen the probability falls as its tail did, never to 0."""
    share = 1 - cal.RATIO_LEVELS  # of a Pareto tail of exponent 3: P(error > x) = x ** -3
    predicted = predict([1.0, 2.0], share[None] ** (-1 / 3))
    far = np.array([20.0, 1e4])
    np.testing.assert_allclose(predicted.exceedance(far), (far / [[1.0], [2.0]]) ** -3, rtol=1e-9)
    bounded = predict([1.0], cal.RATIO_LEVELS[None])  # uniform: the steepest tail that is told
    np.testing.assert_allclose(bounded.exceedance(np.array([1.99])), [[0.005 * 2**-10]])


def test_a_mean_in_doubt_widens_the_bound_by_hand():
    quantiles = np.ones((1, 100))
    predicted = predict([2.0], quantiles, spread=0.5, bound=3.0)
    z = 1.2815515655446004  # of the normal at 90 %
    np.testing.assert_allclose(predicted.bounds(), [[2 * 3 * np.exp(0.5 * z)]])
    # a certain ratio of 1: what is left is the doubt, log-normal with a median of 2
    got = predicted.exceedance(np.array([2.0, 2 * np.exp(0.5 * z)]))
    np.testing.assert_allclose(got, [[0.5, 0.1]], atol=2e-3)


def test_threshold_scale_delivers_what_it_reports():
    rng = np.random.default_rng(1)
    scale_of_row = rng.lognormal(size=20_000)
    edges = np.geomspace(1e-3, 100, 200)
    cdf = StoredCdf(edges, (1 - np.exp(-edges / scale_of_row[:, None])).astype(np.float32))
    truth = 0.4 * rng.exponential(scale_of_row)  # true errors are 0.4 times those of the log
    scale = find_threshold_scale(truth, cdf, 1.0)
    assert scale == pytest.approx(0.4, rel=0.05)
    delivered = cdf.above(1.0 / scale)
    np.testing.assert_allclose(delivered, np.exp(-1 / scale / scale_of_row), atol=1e-3)
    after = metrics.reliability(delivered, truth > 1.0)
    assert after.error < 0.02 < metrics.reliability(cdf.above(1.0), truth > 1.0).error


def test_stored_cdf_between_and_beyond_its_edges():
    cdf = StoredCdf(np.array([1.0, 3.0]), np.array([[0.2, 0.8]], dtype=np.float32))
    got = [cdf.above(x)[0] for x in (0.5, 1.0, 2.0, 3.0, 9.0)]
    np.testing.assert_allclose(got, [0.9, 0.8, 0.5, 0.2, 0.2], rtol=1e-6)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), st.floats(0.01, 0.99))
def test_structures_are_never_split(structure, fraction):
    groups = np.array(structure)
    rows = replace(make(len(groups))[0], structure=groups)
    if len(set(structure)) < 2:
        with pytest.raises(ComputeError):
            cal.split_rows(rows, fit_fraction=fraction, seed=0)
        return
    fit = cal.split_rows(rows, fit_fraction=fraction, seed=0)
    assert fit.any()
    assert not fit.all()
    assert set(groups[fit]).isdisjoint(groups[~fit])


def test_every_set_is_split_and_weighs_the_same():
    near, far = make(300, per_structure=10)[0], make(40, per_structure=5, seed=1)[0]
    rows = join_rows([near, far])
    assert rows.structure.max() + 1 == 30 + 8
    assert rows.weight.sum() == pytest.approx(1)
    assert rows.weight[:300].sum() == pytest.approx(0.5)
    assert np.ptp(rows.weight[300:]) == 0
    fit = cal.split_rows(rows, fit_fraction=0.5, seed=0)
    assert len(np.unique(rows.structure[fit & (rows.dataset == 0)])) == 15
    assert len(np.unique(rows.structure[fit & (rows.dataset == 1)])) == 4
    unequal = replace(near, structure=np.repeat([0, 1, 2], [200, 60, 40]))
    np.testing.assert_allclose(np.bincount(unequal.structure, unequal.weight), 1 / 3)
