"""State in Redis: what the scripts keep, and that a redelivered event changes nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Protocol, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.data.interactions import NO_ITEM
from models.data.labels import Action, Grade
from models.data.popularity import Popularity, PopularityConfig
from streams.settings.settings import IngestSettings
from streams.state.packing import RECORD, ItemEvent, UserEvent
from streams.state.store import Follow, Search, Store
from streams.state.trends import Trends
from streams.state.user_states import UserState
from tests.conftest import MakeSettings

T = TypeVar("T")
DAY = 86_400_000
WATCHED = Grade(Action.WATCH, 0.9, 1, 1.0)
FENCE = "fence:log:0"


class OnStore(Protocol):
    def __call__(self, work: Callable[[Store], Awaitable[T]], **given_settings: object) -> T: ...


@pytest.fixture
def on_store(make_settings: MakeSettings) -> OnStore:
    """Runs a coroutine function on a store of its own."""

    def run(work: Callable[[Store], Awaitable[T]], **given_settings: object) -> T:
        async def main() -> T:
            store = Store(make_settings(**given_settings))
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(main())

    return run


def watch(offset: int, item: int, ts: int, keys: tuple[str, ...] = (), event_id: str | None = None) -> UserEvent:
    return UserEvent(offset, event_id or f"e{offset}", ts, item, WATCHED, keys)


async def apply(store: Store, fence: str, events: dict[str, list[UserEvent]]) -> tuple[dict[str, str], object]:
    unsettled = min(e.offset for some in events.values() for e in some)
    verdicts, segments, _ = await store.apply_users(fence, events, unsettled=unsettled)
    return verdicts, segments


async def read(store: Store, user: str) -> UserState:
    [state] = await store.read_users([user], length=1000, histogram=1000)
    return state


def test_a_redelivered_event_changes_nothing(on_store: OnStore) -> None:
    events = {"ann": [watch(0, 7, DAY, ("genre=Drama",)), watch(1, 8, 2 * DAY, ("genre=Drama",))]}

    async def work(store: Store) -> tuple[str, str, UserState, UserState]:
        first, _ = await apply(store, FENCE, events)
        before = await read(store, "ann")
        again, _ = await apply(store, FENCE, events)
        return first["ann"], again["ann"], before, await read(store, "ann")

    first, again, before, after = on_store(work)
    assert (first, again) == ("aa", "rr")
    assert before.sequence["item"].tolist() == after.sequence["item"].tolist() == [7, 8]
    assert before.histogram == after.histogram
    assert after.list_number == before.list_number + 1


def test_an_exact_copy_is_told_from_a_redelivery(on_store: OnStore) -> None:
    async def work(store: Store) -> str:
        await apply(store, FENCE, {"ann": [watch(0, 7, DAY, event_id="x"), watch(1, 7, DAY, event_id="x")]})
        redelivered, _ = await apply(
            store, FENCE, {"ann": [watch(0, 7, DAY, event_id="x"), watch(1, 7, DAY, event_id="x"), watch(2, 9, DAY)]}
        )
        return redelivered["ann"]

    assert on_store(work) == "rda"


def test_a_topic_made_again_starts_with_new_fences(on_store: OnStore) -> None:
    async def work(store: Store) -> str:
        await apply(store, "fence:old:0", {"ann": [watch(1000, 7, DAY)]})
        verdicts, _ = await apply(store, "fence:new:0", {"ann": [watch(0, 8, DAY), watch(1, 9, DAY)]})
        return verdicts["ann"]

    assert on_store(work) == "aa"


def test_the_histogram_decays_by_half_each_half_life(on_store: OnStore) -> None:
    ingest = IngestSettings(histogram_half_life_s=86_400.0)

    async def work(store: Store) -> UserState:
        await apply(store, FENCE, {"ann": [watch(0, 1, 0, ("genre=Old",)), watch(1, 2, 2 * DAY, ("genre=New",))]})
        return await read(store, "ann")

    weights = dict(on_store(work, ingest=ingest).histogram)
    assert weights["genre=Old"] / weights["genre=New"] == pytest.approx(0.25)


def test_the_histogram_survives_any_length_of_time(on_store: OnStore) -> None:
    ingest = IngestSettings(histogram_half_life_s=3600.0)

    async def work(store: Store) -> UserState:
        for offset in range(50):
            await apply(store, FENCE, {"ann": [watch(offset, 1, offset * 10 * DAY, (f"tag={offset}", "tag=all"))]})
        return await read(store, "ann")

    histogram = on_store(work, ingest=ingest).histogram
    assert {key for key, _ in histogram[:2]} == {"tag=49", "tag=all"}
    assert all(np.isfinite(weight) for _, weight in histogram)


def test_state_is_bounded(on_store: OnStore) -> None:
    ingest = IngestSettings(sequence_length=10, seen_max=20, histogram_max=8, recent_event_ids=5)

    async def work(store: Store) -> tuple[UserState, int]:
        for offset in range(200):
            await apply(store, FENCE, {"ann": [watch(offset, offset, offset, (f"tag={offset}",))]})
        [recent] = store.user_keys("ann", "recent")
        return await read(store, "ann"), await store.client.strlen(recent)

    state, recent = on_store(work, ingest=ingest)
    assert state.sequence["item"][-10:].tolist() == list(range(190, 200))
    assert len(state.sequence) <= 20 and len(state.seen) <= 40 and len(state.histogram) <= 10
    assert recent <= (10 + 2 * 5) * RECORD.itemsize


def test_a_late_event_takes_its_place_in_the_sequence(on_store: OnStore) -> None:
    async def work(store: Store) -> UserState:
        await apply(store, FENCE, {"ann": [watch(0, 1, 300), watch(1, 2, 100), watch(2, 3, 200)]})
        return await read(store, "ann")

    assert on_store(work).sequence["item"].tolist() == [2, 3, 1]


def test_events_without_an_item_leave_no_action(on_store: OnStore) -> None:
    search = UserEvent(0, "e", DAY, NO_ITEM, Grade(Action.SEARCH, 0.0, 0, 1.0), [])

    async def work(store: Store) -> UserState:
        await apply(store, FENCE, {"ann": [search]})
        return await read(store, "ann")

    state = on_store(work)
    assert len(state.sequence) == len(state.seen) == 0


def test_an_erased_user_leaves_nothing_but_fences(on_store: OnStore) -> None:
    async def work(store: Store) -> tuple[UserState, str]:
        await store.put_user("fence:users:0", 0, "ann", b'{"user_id":"ann"}', ["country=KR"])
        await apply(store, FENCE, {"ann": [watch(0, 1, DAY, ("genre=Drama",))]})
        await store.put_user("fence:users:0", 1, "ann", b"", [])
        verdicts, _ = await apply(store, FENCE, {"ann": [watch(0, 1, DAY)]})
        return await read(store, "ann"), verdicts["ann"]

    state, verdict = on_store(work)
    assert verdict == "r"
    assert len(state.sequence) == len(state.histogram) == 0 and state.profile == b""


def test_a_user_who_comes_back_after_an_erasure_is_kept_for_good(on_store: OnStore) -> None:
    async def work(store: Store) -> tuple[int, int]:
        [state] = store.user_keys("ann", "state")
        await apply(store, FENCE, {"ann": [watch(0, 1, DAY)]})
        await store.put_user("fence:users:0", 0, "ann", b"", [])
        erased = await store.client.ttl(state)
        await apply(store, FENCE, {"ann": [watch(1, 2, DAY)]})
        return erased, await store.client.ttl(state)

    erased, back = on_store(work)
    assert erased > 0 and back == -1


def test_a_copy_redelivered_is_still_a_copy_when_its_event_is_forgotten(on_store: OnStore) -> None:
    batch = [watch(0, 7, DAY, event_id="x"), watch(1, 7, DAY, event_id="x"), *(watch(n, n, DAY) for n in range(2, 9))]

    async def work(store: Store) -> tuple[str, str]:
        first, _ = await apply(store, FENCE, {"ann": batch})
        again, _ = await apply(store, FENCE, {"ann": batch})
        return first["ann"], again["ann"]

    assert on_store(work, ingest=IngestSettings(recent_event_ids=2)) == ("adaaaaaaa", "rdrrrrrrr")


@pytest.mark.parametrize("user", ["a}b", "}", "{", "a:b{c}", "사용자", " ", "u\x00v"])
def test_any_user_id_is_a_key_of_its_own(on_store: OnStore, user: str) -> None:
    async def work(store: Store) -> UserState:
        await apply(store, FENCE, {user: [watch(0, 5, DAY)], "other": [watch(1, 6, DAY)]})
        return await read(store, user)

    assert on_store(work).sequence["item"].tolist() == [5]


def test_friends_are_those_followed_and_not_left_since(on_store: OnStore) -> None:
    begins = [Follow(1, "ben", True), Follow(2, "cat", True), Follow(3, "dan", True)]
    ends = [Follow(4, "ben", False), Follow(1, "dan", False)]  # the second is older than what it would end

    async def work(store: Store) -> list[list[int]]:
        liked = {user: [watch(0, item, DAY)] for item, user in enumerate(("ben", "cat", "dan"))}
        await apply(store, FENCE, liked)
        seen = []
        for follows in (begins, ends, begins + ends):  # what is delivered again changes nothing
            await store.follow({"ann": follows})
            [state] = await store.read_users(["ann"], length=10, histogram=10, friends=10)
            seen.append(state.friends.tolist())
        return seen

    assert on_store(work) == [[0, 1, 2], [1, 2], [1, 2]]


searched = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abcdefgh")).map(lambda each: Search(*each)), max_size=6),
    max_size=6,
)


@given(searched, st.randoms())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_of_the_words_searched_for_the_last_are_kept_in_whatever_order_they_come(
    on_store: OnStore, batches: list[list[Search]], random: Random
) -> None:
    again = random.sample(batches, len(batches))

    async def work(store: Store) -> UserState:
        await store.client.delete(*store.user_keys("ann", "state", "searched"))
        for batch in [*batches, *again]:
            await store.search({"ann": batch} if batch else {})
        return await read(store, "ann")

    last: dict[str, int] = {}
    for ts, word in (each for batch in batches for each in batch):
        last[word] = max(ts, last.get(word, 0))
    newest = sorted(last.items(), key=lambda each: (each[1], each[0]), reverse=True)[:4]
    assert on_store(work, ingest=IngestSettings(searched_max=4)).searched == newest


def test_what_an_erased_user_searched_for_is_gone_and_stays_so(on_store: OnStore) -> None:
    async def work(store: Store) -> tuple[UserState, list[bytes]]:
        await apply(store, FENCE, {"ann": [watch(0, 1, DAY)]})
        await store.search({"ann": [Search(DAY, "word=secret")]})
        await store.put_user("fence:users:0", 0, "ann", b"", [])
        await store.search({"ann": [Search(DAY, "word=secret")]})  # delivered again
        return await read(store, "ann"), await store.client.keys(*store.user_keys("ann", "searched"))

    state, keys = on_store(work)
    assert state.searched == [] and keys == []


def test_a_reader_that_is_far_behind_gets_all_there_is(on_store: OnStore) -> None:
    async def work(store: Store) -> dict[int, bytes]:
        known: dict[int, bytes] = {}
        version = 0
        for offset in range(100):
            await store.apply_items(0, FENCE, offset, [ItemEvent(offset, offset % 7, DAY, True, [])], [])
            if offset in (9, 90, 99):  # close behind, too far behind, close behind
                version, changed, _, _ = await store.read_items(0, version)
                numbers, records = changed[""]
                width = len(records) // len(numbers)
                known |= {n: records[at * width : (at + 1) * width] for at, n in enumerate(numbers)}
        assert version == 100 and await store.read_items(0, version) == (100, {}, 0, [])
        _, everything, _, _ = await store.read_items(0, 0)
        numbers, records = everything[""]
        assert b"".join(known[n] for n in numbers) == records
        return known

    assert set(on_store(work)) == set(range(7))


def test_what_a_sequence_loses_stays_seen(on_store: OnStore) -> None:
    async def work(store: Store) -> UserState:
        for offset in range(60):
            await apply(store, FENCE, {"ann": [watch(offset, offset, offset)]})
        return await read(store, "ann")

    state = on_store(work, ingest=IngestSettings(sequence_length=5, seen_max=1000, recent_event_ids=3))
    assert sorted(state.seen.tolist()) == list(range(60))


EVENTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 30 * DAY), st.booleans(), st.booleans()), min_size=1, max_size=40
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, cut=st.integers(0, 40))
def test_redis_counts_items_as_the_models_do(make_settings: MakeSettings, events: list[tuple], cut: int) -> None:  # type: ignore[type-arg]
    """Two partitions, redelivered batches: the merged records equal one plain count of all events."""
    config = make_settings()
    expected = Popularity(PopularityConfig(), 4)
    in_segment = Popularity(PopularityConfig(), 4)
    rows = [
        (partition := int(second), ItemEvent(offset, item, ts, positive, ["country=KR"] if positive else []))
        for offset, (item, ts, positive, second) in enumerate(events)
    ]
    assert partition in (0, 1)
    expected.add([e.item for _, e in rows], [e.ts for _, e in rows], [e.positive for _, e in rows])
    marked = [e for _, e in rows if e.segments]
    in_segment.add([e.item for e in marked], [e.ts for e in marked], [True] * len(marked))

    async def work() -> None:
        store = Store(config)
        for key in [k async for k in store.client.scan_iter(match=f"{config.topic_prefix}*")]:
            await store.client.delete(key)
        trends = Trends(store, config)
        for partition in (0, 1):
            mine = [e for p, e in rows if p == partition]
            for part in (mine[:cut], mine[: cut + 5], mine):
                if part:
                    await store.apply_items(partition, f"fence:log:{partition}", part[-1].offset, part, [])
            await trends.sync()
        everyone = trends.all()
        for segment, wanted in (("", expected), ("country=KR", in_segment)):
            numbers, records = everyone.get(segment, (np.zeros(0, np.intp), np.zeros((0, wanted.config.width))))
            got = np.zeros_like(wanted.records)
            got[numbers] = records
            np.testing.assert_allclose(got, wanted.records, rtol=1e-9, atol=1e-12)
        await store.close()

    asyncio.run(work())
