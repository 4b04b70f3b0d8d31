"""What the watch keeps: bounded, and yet reaching back; rates that a restart does not turn negative."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.dashboard.feed.activity import STEP_S, STEPS, Activity
from serving.dashboard.feed.rates import Rates
from serving.dashboard.feed.samples import History, Sample
from serving.dashboard.session import KEPT_S, Sessions


@settings(max_examples=30)
@given(st.integers(0, 3000))
def test_the_history_is_bounded_and_spread_evenly_from_the_start(count: int) -> None:
    history: History[Sample] = History(kept=16)
    for at in range(count):
        history.add(Sample(at=at))
    times = [sample.at for sample in history.samples]
    assert len(times) < 16 and times[:1] == [0][:count]
    assert len({later - at for at, later in itertools.pairwise(times)}) <= 1
    assert not times or count - times[-1] <= 2 * (times[1] if len(times) > 1 else 1)


def test_rates_are_over_the_last_seconds_and_begin_anew_when_a_counter_goes_back() -> None:
    rates = Rates()
    assert rates.add(10.0, events=5) == {}
    assert rates.add(12.0, events=25) == {"events": 10.0}
    assert rates.add(13.0, events=0) == {}, "the state was emptied"
    assert rates.add(14.0, events=3) == {"events": 3.0}
    for second in range(15, 40):
        found = rates.add(float(second), events=3)
    assert found == {"events": 0.0}, "what was long ago does not count"


def test_activity_is_counted_in_steps_and_old_steps_go() -> None:
    activity = Activity()
    activity.show(1.0, [4, 5])
    activity.act(STEP_S + 1.0, 4, liked=True)
    activity.act(2.0, 4, liked=False)  # a record that comes late counts in the step that is open
    assert activity.of(4) == [(0, 1, 0, 0), (STEP_S * 1000, 0, 2, 1)]
    for step in range(2, STEPS + 5):
        activity.show(step * STEP_S, [4])
    assert len(activity.of(4)) == STEPS and all(acted == 0 for _, _, acted, _ in activity.of(4))


@pytest.mark.parametrize(("later", "left"), [(KEPT_S - 1, frozenset({"read"})), (KEPT_S + 1, frozenset())])
def test_who_has_signed_in_is_forgotten_after_a_while(later: float, left: frozenset[str]) -> None:
    now = 0.0
    sessions = Sessions(clock=lambda: now)
    sessions.grant("a", frozenset({"read"}))
    now = later
    assert sessions.scopes("a") == left
    sessions.forget("a")
    assert sessions.scopes("a") == sessions.scopes("never seen") == frozenset()
