"""Labels: what an event says of a user's liking, by the thresholds the documentation states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.labels import CONSUMING, NEGATIVE, NEUTRAL, POSITIVE, Action, LabelRules, grade

RULES = LabelRules()
amounts = st.none() | st.floats(0, 1e7)


@given(st.sampled_from(Action), amounts, amounts, st.none() | st.floats(-1000, 1000), st.none() | st.floats(0.01, 1000))
def test_every_event_has_a_grade_within_bounds(
    action: Action, watch_s: float | None, duration_s: float | None, value: float | None, scale: float | None
) -> None:
    graded = grade(action, RULES, watch_s=watch_s, duration_s=duration_s, value=value, scale=scale)
    assert graded.action is action
    assert 0 <= graded.strength <= 1
    assert graded.label in (POSITIVE, NEUTRAL, NEGATIVE)
    assert 1 <= graded.weight <= 1 + 12**0.5


@pytest.mark.parametrize(
    ("watch_s", "duration_s", "label"),
    [
        (80, 100, POSITIVE), (79.9, 100, NEUTRAL), (10, 100, NEUTRAL), (9.9, 100, NEGATIVE), (0, 100, NEGATIVE),
        (250, 100, POSITIVE), (5, 0, NEUTRAL), (5, None, NEUTRAL), (None, 100, NEUTRAL),
    ],
)  # fmt: skip
def test_a_watch_is_judged_by_its_share(watch_s: float | None, duration_s: float | None, label: int) -> None:
    assert grade(Action.WATCH, RULES, watch_s=watch_s, duration_s=duration_s).label == label


@given(st.floats(0, 1000), st.floats(0, 1000), st.floats(0.1, 1000))
def test_a_longer_watch_is_never_judged_lower(one: float, other: float, duration_s: float) -> None:
    less, more = sorted((one, other))
    low = grade(Action.WATCH, RULES, watch_s=less, duration_s=duration_s)
    high = grade(Action.WATCH, RULES, watch_s=more, duration_s=duration_s)
    assert low.label <= high.label
    assert low.strength <= high.strength
    assert low.weight <= high.weight


@pytest.mark.parametrize(
    ("value", "scale", "label"),
    [
        (4.0, None, POSITIVE), (3.5, None, NEUTRAL), (2.5, None, NEUTRAL), (2.0, None, NEGATIVE), (0.5, 5, NEGATIVE),
        (8, 10, POSITIVE), (7, 10, NEUTRAL), (4, 10, NEGATIVE), (1, 1, POSITIVE), (-3, 5, NEGATIVE), (9, 5, POSITIVE),
    ],
)  # fmt: skip
def test_a_rating_is_judged_by_its_share_of_the_scale(value: float, scale: float | None, label: int) -> None:
    assert grade(Action.RATING, RULES, value=value, scale=scale).label == label


@pytest.mark.parametrize(
    ("action", "label"),
    [
        (Action.LIKE, POSITIVE), (Action.SAVE, POSITIVE), (Action.SHARE, POSITIVE), (Action.CLICK, POSITIVE),
        (Action.DISLIKE, NEGATIVE), (Action.HIDE, NEGATIVE), (Action.IMPRESSION, NEUTRAL), (Action.SEARCH, NEUTRAL),
        (Action.FOLLOW, NEUTRAL), (Action.VISIT, NEUTRAL),
    ],
)  # fmt: skip
def test_other_actions_speak_for_themselves(action: Action, label: int) -> None:
    assert grade(action, RULES).label == label
    assert grade(action, RULES, watch_s=0.1, duration_s=100).label == label


def test_a_click_says_nothing_where_watch_times_are_known() -> None:
    assert grade(Action.CLICK, LabelRules(click_is_positive=False)).label == NEUTRAL


def test_a_film_weighs_more_than_a_clip_but_not_by_its_length() -> None:
    clip = grade(Action.WATCH, RULES, watch_s=15, duration_s=15).weight
    film = grade(Action.WATCH, RULES, watch_s=7200, duration_s=7200).weight
    assert 1 < clip < film < 5 * clip


def test_looking_is_not_consuming() -> None:
    assert {Action.IMPRESSION, Action.FOLLOW, Action.SEARCH, Action.VISIT} == set(Action) - CONSUMING


def test_the_numbers_of_actions_are_those_that_are_stored() -> None:
    assert {action.name: int(action) for action in Action} == {
        "IMPRESSION": 0, "CLICK": 1, "WATCH": 2, "LIKE": 3, "DISLIKE": 4, "RATING": 5, "SAVE": 6, "SHARE": 7,
        "FOLLOW": 8, "HIDE": 9, "SEARCH": 10, "VISIT": 11,
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"watch_positive": 0.05}, {"watch_positive": 1.1}, {"watch_negative": -0.1}, {"rating_negative": 0.9},
        {"rating_positive": 2.0}, {"rating_scale": 0.0},
    ],
)  # fmt: skip
def test_rules_that_contradict_themselves_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0]):
        LabelRules(**wrong)  # type: ignore[arg-type]
