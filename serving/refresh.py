"""Refresh: the users whose state changed get new lists, many at once, each user once."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from models.artefact import ArtefactStore
from models.recommender import SOURCES, Recommender
from serving.ranker import Ranked, Ranker
from streams.catalogue import Catalogue
from streams.events import Cause, ListItem, Recommendations, encode
from streams.settings import Settings
from streams.state import Store
from streams.trends import Trends

log = logging.getLogger(__name__)

#: Sends one list (or, with None, its withdrawal) to the recommendations topic; the inner awaitable is its arrival.
Publish = Callable[[str, bytes | None], Awaitable[Awaitable[object]]]


@dataclass
class Owed:
    """What one batch leaves to be done before it is acknowledged.

    Attributes:
        causes: the users who are owed a list, with the event it answers, if an event is behind it.
        erased: the users whose list is withdrawn.
        pending: messages on their way that must have arrived.
    """

    acknowledge: Callable[[], object]
    causes: Mapping[str, Cause | None] = field(default_factory=dict)
    erased: Iterable[str] = ()
    pending: Iterable[Awaitable[object]] = ()


class Refresh:
    """Makes and publishes lists with the model in service.

    Attributes:
        lists: how many were published.
        delays_ms: of the newest lists, the time from their event's arrival in Kafka to their own.
    """

    def __init__(
        self, settings: Settings, store: Store, catalogue: Catalogue, trends: Trends, publish: Publish
    ) -> None:
        self._settings = settings
        self._store = store
        self._catalogue = catalogue
        self._trends = trends
        self._publish = publish
        self._artefacts = ArtefactStore(settings.data_dir / "artefacts")
        self._next: Recommender | None = Recommender.trending_only(settings.popularity, settings.model)
        self._ranker: Ranker | None = None
        self.lists = 0
        self.delays_ms: list[float] = []

    @property
    def version(self) -> str:
        """The model in service."""
        return self._ranker.model.version if self._ranker else "none"

    async def follow_model(self, on_loaded: Callable[[], Awaitable[object]], every_s: float = 0.2) -> None:
        """Load each version that goes into service, beside the one that serves; never returns.

        `settle` swaps it in before its next batch; `on_loaded` sees to it that one comes soon.
        """
        loaded = ""
        while True:
            version = self._artefacts.current()
            if version is not None and version != loaded:
                self._next = await asyncio.to_thread(Recommender.load, self._artefacts.path(version))
                loaded = version
                await on_loaded()
            await asyncio.sleep(every_s)

    async def settle(self, owed: list[Owed]) -> None:
        """Publish what several batches owe, then acknowledge them: each user one list, for the newest cause."""
        await self._take_changes()
        causes: dict[str, Cause | None] = {}
        for batch in owed:
            for user, cause in batch.causes.items():
                causes[user] = cause or causes.get(user)
        users = list(causes)
        size = self._settings.lists.refresh_batch
        for start in range(0, len(users), size):
            if start:
                await self._take_changes()
            await self._refresh({user: causes[user] for user in users[start : start + size]})
        arrivals = [await self._publish(user, None) for batch in owed for user in batch.erased]
        await asyncio.gather(*arrivals, *(arrival for batch in owed for arrival in batch.pending))
        for batch in owed:
            batch.acknowledge()

    async def _take_changes(self) -> None:
        # the trends first: an item has its number before it has statistics, so the catalogue then knows them all
        changed_trends = await self._trends.sync()
        await self._catalogue.sync()
        if self._next is not None:
            model, self._next = self._next, None
            self._catalogue.drain_changed()  # the new ranker starts from all there is
            self._ranker = await asyncio.to_thread(Ranker, model, self._catalogue, self._trends, self._settings)
            log.info("model %s is in service, index %s", model.version, model.index_name)
        elif self._ranker is not None:
            self._ranker.take_items(self._catalogue.drain_changed())
            self._ranker.take_trends(changed_trends)

    async def _refresh(self, causes: Mapping[str, Cause | None]) -> None:
        ranker = self._ranker
        assert ranker is not None, "settle takes the first model in"
        users = list(causes)
        states = await self._store.read_users(users, length=ranker.length, histogram=ranker.histogram_size)
        # what no event caused is answered at the stream's own time, which a replay of an old log keeps as well
        stream_time = ranker.newest_ts or int(time.time() * 1000)
        moments = [cause.ts if cause else stream_time for cause in causes.values()]
        lists = await asyncio.to_thread(ranker.rank, states, moments)
        payloads = [
            (user, encode(self._list(user, ranked, state.list_number, ranker.model, cause)))
            for (user, cause), state, ranked in zip(causes.items(), states, lists, strict=True)
        ]
        arrivals = [await self._publish(user, payload) for user, payload in payloads]
        await asyncio.gather(self._store.put_lists(payloads), *arrivals)
        self._count(causes.values())

    def _list(
        self, user: str, ranked: list[Ranked], number: int, model: Recommender, cause: Cause | None
    ) -> Recommendations:
        return Recommendations(
            rec_id=uuid.uuid4().hex,
            user_id=user,
            seq=number,
            items=[
                ListItem(
                    item_id=self._catalogue.ids[place.number],
                    score=round(place.score, 6),
                    sources=[name for bit, name in enumerate(SOURCES) if place.sources >> bit & 1],
                    reason=self._reason(place),
                )
                for place in ranked
            ],
            model=model.version,
            index=model.index_name,
            generated_at=int(time.time() * 1000),
            cause=cause,
        )

    def _reason(self, place: Ranked) -> str:
        if place.because is not None:
            item = self._catalogue.items[place.because]
            return f"because you liked {item.title or item.item_id}"
        return "popular now"

    def _count(self, causes: Iterable[Cause | None]) -> None:
        now_ms = time.time() * 1000.0
        answered = [cause for cause in causes if cause is not None]
        self.lists += len(answered)
        self.delays_ms = (self.delays_ms + [now_ms - cause.arrived_at for cause in answered])[-2000:]
