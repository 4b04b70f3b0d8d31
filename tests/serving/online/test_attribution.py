"""Attribution: every event counts where it belongs, once, and all breakdowns have the same totals."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from serving.measures import Measure, rates
from serving.online.attribution import Attribution
from serving.online.windows import Windows, summed
from streams.contract.events import Event, ListItem, Recommendations
from streams.settings.online import OnlineSettings

MINUTE = 60_000
START = 1_750_000_000_000


def published(user: str = "ann", rec_id: str = "r1", *items: str, variant: str = "control") -> Recommendations:
    sources = (["sequence", "trending"], ["towers"], ["trending"])
    places = [
        ListItem(item_id=item, score=1.0, sources=sources[at % 3], reason="")
        for at, item in enumerate(items or ("a", "b", "c"))
    ]
    return Recommendations(
        rec_id=rec_id, user_id=user, seq=1, items=places, model="v1", index="flat", generated_at=0, variant=variant
    )


class Counting:
    """Attribution with its counts in windows."""

    def __init__(self, **given: Any) -> None:
        genres = {"a": (("Drama", "Music"),), "b": ((),)}
        self.attribution = Attribution(OnlineSettings(**given), features_of=lambda item: genres.get(item, ()))
        self.windows = Windows(self.attribution.dimensions, window_s=300, kept=288)
        self._sent = 0

    def list(self, made: Recommendations, minute: float = 0.0) -> None:
        self.attribution.take_list(made, START + int(minute * MINUTE))

    def event(self, kind: str, minute: float = 0.0, user: str = "ann", **more: Any) -> None:
        ts = START + int(minute * MINUTE)
        self._sent += 1
        values = {"event_id": f"e{self._sent}", "item_id": "a"} | more
        for credit in self.attribution.take_event(
            Event(type=kind, user_id=user, ts=ts, **values),  # type: ignore[arg-type]
            ts,
        ):
            self.windows.add(credit.ts, credit.labels, credit.amounts)

    def by(self, dimension: str, measure: Measure) -> dict[str, float]:
        totals = self.windows.totals(dimension)
        return {value: counts[measure] for value, counts in totals.items() if counts[measure]}

    def total(self, measure: Measure) -> float:
        return summed(self.windows.totals("variant"))[measure]


def test_a_click_earns_credit_for_the_list_the_place_and_its_sources() -> None:
    counting = Counting()
    counting.list(published(variant="mix:b"))
    counting.event("visit", item_id=None)
    counting.event("impression", 1, rec_id="r1", position=0)
    counting.event("impression", 1, rec_id="r1", position=1, item_id="b")
    counting.event("click", 2, rec_id="r1", position=0, context={"device": "tv", "country": "KR"})
    assert counting.by("variant", Measure.CLICKS) == {"mix:b": 1.0}
    assert counting.by("model", Measure.CLICKS) == {"v1": 1.0}
    assert counting.by("source", Measure.CLICKS) == {"sequence": 0.5, "trending": 0.5}
    assert counting.by("position", Measure.CLICKS) == {"0": 1.0}
    assert counting.by("device", Measure.CLICKS) == {"tv": 1.0}
    assert counting.by("genre", Measure.EVENTS) == {"none": 1.0, "Drama": 1.0, "Music": 1.0, "unknown": 1.0}
    assert counting.by("type", Measure.EVENTS) == {"visit": 1.0, "impression": 2.0, "click": 1.0}
    assert counting.by("source", Measure.ENGAGED_SESSIONS) == {"sequence": 0.5, "trending": 0.5}
    assert counting.by("source", Measure.SESSIONS) == {"sequence": 0.5, "trending": 0.5}
    told = rates(summed(counting.windows.totals("position")))
    assert (told["engagement_rate"], told["click_through"]) == (1.0, 0.5)


def test_watches_are_counted_long_and_to_the_end() -> None:
    counting = Counting(long_watch_s=60.0)
    for watch_s, duration_s in ((59.0, 60.0), (61.0, 600.0), (10.0, 0.0)):
        counting.event("watch", watch_s=watch_s, duration_s=duration_s)
    measured = [counting.total(m) for m in (Measure.WATCHES, Measure.LONG_WATCHES, Measure.COMPLETIONS)]
    assert measured == [3.0, 1.0, 1.0] and counting.total(Measure.WATCH_S) == 130.0
    assert counting.by("source", Measure.WATCHES) == {"organic": 3.0}


def test_a_session_ends_with_silence_or_with_its_id() -> None:
    by_silence = Counting(session_gap_s=1_800.0)
    for minute in (0, 20, 40, 71):
        by_silence.event("impression", minute)
    assert by_silence.total(Measure.SESSIONS) == 2.0
    by_id = Counting()
    for minute, session in ((0, "s1"), (1, "s2"), (2, "s1"), (500, "s2")):
        by_id.event("impression", minute, session_id=session)
    assert by_id.total(Measure.SESSIONS) == 2.0


def test_a_session_without_a_click_or_a_watch_is_not_engaged() -> None:
    counting = Counting()
    counting.event("like", user="ann")
    counting.event("watch", user="ben", watch_s=1.0, duration_s=9.0)
    counting.event("click", 1, user="ben")
    assert rates(summed(counting.windows.totals("model")))["engagement_rate"] == 0.5


def test_a_place_is_shown_and_taken_once_in_whichever_order() -> None:
    counting = Counting()
    counting.list(published())
    for kind in ("click", "impression", "click", "impression"):
        counting.event(kind, rec_id="r1", position=0)
    assert [counting.total(m) for m in (Measure.SHOWN, Measure.TAKEN, Measure.SHOWN_AND_TAKEN)] == [1.0, 1.0, 1.0]
    assert counting.total(Measure.CLICKS) == 2.0


def test_a_place_of_an_interleaved_list_is_credited_to_who_picked_it() -> None:
    counting = Counting()
    made = published()
    counting.list(replace(made, items=[replace(place, team=at % 2) for at, place in enumerate(made.items)]))
    for item in ("a", "b", "b", "c"):
        counting.event("click", item_id=item, rec_id="r1")
    assert (counting.total(Measure.FIRST_TAKEN), counting.total(Measure.SECOND_TAKEN)) == (2.0, 1.0)


def test_a_copy_counts_once() -> None:
    counting = Counting()
    counting.event("click", event_id="same")
    counting.event("click", event_id="same")
    assert counting.total(Measure.CLICKS) == 1.0


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({"rec_id": "r9"}, "unknown"),
        ({"rec_id": "r1", "user": "ben"}, "foreign"),
        ({"rec_id": "r1", "minute": 61}, "expired"),
        ({"rec_id": "r1", "item_id": "z", "position": 0}, "absent"),
    ],
)
def test_what_leads_to_no_place_is_organic_and_told(event: dict[str, Any], why: str) -> None:
    counting = Counting()
    counting.list(published())
    counting.event("click", **event)
    assert counting.attribution.unmatched == {why: 1}
    assert counting.by("source", Measure.CLICKS) == {"organic": 1.0}


def test_an_item_is_found_where_the_list_has_it_when_the_position_says_otherwise() -> None:
    counting = Counting()
    counting.list(published())
    counting.event("click", rec_id="r1", item_id="c", position=0)
    counting.event("click", rec_id="r1", item_id="b")
    assert counting.by("position", Measure.CLICKS) == {"2": 1.0, "1": 1.0}


def test_a_profile_tells_the_segments_that_no_context_does() -> None:
    counting = Counting()
    counting.attribution.take_profile("ann", {"country": ["KR"]})
    counting.event("click", context={"device": "tv"})
    counting.event("click", context={"country": "US", "device": 3})
    assert counting.by("country", Measure.CLICKS) == {"KR": 1.0, "US": 1.0}
    assert counting.by("device", Measure.CLICKS) == {"tv": 2.0}


def test_a_session_is_of_the_segments_that_become_known_before_its_first_click() -> None:
    counting = Counting()
    counting.event("visit", item_id=None)
    assert counting.attribution.wants_profile("ann")
    counting.attribution.take_profile("ann", None)
    assert counting.attribution.wants_profile("ann")
    counting.attribution.take_profile("ann", {"country": ["KR"]})
    assert not counting.attribution.wants_profile("ann")
    counting.event("click", context={"device": "tv"})
    assert counting.by("country", Measure.SESSIONS) == {"KR": 1.0}
    assert counting.by("device", Measure.ENGAGED_SESSIONS) == {"tv": 1.0} == counting.by("device", Measure.SESSIONS)


def test_an_event_from_the_future_counts_as_of_its_arrival() -> None:
    counting = Counting()
    [begun, _, _, clicked] = counting.attribution.take_event(
        Event(type="click", user_id="ann", item_id="a", ts=START + 10**9, event_id="e"), START
    )
    assert begun.ts == clicked.ts == START


def test_only_so_much_is_remembered() -> None:
    counting = Counting(max_lists=10, max_users=10)
    for n in range(50):
        counting.list(published(f"u{n}", f"r{n}"))
        counting.event("click", user=f"u{n}", rec_id=f"r{n}", position=0)
    kept = vars(counting.attribution)
    assert [len(kept[name]) for name in ("_lists", "_users", "_sessions", "_ids")] == [10] * 4
    counting.event("click", user="u0", rec_id="r0")
    assert counting.attribution.unmatched == {"unknown": 1}


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["visit", "impression", "click", "watch", "like", "hide", "search"]),
        st.sampled_from(["ann", "ben"]),
        st.floats(0, 3_000),  # minutes: more than the windows hold
        st.sampled_from([None, "ann-0", "ann-1", "ben-0", "nowhere"]),
        st.sampled_from("abz"),
        st.sampled_from([None, 0, 1, 7]),
        st.sampled_from([None, "s1", "s2"]),
        st.sampled_from([None, {"device": "tv"}, {"country": "KR"}]),
    ),
    max_size=40,
)


@settings(max_examples=50)
@given(EVENTS)
def test_all_breakdowns_have_the_same_totals(rows: list[tuple[Any, ...]]) -> None:
    counting = Counting()
    for user in ("ann", "ben"):
        for number, variant in enumerate(("control", "mix:b")):
            counting.list(published(user, f"{user}-{number}", variant=variant))
    for kind, user, minute, rec_id, item, position, session, context in rows:
        given_ = {"watch_s": 130.0, "duration_s": 140.0} if kind == "watch" else {}
        counting.event(
            kind, minute, user, rec_id=rec_id, item_id=item, position=position, session_id=session, context=context,
            **given_,
        )  # fmt: skip
    totals = [summed(counting.windows.totals(dimension)) for dimension in counting.windows.dimensions]
    for each in totals[1:]:
        assert each == pytest.approx(totals[0])
    counts = dict(zip(Measure, totals[0], strict=True))
    assert all(count >= -1e-9 for count in counts.values())
    assert counts[Measure.ENGAGED_SESSIONS] <= counts[Measure.SESSIONS] + 1e-9
    assert counts[Measure.SHOWN_AND_TAKEN] <= min(counts[Measure.SHOWN], counts[Measure.TAKEN]) + 1e-9
    assert counts[Measure.COMPLETIONS] <= counts[Measure.WATCHES]


def test_an_erased_user_is_forgotten() -> None:
    counting = Counting()
    counting.list(published())
    counting.event("click", rec_id="r1", position=0)
    counting.attribution.forget("ann")
    assert not any(vars(counting.attribution)[name] for name in ("_lists", "_users", "_sessions"))
    assert counting.total(Measure.CLICKS) == 1.0
