"""Histograms: what they count, and how they forget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.histograms import Histogram, histogram_weight
from models.data.labels import Action

DAY = 86_400_000
START = 1_700_000_000_000

events = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 200), st.floats(0.1, 1.0)), min_size=1, max_size=30
)


@given(events)
def test_shares_are_those_of_plain_exponential_decay(log: list[tuple[str, int, float]]) -> None:
    histogram: Histogram[str] = Histogram(5 * 86_400.0)
    for key, day, weight in log:
        histogram.add([key], START + day * DAY, weight)
    now = max(day for _, day, _ in log)
    plain: dict[str, float] = {}
    for key, day, weight in log:
        plain[key] = plain.get(key, 0.0) + weight * 2.0 ** (-(now - day) / 5)
    total = sum(plain.values())
    shares = dict(histogram.top(3))
    for key, weight in plain.items():
        assert shares.get(key, 0.0) == pytest.approx(weight / total, abs=1e-5)


def test_only_the_heaviest_are_given_and_their_shares_sum_to_one() -> None:
    histogram: Histogram[str] = Histogram(86_400.0)
    histogram.add(["a"], START, 3.0)
    histogram.add(["b"], START, 1.0)
    histogram.add(["c"], START, 0.5)
    assert histogram.top(2) == [("a", 0.75), ("b", 0.25)]
    assert Histogram[str](1.0).top(3) == []


def test_an_action_counts_by_its_strength_unless_it_was_disliked_or_no_consumption() -> None:
    assert histogram_weight(Action.WATCH, 0.9, 1) == 0.9
    assert histogram_weight(Action.WATCH, 0.5, 0) == 0.5
    assert histogram_weight(Action.WATCH, 0.05, -1) == 0.0
    assert histogram_weight(Action.IMPRESSION, 0.3, 0) == 0.0
