"""Follows lists and events and has them counted; from some time back, so that a restart finds the same numbers."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from serving.online.order import InOrder
from serving.online.tally import Tally
from streams.contract.events import BadRecord, Event, Recommendations, decode_event
from streams.contract.topics import TopicNames
from streams.kafka.damaged import skip_damaged
from streams.settings.settings import Settings
from streams.state.store import Store

log = logging.getLogger(__name__)

#: Records handled before others of the process get their turn: some milliseconds.
_AT_ONCE: Final = 200
#: A partition that holds this many records is not read further until the others have caught up.
_HELD_MAX: Final = 5_000
#: The broker gathers records for this time, or until it has this many bytes, before it answers: a wake-up for each
#: record would cost more than the counting.
_GATHER_MS: Final = 500
_GATHER_BYTES: Final = 1_048_576
#: A record waits for older ones of other partitions, which another broker may gather for as long.
_SETTLE_S: Final = _GATHER_MS / 1000 + 0.2
_WAIT_MS: Final = 200
_RETRY_S: Final = 1.0

#: The numbers of a topic's partitions.
PartitionsOf = Callable[[str], Awaitable[set[int]]]
_Records = list[tuple[TopicPartition, ConsumerRecord]]


class Follower:
    """Reads the lists and the events, without a group, into a tally.

    Attributes:
        behind: records that are there and not counted yet.
    """

    def __init__(self, settings: Settings, store: Store, tally: Tally, partitions_of: PartitionsOf) -> None:
        self._settings = settings
        self._partitions_of = partitions_of
        self._store = store
        self._tally = tally
        self._names = TopicNames.under(settings.topic_prefix)
        self._positions: dict[TopicPartition, int] = {}
        self._max_bytes = settings.ingest.max_event_bytes
        self.behind = 0

    async def follow(self) -> None:
        """Count what comes; never returns."""
        while True:
            try:
                await self._read()
            except KafkaError as error:
                log.warning("Kafka is away, nothing is counted: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def _read(self) -> None:
        consumer = AIOKafkaConsumer(
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_GATHER_MS,
            fetch_min_bytes=_GATHER_BYTES,
            **self._settings.kafka.consumer_options(),
        )
        try:
            await consumer.start()
            skip_damaged(consumer)
            partitions = [
                TopicPartition(topic, number)
                for topic in (self._names.recommendations, self._names.events)
                for number in sorted(await self._partitions_of(topic))
            ]
            ends = await consumer.end_offsets(partitions)
            consumer.assign(partitions)
            if not self._positions:
                self._positions = await self._starts(consumer, ends)
            for partition, offset in self._positions.items():
                consumer.seek(partition, offset)
            order: InOrder[TopicPartition, ConsumerRecord] = InOrder(partitions, settle_s=_SETTLE_S)
            while True:
                fetched = await consumer.getmany(timeout_ms=_WAIT_MS, max_records=2_000)
                now = time.monotonic()
                for partition, records in fetched.items():
                    order.put(partition, records, now)
                    if order.held(partition) > _HELD_MAX:
                        consumer.pause(partition)
                unread = {p: await self._unread(consumer, p, ends[p]) for p in partitions}
                await self._count(list(order.take([p for p in partitions if not unread[p]], now)))
                self.behind = sum(unread.values()) + sum(map(order.held, partitions))
                consumer.resume(*(p for p in consumer.paused() if order.held(p) <= _HELD_MAX))
        finally:
            await consumer.stop()

    async def _starts(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Where to begin: so long ago as the settings say, and no more records than they say."""
        since_ms = int((time.time() - self._settings.online.replay_s) * 1000)
        found = await consumer.offsets_for_times(dict.fromkeys(ends, since_ms))
        most = self._settings.online.replay_records * 2 // len(ends)  # the partitions are those of two topics
        return {
            partition: end if found[partition] is None else max(found[partition].offset, end - most)
            for partition, end in ends.items()
        }

    async def _unread(self, consumer: AIOKafkaConsumer, partition: TopicPartition, end: int) -> int:
        """Records of a partition that are known to be there and were not fetched."""
        known: int = max(consumer.last_stable_offset(partition) or 0, end)
        position: int = await consumer.position(partition)
        return max(known - position, 0)

    async def _count(self, records: _Records) -> None:
        for start in range(0, len(records), _AT_ONCE):
            await self._count_some(records[start : start + _AT_ONCE])
            await asyncio.sleep(0)

    async def _count_some(self, records: _Records) -> None:
        decoded = [(record, self._event(record)) for _, record in records if record.topic == self._names.events]
        events = {id(record): event for record, event in decoded if event is not None}
        await self._ask_profiles({event.user_id for event in events.values()})
        for partition, record in records:
            if partition.topic == self._names.recommendations:
                self._take_list(record)
            elif id(record) in events:
                self._tally.take_event(events[id(record)], record.timestamp)
            self._positions[partition] = record.offset + 1

    def _event(self, record: ConsumerRecord) -> Event | None:
        try:
            return decode_event(record.value, max_bytes=self._max_bytes)
        except BadRecord:  # ingest makes the dead letter
            return None

    def _take_list(self, record: ConsumerRecord) -> None:
        if record.value is None:
            self._tally.forget((record.key or b"").decode(errors="replace"))
            return
        try:
            made = msgspec.json.decode(record.value, type=Recommendations)
        except msgspec.MsgspecError as error:
            log.warning("%s-%d, offset %d, is no list: %s", record.topic, record.partition, record.offset, error)
            return
        self._tally.take_list(made, record.timestamp)

    async def _ask_profiles(self, users: Iterable[str]) -> None:
        new = [user for user in users if self._tally.attribution.wants_profile(user)]
        if not new:
            return
        try:
            self._tally.take_profiles(zip(new, await self._store.get_profiles(new), strict=True))
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("Redis is away, users are counted without their profiles: %s", error)
