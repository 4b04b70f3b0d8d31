"""The catalogue and the profiles: what the agents keep of their records, and what a process sees of it."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from streams.contract.events import DeadLetter, ItemRecord
from streams.settings.settings import IngestSettings, Settings
from streams.state.item_catalogue import Catalogue, decode_profile, keep_items, keep_users
from streams.state.store import Store
from tests.conftest import MakeSettings
from tests.streams.records import batch, record

LOG = "log"


class Bench:
    """The agents and one process's view."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.catalogue = Catalogue(store)

    async def items(self, *records: tuple[int, bytes | None, bytes | None], log: str = LOG) -> list[DeadLetter]:
        """Keep records, each (offset, key, value), and bring the view up to date."""
        rows = [record(offset, value, key=key, topic="items") for offset, key, value in records]
        dead = await keep_items(batch(rows), log, self.store, self.settings)
        await self.catalogue.sync()
        return dead

    async def users(
        self, *records: tuple[int, bytes | None, bytes | None]
    ) -> tuple[list[str], list[str], list[DeadLetter]]:
        rows = [record(offset, value, key=key, topic="users") for offset, key, value in records]
        return await keep_users(batch(rows), LOG, self.store, self.settings)

    def item(self, name: str) -> ItemRecord:
        return self.catalogue.items[self.catalogue.numbers[name]]


def on_bench(settings: Settings, work: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Store(settings)
        try:
            await work(Bench(store, settings))
        finally:
            await store.close()

    asyncio.run(main())


def item(name: str, **more: object) -> bytes:
    return json.dumps({"item_id": name} | more).encode()


def test_records_are_kept_with_their_open_ended_features(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        given = item("a", title="A", categorical={"genre": ["Drama", "War"]}, numeric={"year": 1999}, mood="unknown")
        assert await bench.items((0, b"a", given)) == []
        assert bench.item("a").title == "A" and bench.item("a").numeric == {"year": 1999}
        assert bench.catalogue.histogram_keys[0] == ["genre=Drama", "genre=War"]
        assert bench.catalogue.described(0) and await bench.store.count_described() == 1

    on_bench(make_settings(), work)


def test_a_redelivered_record_does_not_bring_an_old_one_back(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        await bench.items((0, b"a", item("a", title="old")), (1, b"a", item("a", title="new")))
        await bench.items((0, b"a", item("a", title="old")))
        assert bench.item("a").title == "new"
        await bench.items((0, b"a", item("a", title="newest")), log="the topic made again")
        assert bench.item("a").title == "newest"

    on_bench(make_settings(), work)


def test_a_tombstone_withdraws_its_item_and_a_record_brings_it_back(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        await bench.items((0, b"a", item("a")), (1, b"b", item("b")), (2, b"a", None))
        assert bench.catalogue.available.tolist() == [False, True]
        assert bench.catalogue.drain_changed() == [0, 1]
        await bench.items((3, b"a", item("a")))
        assert bench.catalogue.available.tolist() == [True, True]
        assert bench.catalogue.drain_changed() == [0]

    on_bench(make_settings(), work)


def test_an_item_known_by_events_alone_is_available_and_described_later(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        await bench.catalogue.number(["z", "y", "z"])
        assert bench.catalogue.ids == ["z", "y"] and bench.catalogue.available.all()
        assert not bench.catalogue.described(0)
        await bench.items((0, b"y", item("y", title="Y")))
        assert bench.catalogue.numbers == {"z": 0, "y": 1} and bench.item("y").title == "Y"

    on_bench(make_settings(), work)


def test_two_processes_give_an_item_the_same_number(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        other = Catalogue(bench.store)
        await asyncio.gather(bench.catalogue.number(["a", "b", "c"]), other.number(["c", "b", "d"]))
        await asyncio.gather(bench.catalogue.sync(), other.sync())
        assert bench.catalogue.numbers == other.numbers and len(other) == 4

    on_bench(make_settings(), work)


def test_one_process_may_sync_from_several_tasks(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        for offset in range(30):
            await asyncio.gather(
                bench.items((offset, b"a", item("a", title=f"{offset}"))),
                bench.catalogue.sync(),
                bench.catalogue.number([f"n{offset}"]),
                bench.catalogue.sync(),
            )
        await bench.catalogue.sync()
        assert bench.item("a").title == "29" and len(set(bench.catalogue.ids)) == len(bench.catalogue) == 31

    on_bench(make_settings(), work)


BAD_ITEMS: dict[str, tuple[bytes | None, bytes | None, str]] = {
    "no key": (None, item("a"), "item_id"),
    "an empty key": (b"", item("a"), "item_id"),
    "a tombstone with an empty key": (b"", None, "item_id"),
    "a tombstone with a key that no id can be": (b"x" * 257, None, "item_id"),
    "a key that is not UTF-8": (b"\xff", item("a"), "item_id"),
    "a key of another item": (b"b", item("a"), "item_id"),
    "no JSON": (b"a", b"{", ""),
    "an empty value": (b"a", b"", ""),
    "a wrong type": (b"a", item("a", title=7), "title"),
    "more bytes than are taken": (b"a", item("a", text={"plot": "x" * 2000}), ""),
}


@pytest.mark.parametrize("fault", BAD_ITEMS)
def test_an_item_record_that_cannot_be_used_is_a_dead_letter(make_settings: MakeSettings, fault: str) -> None:
    key, value, field = BAD_ITEMS[fault]

    async def work(bench: Bench) -> None:
        [letter] = await bench.items((0, key, value), (1, b"good", item("good")))
        assert (letter.key, letter.value, letter.field) == (key, value, field) and letter.reason
        assert bench.catalogue.ids == ["good"]

    on_bench(make_settings(ingest=IngestSettings(max_record_bytes=1000)), work)


def test_a_kept_record_is_read_whatever_its_size_has_become(make_settings: MakeSettings) -> None:
    """Numbers may be written longer than they came in: what was within the limit is not judged again."""
    long = item("a", numeric={f"n{at}": at for at in range(40_000)})

    async def work(bench: Bench) -> None:
        assert len(long) > 262_144
        assert await bench.items((0, b"a", long)) == []
        assert len(bench.item("a").numeric) == 40_000

    on_bench(make_settings(ingest=IngestSettings(max_record_bytes=1_000_000)), work)


def test_profiles_are_kept_once_and_erased_by_tombstones(make_settings: MakeSettings) -> None:
    old, new = b'{"user_id":"ann","numeric":{"age":1}}', b'{"user_id":"ann","numeric":{"age":2}}'

    async def age(bench: Bench) -> float | None:
        [raw] = await bench.store.get_profiles(["ann"])
        profile = decode_profile(raw or b"")
        return profile.numeric["age"] if profile else None

    async def work(bench: Bench) -> None:
        assert await bench.users((0, b"ann", old), (1, b"ann", new)) == (["ann", "ann"], [], [])
        assert await age(bench) == 2
        await bench.users((0, b"ann", old))
        assert await age(bench) == 2
        assert await bench.users((2, b"ann", None)) == ([], ["ann"], [])
        assert await age(bench) is None
        await bench.users((1, b"ann", new))
        assert await age(bench) is None

    on_bench(make_settings(), work)


@pytest.mark.parametrize(
    ("key", "value"), [(None, None), (b"", None), (b"x" * 300, None), (b"ben", b'{"user_id":"ann"}'), (b"ann", b"[]")]
)
def test_a_user_record_that_cannot_be_used_is_a_dead_letter(
    make_settings: MakeSettings, key: bytes | None, value: bytes | None
) -> None:
    async def work(bench: Bench) -> None:
        changed, erased, [letter] = await bench.users((0, key, value), (1, b"good", b'{"user_id":"good"}'))
        assert (changed, erased) == (["good"], []) and (letter.key, letter.value) == (key, value)

    on_bench(make_settings(), work)
