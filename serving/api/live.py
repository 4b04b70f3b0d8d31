"""What a running API holds: its connections, its engine, and the lists that come by."""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from serving.api.gathering import Gathering
from serving.api.renewal import Renewal, answering
from serving.api.system import System
from serving.experiments.report import Report
from serving.experiments.shadowing import Shadowing
from serving.lists.engine import DEFAULT, Engine
from serving.lists.explanation import Explanation
from serving.online.follower import Follower
from serving.online.gauges import Gauges
from serving.online.skew import Skew
from serving.online.tally import Tally
from streams.contract.events import Recommendations
from streams.contract.topics import TopicNames
from streams.kafka.damaged import skip_damaged
from streams.settings.settings import Settings
from streams.state.item_catalogue import Catalogue
from streams.state.store import Store

log = logging.getLogger(__name__)

Origin = Literal["published", "computed", "remembered", "trending"]

#: The most users whose lists are made at once, and whose lists are read at once.
_MADE_AT_ONCE: Final = 64
_READ_AT_ONCE: Final = 256
#: Lists kept in this process, for when Redis is away.
_REMEMBERED: Final = 10_000
#: While nobody listens, lists are read so seldom (s): many together cost a fraction of one at a time.
_REST_S: Final = 0.5
_READ_MS: Final = 1_000
#: Lists that a listener may lag behind before it is cut off.
_QUEUE: Final = 1_000
_RETRY_S: Final = 1.0
_CANCEL_AGAIN_S: Final = 0.5
#: What a call to Redis raises while it is away.
AWAY = (RedisError, OSError, asyncio.TimeoutError)


@dataclass(frozen=True)
class Asked:
    """What is asked of a list.

    Attributes:
        without: items not to list.
        pipeline: the name of the one that is to make it.
        context: categorical features that hold now.
        explained: why each item is there is to be told, so it is made now.
    """

    size: int
    without: frozenset[str] = frozenset()
    pipeline: str = DEFAULT
    context: Mapping[str, str] = field(default_factory=dict)
    explained: bool = False

    @property
    def like_the_others(self) -> bool:
        """Whether the pipeline and the user's state alone make it."""
        return self.pipeline == DEFAULT and not self.context and not self.explained

    @property
    def like_published(self) -> bool:
        """Whether a published list may answer it."""
        return self.like_the_others and not self.without


class Served(NamedTuple):
    """A list, where it came from, what was away when it could not be had as it should, and why each item is there."""

    recommendations: Recommendations
    origin: Origin
    degraded: str | None = None
    why: Mapping[str, Explanation] | None = None


class Live:
    """The API's own view of the system; `open` runs it.

    Attributes:
        hear: called with the records of the recommendations topic as they are read, some time after they came.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.names = TopicNames.under(settings.topic_prefix)
        self.store = Store(settings)
        self.engine = Engine(settings, self.store, Catalogue(self.store))
        self._made = Gathering(self._make, most=_MADE_AT_ONCE)
        self._read = Gathering(self.store.get_lists_and_newest, most=_READ_AT_ONCE)
        self.producer = AIOKafkaProducer(acks="all", **settings.kafka.aiokafka_options())
        self._renewal = Renewal(settings, self.store, self.engine, self.producer, most=_MADE_AT_ONCE)
        self.tally = Tally(settings, self.engine.catalogue)
        self.report = Report(self.tally.ledgers, self.tally.shadows)
        self.follower = Follower(settings, self.store, self.tally, self.producer.partitions_for)
        self.skew = Skew(settings, self.engine)
        self.shadowing = Shadowing(settings, self.store, self.engine, self.tally.shadows, now_ms)
        self.gauges = Gauges(self.tally, self.follower, self.report, self.skew)
        self.system = System(settings.data_dir / "artefacts")
        self.warm = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = False
        self._remembered: OrderedDict[str, bytes] = OrderedDict()
        self._listeners: dict[asyncio.Queue[Recommendations | None], str | None] = {}
        self._listened = asyncio.Event()  # set while there are listeners
        self.hear: Callable[[Sequence[ConsumerRecord]], None] | None = None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Live"]:
        """Connect, and follow model, catalogue, trends and lists for as long as the block."""
        self._loop = asyncio.get_running_loop()
        await self.store.wait()
        await self.producer.start()
        tasks = [
            asyncio.create_task(work)
            for work in (
                self.engine.follow_model(_nothing),
                self._keep_up(),
                self._follow_lists(),
                self._renewal.send(),
                self._measure(),
                self._beside(self.skew.follow, "list is looked at for skew"),
                self._beside(self.shadowing.follow, "shadow makes lists"),
            )
        ]
        try:
            yield self
        finally:
            self._end_streams()
            await self._renewal.flush()
            await ended(tasks)
            await self.producer.stop()
            await self.store.close()

    async def _keep_up(self) -> None:
        while True:
            try:
                await self.engine.take_changes()
                self.warm = True
            except AWAY as error:
                log.warning("Redis is away, the last known state serves: %s", error)
                await asyncio.sleep(_RETRY_S)
            await asyncio.sleep(self.settings.api.sync_s)

    async def _measure(self) -> None:
        """Count what users make of their lists, once the items are known."""
        while not self.warm:
            await asyncio.sleep(self.settings.api.sync_s)
        if self.settings.online.enabled:
            try:
                await self.follower.follow()
            except Exception:
                log.exception("what users make of their lists is counted no more")
                raise

    async def _beside(self, follow: Callable[[], Awaitable[None]], what: str) -> None:
        """Do what the counting asks for beside it, once the items are known."""
        while not self.warm:
            await asyncio.sleep(self.settings.api.sync_s)
        while self.settings.online.enabled:
            try:
                await follow()
            except* AWAY as group:
                log.warning("Redis is away, no %s: %s", what, group.exceptions[0])
            except* Exception:
                log.exception("no %s for a moment", what)
            await asyncio.sleep(_RETRY_S)

    # -- lists

    async def recommendations(self, user: str, asked: Asked) -> Served:
        """The list that answers all that the user has done: the published one, or one made now.

        A published list that is out of date is made again and published, see `Renewal`. When Redis is away: the list
        last seen of the user, or else what is trending.
        """
        size, without = asked.size, asked.without
        try:
            if asked.like_published:
                stored = await self._stored(user)
                if stored is not None and size <= self.settings.lists.size:
                    if self.engine.outdated(stored):
                        made, published = await self._renewal.of(user)
                        if published:
                            return Served(_trimmed(made, size), "published")
                        return self._computed(made, asked)
                    shown = _trimmed(stored, size, self.engine.withdrawn(stored))
                    if shown.items:
                        return Served(shown, "published")
            if asked.explained:
                made, why = await self.engine.explained_list(
                    user, size + len(without), pipeline=asked.pipeline, context=asked.context
                )
                reasons = dict(zip((place.item_id for place in made.items), why, strict=True))
                return self._computed(made, asked, why=reasons)
            if asked.like_the_others:
                made = await self._made.of(user, size + len(without))
            else:
                [made] = await self.engine.lists(
                    {user: None},
                    size=size + len(without),
                    publish=False,
                    pipeline=asked.pipeline,
                    context=asked.context,
                )
        except AWAY as error:
            return await self._without_state(user, size, without, f"Redis is away: {error}")
        return self._computed(made, asked)

    def _computed(self, made: Recommendations, asked: Asked, *, why: Mapping[str, Explanation] | None = None) -> Served:
        self.tally.take_list(made, now_ms(), published=False)  # it is not on the topic, and is acted on all the same
        return Served(_trimmed(made, asked.size, asked.without), "computed", why=why)

    async def _make(self, sizes: Mapping[str, int]) -> list[Recommendations]:
        """Lists that are not published, each of at least so many places where there are so many items."""
        return await self.engine.lists(dict.fromkeys(sizes), size=max(sizes.values()), publish=False)

    async def _stored(self, user: str) -> Recommendations | None:
        """The user's published list, unless the user has done something since."""
        raw, newest_ts = await self._read.of(user)
        if raw is not None:
            self._remember(user, raw)
        return answering(raw, newest_ts)

    async def _without_state(self, user: str, size: int, without: Collection[str], degraded: str) -> Served:
        known = self._remembered.get(user)
        if known is not None:
            with contextlib.suppress(msgspec.MsgspecError):  # it was kept as it came
                made = msgspec.json.decode(known, type=Recommendations)
                gone = self.engine.withdrawn(made)
                return Served(_trimmed(made, size, gone.union(without)), "remembered", degraded)
        made = await self.engine.list_of_nobody(user, size=size + len(without))
        return Served(_trimmed(made, size, without), "trending", degraded)

    def _remember(self, user: str, raw: bytes) -> None:
        """Keep a list as it came: taken apart, thousands of them would give the garbage collector much to look at."""
        self._remembered[user] = raw
        self._remembered.move_to_end(user)
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)

    # -- the stream of lists

    async def _follow_lists(self) -> None:
        while True:
            try:
                await self._hear_lists()
            except KafkaError as error:
                log.warning("Kafka is away, no lists come by: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def _hear_lists(self) -> None:
        consumer = AIOKafkaConsumer(**self.settings.kafka.consumer_options())
        try:
            await consumer.start()
            skip_damaged(consumer)
            topic = self.names.recommendations
            partitions = [TopicPartition(topic, n) for n in sorted(await self.producer.partitions_for(topic))]
            consumer.assign(partitions)
            await consumer.seek_to_end(*partitions)
            while True:
                for records in (await consumer.getmany(timeout_ms=_READ_MS)).values():
                    for record in records:
                        self._take_list(record)
                    if self.hear is not None:
                        self.hear(records)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._listened.wait(), _REST_S)
        finally:
            await consumer.stop()

    def _take_list(self, record: ConsumerRecord) -> None:
        """Remember a list, and decode it only where somebody asks for it."""
        user = (record.key or b"").decode(errors="replace")
        if record.value is None:
            self._remembered.pop(user, None)
            return
        self._remember(user, record.value)
        self.skew.offer(user)
        listeners = [listener for listener, wanted in self._listeners.items() if wanted in (None, user)]
        if not listeners and not self.tally.shadows:
            return
        try:
            made = msgspec.json.decode(record.value, type=Recommendations)
        except msgspec.MsgspecError as error:
            log.warning("%s-%d, offset %d, is no list: %s", record.topic, record.partition, record.offset, error)
            return
        for shadow in self.tally.shadows:
            shadow.offer(made)
        for listener in listeners:
            self._pass_on(listener, made)

    def _pass_on(self, listener: asyncio.Queue[Recommendations | None], made: Recommendations) -> None:
        if listener.full():  # it reads too slowly, and may come again
            self._cut_off(listener)
        else:
            listener.put_nowait(made)

    def _cut_off(self, listener: asyncio.Queue[Recommendations | None]) -> None:
        self._leave(listener)
        if listener.full():
            listener.get_nowait()
        listener.put_nowait(None)

    async def lists(self, user: str | None) -> AsyncIterator[Recommendations | None]:
        """The lists published from now on, of one user or of all; None now and then, so that a silence is seen.

        The first of several listeners may get lists of the last half second too.
        """
        if self._ending:
            return
        queue: asyncio.Queue[Recommendations | None] = asyncio.Queue(_QUEUE)
        self._listeners[queue] = user
        self._listened.set()
        try:
            while True:
                try:
                    made = await asyncio.wait_for(queue.get(), self.settings.api.heartbeat_s)
                except TimeoutError:
                    yield None
                    continue
                if made is None:
                    return
                yield made
        finally:
            self._leave(queue)

    def _leave(self, listener: asyncio.Queue[Recommendations | None]) -> None:
        self._listeners.pop(listener, None)
        if not self._listeners:
            self._listened.clear()

    def end_streams(self) -> None:
        """Have every stream end; a signal handler may call it."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end_streams)

    def _end_streams(self) -> None:
        self._ending = True
        for listener in list(self._listeners):
            self._cut_off(listener)

    @property
    def listeners(self) -> int:
        """How many follow the lists."""
        return len(self._listeners)

    async def ready(self) -> str | None:
        """Why the API is not ready to serve; None when it is."""
        if not self.warm:
            return "the catalogue and the trends are not read yet"
        try:
            async with asyncio.timeout(1.0):
                await self.store.ping()
        except AWAY as error:
            return f"Redis is away: {error or 'no answer within 1 s'}"
        return None


def _trimmed(made: Recommendations, size: int, without: Collection[str] = ()) -> Recommendations:
    items = [place for place in made.items if place.item_id not in without][:size]
    return msgspec.structs.replace(made, items=items)


async def ended(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: a client library may take a cancellation for its own time limit's."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_CANCEL_AGAIN_S)


async def _nothing() -> None:
    """A model that was loaded is swapped in by the next round of `_keep_up`."""


def now_ms() -> int:
    """The clock in ms since 1970."""
    return int(time.time() * 1000)
