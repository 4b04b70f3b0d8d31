"""Packed records: what is read of them without taking them apart."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.data.labels import Action
from streams.state.packing import RECORD, newest_ts


@given(st.lists(st.tuples(st.sampled_from(Action), st.integers(-(2**62), 2**62)), max_size=12))
def test_the_newest_time_is_that_of_the_last_event_that_calls_for_a_list(drawn: list[tuple[Action, int]]) -> None:
    records = np.zeros(len(drawn), RECORD)
    records["action"], records["ts"] = [each for each, _ in drawn], [ts for _, ts in drawn]
    calling = [ts for action, ts in drawn if action != Action.IMPRESSION]
    assert newest_ts(records.tobytes()) == (calling[-1] if calling else None)
