"""The system from outside: events, items and profiles in, and the lists, models and dead letters that come out."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from streams.contract import topics
from streams.contract.events import BadRecord, ModelAnnouncement, Recommendations
from streams.contract.topics import TopicNames
from streams.datasets.refusals import Refusals
from streams.kafka.damaged import skip_damaged
from streams.kafka.dead_letters import decode_letter
from streams.settings.settings import Settings
from streams.state.status import TrainerStatus, live_workers, trainer_status
from streams.state.store import Store

_PROFILE = "profile"
ANSWER_PATIENCE_S = 120.0


class NoAnswer(Exception):
    """A part of the system does not answer; the message says which, and what to look at."""


class _Held(NamedTuple):
    topic: str
    user_id: str
    event_id: str | None
    raw: bytes


class Wire:
    """The connections, and what has come in over them since they were opened.

    Attributes:
        lists: the list last published for each user.
        freshness_ms: per event answered, the time from its arrival in Kafka to that of the first list that answers it.
        models: the announcements.
        dead: partition and offset of events that became dead letters.
        refusals: the reasons of these.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.names = TopicNames.under(settings.topic_prefix)
        self.producer = AIOKafkaProducer(acks="all", **settings.kafka.aiokafka_options())
        self._consumer = AIOKafkaConsumer(auto_offset_reset="earliest", **settings.kafka.consumer_options())
        self.store = Store(settings)
        self.started_ms = int(time.time() * 1000)
        self.lists: dict[str, Recommendations] = {}
        self.n_lists = 0
        self.models: list[ModelAnnouncement] = []
        self.freshness_ms: list[float] = []
        self.dead: set[tuple[int, int]] = set()
        self.refusals = Refusals()
        self._held: list[_Held] = []
        self._listening: asyncio.Task[None] | None = None
        #: Per user what awaits an answer, in the order of sending.
        self._answers: dict[str, dict[str, asyncio.Future[None]]] = {}
        self._positions: dict[tuple[int, int], tuple[str, str]] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["Wire"]:
        await asyncio.to_thread(topics.create, settings)
        wire = cls(settings)
        await wire.store.wait()
        await wire.producer.start()
        await wire._consumer.start()
        skip_damaged(wire._consumer)
        wire._listening = asyncio.create_task(wire._listen())
        try:
            yield wire
        finally:
            wire._listening.cancel()
            await asyncio.gather(wire._listening, return_exceptions=True)
            await wire._consumer.stop()
            await wire.producer.stop()
            await wire.store.close()

    def check(self) -> None:
        """Raise what ended the listening, if something has: no answer comes any more."""
        if self._listening is not None and self._listening.done():
            self._listening.result()

    async def _listen(self) -> None:
        names = self.names
        heard = (names.recommendations, names.models, names.dead_letters)
        partitions = [
            TopicPartition(topic, partition)
            for topic in heard
            for partition in sorted(await self.producer.partitions_for(topic))
        ]
        self._consumer.assign(partitions)
        take = {names.recommendations: self._on_list, names.models: self._on_model, names.dead_letters: self._on_dead}
        async for record in self._consumer:
            if record.value is not None:
                take[record.topic](record)

    def _on_list(self, record: ConsumerRecord) -> None:
        published = msgspec.json.decode(record.value, type=Recommendations)
        if published.generated_at < self.started_ms:
            return
        self.n_lists += 1
        before = self.lists.get(published.user_id)
        self.lists[published.user_id] = published
        if published.cause is None:
            self._answered(published.user_id, _PROFILE)
        # a list renewed for a new model answers an event that another list has answered before
        elif published.cause.arrived_at >= self.started_ms and (before is None or before.cause != published.cause):
            self.freshness_ms.append(record.timestamp - published.cause.arrived_at)
            self._answered(published.user_id, published.cause.event_id)

    def _on_model(self, record: ConsumerRecord) -> None:
        announcement = msgspec.json.decode(record.value, type=ModelAnnouncement)
        if announcement.created_at >= self.started_ms:
            self.models.append(announcement)

    def _on_dead(self, record: ConsumerRecord) -> None:
        letter = decode_letter(record)
        if letter is not None and letter.topic == self.names.events and letter.first_seen >= self.started_ms:
            if (letter.partition, letter.offset) not in self.dead:
                self.refusals.add(BadRecord(letter.reason, letter.field))
            self.dead.add((letter.partition, letter.offset))
            sender = self._positions.pop((letter.partition, letter.offset), None)
            if sender is not None:
                self._answered(*sender)

    def _answered(self, user_id: str, name: str) -> None:
        """Answer what awaits it under that name, and all that the user sent before: one list may answer several."""
        waiting = self._answers.get(user_id, {})
        if name not in waiting:
            return
        for earlier in list(waiting):
            answer = waiting.pop(earlier)
            if not answer.done():
                answer.set_result(None)
            if earlier == name:
                break
        if not waiting:
            del self._answers[user_id]

    async def answered(self, answer: "asyncio.Future[None]", fault: Callable[[], str | None], to: str) -> None:
        """Send what is held, and wait for an answer to come.

        Args:
            fault: tells why the system cannot go on, once it cannot.
            to: what the answer is to, for the message.

        Raises:
            NoAnswer: it does not come.
        """
        await self.release()
        deadline = time.monotonic() + ANSWER_PATIENCE_S
        while not answer.done():
            await asyncio.wait({answer}, timeout=1.0)
            self.check()
            if (why := fault()) is not None:
                raise NoAnswer(f"the system stopped: {why}")
            if time.monotonic() > deadline:
                raise NoAnswer(
                    f"no list and no dead letter answered {to} within {ANSWER_PATIENCE_S:.0f} s: "
                    "is a worker running? `millstream doctor` tells"
                )

    def hold_event(self, raw: bytes, user_id: str, event_id: str | None) -> asyncio.Future[None] | None:
        """Have an event ready for `release`; the future is its answer, a list or a dead letter.

        None for an event without an id: nothing answers it.
        """
        self._held.append(_Held(self.names.events, user_id, event_id, raw))
        return self._expect(user_id, event_id) if event_id else None

    def hold_profile(self, user_id: str, raw: bytes) -> "asyncio.Future[None]":
        """Have a user record ready for `release`; the future is the list that follows."""
        self._held.append(_Held(self.names.users, user_id, None, raw))
        return self._expect(user_id, _PROFILE)

    def awaits(self, user_id: str, event_id: str | None) -> bool:
        """Whether an event of the user's with that id has no answer yet."""
        return event_id in self._answers.get(user_id, {})

    @property
    def n_held(self) -> int:
        """How many records wait for `release`."""
        return len(self._held)

    async def release(self) -> None:
        """Send what is held, in its order: together, so that it travels and is worked on as one batch."""
        held, self._held = self._held, []
        for topic, user_id, event_id, raw in held:
            sent = await self.producer.send(topic, key=user_id.encode() or None, value=raw)
            if event_id is not None:
                sent.add_done_callback(partial(self._on_position, user_id=user_id, event_id=event_id))

    def _on_position(self, done: "asyncio.Future[Any]", *, user_id: str, event_id: str) -> None:
        if not done.cancelled() and done.exception() is None and event_id in self._answers.get(user_id, {}):
            position = (done.result().partition, done.result().offset)
            if position in self.dead:
                self._answered(user_id, event_id)
            else:
                self._positions[position] = user_id, event_id

    def _expect(self, user_id: str, name: str) -> "asyncio.Future[None]":
        waiting = self._answers.setdefault(user_id, {})
        return waiting.setdefault(name, asyncio.get_running_loop().create_future())

    async def trainer(self) -> TrainerStatus | None:
        """What the trainer tells."""
        return await trainer_status(self.store)

    async def serving(self) -> set[str]:
        """The models that live workers serve."""
        return {worker.model for worker in await live_workers(self.store)}
