"""Record batches through Faust: one Event for each fetched chunk, and commits of only what was acknowledged.

Stock Faust runs four asyncio tasks for each record and may commit past one that was never acknowledged. Here a topic's
agents get a `RecordBatch` at a time. Faust's own extension points carry all of it: a Transport with its Consumer class,
and Topic and App subclasses.

Two rules keep every record:

- Nothing that was fetched under the current assignment is discarded. Each rebalance makes a new assignment, which
  reads from the committed offsets again, and from the start of the log where nothing was committed. So no seek is
  needed, and only what was fetched under an ended assignment is dropped.
- The committed offset of a partition moves only over the unbroken run of acknowledged batches, in order of delivery.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, NamedTuple

import faust
from aiokafka import ConsumerRecord
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.events import Event
from faust.streams import Stream
from faust.transport.drivers import aiokafka as driver
from faust.types import StreamT
from faust.types.tuples import TP, ConsumerMessage, Message, ack_lock

from streams.kafka.damaged import skip_damaged

#: How long the broker may hold a fetch that has nothing to bring. New records end the wait, so freshness does not
#: depend on it; but a partition whose queue was full joins the next fetch, after the one that waits for the others.
_FETCH_WAIT_MS: Final = 100
#: A reader that gathers is answered before its time when this many bytes wait for it.
GATHER_BYTES: Final = 1_048_576
#: How long the consumer waits for records. While a full queue holds a partition back, the wait is short: that partition
#: is not among those waited for, and its turn comes when the wait is over.
_WAIT_S: Final = 1.0
_WAIT_HELD_BACK_S: Final = 0.01
#: A partition is not fetched while its agent has this many batches waiting: they bound the memory.
_QUEUED_MAX: Final = 6
#: How often a fetch that came early looks whether Faust has finished the rebalance.
_REBALANCE_POLL_S: Final = 0.01
#: The last commit before partitions are given up may take this long. A slow one must not hold up the group's rebalance;
#: without it the next owner gets some batches again.
_LAST_COMMIT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of one partition, in offset order, as fetched."""

    topic: str
    partition: int
    records: Sequence[ConsumerRecord]

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

    @property
    def queue(self) -> Any:
        """The agent's queue. Faust does not manage it: it would empty the queue at each rebalance, and lose batches."""
        if self._queue is None:
            self._queue = self.app.FlowControlQueue(maxsize=0, clear_on_resume=False)
        return self._queue


#: A batch, and the function that acknowledges it: to be called once the batch's effects are done.
Taken = tuple[RecordBatch, Callable[[], object]]


async def batches(stream: StreamT[RecordBatch]) -> AsyncIterator[Taken]:
    """An agent's batches, one after another; see `takes`."""
    async for taken in takes(stream):
        for batch in taken:
            yield batch


async def takes(stream: StreamT[RecordBatch]) -> AsyncIterator[list[Taken]]:
    """An agent's batches, all that wait for it together.

    Batches of a partition that came while the agent was busy are joined: fetches then bring a few records each, and a
    small batch costs nearly as much as a large one.
    """
    app = stream.app
    assert isinstance(stream, Stream)
    assert isinstance(app, BatchApp)
    queue: asyncio.Queue[Any] = getattr(stream.channel, "queue")  # noqa: B009 - Faust's type hides it
    async for event in stream.noack().events():
        waiting: list[Any] = [event]
        while not queue.empty():
            waiting.append(queue.get_nowait())
        # what was fetched under an ended assignment comes again, here or at another member
        current = [event for event in waiting if event.message.generation_id == app.consumer_generation_id]
        yield [(_joined(events), partial(_acknowledge, events)) for events in _runs(current, app.batch_max)]


def _runs(events: Iterable[Any], max_records: int) -> list[list[Any]]:
    """The events of each partition in their order, in runs of at most `max_records` records."""
    runs: list[list[Any]] = []
    newest: dict[tuple[str, int], tuple[list[Any], int]] = {}
    for event in events:
        batch: RecordBatch = event.value
        partition = batch.topic, batch.partition
        run, size = newest.get(partition, ([], max_records))
        if size + len(batch.records) > max_records:
            run, size = [], 0
            runs.append(run)
        run.append(event)
        newest[partition] = run, size + len(batch.records)
    return runs


def _joined(events: Sequence[Any]) -> RecordBatch:
    """The batches of a partition, in their order, as one."""
    last: RecordBatch = events[-1].value
    return replace(last, records=[record for event in events for record in event.value.records])


def _acknowledge(events: Iterable[Any]) -> None:
    for event in events:
        event.ack()


@dataclass(slots=True)
class _Progress:
    """How far one partition of the current assignment is.

    Attributes:
        delivered: what the agents got and the commit has not passed yet, in offset order.
        position: the consumer's position after the last fetch that is delivered whole. It lies behind the last record
            where control records and aborted transactions follow.
        acknowledged: the end of the unbroken run of acknowledged batches.
        committed: the offset committed last.
        log_end: the end of the partition's log at the last fetch.
    """

    delivered: deque[ConsumerMessage] = field(default_factory=deque)
    position: int | None = None
    acknowledged: int | None = None
    committed: int | None = None
    log_end: int = 0

    def committable(self) -> int | None:
        """The offset to commit, or None where the last commit says as much."""
        with ack_lock:
            while self.delivered and self.delivered[0].acked:
                self.acknowledged = self.delivered.popleft().offset + 1
        offset = self.acknowledged if self.delivered else self.position
        return offset if offset != self.committed else None

    def lag(self) -> int:
        """Records that are not acknowledged yet."""
        if self.position is None:
            return 0
        batches: list[Any] = [message.value for message in self.delivered if not message.acked]
        return sum(len(batch.records) for batch in batches) + max(self.log_end - self.position, 0)


class _Fetched(NamedTuple):
    """What one fetch brought, and under which assignment (aiokafka makes a new one at each rebalance).

    `positions` and `log_ends` are the consumer's at the moment at which it handed out the records: everything below the
    positions is in `records` or was handed out before.
    """

    assignment: Any
    records: Mapping[TP, list[ConsumerRecord]]
    positions: Mapping[TP, int]
    log_ends: Mapping[TP, int]


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer in the thread that Faust keeps for it, so that a busy worker still sends heartbeats."""

    app: "BatchApp"

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust fixes both. The Fetcher reads these attributes when the consumer starts.
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS
        consumer._isolation_level = "read_committed"  # events of an aborted transaction never happened
        if self.app.gather_ms:
            consumer._fetch_max_wait_ms = self.app.gather_ms
            consumer._fetch_min_bytes = GATHER_BYTES
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        skip_damaged(self._consumer)

    async def fetch(self, held_back: set[TP], wait_s: float) -> _Fetched | None:
        """Wait for records of the assigned partitions that are not held back; None while there is no such partition."""
        fetched: _Fetched | None = await self.call_thread(self._fetch, held_back, wait_s)
        return fetched

    async def _fetch(self, held_back: set[TP], wait_s: float) -> _Fetched | None:
        consumer: Any = self._ensure_consumer()
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        wanted = consumer.assignment() - held_back
        if not wanted:
            await asyncio.sleep(wait_s)
            return None
        with consumer._subscription.fetch_context():
            records = await fetcher.fetched_records(wanted, timeout=wait_s, max_records=consumer._max_poll_records)
        # no await from here on: positions and records belong together
        assignment = consumer._subscription.subscription.assignment
        states = {TP(*tp): assignment.state_value(tp) for tp in assignment.tps}
        read = {tp: state for tp, state in states.items() if state.has_valid_position}
        return _Fetched(
            assignment,
            {TP(*tp): found for tp, found in records.items()},
            {tp: state.position for tp, state in read.items()},
            {tp: state.highwater or 0 for tp, state in read.items()},
        )

    def current_assignment(self) -> Any:
        consumer: Any = self._ensure_consumer()
        return consumer._subscription.subscription.assignment

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit offsets; False when a rebalance came first, and what is not committed is delivered again.

        Faust ends the process in that case, and each process that ends is the next rebalance.
        """
        try:
            await self._ensure_consumer().commit(
                {TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
            )
        except (CommitFailedError, IllegalStateError) as error:
            self.log.info("the group is rebalancing, offsets were not committed: %s", error)
            return False
        except Exception as error:
            self.log.exception("committing %r failed", dict(offsets))
            await self.crash(error)
            return False
        return True


class BatchConsumer(driver.Consumer):
    """Delivers chunks of at most `app.batch_max` records, round-robin between partitions."""

    app: "BatchApp"
    _thread: _ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._current_assignment: Any = None  # None from the moment a rebalance begins until Faust has finished it
        self._progress: dict[TP, _Progress] = {}
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- rebalances

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        try:
            await asyncio.wait_for(self.commit(), _LAST_COMMIT_S)
        except TimeoutError:
            self.log.warning("the last commit before a rebalance took over %g s", _LAST_COMMIT_S)
        self._current_assignment = None
        self._progress = {}
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await super().on_partitions_assigned(assigned, generation_id)
        self._progress = {tp: _Progress() for tp in assigned}
        self._current_assignment = self._thread.current_assignment()

    async def perform_seek(self) -> None:
        """Nothing to do: a new assignment reads from the committed offsets, and none of its records are discarded."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust's check for slow partitions fails on one that a rebalance takes, and with it the process."""

    # -- commits

    def ack(self, message: Message) -> bool:
        with ack_lock:
            newly, message.acked = not message.acked, True
        return newly

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what was acknowledged since the last commit; the agents acknowledge only what has arrived."""
        progress = self._progress
        offsets = {
            tp: offset
            for tp, partition in progress.items()
            if (topics is None or tp in topics or tp.topic in topics)
            and (offset := partition.committable()) is not None
        }
        if not offsets or not await self._commit(offsets):
            return False
        for tp, offset in offsets.items():
            progress[tp].committed = offset
        return True

    def lag(self, topic: str) -> int:
        """Records of the topic's assigned partitions that are not acknowledged yet, as of the last fetch."""
        return sum(progress.lag() for tp, progress in self._progress.items() if tp.topic == topic)

    # -- delivery

    async def _drain_messages(self, fetcher: Any) -> None:
        def is_stopping() -> bool:
            return bool(self._stopped.is_set() or fetcher._stopped.is_set())

        try:
            while not is_stopping():
                held_back = self._held_back()
                fetched = await self._thread.fetch(held_back, _WAIT_HELD_BACK_S if held_back else _WAIT_S)
                if fetched is None:
                    continue
                # aiokafka fetches as soon as it has a new assignment, and Faust may still be busy with the rebalance
                while fetched.assignment.active and not self._is_current(fetched.assignment) and not is_stopping():
                    await asyncio.sleep(_REBALANCE_POLL_S)
                await self._deliver_all(fetched)
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise
        except Exception as error:
            self.log.exception("fetching stopped: %r", error)
            raise

    def _is_current(self, assignment: Any) -> bool:
        """Whether agents may have what was fetched under the assignment: a suspended stream would skip it."""
        return assignment is self._current_assignment and self.app.flow_control.is_active()

    def _held_back(self) -> set[TP]:
        """The partitions whose agent has enough to do."""
        return {
            tp for tp in self._progress if any(channel.queue.qsize() >= _QUEUED_MAX for channel in self._channels(tp))
        }

    def _channels(self, tp: TP) -> Collection[Any]:
        conductor: Any = self.app.topics
        return conductor._tp_index.get(tp) or ()

    async def _deliver_all(self, fetched: _Fetched) -> None:
        """Deliver a fetch in chunks, in turns between its partitions; a rebalance drops what is left."""
        size = self.app.batch_max
        chunks = [(start, tp) for tp, records in fetched.records.items() for start in range(0, len(records), size)]
        for start, tp in sorted(chunks):
            if not self._is_current(fetched.assignment):
                return
            self._deliver(tp, fetched.records[tp][start : start + size])
            await asyncio.sleep(0)  # the agents and the rebalance get their turn
        if self._is_current(fetched.assignment):
            for tp, position in fetched.positions.items():
                self._progress[tp].position = position
                self._progress[tp].log_end = fetched.log_ends[tp]

    def _deliver(self, tp: TP, records: list[ConsumerRecord]) -> None:
        """Hand one chunk to the topic's agents."""
        channels = self._channels(tp)
        if not channels:
            return
        last = records[-1]
        # Faust types a message's value as bytes; here it is the batch that the event hands out
        batch: Any = RecordBatch(tp.topic, tp.partition, records)
        message = ConsumerMessage(
            tp.topic, tp.partition, last.offset, (last.timestamp or 0) / 1000.0, last.timestamp_type, [], None, batch,
            None, 0, 0, tp, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip
        message.incref(len(channels))
        self._progress[tp].delivered.append(message)
        event = Event(self.app, None, batch, None, message)
        for channel in channels:
            channel.queue.put_nowait(event)


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
