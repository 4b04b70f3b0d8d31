"""The worker: a Faust app whose agents ingest events, keep catalogue and profiles, and refresh lists."""

import asyncio
import os
import socket
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import numpy as np
from faust.types import StreamT

from serving.lists.engine import Engine
from serving.worker.refresh import Owed, Refresh
from streams.contract.events import DeadLetter, encode
from streams.contract.topics import TopicNames
from streams.ingest import Lane, Reads, ingest, read_batch
from streams.kafka.app import make_app
from streams.kafka.batching import BatchApp, RecordBatch, batches, takes
from streams.kafka.dead_letters import write
from streams.settings.settings import Settings
from streams.state.item_catalogue import Catalogue, keep_items, keep_users
from streams.state.status import WORKER, WorkerStatus
from streams.state.store import Store

#: Batches of events applied together: one is decoded while Redis has the others.
TOGETHER: Final = 4


def make_worker(settings: Settings, logs: dict[str, str], *, refresh_lists: bool = True) -> BatchApp:
    """The worker's Faust app; `logs` are the identities of the topics' logs.

    Without `refresh_lists` it only keeps the state: for catching up on a backlog.
    """
    names = TopicNames.under(settings.topic_prefix)
    app = make_app(settings, "worker")
    store = Store(settings)
    catalogue = Catalogue(store)
    dead_letters = app.topic(names.dead_letters, key_serializer="raw", value_serializer="raw")
    # a queue of our own: Faust empties its channels at a rebalance, and what is owed would wait for ever
    owed: asyncio.Queue[Owed] = asyncio.Queue()
    status = WorkerStatus(f"{WORKER}{socket.gethostname()}:{os.getpid()}", started_at=time.time())

    async def publish(user_id: str, payload: bytes | None) -> Awaitable[object]:
        # past the topic's own `send`, whose bookkeeping costs more than the message
        return await app.producer.send(names.recommendations, user_id.encode(), payload, None, None, None)

    async def send_letter(key: bytes, value: bytes) -> Awaitable[object]:
        return await dead_letters.send(key=key, value=value)

    async def bury(letters: list[DeadLetter]) -> list[Awaitable[object]]:
        async def write_all() -> None:
            status.dead_letters += len(letters)
            status.dead_letters_unwritten += await write(letters, send_letter)

        return [asyncio.create_task(write_all())] if letters else []

    engine = Engine(settings, store, catalogue)
    refresher = Refresh(settings, store, engine, publish)

    async def settle(owing: Sequence[Owed]) -> None:
        """Have the lists made that are owed, together; they are sent, and the batches acknowledged, after that."""
        if refresh_lists:
            for each in owing:
                owed.put_nowait(each)
            await owed.join()
        else:
            await asyncio.gather(*(arrival for each in owing for arrival in each.pending))
            for each in owing:
                each.acknowledge()

    @app.agent(app.batch_topic(names.events), name="ingest")
    async def ingest_events(stream: StreamT[RecordBatch]) -> None:
        """Apply the batches that wait, have their lists made together, then take what came meanwhile.

        Several batches are applied at once, a partition's in their order: Redis works while the next one is decoded.
        What comes while lists are made has to wait for them anyway, so it is applied together afterwards. A batch of
        one event costs nearly as much as one of twenty, and a list alone as much as ten made together.
        """
        lanes: defaultdict[int, Lane] = defaultdict(Lane)

        async def apply(reads: Reads, acknowledge: Callable[[], object]) -> Owed:
            done = await ingest(reads, logs[names.events], store, lanes[reads.batch.partition])
            status.applied += done.applied
            status.copies += done.copies
            return Owed(acknowledge, causes=done.causes, pending=await bury(done.dead))

        async for taken in takes(stream):
            for start in range(0, len(taken), TOGETHER):
                async with asyncio.TaskGroup() as group:
                    applied = [
                        group.create_task(apply(await read_batch(batch, catalogue, settings), acknowledge))
                        for batch, acknowledge in taken[start : start + TOGETHER]
                    ]
                await settle([task.result() for task in applied])

    @app.agent(app.batch_topic(names.items), name="catalogue")
    async def keep_catalogue(stream: StreamT[RecordBatch]) -> None:
        async for batch, acknowledge in batches(stream):
            await asyncio.gather(*await bury(await keep_items(batch, logs[names.items], store, settings)))
            acknowledge()

    @app.agent(app.batch_topic(names.users), name="profiles")
    async def keep_profiles(stream: StreamT[RecordBatch]) -> None:
        async for batch, acknowledge in batches(stream):
            changed, erased, dead = await keep_users(batch, logs[names.users], store, settings)
            await settle([Owed(acknowledge, dict.fromkeys(changed), erased, await bury(dead))])

    @app.task
    async def refresh() -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                waiting = [await owed.get()]
                while not owed.empty():
                    waiting.append(owed.get_nowait())
                await refresher.settle(waiting, tasks)
                for _ in waiting:
                    owed.task_done()

    @app.task
    async def follow_model() -> None:
        if refresh_lists:
            await engine.follow_model(lambda: owed.put(Owed(acknowledge=lambda: None)))

    @app.timer(0.25)
    async def tell() -> None:
        status.at = time.time()
        status.model = engine.version
        status.lists = refresher.lists
        status.partitions = sum(tp.topic == names.events for tp in app.consumer.assignment())
        status.lag = app.lag(names.events)
        status.freshness_ms = (
            np.percentile(refresher.delays_ms, [50, 95, 99]).round(1).tolist() if refresher.delays_ms else []
        )
        await store.put_status(status.name, encode(status))

    return app
