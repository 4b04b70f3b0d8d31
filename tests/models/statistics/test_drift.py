"""Stability and concentration of counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.statistics.drift import gini, stability_index

COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 1_000), max_size=6)


@settings(max_examples=50)
@given(COUNTS, COUNTS)
def test_the_stability_index_is_symmetric_and_0_for_equal_shares(one: dict[str, int], other: dict[str, int]) -> None:
    assert stability_index(one, other) == pytest.approx(stability_index(other, one))
    assert stability_index(one, other) >= 0.0 and stability_index(one, one) == 0.0


def test_the_stability_index_is_that_of_the_textbook() -> None:
    # (0.5 - 0.3) ln(0.5 / 0.3) + (0.5 - 0.7) ln(0.5 / 0.7)
    assert stability_index({"a": 30_000, "b": 70_000}, {"a": 50_000, "b": 50_000}) == pytest.approx(0.16946, abs=1e-4)


def test_chance_alone_stays_far_below_the_rule_of_thumb_and_a_new_value_is_seen() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(1_000, [0.4, 0.3, 0.2, 0.1], 2)
    before, now = ({name: int(n) for name, n in zip("abcd", row, strict=True)} for row in drawn)
    assert stability_index(before, now) < 0.02
    assert 0.25 < stability_index(before, now | {"new": 300}) < 5.0


@settings(max_examples=50)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 9))
def test_gini_lies_in_0_to_1_whatever_the_unit_and_the_order(counts: list[int], unit: int) -> None:
    value = gini(counts)
    assert 0.0 <= value < 1.0
    assert gini([unit * count for count in reversed(counts)]) == pytest.approx(value)


def test_gini_of_known_spreads() -> None:
    assert gini([5, 5, 5, 5]) == 0.0 and gini([]) == 0.0 and gini([0, 0]) == 0.0
    assert gini([0] * 99 + [7]) == pytest.approx(0.99)
    assert gini([1, 2, 3, 4]) == pytest.approx(0.25)
