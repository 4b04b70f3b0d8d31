"""The engine: makes lists with the model in service, for the refresh agent and for the HTTP API alike."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from models.artefact import ArtefactStore
from models.recommender import SOURCES, Recommender
from serving.explanation import Explanation
from serving.ranker import Ranked, Ranker, WindowCount
from streams.catalogue import Catalogue
from streams.events import Cause, ListItem, Recommendations
from streams.settings import Settings
from streams.state import Store, UserState
from streams.trends import Trends

log = logging.getLogger(__name__)

#: The sources' names by their bit mask, made once: a list names the sources of each of its places.
_NAMES: Final = [[name for bit, name in enumerate(SOURCES) if mask >> bit & 1] for mask in range(1 << len(SOURCES))]


class Engine:
    """Ranks users with the newest model, catalogue and trends that it has taken in.

    Attributes:
        catalogue: the items, as of the last `take_changes`.
    """

    def __init__(self, settings: Settings, store: Store, catalogue: Catalogue) -> None:
        self._settings = settings
        self._store = store
        self.catalogue = catalogue
        self._trends = Trends(store, settings)
        self._artefacts = ArtefactStore(settings.data_dir / "artefacts")
        self._next: Recommender | None = Recommender.trending_only(settings.popularity, settings.model)
        self._ranker: Ranker | None = None
        self._one_at_a_time = asyncio.Lock()  # what changes the ranker, and what ranks with it

    @property
    def version(self) -> str:
        """The model in service; "none" before the first `take_changes`."""
        return self._ranker.model.version if self._ranker else "none"

    @property
    def index_name(self) -> str:
        """The index that is searched."""
        return self._ranker.model.index_name if self._ranker else "none"

    async def follow_model(self, on_loaded: Callable[[], Awaitable[object]], every_s: float = 0.2) -> None:
        """Load each version that goes into service, beside the one that serves; never returns.

        `take_changes` swaps it in; `on_loaded` sees to it that it is called soon.
        """
        loaded = ""
        while True:
            version = self._artefacts.current()
            if version is not None and version != loaded:
                self._next = await asyncio.to_thread(Recommender.load, self._artefacts.path(version))
                loaded = version
                await on_loaded()
            await asyncio.sleep(every_s)

    async def take_changes(self) -> None:
        """Take in what changed in the item statistics and the catalogue, and a model that was loaded."""
        async with self._one_at_a_time:
            # the trends first: an item has its number before it has statistics, so the catalogue then knows them all
            changed_trends = await self._trends.sync()
            await self.catalogue.sync()
            if self._next is not None:
                model, self._next = self._next, None
                self.catalogue.drain_changed()  # the new ranker starts from all there is
                self._ranker = await asyncio.to_thread(Ranker, model, self.catalogue, self._trends, self._settings)
                log.info("model %s is in service, index %s", model.version, model.index_name)
            elif self._ranker is not None:
                self._ranker.take_items(self.catalogue.drain_changed())
                self._ranker.take_trends(changed_trends)

    async def lists(
        self,
        causes: Mapping[str, Cause | None],
        *,
        size: int | None = None,
        publish: bool = True,
    ) -> list[Recommendations]:
        """A list for each user, made of the user's state as it is now.

        Args:
            causes: per user the event that the list answers, if one is behind it.
            size: places in a list; as the settings say, when left out.
            publish: the lists are to be published, so each gets its user's next number.
        """
        ranker = self._serving()
        states = await self._store.read_users(
            list(causes), length=ranker.length, histogram=ranker.histogram_size, publish=publish
        )
        return await self._rank(ranker, causes, states, size)

    async def explain(self, user: str, item: str) -> Explanation:
        """What becomes of an item that the catalogue knows when the user's list is made now."""
        ranker = self._serving()
        [state] = await self._store.read_users(
            [user], length=ranker.length, histogram=ranker.histogram_size, publish=False
        )
        async with self._one_at_a_time:
            return await asyncio.to_thread(ranker.explain, state, ranker.now, self.catalogue.numbers[item])

    async def related(self, item: str, n: int) -> list[tuple[str, float, str]]:
        """At most `n` items like one that the catalogue knows, with the similarity and its source."""
        ranker = self._serving()
        async with self._one_at_a_time:
            found = await asyncio.to_thread(ranker.related, self.catalogue.numbers[item], n)
        return [(self.catalogue.ids[number], similarity, source) for number, similarity, source in found]

    def popular(self, n: int) -> list[tuple[str, float]]:
        """The `n` items with the most likes of late among all users, each with its share of these."""
        return [(self.catalogue.ids[number], share) for number, share in self._serving().popular(n)]

    def trending(self, n: int) -> list[list[int]]:
        """For each half-life, the numbers of the `n` items that it puts first and that may be recommended."""
        return self._serving().trending(n)

    def counts(self, item: str) -> list[WindowCount]:
        """What users did with an item that the catalogue knows, in each of the windows."""
        return self._serving().counts(self.catalogue.numbers[item])

    async def list_of_nobody(self, user: str, *, size: int) -> Recommendations:
        """A list for a user whose state cannot be read: what is trending."""
        ranker = self._serving()
        [made] = await self._rank(ranker, {user: None}, [UserState.empty()], size)
        return made

    def _serving(self) -> Ranker:
        assert self._ranker is not None, "`take_changes` takes the first model in"
        return self._ranker

    async def _rank(
        self,
        ranker: Ranker,
        causes: Mapping[str, Cause | None],
        states: list[UserState],
        size: int | None,
    ) -> list[Recommendations]:
        moments = [cause.ts if cause else ranker.now for cause in causes.values()]
        async with self._one_at_a_time:
            lists = await asyncio.to_thread(ranker.rank, states, moments, size or self._settings.lists.size)
        return [
            self._list(user, ranked, state.list_number, ranker.model, cause)
            for (user, cause), state, ranked in zip(causes.items(), states, lists, strict=True)
        ]

    def _list(
        self, user: str, ranked: list[Ranked], number: int, model: Recommender, cause: Cause | None
    ) -> Recommendations:
        return Recommendations(
            rec_id=uuid.uuid4().hex,
            user_id=user,
            seq=number,
            items=[
                ListItem(
                    item_id=self.catalogue.ids[place.number],
                    score=round(place.score, 6),
                    sources=_NAMES[place.sources],
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
            item = self.catalogue.items[place.because]
            return f"because you liked {item.title or item.item_id}"
        return "popular now"
