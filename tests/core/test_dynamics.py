"""The dynamics of a training: what stays hard, and burn-in."""

import numpy as np

from ltau_cli.core.dynamics import count_burn_in, stay_hard, summarize_dynamics


def test_planted_label_noise_stays_hard(log):
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(log.shape[1], 40, replace=False))
    directions = rng.normal(size=(len(log), 40, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    errors = directions * log[:, chosen, None]
    errors[:, :, 0] += 0.3  # a wrong label: the same shift at each epoch
    noisy = log.copy()
    noisy[:, chosen] = np.linalg.norm(errors, axis=2)
    noisy[:, 0] = np.nan
    found = np.flatnonzero(stay_hard(summarize_dynamics(noisy, float(log[-1].mean()))))
    assert np.isin(chosen, found).all()
    assert len(found) < 100


def test_burn_in_of_odd_logs():
    assert count_burn_in(np.array([8.0, 4.0, 2.0, 2.1, 1.0])) == 4
    assert count_burn_in(np.array([8.0, np.nan, 1.5, np.nan, 1.0, np.nan])) == 1
    assert count_burn_in(np.array([1.0, 1.0])) == 0
    assert count_burn_in(np.array([np.nan])) == 0
