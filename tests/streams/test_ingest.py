"""Ingest: batches of the events topic into the state, each event exactly once whatever is delivered again."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from aiokafka import ConsumerRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.ingest import Ingested, Lane, ingest, read_batch
from streams.settings.settings import IngestSettings, Settings
from streams.state.item_catalogue import Catalogue, keep_items, keep_users
from streams.state.store import Store
from streams.state.trends import EVERYONE, Trends
from streams.state.user_states import UserState
from tests.conftest import MakeSettings
from tests.streams.records import ARRIVED, batch, record

DAY = 86_400_000
NOW = int(time.time() * 1000)
LOG = "log"


def event(user: str, item: str | None = None, **more: object) -> bytes:
    fields = {"type": "click" if item else "visit", "user_id": user, "item_id": item, "ts": NOW} | more
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


@dataclass
class Bench:
    """One process's part in ingestion: its store, its view of the catalogue, its settings."""

    store: Store
    catalogue: Catalogue
    settings: Settings

    async def take(self, *records: ConsumerRecord) -> Ingested:
        reads = await read_batch(batch(records), self.catalogue, self.settings)
        return await ingest(reads, LOG, self.store, Lane())

    async def user(self, name: str) -> UserState:
        [state] = await self.store.read_users([name], length=1000, histogram=1000)
        return state

    async def items_of(self, name: str) -> list[str]:
        return [self.catalogue.ids[number] for number in (await self.user(name)).sequence["item"]]

    async def likes(self) -> list[tuple[int, str, list[str]]]:
        """What neighbours are told: offset, item, and what the user liked before."""
        trends = Trends(self.store, self.settings)
        await trends.sync()
        await self.catalogue.sync()
        ids = self.catalogue.ids
        return [(like.offset, ids[like.item], [ids[n] for n in like.before]) for like in trends.likes.all()]

    async def counts(self, segment: str = EVERYONE) -> dict[str, float]:
        """Per item, the positives counted by the slowest half-life."""
        trends = Trends(self.store, self.settings)
        await trends.sync()
        await self.catalogue.sync()
        slowest = len(self.settings.popularity.half_lives_s)
        numbers, records = trends.all().get(segment, (np.zeros(0, int), np.zeros((0, slowest + 1))))
        return {self.catalogue.ids[n]: round(float(r[slowest]), 3) for n, r in zip(numbers, records, strict=True)}


def on_bench(settings: Settings, work: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Store(settings)
        try:
            await work(Bench(store, Catalogue(store), settings))
        finally:
            await store.close()

    asyncio.run(main())


def test_a_batch_reaches_every_users_state_and_the_item_statistics(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        done = await bench.take(
            record(0, event("ann", "a")), record(1, event("ben", "a")), record(2, event("ann", "b", ts=NOW + 1))
        )
        assert (done.applied, done.copies, done.dead) == (3, 0, [])
        assert {user: cause.arrived_at for user, cause in done.causes.items()} == {
            "ann": ARRIVED + 2,
            "ben": ARRIVED + 1,
        }
        assert await bench.items_of("ann") == ["a", "b"]
        assert await bench.counts() == {"a": 2.0, "b": 1.0}
        assert await bench.store.totals() == {"applied": 3}

    on_bench(make_settings(), work)


def test_an_exact_copy_counts_once_and_its_user_is_still_answered(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        done = await bench.take(record(0, event("ann", "a")), record(1, event("ann", "a")))
        assert (done.applied, done.copies) == (1, 1)
        reordered = json.dumps(dict(reversed(json.loads(event("ann", "a")).items()))).encode()
        done = await bench.take(record(2, reordered))
        assert (done.applied, done.copies) == (0, 1) and set(done.causes) == {"ann"}
        assert await bench.items_of("ann") == ["a"] and await bench.counts() == {"a": 1.0}
        assert await bench.store.totals() == {"applied": 1, "copies": 2}

    on_bench(make_settings(), work)


def test_a_cause_is_as_new_as_the_newest_event_in_whatever_order_they_come(make_settings: MakeSettings) -> None:
    """Who waits for a list as new as an event is answered, whatever late event comes after it in the batch."""

    async def work(bench: Bench) -> None:
        done = await bench.take(record(0, event("ann", "a", ts=NOW + 9)), record(1, event("ann", "b", ts=NOW)))
        assert {user: cause.ts for user, cause in done.causes.items()} == {"ann": NOW + 9}
        assert await bench.items_of("ann") == ["b", "a"]

    on_bench(make_settings(), work)


def test_impressions_are_counted_but_are_no_action_and_owe_no_list(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        shown = [event("ben", item, type="impression", rec_id="r", position=at) for at, item in enumerate("xy")]
        done = await bench.take(
            record(0, event("ann", "a")),
            record(1, event("ann", "b", type="impression", ts=NOW + 1, rec_id="r", position=0)),
            *(record(at, raw) for at, raw in enumerate(shown, 2)),
        )
        assert (done.applied, done.copies, done.dead) == (4, 0, [])
        assert {user: cause.arrived_at for user, cause in done.causes.items()} == {"ann": ARRIVED}
        assert await bench.items_of("ann") == ["a"] and await bench.items_of("ben") == []
        assert await bench.counts() == {"a": 1.0, "b": 0.0, "x": 0.0, "y": 0.0}
        done = await bench.take(record(4, shown[0]))
        assert (done.applied, done.copies) == (0, 1)
        assert await bench.store.totals() == {"applied": 4, "copies": 1}

    on_bench(make_settings(), work)


def test_neighbours_are_told_what_a_user_liked_before_and_no_more_than_is_kept(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        first = event("ann", "a")
        await bench.take(record(0, first), record(1, event("ben", "a")), record(2, event("ann", "b", ts=NOW + 1)))
        await bench.take(record(3, first), record(4, event("ann", "a", ts=NOW + 2)), record(5, event("ann", "c")))
        await bench.take(record(6, event("ben", "b", type="dislike")), record(7, event("ben", "c")))
        likes = [(0, "a", []), (1, "a", []), (2, "b", ["a"]), (5, "c", ["a", "b"]), (7, "c", ["a"])]
        assert await bench.likes() == likes
        before = await bench.store.client.lrange(*bench.store.partition_keys(0, "likes"), 0, -1)
        small = make_settings(
            topic_prefix=bench.settings.topic_prefix, ingest=IngestSettings(likes_bytes=sum(map(len, before[1:])))
        )
        store = Store(small)
        await Bench(store, bench.catalogue, small).take(record(8, event("eve", "c")))
        await store.close()
        assert await bench.likes() == [*likes[4:], (8, "c", [])], "whole batches give way"

    on_bench(make_settings(), work)


def test_a_hidden_item_is_not_shown_again(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        await bench.take(
            record(0, event("ann", "a", type="hide", rec_id="r", position=0)),
            record(1, event("ann", "b", type="dislike", ts=NOW + 1)),
        )
        assert await bench.items_of("ann") == ["a", "b"]
        assert await bench.counts() == {"a": 0.0, "b": 0.0}

    on_bench(make_settings(), work)


def test_what_cannot_be_used_becomes_a_dead_letter_and_the_rest_goes_on(make_settings: MakeSettings) -> None:
    bad: dict[bytes | None, str] = {
        b"{": "",
        None: "",
        b"\xff\xfe": "",
        event("ann", "a", type="kick"): "type",
        event("ann", type="click"): "item_id",
        event("ann", "a", ts=NOW + 2 * DAY): "ts",
        event("ann", "a" * 300): "item_id",
        event("ann", "a", context={"note": "x" * 500}): "",
    }

    async def work(bench: Bench) -> None:
        good = record(len(bad), event("ann", "a"))
        done = await bench.take(*(record(at, raw, key=b"ann") for at, raw in enumerate(bad)), good)
        assert [(x.offset, x.value, x.field) for x in done.dead] == [
            (at, raw, field) for at, (raw, field) in enumerate(bad.items())
        ]
        assert all(letter.reason for letter in done.dead) and done.applied == 1
        assert await bench.store.totals() == {"applied": 1, "dead_letters": len(bad)}

    on_bench(make_settings(ingest=IngestSettings(max_event_bytes=400)), work)


def test_a_batch_of_nothing_but_dead_letters_moves_the_fence(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        for _ in range(2):
            done = await bench.take(record(0, b"{"), record(1, b"["))
            assert len(done.dead) == 2 and not done.causes
        assert await bench.store.totals() == {"dead_letters": 2}

    on_bench(make_settings(), work)


def test_an_event_slightly_ahead_of_the_clock_is_taken(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        assert (await bench.take(record(0, event("ann", "a", ts=NOW + DAY // 2)))).applied == 1

    on_bench(make_settings(), work)


def test_an_item_that_no_record_describes_is_taken_or_refused_as_set(make_settings: MakeSettings) -> None:
    async def taken(bench: Bench) -> None:
        assert (await bench.take(record(0, event("ann", "new")))).applied == 1
        assert bench.catalogue.numbers["new"] == 0 and not bench.catalogue.described(0)

    async def refused(bench: Bench) -> None:
        await keep_items(
            batch([record(0, b'{"item_id":"told"}', key=b"told", topic="items")]), LOG, bench.store, bench.settings
        )
        done = await bench.take(
            record(0, event("ben", "told")), record(1, event("ben", "untold")), record(2, event("ben"))
        )
        assert [(x.offset, x.field) for x in done.dead] == [(1, "item_id")]
        assert done.applied == 2 and await bench.items_of("ben") == ["told"]
        assert "untold" not in bench.catalogue.numbers

    on_bench(make_settings(topic_prefix="taken."), taken)
    on_bench(make_settings(topic_prefix="refused.", ingest=IngestSettings(unknown_items="reject")), refused)


def test_histograms_hold_the_features_of_what_was_liked(make_settings: MakeSettings) -> None:
    item = json.dumps({"item_id": "a", "categorical": {"genre": ["Drama", "War"], "actor": ["X"]}}).encode()

    async def work(bench: Bench) -> None:
        await keep_items(batch([record(0, item, key=b"a", topic="items")]), LOG, bench.store, bench.settings)
        await bench.take(
            record(0, event("ann", "a", type="like")),
            record(1, event("ben", "a", type="hide")),
            record(2, event("cat", "a", type="impression")),
        )
        assert {key for key, _ in (await bench.user("ann")).histogram} == {"genre=Drama", "genre=War", "actor=X"}
        assert (await bench.user("ben")).histogram == (await bench.user("cat")).histogram == []
        assert await bench.items_of("ben") == ["a"] and await bench.items_of("cat") == []

    on_bench(make_settings(), work)


def test_users_count_towards_the_trends_of_their_segments(make_settings: MakeSettings) -> None:
    profile = b'{"user_id":"ann","categorical":{"country":["KR"],"gender":["F"],"shoe":["38"]}}'

    async def work(bench: Bench) -> None:
        await keep_users(batch([record(0, profile, key=b"ann", topic="users")]), LOG, bench.store, bench.settings)
        await bench.take(record(0, event("ann", "a")), record(1, event("ben", "a")))
        assert await bench.counts() == {"a": 2.0}
        assert await bench.counts("country=KR") == await bench.counts("gender=F") == {"a": 1.0}
        assert await bench.counts("shoe=38") == {}

    on_bench(make_settings(), work)


class Killed(Exception):
    """The process is gone between two writes."""


async def run_with_crashes(bench: Bench, records: list[ConsumerRecord], plan: list[tuple[int, int, str]]) -> None:
    """Deliver as at-least-once may: each step goes back some records, delivers some, and may die after a write."""
    done = 0  # everything below was acknowledged
    for back, size, death in [*plan, (len(records), len(records), "")]:
        start = max(done - back, 0)
        some = records[start : start + size]
        if not some:
            continue
        fresh = Bench(Dying(bench.settings, death) if death else bench.store, Catalogue(bench.store), bench.settings)
        try:
            await fresh.take(*some)
            done = max(done, start + len(some))
        except Killed:
            pass
        finally:
            if death:
                await fresh.store.close()


class Dying(Store):
    """A store whose process dies before, or just after, it applies users."""

    def __init__(self, settings: Settings, death: str) -> None:
        super().__init__(settings)
        self._death = death

    async def apply_users(self, fence: str, events: Any, *, unsettled: int) -> Any:
        if self._death == "before":
            raise Killed
        await super().apply_users(fence, events, unsettled=unsettled)
        raise Killed


def test_a_batch_whose_statistics_were_not_written_keeps_its_copies_told_apart(make_settings: MakeSettings) -> None:
    """The next batch of the lane has reached the users when the process dies."""
    records = [record(0, event("ann", "a")), record(1, event("ann", "a")), record(2, event("ann", "b", ts=NOW + 1))]

    async def work(bench: Bench) -> None:
        lane = Lane()
        await lane.items.acquire()  # the statistics never get their turn
        tasks = []
        for some in (records[:2], records[2:]):
            reads = await read_batch(batch(some), bench.catalogue, bench.settings)
            tasks.append(asyncio.create_task(ingest(reads, LOG, bench.store, lane)))
        async with asyncio.timeout(10):
            while await bench.items_of("ann") != ["a", "b"]:
                await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await bench.store.totals() == {}
        await bench.take(*records)
        assert await bench.store.totals() == {"applied": 2, "copies": 1}
        assert await bench.counts() == {"a": 1.0, "b": 1.0}

    on_bench(make_settings(), work)


EVENT = st.one_of(
    st.just(b"broken"),
    st.builds(
        lambda user, item, ts: event(f"u{user}", f"i{item}", ts=NOW + ts),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
)
STEP = st.tuples(st.integers(0, 6), st.integers(1, 12), st.sampled_from(["", "", "before", "after"]))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raws=st.lists(EVENT, min_size=1, max_size=25), plan=st.lists(STEP, max_size=8))
def test_each_event_counts_exactly_once_whatever_is_delivered_again(
    make_settings: MakeSettings, raws: list[bytes], plan: list[tuple[int, int, str]]
) -> None:
    records = [record(at, raw) for at, raw in enumerate(raws)]
    good = [raw for raw in raws if raw != b"broken"]
    once = [json.loads(raw) for raw in dict.fromkeys(good)]

    async def work(bench: Bench) -> None:
        for key in [k async for k in bench.store.client.scan_iter(match=f"*{bench.settings.topic_prefix}*")]:
            await bench.store.client.delete(key)
        await run_with_crashes(bench, records, plan)
        totals = await bench.store.totals()
        wanted = {
            "applied": len(once),
            "copies": len(good) - len(once),
            "dead_letters": len(raws) - len(good),
        }
        assert totals == {name: count for name, count in wanted.items() if count}
        await bench.catalogue.sync()
        for user in {each["user_id"] for each in once}:
            mine = sorted((each for each in once if each["user_id"] == user), key=lambda each: each["ts"])
            assert sorted(await bench.items_of(user)) == sorted(each["item_id"] for each in mine)
            assert (await bench.user(user)).sequence["ts"].tolist() == [each["ts"] for each in mine]
        likes, liked = [], dict[str, list[str]]()
        for at, raw in enumerate(raws):
            if raw != b"broken":
                before = liked.setdefault(json.loads(raw)["user_id"], [])
                if (item := json.loads(raw)["item_id"]) not in before:
                    likes.append((at, item, list(before)))
                    before.append(item)
        assert await bench.likes() == likes
        counted = await bench.counts()
        assert {name: round(count) for name, count in counted.items()} == {
            name: sum(each["item_id"] == name for each in once) for name in {each["item_id"] for each in once}
        }

    on_bench(make_settings(ingest=IngestSettings(recent_event_ids=64)), work)


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"somebody else"])
def test_an_event_is_its_users_whatever_the_records_key(make_settings: MakeSettings, key: bytes | None) -> None:
    async def work(bench: Bench) -> None:
        assert set((await bench.take(record(0, event("ann", "a"), key=key))).causes) == {"ann"}

    on_bench(make_settings(), work)
