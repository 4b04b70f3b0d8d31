"""Ordering many users' candidates at once gives what ordering each user's by itself would."""

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.ranking.ordering import Layout, best_first, distinct

NUMBERS = st.floats(-3, 3, width=32) | st.sampled_from([0.0, -0.0, -np.inf])


@given(arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(0, 9)), elements=NUMBERS))
def test_the_best_come_first_and_equal_ones_as_they_stand(table: npt.NDArray[np.float32]) -> None:
    assert best_first(table).tolist() == np.argsort(-table, axis=1, kind="stable").tolist()


@given(st.lists(st.lists(NUMBERS, max_size=5), max_size=5))
def test_each_user_is_ordered_alone(values: list[list[float]]) -> None:
    of = np.repeat(np.arange(len(values)), [len(own) for own in values]).astype(np.int64)
    flat = np.array([value for own in values for value in own], np.float32)
    layout = Layout.over(of, len(values))
    order = best_first(layout.table(flat, -np.inf))
    wanted = [np.argsort(np.argsort(-np.array(own, np.float32), kind="stable")) for own in values]
    ranks = layout.ranks(order, np.arange(len(flat)))
    assert ranks.tolist() == [int(rank) for own in wanted for rank in own]
    best = layout.places(order[:, :1])
    assert [int(of[place]) for place in best] == [user for user, own in enumerate(values) if own]
    assert [flat[place] for place in best] == [np.float32(max(own)) for own in values if own]


@given(st.lists(st.integers(0, 200), max_size=30), st.sampled_from([201, 5_000]))
def test_distinct_rows_and_the_place_of_each(rows: list[int], size: int) -> None:
    found, places = distinct(np.array(rows, np.int64), size)
    assert found.tolist() == sorted(set(rows))
    assert found[places].tolist() == rows
