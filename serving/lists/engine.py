"""The engine: makes lists with the model in service, for the refresh agent and for the HTTP API alike."""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from models.artefact import ArtefactError, ArtefactStore
from models.recommender import Recommender
from models.statistics.interleaving import team_draft
from serving.lists.assignment import CONTROL, Arm, Experiments
from serving.lists.explanation import Explanation, explained
from serving.lists.gc_tuning import look_at_all
from serving.lists.live_model import Ranked, Ranker, WindowCount
from serving.lists.tracing import Told, tell
from serving.pipeline.pipeline import Pipeline
from streams.contract.events import Cause, ListItem, Recommendations, UserRecord, encode
from streams.settings.settings import Settings, SettingsError
from streams.state.item_catalogue import Catalogue, decode_profile
from streams.state.store import Store
from streams.state.trends import Trends
from streams.state.user_states import UserState

log = logging.getLogger(__name__)

#: The pipeline of lists that name none.
DEFAULT: Final = "default"
_NO_CONTEXT: Final[Mapping[str, str]] = {}
#: Of so many of those whom a user follows, newest first, what they liked is read.
_FRIENDS: Final = 20


class _Chosen(NamedTuple):
    """A list's places, the pipeline that picked each, and in an interleaved list the number of its arm."""

    places: list[Ranked]
    pipelines: Iterable[str]
    teams: Iterable[int | None] = repeat(None)


class Engine:
    """Makes lists with the newest model, catalogue and trends that it has taken in.

    Attributes:
        catalogue: the items, as of the last `take_changes`.
        pipelines: by name; `DEFAULT` is always there.

    Raises:
        SettingsError: a pipeline names a component that is not known, or an experiment's arm a pipeline that is not.
    """

    def __init__(self, settings: Settings, store: Store, catalogue: Catalogue) -> None:
        self._settings = settings
        self._store = store
        self.catalogue = catalogue
        self._trends = Trends(store, settings)
        self.pipelines = {
            name: Pipeline(each, seed=settings.model.seed)
            for name, each in ({DEFAULT: settings.pipeline} | settings.pipelines).items()
        }
        self._experiments = Experiments(settings.experiments)
        named = {
            f"experiment {each.name}, arm {arm.name}": arm.pipeline
            for each in settings.experiments.running
            for arm in each.arms
        } | {f"shadow {each.name}": each.pipeline for each in settings.experiments.shadows}
        for who, pipeline in named.items():
            if pipeline is not None and pipeline not in self.pipelines:
                raise SettingsError(f"{who}: there is no pipeline {pipeline!r}; known are {', '.join(self.pipelines)}")
        self._names = {name: _Names(each.source_names) for name, each in self.pipelines.items()}
        self._artefacts = ArtefactStore(settings.data_dir / "artefacts")
        self._next: Recommender | None = Recommender.untaught(settings.popularity, settings.model)
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

    def outdated(self, made: Recommendations) -> bool:
        """Whether a user's list should be made again: its model left service, or it holds a withdrawn item.

        False while this process has not loaded the model in service: it would replace the list by a worse one.
        """
        if made.model == self.version:
            return bool(self.withdrawn(made))
        try:
            return self.version == self._artefacts.current()
        except ArtefactError:  # nobody can load it, so the lists stay
            return False

    def withdrawn(self, made: Recommendations) -> set[str]:
        """The items of a user's list that the user's pipeline no longer recommends, as their records say."""
        numbers, available = self.catalogue.numbers, self.catalogue.available
        known = ((place.item_id, numbers.get(place.item_id)) for place in made.items)
        gone = {item for item, number in known if number is not None and not available[number]}
        if gone and not all(
            self.pipelines[name].hides_withdrawn for name in _pipelines(self._arm(made.user_id, DEFAULT))
        ):
            return set()
        return gone

    async def follow_model(
        self,
        on_loaded: Callable[[], Awaitable[object]],
        every_s: float = 0.2,
        *,
        version_of: Callable[[ArtefactStore], str | None] = ArtefactStore.current,
    ) -> None:
        """Load each version that goes into service, beside the one that serves; never returns.

        `take_changes` swaps it in; `on_loaded` sees to it that it is called soon. With `version_of` it is another
        version than the one in service that is followed.
        """
        loaded = ""
        while True:
            version = version_of(self._artefacts)
            if version is not None and version != loaded:
                loaded = version
                try:
                    self._next = await asyncio.to_thread(Recommender.load, self._artefacts.path(version))
                except ArtefactError as error:  # of an earlier state, or damaged
                    log.error("model %s cannot serve, what is in service stays until the next one: %s", version, error)
                else:
                    await on_loaded()
            await asyncio.sleep(every_s)

    async def take_changes(self) -> None:
        """Take in what changed in the item statistics and the catalogue, and a model that was loaded."""
        async with self._one_at_a_time:
            # the trends first: an item has its number before it has statistics, so the catalogue then knows them all
            changed_trends = await self._trends.sync()
            likes = self._trends.likes.drain()
            await self.catalogue.sync()
            if self._next is not None:
                model, self._next = self._next, None
                self.catalogue.drain_changed()  # the new ranker starts from all there is
                self._ranker = await asyncio.to_thread(Ranker, model, self.catalogue, self._trends, self._settings)
                log.info("model %s is in service, index %s", model.version, model.index_name)
                look_at_all()  # the model before has left much
            elif self._ranker is not None:
                self._ranker.take_items(self.catalogue.drain_changed())
                self._ranker.take_trends(changed_trends)
                if likes:
                    await asyncio.to_thread(self._ranker.take_likes, likes)

    async def lists(
        self,
        causes: Mapping[str, Cause | None],
        *,
        size: int | None = None,
        publish: bool = True,
        pipeline: str = DEFAULT,
        context: Mapping[str, str] = _NO_CONTEXT,
    ) -> list[Recommendations]:
        """A list for each user, made of the user's state as it is now.

        Args:
            causes: per user the event that the list answers, if one is behind it.
            size: places in a list; as the settings say, when left out.
            publish: the lists are to be published, so each gets its user's next number.
            pipeline: the name of the one that makes them; each user's arm of an experiment decides for `DEFAULT`.
            context: categorical features that hold now, before those of the user's record.
        """
        states = await self.read(list(causes), publish=publish)
        if context:
            states = [_in_context(user, state, context) for user, state in zip(causes, states, strict=True)]
        return await self.make(causes, states, size=size, pipeline=pipeline)

    async def explain(self, user: str, item: str, *, pipeline: str = DEFAULT) -> Explanation:
        """What becomes of an item that the catalogue knows when the user's list is made now."""
        ranker = self._serving()
        [state] = await self.read([user], publish=False)
        chosen = self.pipelines[self._arm(user, pipeline).pipeline or DEFAULT]
        number, size = self.catalogue.numbers[item], self._settings.lists.size
        async with self._one_at_a_time:
            return await asyncio.to_thread(ranker.explain, chosen, state, ranker.now, number, size)

    async def explained_list(
        self, user: str, size: int, *, pipeline: str = DEFAULT, context: Mapping[str, str] = _NO_CONTEXT
    ) -> tuple[Recommendations, list[Explanation]]:
        """A list that is not published, made of the user's state as it is now, and why each of its items is there."""
        ranker = self._serving()
        [state] = await self.read([user], publish=False)
        state = _in_context(user, state, context)
        arm = self._arm(user, pipeline)
        variant = CONTROL if arm.drafted else arm.label  # a drafted list has no one pipeline that could explain it
        name = arm.pipeline or DEFAULT
        chosen = self.pipelines[name]

        def make() -> tuple[Recommendations, list[Explanation]]:
            query, lists, trace = ranker.trace(chosen, state, ranker.now, size)
            [ranked] = ranker.places(query, lists)
            why = [explained(chosen, query, lists, trace, row) for row in lists.items[0].tolist() if row >= 0]
            return self._list(user, _Chosen(ranked, repeat(name)), state.list_number, ranker.model, None, variant), why

        async with self._one_at_a_time:
            return await asyncio.to_thread(make)

    async def described(self, user: str) -> tuple[str, npt.NDArray[np.float32]]:
        """What the model's ranker reads of the user's candidates now, (k, F), and which model that is."""
        ranker = self._serving()
        [state] = await self.read([user], publish=False)
        chosen = self.pipelines[self._arm(user, DEFAULT).pipeline or DEFAULT]

        async with self._one_at_a_time:
            return ranker.model.version, await asyncio.to_thread(ranker.described, chosen, state)

    async def trace(self, user: str, *, pipeline: str = DEFAULT) -> Told:
        """What each stage does when the user's list is made now."""
        ranker = self._serving()
        [state] = await self.read([user], publish=False)
        chosen, size = self.pipelines[self._arm(user, pipeline).pipeline or DEFAULT], self._settings.lists.size

        def told() -> Told:
            query, lists, trace = ranker.trace(chosen, state, ranker.now, size)
            return tell(query, lists, trace, lambda row: self.catalogue.ids[ranker.number_of(row)])

        async with self._one_at_a_time:
            return await asyncio.to_thread(told)

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
        [made] = await self.make({user: None}, [UserState.empty()], size=size)
        return made

    def _arm(self, user: str, pipeline: str) -> Arm:
        """What makes a user's list: the pipeline that is named, or else the user's arm."""
        return Arm(CONTROL, pipeline) if pipeline != DEFAULT else self._experiments.arm_of(user)

    def _serving(self) -> Ranker:
        assert self._ranker is not None, "`take_changes` takes the first model in"
        return self._ranker

    async def read(self, users: Sequence[str], *, publish: bool) -> list[UserState]:
        """The users' states, for `make`; with `publish` each gets its next list's number."""
        ranker = self._serving()
        return await self._store.read_users(
            users, length=ranker.length, histogram=ranker.histogram_size, publish=publish, friends=_FRIENDS
        )

    async def make(
        self,
        causes: Mapping[str, Cause | None],
        states: Sequence[UserState],
        *,
        size: int | None = None,
        pipeline: str = DEFAULT,
    ) -> list[Recommendations]:
        """Lists of states that were read; the rest is as in `lists`."""
        ranker = self._serving()
        asked = list(causes.items())
        arms = [self._arm(user, pipeline) for user in causes]
        together: dict[str, list[int]] = {}  # whose lists each pipeline makes
        for at, arm in enumerate(arms):
            for name in dict.fromkeys(_pipelines(arm)):
                together.setdefault(name, []).append(at)
        places = size or self._settings.lists.size

        def make() -> list[Recommendations]:
            ranked: dict[tuple[int, str], list[Ranked]] = {}
            for name, rows in together.items():
                moments = [cause.ts if cause else ranker.now for _, cause in (asked[at] for at in rows)]
                lists = ranker.rank(self.pipelines[name], [states[at] for at in rows], moments, places)
                ranked |= {(at, name): each for at, each in zip(rows, lists, strict=True)}
            made = []
            for at, ((user, cause), arm) in enumerate(zip(asked, arms, strict=True)):
                names, number = _pipelines(arm), states[at].list_number
                chosen = _Chosen(ranked[at, names[0]], repeat(names[0]))
                if arm.drafted:
                    chosen = _drafted([ranked[at, name] for name in names], names, places, f"{user}/{number}")
                made.append(self._list(user, chosen, number, ranker.model, cause, arm.label))
            return made

        async with self._one_at_a_time:
            return await asyncio.to_thread(make)

    def _list(
        self,
        user: str,
        chosen: _Chosen,
        number: int,
        model: Recommender,
        cause: Cause | None,
        variant: str,
    ) -> Recommendations:
        ids, items = self.catalogue.ids, self.catalogue.items
        places = []
        for place, pipeline, team in zip(*chosen, strict=False):
            if place.because is not None:
                liked = items[place.because]
                reason = f"because you liked {liked.title or liked.item_id}"
            else:
                reason = "popular now" if place.propensity is None else "new here"
            places.append(
                ListItem(
                    item_id=ids[place.number],
                    score=place.score,
                    sources=self._names[pipeline][place.sources],
                    reason=reason,
                    propensity=place.propensity,
                    probability=place.probability,
                    minutes=place.minutes,
                    team=team,
                )
            )
        return Recommendations(
            rec_id=uuid.uuid4().hex,
            user_id=user,
            seq=number,
            items=places,
            model=model.version,
            index=model.index_name,
            generated_at=int(time.time() * 1000),
            variant=variant,
            cause=cause,
        )


class _Names(dict[int, list[str]]):
    """The sources' names by their bits, made once: a list names the sources of each of its places."""

    def __init__(self, every: Sequence[str]) -> None:
        super().__init__()
        self._every = every

    def __missing__(self, bits: int) -> list[str]:
        names = self[bits] = [name for bit, name in enumerate(self._every) if bits >> bit & 1]
        return names


def _pipelines(arm: Arm) -> list[str]:
    """The names of the pipelines that make a user's list: one, or two that it is drafted from."""
    return [name or DEFAULT for name in arm.drafted or (arm.pipeline,)]


def _drafted(ranked: list[list[Ranked]], pipelines: list[str], size: int, seed: str) -> _Chosen:
    """One list out of two; the same seed drafts the same."""
    first, second = ({place.number: place for place in places} for places in ranked)
    draft = team_draft(list(first), list(second), size, random.Random(seed))
    teams = [int(team) for team in draft.second]
    places = [(first, second)[team][number] for number, team in zip(draft.items, teams, strict=True)]
    return _Chosen(places, [pipelines[team] for team in teams], teams)


def _in_context(user: str, state: UserState, context: Mapping[str, str]) -> UserState:
    """The state with features that hold now put before those of the user's record."""
    if not context:
        return state
    profile = decode_profile(state.profile) or UserRecord(user_id=user)
    given = {feature: [value] for feature, value in context.items()}
    return replace(state, profile=encode(msgspec.structs.replace(profile, categorical=profile.categorical | given)))
