"""The whole loop: events in over Kafka with kafka-python, lists out, and all that lies between."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import TypeVar

import msgspec
import pytest

from streams.contract.events import DeadLetter, ModelAnnouncement, Recommendations
from streams.kafka.dead_letters import VALUE_MAX
from streams.settings.settings import Settings
from streams.state.status import live_workers
from streams.state.store import Store
from tests.end_to_end.conftest import Process, World, system_settings
from tests.waiting import wait_until

T = TypeVar("T")
NOW = int(time.time() * 1000)


def watch(user: str, item: str, ts: int, share: float = 0.95, **more: object) -> bytes:
    event = {"type": "watch", "user_id": user, "item_id": item, "ts": ts, "watch_s": 100 * share, "duration_s": 100}
    return json.dumps(event | more).encode()


def item(item_id: str, genre: str, **more: object) -> bytes:
    return json.dumps(
        {"item_id": item_id, "title": f"The {item_id}", "categorical": {"genre": [genre]}} | more
    ).encode()


def latest(found: list[tuple[str, bytes | None]], user: str) -> Recommendations | None:
    mine = [value for key, value in found if key == user and value is not None]
    return msgspec.json.decode(mine[-1], type=Recommendations) if mine else None


def answer(world: World, user: str, event: bytes, event_id: str) -> Recommendations:
    """Send an event and wait for the list that it causes."""
    lists = world.read(world.names.recommendations)
    try:
        world.send(world.names.events, user, event)
        world.flush()

        def answered(found: list[tuple[str, bytes | None]]) -> bool:
            newest = latest(found, user)
            return newest is not None and newest.cause is not None and newest.cause.event_id == event_id

        found = lists.until(answered)
    finally:
        lists.close()
    newest = latest(found, user)
    assert newest is not None
    return newest


def on_store(settings: Settings, read: Callable[[Store], Awaitable[T]]) -> T:
    """What a coroutine function reads from the world's Redis, single or cluster."""

    async def main() -> T:
        store = Store(settings)
        try:
            return await read(store)
        finally:
            await store.close()

    return asyncio.run(main())


def models_in_service(world: World) -> set[str]:
    return {worker.model for worker in on_store(world.settings, live_workers)}


async def actions_kept(store: Store, users: list[str]) -> int:
    states = await store.read_users(users, length=1000, histogram=1)
    return sum(len(state.sequence) for state in states)


@pytest.fixture(scope="module")
def trained(world: World) -> World:
    """The world after its first training, on users who like either drama or comedy and never both."""
    draw = random.Random(7)
    for number in range(40):
        genre = "drama" if number % 2 else "comedy"
        world.send(world.names.items, f"{genre}-{number}", item(f"{genre}-{number}", genre))
    world.flush()
    models = world.read(world.names.models)
    ts = NOW - 5_000_000
    for at in range(2_400):
        fan = draw.randrange(80)
        genre, other = ("drama", "comedy") if fan % 2 else ("comedy", "drama")
        liked = draw.random() < 0.9
        number = 2 * draw.randrange(20) + (genre == "drama" if liked else other == "drama")
        name = f"{genre if liked else other}-{number}"
        world.send(world.names.events, f"fan-{fan}", watch(f"fan-{fan}", name, ts + at * 1000, 0.95 if liked else 0.02))
    world.flush()
    found = models.until(lambda rows: any(json.loads(value or b"{}").get("promoted") for _, value in rows), seconds=200)
    models.close()
    announced = [msgspec.json.decode(value or b"", type=ModelAnnouncement) for _, value in found]
    assert announced[0].metrics and announced[0].checksums and announced[0].why
    wait_until(lambda: "trending" not in models_in_service(world), "the worker takes the model into service")
    return world


def test_a_watch_event_changes_the_users_list_by_a_trained_model(trained: World) -> None:
    first = answer(trained, "ann", watch("ann", "drama-1", NOW, event_id="a1"), "a1")
    second = answer(trained, "ann", watch("ann", "drama-3", NOW + 1000, event_id="a2"), "a2")
    assert second.seq == first.seq + 1
    assert first.model.startswith("v") and first.index.endswith(first.model)
    assert "drama-1" not in [place.item_id for place in first.items]
    assert {"drama-1", "drama-3"}.isdisjoint(place.item_id for place in second.items)
    assert {"sequence", "two_tower"} <= {source for place in second.items for source in place.sources}
    assert first.cause is not None and first.cause.arrived_at <= first.generated_at


def test_the_model_has_learnt_who_likes_what(trained: World) -> None:
    for at, name in enumerate(("comedy-0", "comedy-2", "comedy-4")):
        published = answer(trained, "ben", watch("ben", name, NOW + at, event_id=f"b{at}"), f"b{at}")
    top = [place.item_id for place in published.items[:8]]
    assert sum(name.startswith("comedy") for name in top) >= 6


def test_a_withdrawn_item_leaves_the_next_list_and_a_new_one_may_enter_it(trained: World) -> None:
    before = answer(trained, "cat", watch("cat", "drama-5", NOW, event_id="c1"), "c1")
    gone = before.items[0].item_id
    trained.send(trained.names.items, gone, None)
    trained.flush()
    time.sleep(0.5)
    after = answer(trained, "cat", watch("cat", "drama-7", NOW + 1, event_id="c2"), "c2")
    assert gone not in [place.item_id for place in after.items]
    trained.send(trained.names.items, gone, item(gone, "drama"))  # restored, for the other tests
    trained.flush()


def test_an_item_that_no_record_describes_is_known_by_its_id(trained: World) -> None:
    answer(trained, "dan", watch("dan", "nobody-described-me", NOW, event_id="d1"), "d1")
    viewers = [f"eve-{at}" for at in range(120)]
    lists = trained.read(trained.names.recommendations)
    for at, viewer in enumerate(viewers):
        for name in ("drama-9", "nobody-described-me"):
            trained.send(trained.names.events, viewer, watch(viewer, name, NOW + at))
    trained.flush()
    lists.until(lambda found: {key for key, _ in found}.issuperset(viewers))
    lists.close()
    # what it goes with is known at once, without another training
    listed = answer(trained, "fay", watch("fay", "drama-9", NOW + 200, event_id="f1"), "f1")
    assert "nobody-described-me" in [place.item_id for place in listed.items]


def test_a_user_with_a_profile_and_no_history_gets_a_list(trained: World) -> None:
    lists = trained.read(trained.names.recommendations)
    record = {"user_id": "gil", "categorical": {"country": ["KR"]}}
    trained.send(trained.names.users, "gil", json.dumps(record).encode())
    trained.flush()
    found = lists.until(lambda rows: latest(rows, "gil") is not None)
    lists.close()
    published = latest(found, "gil")
    assert published is not None and published.items and published.cause is None
    assert all(place.sources == ["trending"] or "trending" in place.sources for place in published.items)


def test_an_erased_user_loses_list_and_state(trained: World) -> None:
    answer(trained, "hal", watch("hal", "drama-1", NOW, event_id="h1"), "h1")
    lists = trained.read(trained.names.recommendations)
    trained.send(trained.names.users, "hal", None)
    trained.flush()
    lists.until(lambda rows: ("hal", None) in rows)
    lists.close()
    again = answer(trained, "hal", watch("hal", "drama-3", NOW + 9, event_id="h2"), "h2")
    assert again.seq == 1
    assert on_store(trained.settings, lambda store: actions_kept(store, ["hal"])) == 1


def test_what_cannot_be_used_is_a_dead_letter_and_ingestion_goes_on(trained: World) -> None:
    letters = trained.read(trained.names.dead_letters)
    bad = {
        "ivy-1": (b'{"type":"watch"', ""),
        "ivy-2": (b'{"type":"watch","user_id":"ivy","item_id":"x","ts":1,"watch_s":"long","duration_s":3}', "watch_s"),
        "ivy-3": (b'{"type":"click","user_id":"ivy","item_id":"x","ts":99999999999999}', "ts"),
        "ivy-4": (b'{"type":"click","user_id":"ivy","item_id":"' + b"x" * 70_000 + b'","ts":1}', ""),
        "ivy-5": (b"", ""),
        "ivy-6": (b"not JSON " * 100_000, ""),
    }
    for key, (raw, _) in bad.items():
        trained.send(trained.names.events, key, raw, headers=[("trace", key.encode())])
    for topic in (trained.names.items, trained.names.users):
        trained.send(topic, f"ivy-{topic}", b"not JSON " * 100_000)
    published = answer(trained, "ivy", watch("ivy", "drama-1", NOW, event_id="i1"), "i1")
    assert published.items

    def mine(rows: list[tuple[str, bytes | None]]) -> dict[str, DeadLetter]:
        read = [msgspec.json.decode(value or b"", type=DeadLetter) for _, value in rows]
        return {(letter.key or b"").decode(): letter for letter in read if (letter.key or b"").startswith(b"ivy-")}

    found = mine(letters.until(lambda rows: len(mine(rows)) == len(bad) + 2))
    letters.close()
    for key, (raw, field) in bad.items():
        letter = found[key]
        assert (letter.value or b"") == raw[:VALUE_MAX] and letter.field == field and letter.reason
        assert (letter.size, letter.sha256) == (len(raw), sha256(raw).hexdigest())
        assert letter.headers == [("trace", key.encode())]
        assert letter.topic == trained.names.events and letter.offset >= 0


def test_a_worker_killed_midway_loses_nothing_and_doubles_nothing(
    servers: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("killed")
    world = World(system_settings(servers, folder), folder)

    def totals() -> dict[str, int]:
        return on_store(world.settings, Store.totals)

    def send(numbers: range) -> None:
        for at in numbers:
            raw = watch(f"u{at % 300}", f"i{at % 50}", NOW + at)
            world.send(world.names.events, f"u{at % 300}", b"broken" if at % 100 == 99 else raw)
            if at % 10 == 0:
                world.send(world.names.events, f"u{at % 300}", raw)
        world.flush()

    try:
        first: Process = world.start("first", "worker")
        send(range(1_000))
        wait_until(lambda: sum(totals().values()) == 1_100, "the first worker applies events", within_s=120)
        send(range(1_000, 4_000))
        wait_until(lambda: sum(totals().values()) > 1_100, "the first worker applies more", within_s=120)
        first.kill()  # as a rule amid what it was sent last, and always before the rest has come
        send(range(4_000, 5_000))
        world.start("second", "worker")
        wait_until(lambda: sum(totals().values()) >= 5_500, "the second worker applies the rest", within_s=120)
        time.sleep(1)
        assert totals() == {"applied": 4_950, "copies": 500, "dead_letters": 50}
        users = [f"u{number}" for number in range(300)]
        assert on_store(world.settings, lambda store: actions_kept(store, users)) == 4_950
    finally:
        world.stop()
