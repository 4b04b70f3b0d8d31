"""Refresh: what is on its way while lists are made, and when a batch is acknowledged."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from serving.lists.engine import Engine
from serving.worker.refresh import Owed, Refresh
from streams.contract.events import Event, encode
from streams.ingest import Lane, ingest, read_batch
from streams.settings.settings import ListSettings, Settings
from streams.state.item_catalogue import Catalogue
from streams.state.store import Store
from tests.conftest import MakeSettings
from tests.streams import records


class Topic:
    """The topic of lists, where each message arrives when it is let in.

    Attributes:
        sent: whose list was sent, in order; a withdrawal in brackets.
    """

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.arriving: list[asyncio.Future[None]] = []

    async def publish(self, user: str, payload: bytes | None) -> Awaitable[object]:
        self.sent.append(user if payload else f"({user})")
        self.arriving.append(asyncio.get_running_loop().create_future())
        return self.arriving[-1]

    async def has_sent(self, *users: str) -> None:
        async with asyncio.timeout(20):
            while self.sent != list(users):
                await asyncio.sleep(0.005)

    def let_in(self, count: int) -> None:
        for future in [each for each in self.arriving if not each.done()][:count]:
            future.set_result(None)


def on_bench(settings: Settings, work: Callable[[Refresh, Topic], Awaitable[None]]) -> None:
    async def main() -> None:
        store, topic = Store(settings), Topic()
        try:
            await work(Refresh(settings, store, Engine(settings, store, Catalogue(store)), topic.publish), topic)
        finally:
            await store.close()

    asyncio.run(main())


def owed(done: list[str], name: str, *users: str, erased: tuple[str, ...] = ()) -> Owed:
    return Owed(lambda: done.append(name), dict.fromkeys(users), erased)


def test_lists_are_on_their_way_while_the_next_are_made_and_a_batch_is_acknowledged_when_all_arrived(
    make_settings: MakeSettings,
) -> None:
    async def work(refresh: Refresh, topic: Topic) -> None:
        done: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            await refresh.settle([owed(done, "first", "a", "b", erased=("x",))], tasks)
            await topic.has_sent("a", "b")
            second = tasks.create_task(refresh.settle([owed(done, "second", "c", "d", "e")], tasks))
            await asyncio.sleep(0.2)
            assert topic.sent == ["a", "b"] and not second.done(), "two are on their way at most"
            topic.let_in(2)
            await topic.has_sent("a", "b", "(x)")
            assert done == [], "the withdrawal has not arrived"
            topic.let_in(1)
            await topic.has_sent("a", "b", "(x)", "c", "d")
            assert done == ["first"]
            topic.let_in(1)
            await asyncio.sleep(0.05)
            assert topic.sent[-1] == "d"
            topic.let_in(1)
            await topic.has_sent("a", "b", "(x)", "c", "d", "e")
            assert done == ["first"]
            topic.let_in(1)
        assert done == ["first", "second"]

    on_bench(make_settings(lists=ListSettings(refresh_batch=2)), work)


def test_a_list_that_cannot_be_sent_ends_the_agent_and_nothing_is_acknowledged(make_settings: MakeSettings) -> None:
    async def work(refresh: Refresh, topic: Topic) -> None:
        done: list[str] = []

        async def agent() -> None:
            async with asyncio.TaskGroup() as tasks:
                await refresh.settle([owed(done, "first", "a")], tasks)
                await topic.has_sent("a")
                topic.arriving[0].set_exception(ConnectionError("the broker is gone"))
                await asyncio.sleep(20)  # waits for more, and the failure reaches it

        with pytest.raises(ExceptionGroup) as failed:
            await agent()
        assert failed.group_contains(ConnectionError)
        assert done == []

    on_bench(make_settings(), work)


def test_a_list_that_came_out_empty_is_filled_once_somebody_else_has_liked_something(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings()

    async def work(refresh: Refresh, topic: Topic) -> None:
        store, lane = Store(settings), Lane()
        catalogue = Catalogue(store)

        async def settle(user: str, item: str, erased: tuple[str, ...] = ()) -> list[str]:
            """Whose lists are sent when the user likes the item."""
            offset = len(topic.arriving)
            like = encode(Event(type="like", user_id=user, item_id=item, ts=1_000_000 + offset))
            record = records.record(offset, like)
            await ingest(await read_batch(records.batch([record]), catalogue, settings), "log", store, lane)
            topic.sent.clear()
            async with asyncio.TaskGroup() as tasks:
                await refresh.settle([owed([], "", user, erased=erased)], tasks)
                await asyncio.sleep(0.1)
                topic.let_in(10)
                await asyncio.sleep(0.1)
                topic.let_in(10)
            return sorted(topic.sent)

        try:
            assert await settle("ann", "film") == ["ann"], "there is nothing but what she has liked"
            assert await settle("bob", "film") == ["bob"], "nothing else is liked"
            assert await settle("eve", "film") == ["eve"]
            assert await settle("cid", "play", erased=("eve",)) == ["(eve)", "ann", "bob", "cid"]
            assert await settle("cid", "book") == ["cid"], "the others' lists are not empty any more"
        finally:
            await store.close()

    on_bench(settings, work)
