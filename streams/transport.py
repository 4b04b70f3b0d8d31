"""Record batches through Faust: one Event per fetched chunk, and commits of only what was acknowledged.

Stock Faust runs four asyncio tasks for each record and may commit past one that was never acknowledged. Here a
topic's agents get a `RecordBatch` at a time, and a partition's offset moves only over the unbroken run of
batches, in the order of delivery, whose effects are done. Faust's own extension points carry all of it: a
Transport with its Consumer class, and Topic and App subclasses.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import faust
from aiokafka import ConsumerRecord
from faust.events import Event
from faust.streams import Stream
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import StreamT
from faust.types.tuples import TP, ConsumerMessage, ack_lock

#: How long the broker may hold a fetch that has nothing to bring. What comes ends the wait, so freshness does not
#: depend on it; but a partition that was full joins the next fetch only, after the one that waits for the others.
_FETCH_WAIT_MS: Final = 100
#: A reader that gathers is answered before its time when so many bytes wait for it.
GATHER_BYTES: Final = 1_048_576
#: How long the consumer waits for records: a partition that a full buffer holds back is not among those waited for, and
#: its turn comes when the wait is over.
_WAIT_S: Final = 1.0
_WAIT_HELD_BACK_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of one partition, in offset order, as fetched; `highwater` is the partition's end."""

    topic: str
    partition: int
    records: Sequence[ConsumerRecord]
    highwater: int

    def __iter__(self) -> Iterator[ConsumerRecord]:
        return iter(self.records)

    @property
    def first_offset(self) -> int:
        return int(self.records[0].offset)

    @property
    def last_offset(self) -> int:
        return int(self.records[-1].offset)


class BatchTopic(faust.Topic):
    """A topic whose agents get a `RecordBatch` as the value of each event."""


async def batches(stream: StreamT[RecordBatch]) -> AsyncIterator[tuple[RecordBatch, Callable[[], object]]]:
    """An agent's batches, each with what acknowledges it: to be called once its effects are done.

    Those that came while the agent was busy are joined: fetches then bring a few records each, and a small batch costs
    nearly as much as a large one.
    """
    app = stream.app
    assert isinstance(stream, Stream)
    assert isinstance(app, BatchApp)
    queue: asyncio.Queue[Any] = getattr(stream.channel, "queue")  # noqa: B009 - Faust's type hides it
    async for event in stream.noack().events():
        waiting: list[Any] = [event]
        while not queue.empty():
            waiting.append(queue.get_nowait())
        for events in _runs(waiting, app.batch_max):
            yield _joined(events), partial(_acknowledge, events)


def _runs(events: Iterable[Any], most: int) -> list[list[Any]]:
    """The events of each partition in their order, in runs of at most so many records."""
    runs: list[list[Any]] = []
    newest: dict[tuple[str, int], tuple[list[Any], int]] = {}
    for event in events:
        batch: RecordBatch = event.value
        of = batch.topic, batch.partition
        run, size = newest.get(of, ([], most))
        if size + len(batch.records) > most:
            run, size = [], 0
            runs.append(run)
        run.append(event)
        newest[of] = run, size + len(batch.records)
    return runs


def _joined(events: Sequence[Any]) -> RecordBatch:
    """The batches of a partition, in their order, as one."""
    last: RecordBatch = events[-1].value
    return replace(last, records=[record for event in events for record in event.value.records])


def _acknowledge(events: Iterable[Any]) -> None:
    for event in events:
        event.ack()


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    app: "BatchApp"

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust fixes the broker's long poll at 1.5 s. The Fetcher reads this attribute when the consumer starts.
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS
        if self.app.gather_ms:
            consumer._fetch_max_wait_ms = self.app.gather_ms
            consumer._fetch_min_bytes = GATHER_BYTES
        return consumer


class BatchConsumer(driver.Consumer):
    """Delivers chunks of at most `app.batch_max` records, round-robin between partitions."""

    app: "BatchApp"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._delivered: defaultdict[TP, deque[ConsumerMessage]] = defaultdict(deque)
        self._pressure: dict[TP, tuple[Callable[[], None], Callable[[], None]]] = {}
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- offsets: a partition's position is the end of its unbroken run of acknowledged batches

    def _new_offset(self, tp: TP) -> int | None:
        delivered = self._delivered[tp]
        offset = None
        with ack_lock:
            while delivered and delivered[0].acked:
                offset = delivered.popleft().offset + 1
            self._acked[tp].clear()
            self._acked_index[tp].clear()
        return offset

    async def perform_seek(self) -> None:
        self._delivered.clear()  # what was delivered before the seek is fetched again
        await super().perform_seek()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._delivered.pop(ensure_TP(tp), None)

    # -- delivery

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                generation = self.app.consumer_generation_id
                wait_s = _WAIT_HELD_BACK_S if self._buffered_partitions else _WAIT_S
                records, active = await self._wait_next_records(wait_s)
                await asyncio.sleep(0)
                if not records or self.should_stop:
                    continue
                if not self.flow_active or generation != self.app.consumer_generation_id:
                    # a rebalance ran during the fetch: what it brought may lie before the committed position
                    await self.perform_seek()
                    continue
                await self._deliver_all(records, active, generation)
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise
        except Exception as error:
            self.log.exception("fetching stopped: %r", error)
            raise

    async def _deliver_all(self, fetched: Mapping[TP, list[ConsumerRecord]], active: set[TP] | None, gen: int) -> None:
        pending: deque[tuple[TP, list[ConsumerRecord]]] = deque()
        for key, records in fetched.items():
            tp = ensure_TP(key)
            if active is None or tp in active or tp in self._buffered_partitions:
                wanted = self._read_offset[tp]  # after a seek Faust puts the committed position here
                fresh = records if wanted is None else [r for r in records if r.offset >= wanted]
                if fresh:
                    pending.append((tp, fresh))
        while pending:
            tp, records = pending.popleft()
            if not await self._deliver(tp, records[: self.app.batch_max], gen):
                return
            if len(records) > self.app.batch_max:
                pending.append((tp, records[self.app.batch_max :]))
            await asyncio.sleep(0)

    async def _deliver(self, tp: TP, records: list[ConsumerRecord], generation: int) -> bool:
        """Hand one chunk to the topic's channels; False when a rebalance came between, and the chunk was dropped."""
        conductor: Any = self.app.topics
        channels = conductor._tp_index.get(tp)
        if not channels:
            return True
        last = records[-1]
        highwater = self.highwater(tp)
        self.app.monitor.track_tp_end_offset(tp, highwater)
        batch = RecordBatch(tp.topic, tp.partition, records, highwater)
        stamp = (last.timestamp or 0) / 1000.0
        # Faust types a message's value as bytes; here it is the batch that the event will hand out
        value: Any = batch
        message = ConsumerMessage(
            tp.topic, tp.partition, last.offset, stamp, last.timestamp_type, [], None, value, None, 0, 0, tp,
            generation_id=generation,
        )  # fmt: skip
        if not self.flow_active:
            return False
        message.incref(len(channels))
        self._delivered[tp].append(message)
        event = Event(self.app, None, batch, None, message)
        full, drop = self._pressure_callbacks(tp)
        for channel in channels:
            if channel.queue.full():
                await self.wait_first(channel.put(event), self.suspend_flow.wait())
                if not self.flow_active:
                    return False
            else:
                channel.queue.put_nowait_enhanced(event, on_pressure_high=full, on_pressure_drop=drop)
        if self.app.consumer_generation_id != generation:
            return False
        self._read_offset[tp] = last.offset + 1
        return True

    def lag(self, topic: str) -> int:
        """Records of the topic's assigned partitions that are not acknowledged yet, as far as fetches have told."""
        behind = 0
        for tp in self.assignment():
            wanted = self._read_offset[tp]
            if tp.topic == topic and wanted is not None:
                batches: list[Any] = [message.value for message in self._delivered[tp] if not message.acked]
                waiting = sum(len(batch.records) for batch in batches)
                behind += waiting + max((self.highwater(tp) or 0) - wanted, 0)
        return behind

    def _pressure_callbacks(self, tp: TP) -> tuple[Callable[[], None], Callable[[], None]]:
        if tp not in self._pressure:
            self._pressure[tp] = (lambda: self.on_buffer_full(tp), lambda: self.on_buffer_drop(tp))
        return self._pressure[tp]


class _BatchTransport(driver.Transport):
    Consumer = BatchConsumer


class BatchApp(faust.App):
    """A Faust app all of whose topics deliver record batches.

    Attributes:
        batch_max: the most records in one batch.
        gather_ms: how long the broker gathers records before it answers a fetch; 0: it answers with the first record.
            A wake-up costs more than a record, so an app that may be late uses less CPU with it.
    """

    def __init__(self, *args: Any, batch_max: int, gather_ms: int = 0, **kwargs: Any) -> None:
        self.batch_max = batch_max
        self.gather_ms = gather_ms
        super().__init__(*args, **kwargs)

    def _new_transport(self) -> _BatchTransport:
        return _BatchTransport(self.conf.broker_consumer, self)

    def batch_topic(self, name: str) -> BatchTopic:
        """The topic of that name, its keys and values raw bytes."""
        return BatchTopic(self, topics=[name], key_serializer="raw", value_serializer="raw")

    def lag(self, topic: str) -> int:
        """Records of the topic's assigned partitions that are not acknowledged yet, as far as fetches have told."""
        consumer = self.consumer
        return consumer.lag(topic) if isinstance(consumer, BatchConsumer) else 0
