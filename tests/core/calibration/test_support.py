"""How far a calibration can speak for other rows, and its columns as they are stored."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ltau_cli.core.calibration import support
from ltau_cli.core.calibration.apply import Calibrator
from ltau_cli.core.calibration.fit import fit_calibration
from ltau_cli.core.calibration.maps import Rows
from ltau_cli.core.calibration.model import RATIO_LEVELS
from ltau_cli.core.calibration.predicted import Predicted
from ltau_cli.core.calibration.support import describe_draws, effective_share, too_close


def make_rows(n_structures=40, *, shift=0.0, seed=0, per_structure=5):
    """Structures whose logarithms of distance and error are normal."""
    rng = np.random.default_rng(seed)
    structure = np.repeat(np.arange(n_structures), per_structure)
    r = np.exp(rng.normal(shift, 0.1, n_structures)[structure])
    m = np.exp(rng.normal(0, 0.1, n_structures)[structure])
    return Rows(m, r, r, r, structure)


def test_draws_by_hand():
    r = np.exp([0.0, 1.0, 2.0, -1.0])
    rows = Rows(np.exp([1.0, 3.0, 5.0, 7.0]), r, r, structure=np.array([4, 4, 4, 2]))
    np.testing.assert_allclose(
        describe_draws(rows, np.full(6, 1e-9)), np.exp([[-1, 7, -1, 0], [1, 3, 2, 0]])
    )


def test_many_draws_are_thinned_out_evenly():
    r = np.exp(np.random.default_rng(0).permutation(5001) / 1000.0)
    found = describe_draws(Rows(np.ones(5001), r, r), np.full(6, 1e-9))
    assert found.shape == (1000, 4)
    assert (found[0, 0], found[-1, 0]) == pytest.approx((1, np.exp(5)))
    assert found[:, 3].sum() == pytest.approx(5001)
    assert np.diff(np.log(found[:, 0])).max() < 0.007


def test_the_weights_are_those_of_a_classifier():
    """The density ratio of many draws, as logistic regression finds it."""
    rng = np.random.default_rng(0)
    draws, scored = rng.normal(size=(4000, 2)), rng.normal([0.8, -0.3], 1, size=(40_000, 2))
    x, y = np.concatenate([draws, scored]), np.repeat([0, 1], [4000, 40_000])
    weight = np.exp(LogisticRegression(C=1e6).fit(x, y).decision_function(draws))
    expected = weight.sum() ** 2 / (len(draws) * (weight**2).sum())
    got = effective_share(draws, scored.mean(axis=0), 40_000, 4000)
    assert got == pytest.approx(expected, rel=0.1)
    assert got == pytest.approx(np.exp(-(0.8**2 + 0.3**2)), rel=0.15)  # of normals


@pytest.mark.parametrize("n_scored", [1, 25, 10_000])
def test_draws_like_the_scored_ones_keep_their_worth(n_scored):
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(50):
        draws, scored = rng.normal(size=(30, 2)), rng.normal(size=(n_scored, 2))
        shares.append(effective_share(draws, scored.mean(axis=0), n_scored, 30))
    assert np.mean(shares) > (0.8 if n_scored == 1 else 0.9)


def test_draws_unlike_the_scored_ones_are_worth_hardly_more_than_one():
    draws = np.random.default_rng(2).normal(size=(30, 2))
    assert 1 <= 30 * effective_share(draws, np.array([40.0, 0.0]), 100, 30) < 2
    assert effective_share(np.ones((1, 2)), np.zeros(2), 5, 1) == 1
    assert effective_share(np.ones((7, 2)), np.ones(2), 5, 7) == 1


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_is_told_of_scored_rows(size):
    """Like ones, and ones that lie beyond all that was calibrated on; in blocks of any size."""
    rows, rng = make_rows(), np.random.default_rng(0)
    fitted = fit_calibration(
        rows, rng.gamma(8.0, 0.125, len(rows)), methods=["distance"], thresholds=np.ones(1),
        levels=np.array([0.5, 0.8, 0.9, 0.99]),
    ).calibration  # fmt: skip
    for shift, doubtful, beyond in ((0.0, [0.99], 0.0), (0.6, [0.8, 0.9, 0.99], 1.0)):
        new = make_rows(seed=1, shift=shift)
        told = support.LikenessTotals(fitted, 40)
        for start in range(0, len(new), size):
            part = new.take(slice(start, start + size))
            told.add(vars(part))
        found = told.result()
        assert found.n_draws == 40
        assert found.doubtful_levels == doubtful
        assert found.beyond_share == pytest.approx(beyond, abs=0.1)
        low, high = (1, 2.5) if shift else (30, 40.001)
        assert low <= found.effective_draws <= high


def test_rows_that_are_too_close():
    rng, draw = np.random.default_rng(0), np.repeat(np.arange(30), 20)
    alone = rng.random(30)[draw]  # a structure's rows are alike
    assert too_close(alone, draw) == (pytest.approx(np.mean(alone)), False)
    assert too_close(alone**0.3, draw)[1]
    assert not too_close(np.full(20, 0.9), np.zeros(20, dtype=int))[1]  # nobody can tell


def test_what_float32_cannot_hold_is_its_largest_number():
    """An infinite bound would be called damaged when it is read."""
    predicted = Predicted(
        np.array([1e30, 1e200]), np.zeros(2), np.zeros(2, dtype=int), RATIO_LEVELS[None],
        RATIO_LEVELS, np.array([[1e10]]), np.array([0.9]),
    )  # fmt: skip
    calibration = SimpleNamespace(predict=lambda rows: predicted)
    names = ("expected_error", "relative_distance", "neighbor_distance", "last_epoch_error")
    block = dict.fromkeys(names, np.ones(2))
    (got,) = Calibrator(calibration, np.array([1.0])).columns([block], None)
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(got["calibrated_error"], np.float32([1e30, largest]))
    np.testing.assert_array_equal(got["error_bound"][:, 0], [largest, largest])
