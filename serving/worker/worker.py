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
#: How often the worker writes its status, in seconds.
_STATUS_S: Final = 0.25


def make_worker(settings: Settings, logs: dict[str, str], *, refresh_lists: bool = True) -> BatchApp:
    """The worker's Faust app.

    Args:
        logs: the identities of the topics' logs, by topic.
        refresh_lists: without it the worker only keeps the state, to catch up on a backlog.
    """
    app = make_app(settings, "worker")
    worker = Worker(app, settings, logs, refresh_lists=refresh_lists)
    names = TopicNames.under(settings.topic_prefix)
    app.agent(app.batch_topic(names.events), name="ingest")(worker.ingest_events)
    app.agent(app.batch_topic(names.items), name="catalogue")(worker.keep_catalogue)
    app.agent(app.batch_topic(names.users), name="profiles")(worker.keep_profiles)
    app.timer(_STATUS_S)(worker.write_status)
    if refresh_lists:
        app.task(worker.refresh)
        app.task(worker.follow_model)
    return app


class Worker:
    """What the worker does with what its agents receive, one method for each step."""

    def __init__(self, app: BatchApp, settings: Settings, logs: dict[str, str], *, refresh_lists: bool) -> None:
        self._app = app
        self._settings = settings
        self._logs = logs
        self._refresh_lists = refresh_lists
        self._names = TopicNames.under(settings.topic_prefix)
        self._store = Store(settings)
        self._catalogue = Catalogue(self._store)
        self._engine = Engine(settings, self._store, self._catalogue)
        self._refresher = Refresh(settings, self._store, self._engine, self._publish)
        self._dead_letters = app.topic(self._names.dead_letters, key_serializer="raw", value_serializer="raw")
        # a plain queue: Faust empties its channels at a rebalance, and the batches would wait for their lists for ever
        self._owed: asyncio.Queue[Owed] = asyncio.Queue()
        self._status = WorkerStatus(f"{WORKER}{socket.gethostname()}:{os.getpid()}", started_at=time.time())

    # -- the life of an event

    async def ingest_events(self, stream: StreamT[RecordBatch]) -> None:
        """Apply the batches that wait, have their lists made together, then take what came meanwhile.

        Several batches are applied at once, a partition's in their order: Redis works while the next one is decoded.
        What comes while lists are made has to wait for them anyway, so it is applied together afterwards. A batch of
        one event costs nearly as much as one of twenty, and a list alone as much as ten made together.
        """
        lanes: defaultdict[int, Lane] = defaultdict(Lane)
        async for taken in takes(stream):
            for start in range(0, len(taken), TOGETHER):
                async with asyncio.TaskGroup() as group:
                    applied = []
                    for batch, acknowledge in taken[start : start + TOGETHER]:
                        reads = await read_batch(batch, self._catalogue, self._settings)
                        applied.append(group.create_task(self._apply(reads, acknowledge, lanes[batch.partition])))
                await self._settle([task.result() for task in applied])

    async def _apply(self, reads: Reads, acknowledge: Callable[[], object], lane: Lane) -> Owed:
        """Apply one batch to the state in Redis; returns what is to be done before it is acknowledged."""
        done = await ingest(reads, self._logs[self._names.events], self._store, lane)
        self._status.applied += done.applied
        self._status.copies += done.copies
        return Owed(acknowledge, causes=done.causes, pending=self._send_dead_letters(done.dead))

    async def _settle(self, owed: Sequence[Owed]) -> None:
        """Have the lists made that batches owe, together; they are sent, and the batches acknowledged, after that."""
        if self._refresh_lists:
            for of_batch in owed:
                self._owed.put_nowait(of_batch)
            await self._owed.join()
        else:
            await asyncio.gather(*(arrival for of_batch in owed for arrival in of_batch.pending))
            for of_batch in owed:
                of_batch.acknowledge()

    async def refresh(self) -> None:
        """Make and publish the lists that batches owe, those of all that wait together; never returns."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                waiting = [await self._owed.get()]
                while not self._owed.empty():
                    waiting.append(self._owed.get_nowait())
                await self._refresher.settle(waiting, tasks)
                for _ in waiting:
                    self._owed.task_done()

    # -- catalogue and profiles

    async def keep_catalogue(self, stream: StreamT[RecordBatch]) -> None:
        """Apply item records to the catalogue."""
        async for batch, acknowledge in batches(stream):
            dead = await keep_items(batch, self._logs[self._names.items], self._store, self._settings)
            await asyncio.gather(*self._send_dead_letters(dead))
            acknowledge()

    async def keep_profiles(self, stream: StreamT[RecordBatch]) -> None:
        """Apply user records to the profiles; a changed profile owes a list, an erased user's list is withdrawn."""
        async for batch, acknowledge in batches(stream):
            changed, erased, dead = await keep_users(batch, self._logs[self._names.users], self._store, self._settings)
            await self._settle([Owed(acknowledge, dict.fromkeys(changed), erased, self._send_dead_letters(dead))])

    # -- the model in service, and the status

    async def follow_model(self) -> None:
        """Load each model that goes into service; never returns."""
        await self._engine.follow_model(lambda: self._owed.put(Owed(acknowledge=lambda: None)))

    async def write_status(self) -> None:
        """Write to Redis how far this worker is."""
        status, delays_ms = self._status, self._refresher.delays_ms
        status.at = time.time()
        status.model = self._engine.version
        status.lists = self._refresher.lists
        status.partitions = sum(tp.topic == self._names.events for tp in self._app.consumer.assignment())
        status.lag = self._app.lag(self._names.events)
        status.freshness_ms = np.percentile(delays_ms, [50, 95, 99]).round(1).tolist() if delays_ms else []
        await self._store.put_status(status.name, encode(status))

    # -- messages out

    async def _publish(self, user_id: str, payload: bytes | None) -> Awaitable[object]:
        # past the topic's own `send`, whose bookkeeping costs more than the message
        return await self._app.producer.send(self._names.recommendations, user_id.encode(), payload, None, None, None)

    def _send_dead_letters(self, letters: list[DeadLetter]) -> list[Awaitable[object]]:
        return [asyncio.create_task(self._write_dead_letters(letters))] if letters else []

    async def _write_dead_letters(self, letters: list[DeadLetter]) -> None:
        async def send(key: bytes, value: bytes) -> Awaitable[object]:
            return await self._dead_letters.send(key=key, value=value)

        self._status.dead_letters += len(letters)
        self._status.dead_letters_unwritten += await write(letters, send)
