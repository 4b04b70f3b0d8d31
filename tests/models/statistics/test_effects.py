"""Effects on simulated users with a known truth: intervals cover, tests err as often as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.statistics.effects import Estimate, difference, linearised, mean_of, relative, without_past

RUNS = 1_000
#: 1,000 runs of a test at 5 % reject in 50 of them, give or take 7; four deviations either way are let pass.
NOMINAL = pytest.approx(0.05, abs=0.028)


def rejected(estimate: Estimate) -> float:
    """The share of the runs in which the estimate differs from 0 at 5 %."""
    return float((estimate.p_value() < 0.05).mean())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


def test_a_test_of_means_errs_as_often_as_it_says(rng: np.random.Generator) -> None:
    watched = rng.lognormal(0.0, 1.0, (2, RUNS, 400))  # skewed, as watch times are
    assert rejected(difference(mean_of(watched[0]), mean_of(watched[1]))) == NOMINAL


def test_an_interval_holds_the_true_effect_in_its_share_of_cases(rng: np.random.Generator) -> None:
    control, treated = rng.normal(0.0, 1.0, (RUNS, 300)), rng.normal(0.2, 2.0, (RUNS, 500))
    for level in (0.8, 0.95):
        low, high = difference(mean_of(treated), mean_of(control)).interval(level)
        assert ((low < 0.2) & (high > 0.2)).mean() == pytest.approx(level, abs=0.04)


def sessions_of(rng: np.random.Generator, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Engaged sessions and sessions of users who differ in how often they come and how easily they engage."""
    sessions = 1 + rng.poisson(rng.gamma(1.0, 6.0, shape))
    return rng.binomial(sessions, rng.beta(1.0, 2.0, shape)), sessions


def test_a_rate_over_sessions_is_tested_by_users_and_not_by_sessions(rng: np.random.Generator) -> None:
    engaged, sessions = sessions_of(rng, 2, RUNS, 300)
    by_users = [mean_of(linearised(engaged[arm], sessions[arm])) for arm in (0, 1)]
    assert rejected(difference(*by_users)) == NOMINAL
    totals, rates = sessions.sum(-1), engaged.sum(-1) / sessions.sum(-1)
    by_sessions = [Estimate(rates[arm], rates[arm] * (1 - rates[arm]) / totals[arm]) for arm in (0, 1)]
    assert rejected(difference(*by_sessions)) > 0.2  # what goes wrong when sessions are taken for independent


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20)), min_size=1, max_size=30))
def test_the_mean_of_linearised_values_is_the_ratio_of_sums(rows: list[tuple[int, int]]) -> None:
    y, x = np.array(rows, float).T
    expected = y.sum() / x.sum() if x.sum() else 0.0
    assert linearised(y, x).mean() == pytest.approx(expected)


def test_the_past_takes_noise_out_and_leaves_effect_and_errors_as_they_were(rng: np.random.Generator) -> None:
    before = rng.normal(0.0, 1.0, (2, RUNS, 300))
    now = 0.8 * before + rng.normal(0.0, 0.6, before.shape)  # correlated by 0.8: 64 % of the variance goes
    raw = difference(mean_of(now[1]), mean_of(now[0]))
    treated, control = without_past(now[1], now[0], before[1], before[0])
    reduced = difference(mean_of(treated), mean_of(control))
    assert np.median(reduced.variance / raw.variance) == pytest.approx(0.36, abs=0.02)
    assert rejected(reduced) == NOMINAL
    treated, control = without_past(now[1] + 0.15, now[0], before[1], before[0])
    with_effect = difference(mean_of(treated), mean_of(control))
    assert with_effect.value.mean() == pytest.approx(0.15, abs=0.01)
    assert rejected(with_effect) > rejected(raw._replace(value=raw.value + 0.15)) + 0.2


def test_the_past_of_a_rate_helps_as_well(rng: np.random.Generator) -> None:
    liking = rng.beta(1.0, 2.0, (2, RUNS, 300))
    sessions = 1 + rng.poisson(8.0, (2, *liking.shape))
    engaged = rng.binomial(sessions, liking)  # (past or now, arm, run, user): a user's liking stays
    (treated, control), raw = _reduced(engaged, sessions)
    reduced = difference(mean_of(treated), mean_of(control))
    assert rejected(reduced) == NOMINAL and np.median(reduced.variance / raw.variance) < 0.6


def _reduced(engaged: np.ndarray, sessions: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Estimate]:
    now = [linearised(engaged[1, arm], sessions[1, arm]) for arm in (0, 1)]
    n = engaged.shape[-1]
    both = linearised(np.concatenate(list(engaged[0]), -1), np.concatenate(list(sessions[0]), -1))
    return (
        without_past(now[0], now[1], both[..., :n], both[..., n:]),
        difference(mean_of(now[0]), mean_of(now[1])),
    )


def test_a_relative_effect_covers_the_truth(rng: np.random.Generator) -> None:
    treated, control = mean_of(rng.normal(6.0, 3.0, (RUNS, 400))), mean_of(rng.normal(5.0, 3.0, (RUNS, 400)))
    low, high = relative(treated, control).interval()
    assert ((low < 0.2) & (high > 0.2)).mean() == pytest.approx(0.95, abs=0.028)


@pytest.mark.parametrize("values", [[], [3.0]])
def test_next_to_nothing_proves_nothing(values: list[float]) -> None:
    alone = mean_of(values)
    assert np.isinf(alone.variance) and alone.p_value() == 1.0
    assert linearised(values, [0.0] * len(values)).tolist() == [0.0] * len(values)
