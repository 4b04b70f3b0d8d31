"""Peeking at a running test: harmful to the fixed one, harmless to the sequential one."""

import numpy as np
import pytest

from models.statistics.effects import Estimate, difference, linearised, mean_of
from models.statistics.sequential import always_valid_interval, always_valid_p

RUNS = 1_000
LOOKS = np.arange(50, 2_001, 25)
TAU = 0.1


def looks(effect: float, seed: int = 5) -> Estimate:
    """The difference of two arms as estimated at each look, (runs, looks), users coming one after another."""
    rng = np.random.default_rng(seed)
    arms = []
    for mean in (effect, 0.0):
        values = rng.normal(mean, 1.0, (RUNS, LOOKS[-1]))
        sums, squares = values.cumsum(1)[:, LOOKS - 1], (values**2).cumsum(1)[:, LOOKS - 1]
        means = sums / LOOKS
        arms.append(Estimate(means, (squares / LOOKS - means**2) / (LOOKS - 1)))
    return difference(*arms)


def test_peeking_spoils_the_fixed_test_and_not_the_sequential_one() -> None:
    null = looks(0.0)
    assert (null.p_value() < 0.05)[:, -1].mean() == pytest.approx(0.05, abs=0.028)  # looked at once
    assert (null.p_value() < 0.05).any(1).mean() > 0.25
    assert (always_valid_p(null, TAU) < 0.05).any(1).mean() <= 0.06


def test_the_intervals_of_all_looks_hold_the_truth_together() -> None:
    low, high = always_valid_interval(looks(0.2), TAU)
    assert ((low <= 0.2) & (high >= 0.2)).all(1).mean() >= 0.94


def test_an_effect_of_the_size_hoped_for_is_found_and_soon() -> None:
    found = always_valid_p(looks(0.2), TAU) < 0.05
    assert found.any(1).mean() > 0.95
    assert np.median(LOOKS[found[found.any(1)].argmax(1)]) < 1_000


def test_test_and_interval_say_the_same() -> None:
    null = looks(0.05)
    low, high = always_valid_interval(null, TAU)
    assert np.array_equal(always_valid_p(null, TAU) < 0.05, (low > 0) | (high < 0))


def test_sessions_of_the_same_users_coming_back_are_no_harm_either() -> None:
    rng = np.random.default_rng(11)
    users, days = 150, 20
    estimates = []
    for _ in range(2):
        sessions = rng.poisson(1.0, (RUNS // 4, users, days)).cumsum(2)
        engaged = rng.binomial(np.diff(sessions, prepend=0, axis=2), rng.beta(1, 2, (RUNS // 4, users, 1))).cumsum(2)
        values = linearised(engaged.transpose(0, 2, 1), sessions.transpose(0, 2, 1))  # (runs, days, users)
        estimates.append(mean_of(values))
    null = difference(*estimates)
    assert (always_valid_p(null, 0.02) < 0.05).any(1).mean() <= 0.06
    assert (null.p_value() < 0.05).any(1).mean() > 0.08


def test_before_there_is_anything_nothing_is_said() -> None:
    nothing = mean_of([])
    low, high = always_valid_interval(nothing, TAU)
    assert always_valid_p(nothing, TAU) == 1.0 and np.isinf([low, high]).all()
    assert always_valid_p(Estimate(np.zeros(()), np.zeros(())), TAU) == 1.0
