"""Sample sizes are as computed, and a wrong sample ratio is seen."""

import math

import numpy as np
import pytest

from models.statistics.effects import difference, mean_of
from models.statistics.samples import MISMATCH, chi_square_above, power_with, sample_ratio_p, users_needed


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_so_many_users_find_the_effect_as_often_as_computed(share: float) -> None:
    needed = users_needed(0.25, 1.0, power=0.8, treated_share=share)
    rng = np.random.default_rng(3)
    treated = rng.normal(0.25, 1.0, (1_000, round(needed * share)))
    control = rng.normal(0.0, 1.0, (1_000, needed - treated.shape[1]))
    found = (difference(mean_of(treated), mean_of(control)).p_value() < 0.05).mean()
    assert found == pytest.approx(0.8, abs=0.05)
    assert power_with(needed, 0.25, 1.0, treated_share=share) == pytest.approx(0.8, abs=0.005)


def test_known_sizes() -> None:
    assert users_needed(0.5, 1.0) == 126  # 63 in each group
    assert users_needed(0.25, 1.0) == pytest.approx(4 * 126, abs=4)
    assert power_with(126, 1e-9, 1.0) == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize(
    ("degrees", "bound"), [(1, 3.841459), (2, 5.991465), (3, 7.814728), (4, 9.487729), (5, 11.070498), (10, 18.307038)]
)
def test_the_chi_square_tail_is_that_of_the_tables(degrees: int, bound: float) -> None:
    assert chi_square_above(bound, degrees) == pytest.approx(0.05, abs=1e-6)
    assert chi_square_above(0.0, degrees) == pytest.approx(1.0)
    assert chi_square_above(2_000.0, degrees) == pytest.approx(0.0) and math.isfinite(chi_square_above(9e9, degrees))


def test_a_right_sample_ratio_is_seldom_called_wrong_and_a_wrong_one_is_seen() -> None:
    rng = np.random.default_rng(9)
    drawn = rng.multinomial(3_000, [0.5, 0.3, 0.2], 1_000)
    wrong = np.mean([sample_ratio_p(row.tolist(), [5, 3, 2]) < 0.05 for row in drawn])
    assert wrong == pytest.approx(0.05, abs=0.028)
    assert sample_ratio_p([50_000, 48_500], [1, 1]) < MISMATCH < sample_ratio_p([50_000, 49_900], [1, 1])
    assert sample_ratio_p([0, 0], [1, 1]) == 1.0
