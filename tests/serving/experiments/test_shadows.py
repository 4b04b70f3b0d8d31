"""Shadows: scored beside what was published, on the same finds, and on nothing that a list may have helped."""

import numpy as np

from models.data.labels import LabelRules
from serving.experiments.shadows import Shadow
from streams.contract.events import Event, ListItem, Recommendations
from streams.settings.online import ShadowSettings

ALPHA = 0.05
BETTER = ShadowSettings(name="better", model="newest", share=1.0)


def listed(user: str, *items: str, model: str = "v1") -> Recommendations:
    places = [ListItem(item_id=item, score=1.0, sources=[], reason="") for item in items]
    return Recommendations(
        rec_id=f"{model}-{user}", user_id=user, seq=1, items=places, model=model, index="flat", generated_at=0
    )


def found(user: str, item: str, *, rec_id: str | None = None) -> Event:
    return Event(type="like", user_id=user, item_id=item, ts=1, rec_id=rec_id)


def beside(shadow: Shadow, user: str, served: str, own: str, *, model: str = "v2") -> None:
    shadow.offer(listed(user, served))
    shadow.take_lists(shadow.due(10), [listed(user, own, model=model)], at=100)


def test_a_find_counts_for_the_list_that_had_it() -> None:
    shadow = Shadow(BETTER, LabelRules())
    for n in range(200):
        beside(shadow, f"u{n}", "served", "own")
        shadow.take_event(found(f"u{n}", "own" if n % 4 else "served"), arrived=200)
    told = shadow.result(ALPHA)
    assert (told.users, told.events, told.lists, told.model) == (200, 200, 200, "v2")
    assert np.isclose(told.own.value, 0.75) and np.isclose(told.served.value, 0.25)
    assert told.difference.p_always < ALPHA and told.verdict.startswith("better finds more than what is served")


def test_what_is_no_evidence_is_not_counted() -> None:
    shadow = Shadow(BETTER, LabelRules())
    beside(shadow, "ann", "a", "b")
    shadow.take_event(found("ann", "b"), arrived=100)  # it may be in the state that the list was made of
    shadow.take_event(Event(type="impression", user_id="ann", item_id="b", ts=1), arrived=200)
    shadow.take_event(Event(type="hide", user_id="ann", item_id="b", ts=1), arrived=200)
    shadow.take_event(found("ben", "b"), arrived=200)
    assert shadow.result(ALPHA).events == 0
    shadow.take_event(found("ann", "b"), arrived=200)
    shadow.take_event(found("ann", "b"), arrived=201)
    assert shadow.result(ALPHA).events == 1, "the same find twice is one"
    shadow.take_event(found("ann", "a", rec_id="v1-ann"), arrived=202)
    shadow.take_event(found("ann", "c"), arrived=203)
    assert shadow.result(ALPHA).events == 1, "the published list was shown: from then on it helps"


def test_another_model_begins_anew_and_an_erased_user_leaves_only_sums() -> None:
    shadow = Shadow(BETTER, LabelRules())
    for user in ("ann", "ben"):
        beside(shadow, user, "a", "b")
        shadow.take_event(found(user, "b"), arrived=200)
        shadow.forget(user)
    assert "ann" not in repr(shadow) and shadow.result(ALPHA).users == 2
    beside(shadow, "ann", "a", "b", model="v3")
    told = shadow.result(ALPHA)
    assert (told.model, told.events) == ("v3", 0) and told.verdict.startswith("Too early")


def test_only_a_share_of_the_users_is_looked_at_and_the_rest_is_passed_over() -> None:
    shadow = Shadow(BETTER.model_copy(update={"share": 0.5}), LabelRules())
    for n in range(1_000):
        shadow.offer(listed(f"u{n}", "a"))
    assert 400 < shadow.passed_over + 200 < 600
    newest = [each.user_id for each in shadow.due(3)]
    assert len(newest) == 3 and newest == sorted(newest, key=lambda user: -int(user[1:]))
