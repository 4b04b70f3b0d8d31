"""The dashboard's one look at the system, shared by all open pages: what comes by on the topics, and what roles tell.

It reads at most twice a second, and of events no more than a bounded number: when there are more, the oldest are
skipped. So what it costs does not depend on how much goes through the system or on how many look at it. While no page
is open it reads less often.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct

from models.artefact import ArtefactError, ArtefactStore, Manifest
from models.data.labels import CONSUMING, POSITIVE
from serving.api.live import AWAY, Live, ended, now_ms
from serving.dashboard.feed.activity import Activity
from serving.dashboard.feed.outcomes import Outcomes
from serving.dashboard.feed.rates import Rates
from serving.dashboard.feed.rolling import Found, Listed, RollingRecall, Trend, by_number
from serving.dashboard.feed.samples import History, Sample
from streams.contract.events import BadRecord, DeadLetter, Event, ModelAnnouncement, decode_event
from streams.kafka.damaged import skip_damaged
from streams.kafka.dead_letters import decode_letter
from streams.state.status import SILENT_S, TrainerStatus, WorkerStatus, live_workers, trainer_status

log = logging.getLogger(__name__)

EVERY_S: Final = 0.5
_READ_S: Final = 0.25
#: The same while no page is open. A page that is open looks every second.
_UNATTENDED_S: Final = 2.0
_OPEN_S: Final = 5.0
#: The most events looked at in one reading; so many readings may be behind before events are passed over.
_EVENTS: Final = 500
_BEHIND: Final = 4 * _EVENTS
#: The most events scored of one reading: each asks Redis what its user has seen.
_SCORED: Final = 50
#: How often the trending items are looked up, and how many: what a user has seen is taken out of them.
_TRENDS_S: Final = 2.0
_TRENDS_UNATTENDED_S: Final = 10.0
_TRENDING: Final = 200
_RETRY_S: Final = 1.0
_LETTERS: Final = 500
_ANNOUNCED: Final = 200
_RECENT: Final = 240
_FEED: Final = 12


class Seen(Struct):
    """One line of what streams by: an event or a list."""

    at: int
    user: str
    what: str
    title: str
    item: str = ""


class _Place(Struct):
    item_id: str


class _List(Struct):
    """What is looked at of a list: to decode the rest would cost four times as much."""

    user_id: str
    seq: int
    items: list[_Place]
    model: str
    generated_at: int


_LIST: Final = msgspec.json.Decoder(_List)


class Letter(Struct):
    """A dead letter and where it lies in the dead letters' own topic, which names it."""

    offset: int
    letter: DeadLetter


class Watch:
    """What all pages show of the running system; `open` keeps it up to date.

    Attributes:
        now: the newest sample.
        recent: the samples of the last two minutes; `history` covers all time since the start.
        announced: what was announced of models, oldest first.
        letters: the newest dead letters, oldest first.
        events, lists: what came by last, newest last.
        newest_ts: event time in ms of the newest event that came by; 0 before the first.
        outcomes: what users make of their lists, and what came of the experiments.
    """

    def __init__(self, live: Live) -> None:
        self._live = live
        self._artefacts = ArtefactStore(live.settings.data_dir / "artefacts")
        self._manifest: Manifest | None = None
        self._rates = Rates()
        self.n_lists = 0
        self.now = Sample(at=now_ms())
        self.recent: deque[Sample] = deque(maxlen=_RECENT)
        self.history: History[Sample] = History()
        self.score = RollingRecall()
        self.activity = Activity()
        self.announced: deque[ModelAnnouncement] = deque(maxlen=_ANNOUNCED)
        self.letters: deque[Letter] = deque(maxlen=_LETTERS)
        self.events: deque[Seen] = deque(maxlen=_FEED)
        self.lists: deque[Seen] = deque(maxlen=_FEED)
        self.users: deque[str] = deque(maxlen=64)
        self.workers: list[WorkerStatus] = []
        self.trainer: TrainerStatus | None = None
        self.newest_ts = 0
        self.outcomes = Outcomes(live)
        self.payload = "{}"
        self._looked = asyncio.Event()  # set while a page is open
        self._looked_at = float("-inf")

    def look(self) -> None:
        """Say that a page is open; each does so every second."""
        self._looked_at = time.monotonic()
        self._looked.set()

    async def _rest(self, seconds: float) -> None:
        """Wait for so long, or until a page is opened."""
        if time.monotonic() - self._looked_at > _OPEN_S:
            self._looked.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._looked.wait(), seconds)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Watch"]:
        """Keep watching for as long as the block."""
        names = self._live.names
        tasks = [
            asyncio.create_task(self._again(work))
            for work in (
                self._sample,
                self._look_up_trends,
                self.outcomes.follow,
                lambda: self._follow(names.events, self._on_events, back=_FEED),
                lambda: self._follow(names.models, self._on_models, back=_ANNOUNCED),
                lambda: self._follow(names.dead_letters, self._on_letters, back=_LETTERS),
            )
        ]
        self._live.hear = self._on_lists
        try:
            yield self
        finally:
            self._live.hear = None
            await ended(tasks)

    async def _again(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do it, and once more after a pause whenever a server is away."""
        while True:
            try:
                await work()
            except (KafkaError, *AWAY) as error:
                log.warning("the dashboard waits for a server: %s", error or type(error).__name__)
            await asyncio.sleep(_RETRY_S)

    # -- what comes by on the topics

    async def _follow(self, topic: str, take: Callable[[list[ConsumerRecord]], Awaitable[None]], *, back: int) -> None:
        """Hand on the records of a topic from now on, and so many from before as `back` says."""
        consumer = AIOKafkaConsumer(**self._live.settings.kafka.consumer_options())
        await consumer.start()
        skip_damaged(consumer)
        try:
            partitions = [TopicPartition(topic, n) for n in sorted(await self._live.producer.partitions_for(topic))]
            consumer.assign(partitions)
            first = await consumer.beginning_offsets(partitions)
            for partition, end in (await consumer.end_offsets(partitions)).items():
                consumer.seek(partition, max(first[partition], end - back))
            while True:
                got = await consumer.getmany(timeout_ms=int(EVERY_S * 1000), max_records=_EVENTS)
                await take([record for records in got.values() for record in records])
                for partition in got:
                    end = consumer.last_stable_offset(partition) or 0
                    if end - await consumer.position(partition) > _BEHIND:
                        consumer.seek(partition, end - _EVENTS)
                await asyncio.sleep(_READ_S)
                await self._rest(_UNATTENDED_S)
        finally:
            await consumer.stop()

    def _on_lists(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            if record.value is not None:
                with contextlib.suppress(msgspec.MsgspecError):  # the counting of lists logs it
                    self._on_list(_LIST.decode(record.value))

    def _on_list(self, made: _List) -> None:
        self.n_lists += 1
        items = by_number([place.item_id for place in made.items], self._live.engine.catalogue.numbers)
        self.score.listed(made.user_id, Listed(made.generated_at, made.model, items))
        self.activity.show(made.generated_at / 1000.0, items)
        first = made.items[0].item_id if made.items else ""
        self.lists.append(Seen(made.generated_at, made.user_id, f"list {made.seq}", self.title(first), first))

    async def _on_events(self, records: list[ConsumerRecord]) -> None:
        found = []
        for record in records:
            with contextlib.suppress(BadRecord):  # ingest makes the dead letter
                found.append(self._on_event(decode_event(record.value), record.timestamp))
        scored = [each for each in found if each is not None][:_SCORED]
        if scored:
            users = [each.user for each in scored]
            states = await self._live.store.read_users(users, histogram=1, length=1, publish=False)
            for each, state in zip(scored, states, strict=True):
                self.score.score(each, set(state.seen.tolist()))

    def _on_event(self, event: Event, arrived_at: int) -> Found | None:
        self.newest_ts = max(self.newest_ts, event.ts)
        item = event.item_id or ""
        self.events.append(Seen(arrived_at, event.user_id, event.type, self.title(item) or event.query or "", item))
        if event.user_id not in self.users:
            self.users.append(event.user_id)
        graded = event.grade(self._live.settings.labels)
        number = self._live.engine.catalogue.numbers.get(item)
        if number is None or graded.action not in CONSUMING:
            return None
        positive = graded.label == POSITIVE
        self.activity.act(arrived_at / 1000.0, number, liked=positive)
        return self.score.take(
            event.user_id, number, arrived_at=arrived_at, positive=positive, free=event.rec_id is None
        )

    async def _on_models(self, records: list[ConsumerRecord]) -> None:
        for record in records:
            if record.value is not None:
                self.announced.append(msgspec.json.decode(record.value, type=ModelAnnouncement))

    async def _on_letters(self, records: list[ConsumerRecord]) -> None:
        for record in records:
            letter = decode_letter(record)
            if letter is not None:
                self.letters.append(Letter(record.offset, letter))

    def title(self, item_id: str) -> str:
        """What to call an item: its title, or its id where no record gives one."""
        catalogue = self._live.engine.catalogue
        number = catalogue.numbers.get(item_id)
        return item_id if number is None else catalogue.items[number].title or item_id

    async def _look_up_trends(self) -> None:
        while True:
            if self._live.warm:
                self.score.trending(Trend(now_ms(), self._live.engine.trending(_TRENDING)))
            await asyncio.sleep(_TRENDS_S)
            await self._rest(_TRENDS_UNATTENDED_S)

    # -- how it stands

    async def _sample(self) -> None:
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(5.0):
                    sample = await self._measure()
            except AWAY as error:
                sample = Sample(at=now_ms(), away=f"Redis is away: {error or 'no answer'}")
            self.now = sample
            self.recent.append(sample)
            self.history.add(sample)
            self.payload = self._encoded()
            await asyncio.sleep(max(EVERY_S - (time.monotonic() - began), 0.1))

    async def _measure(self) -> Sample:
        store, engine = self._live.store, self._live.engine
        totals = await store.totals()
        self.workers, self.trainer = await live_workers(store), await trainer_status(store)
        await self._look_up_model(engine.version)
        rates = self._rates.add(
            time.monotonic(),
            events=totals.get("applied", 0) + totals.get("copies", 0),
            dead=totals.get("dead_letters", 0),
            lists=self.n_lists,
        )
        fresh = [worker.freshness_ms for worker in self.workers if worker.freshness_ms]
        recall = self.score.recall()
        made_at = self._manifest.created_at if self._manifest else None
        trainer = self.trainer if self.trainer and time.time() - self.trainer.at < SILENT_S else None
        return Sample(
            at=now_ms(),
            events=rates.get("events"),
            dead=rates.get("dead"),
            lists=rates.get("lists"),
            lag=sum(worker.lag for worker in self.workers) if self.workers else None,
            freshness=max(fresh, key=lambda each: each[-1]) if fresh else None,
            workers=len(self.workers),
            model=engine.version,
            model_age_s=None if made_at is None else max(time.time() - made_at / 1000.0, 0.0),
            index=engine.index_name,
            index_recall=self._manifest.metrics.get("index_recall") if self._manifest else None,
            items=len(engine.catalogue),
            trainer="" if trainer is None else trainer.stage if trainer.busy else "waiting",
            training=trainer.done if trainer and trainer.busy else None,
            logged=trainer.logged if trainer else None,
            due=trainer.due.events if trainer else None,
            recall=recall[0] if recall else None,
            trending=recall[1] if recall else None,
            scored=self.score.scored,
            engaged=self.outcomes.rates.get("engagement_rate"),
            clicked=self.outcomes.rates.get("click_through"),
            totals=totals,
        )

    async def _look_up_model(self, version: str) -> None:
        if self._manifest is None or self._manifest.version != version:
            try:
                self._manifest = await asyncio.to_thread(self._artefacts.manifest, version)
            except ArtefactError:
                self._manifest = None  # trending alone serves, or the version was just replaced

    def _encoded(self) -> str:
        """What is sent to every live page, made once for all of them."""
        feeds = {"sample": self.now, "events": list(self.events), "lists": list(self.lists), "marks": self.marks()}
        return msgspec.json.encode(feeds).decode()

    @property
    def model_behind_s(self) -> float | None:
        """Event time from the newest event that the model in service knows to the newest one logged."""
        if self._manifest is None or self.trainer is None:
            return None
        return max(self.trainer.newest_ts - self._manifest.trained_through, 0) / 1000.0

    def marks(self) -> list[tuple[int, str]]:
        """When which model was put into service, as announced."""
        return [(each.created_at, each.version) for each in self.announced if each.promoted]
