"""Off-policy estimates on logs of a known policy."""

import numpy as np
import pytest

from models.statistics.off_policy import off_policy

CHANCES = np.array([0.7, 0.2, 0.1])  # of the policy that logged
NEW = np.array([0.1, 0.3, 0.6])
EARNS = np.array([0.2, 0.5, 0.6])
TRUTH = float(NEW @ EARNS)


def logged(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    choice = rng.choice(3, rows, p=CHANCES)
    return (rng.random(rows) < EARNS[choice]).astype(float), CHANCES[choice], NEW[choice]


def test_both_intervals_hold_the_truth_and_snips_is_the_steadier() -> None:
    estimates = [off_policy(*logged(1_000, seed)) for seed in range(400)]
    for name in ("ips", "snips"):
        bounds = [getattr(each, name).interval() for each in estimates]
        assert np.mean([low < TRUTH < high for low, high in bounds]) == pytest.approx(0.95, abs=0.04)
    assert np.mean([each.ips.value for each in estimates]) == pytest.approx(TRUTH, abs=0.01)
    assert np.std([each.snips.value for each in estimates]) < 0.9 * np.std([each.ips.value for each in estimates])


def test_the_policy_that_logged_is_worth_what_it_earned() -> None:
    rewards, old, _ = logged(500, 1)
    same = off_policy(rewards, old, old)
    assert same.ips.value == pytest.approx(rewards.mean()) == same.snips.value
    assert same.effective_rows == pytest.approx(500)


def test_a_cap_trades_variance_for_bias() -> None:
    rows = logged(2_000, 4)
    free, capped = off_policy(*rows), off_policy(*rows, cap=2.0)
    assert capped.ips.variance < free.ips.variance and capped.ips.value < free.ips.value
    assert capped.effective_rows > free.effective_rows


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (([1.0], [0.0], [0.5]), "above 0"),
        (([1.0], [1.5], [0.5]), "above 0"),
        (([1.0], [0.5], [-0.1]), "from 0 to 1"),
        (([1.0, 2.0], [0.5], [0.5]), "one length"),
    ],
)
def test_what_is_no_chance_is_refused(columns: tuple[list[float], list[float], list[float]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        off_policy(*columns)
