"""The ranker: the model in service with the catalogue and the live trends, ready to run pipelines for users."""

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.data.popularity import Popularity
from models.ranking.examples import shortlist
from models.recommender import Recommender
from serving.lists.explanation import Explanation, explained
from serving.lists.user_batches import UserBatches
from serving.pipeline.items import ItemTable, grown
from serving.pipeline.pipeline import Lists, Pipeline, Trace
from serving.pipeline.query import Query
from streams.contract.events import UserRecord
from streams.settings.settings import Settings
from streams.state.item_catalogue import Catalogue, decode_profile, segments_of
from streams.state.likes import Liked
from streams.state.trends import EVERYONE, Floats, Trends
from streams.state.user_states import UserState

#: A segment's own trends serve users without history once they rest on this many decayed positives.
SEGMENT_SUPPORT = 50.0
_ABSENT = -1


class Ranked(Struct, frozen=True, gc=False):  # there are many, and a struct is made in less time than a tuple
    """One place of a list.

    Attributes:
        number: the item's.
        sources: bits over the pipeline's `source_names`.
        because: the number of the item that the user liked and that this one is like.
        propensity: how probable it was to be drawn for this place, if it was.
        probability, minutes: see `models.ranking.ranker.Scored`; None where not known.
    """

    number: int
    score: float
    sources: int
    because: int | None
    propensity: float | None
    probability: float | None
    minutes: float | None


class WindowCount(NamedTuple):
    """Events on an item in the last so many seconds of event time, and the positives among them."""

    seconds: int
    events: float
    positives: float


class Ranker:
    """Ranks users with one version of the model; made anew for each version.

    The model counts items by its own rows; state counts them by number. Both only grow.
    """

    def __init__(self, model: Recommender, catalogue: Catalogue, trends: Trends, settings: Settings) -> None:
        self.model = model
        self._catalogue = catalogue
        self._settings = settings
        self._rows: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._numbers: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._allowed: npt.NDArray[np.bool_] = np.zeros(0, bool)
        self._popularity: dict[str, Popularity] = {}
        self._newest_ts = 0
        self._batches = UserBatches(model.config)
        self.items = ItemTable([settings.pipeline, *settings.pipelines.values()])
        self.take_items(range(len(catalogue)))
        self.take_trends(trends.all())
        self.take_likes(trends.likes.all())

    @property
    def length(self) -> int:
        """How many actions of a user the model reads."""
        return self.model.config.sequence.length

    @property
    def histogram_size(self) -> int:
        """How many entries of a user's histogram the model reads."""
        return self.model.config.histogram_size

    @property
    def now(self) -> int:
        """The stream's own time, in ms: the newest event's on any item. A replay of an old log keeps it as well."""
        return self._newest_ts or int(time.time() * 1000)

    def take_items(self, numbers: Iterable[int]) -> None:
        """Take in items that are new or changed."""
        numbers = list(numbers)
        if not numbers:
            return
        rows = self.model.admit([self._catalogue.items[number] for number in numbers])
        self._rows = grown(self._rows, len(self._catalogue), _ABSENT)
        self._numbers = grown(self._numbers, len(self.model.item_ids), _ABSENT)
        self._allowed = grown(self._allowed, len(self.model.item_ids), False)
        self._rows[numbers] = rows
        self._numbers[rows] = numbers
        self._allowed[rows] = self._catalogue.available[numbers]
        self.items.put(rows.tolist(), [self._catalogue.items[number] for number in numbers])
        for popularity in self._popularity.values():
            popularity.grow(len(self.model.item_ids))

    def take_trends(self, changed: Mapping[str, tuple[npt.NDArray[np.intp], Floats]]) -> None:
        """Take in item statistics that changed, per segment as item numbers and records."""
        for segment, (numbers, records) in changed.items():
            if segment not in self._popularity:
                self._popularity[segment] = Popularity(self._settings.popularity, len(self.model.item_ids))
            known = numbers < len(self._rows)
            self._popularity[segment].put(self._rows[numbers[known]], records[known])
            self._newest_ts = max(self._newest_ts, int(records[:, 0].max(initial=0)))

    def take_likes(self, likes: Iterable[Liked]) -> None:
        """Have the neighbours follow what was liked; what the model was trained on is counted already."""
        neighbours = self.model.neighbours
        if neighbours is None:
            return
        for place, offset, number, before in likes:
            if offset >= self.model.offsets.get(place, 0) and number < len(self._rows):
                neighbours.follow(int(self._rows[number]), self._known_rows(before))

    def rank(
        self, pipeline: Pipeline, states: Sequence[UserState], moments: Sequence[int], size: int
    ) -> list[list[Ranked]]:
        """The top `size` of each user, at these event times (ms); without history by the trends of their segment."""
        profiles = [decode_profile(state.profile) for state in states]
        groups: dict[str, list[int]] = {}
        for at, (state, profile) in enumerate(zip(states, profiles, strict=True)):
            groups.setdefault(self._trend_of(state, profile), []).append(at)
        lists: list[list[Ranked]] = [[] for _ in states]
        for segment, members in groups.items():
            some = [states[at] for at in members], [profiles[at] for at in members], [moments[at] for at in members]
            query = self._query(*some, segment, size)
            made = pipeline.run(query)
            for at, ranked in zip(members, self.places(query, made), strict=True):
                lists[at] = ranked
        return lists

    def explain(self, pipeline: Pipeline, state: UserState, moment: int, number: int, size: int) -> Explanation:
        """What becomes of an item, by its number, when the user's list is made at that event time (ms)."""
        query, lists, trace = self.trace(pipeline, state, moment, size)
        return explained(pipeline, query, lists, trace, int(self._rows[number]))

    def trace(self, pipeline: Pipeline, state: UserState, moment: int, size: int) -> tuple[Query, Lists, Trace]:
        """A user's list made at that event time (ms), watched stage by stage."""
        profile = decode_profile(state.profile)
        query = self._query([state], [profile], [moment], self._trend_of(state, profile), size)
        trace = Trace()
        return query, pipeline.run(query, trace), trace

    def described(self, pipeline: Pipeline, state: UserState) -> npt.NDArray[np.float32]:
        """What the model's ranker reads of the user's candidates now, (k, F); nothing where it reads none."""
        query, _, trace = self.trace(pipeline, state, self.now, 1)
        found, ranker = trace.candidates, self.model.ranker
        if ranker is None or found is None or trace.scores is None or not query.users.known.all():
            return np.zeros((0, 0), np.float32)
        at = shortlist(trace.scores, found.users, 1, ranker.config.depth)
        features, _ = self.model.describe(query.users, query.popularity, found, at)
        return features

    def number_of(self, row: int) -> int:
        """The number of the item of a row."""
        return int(self._numbers[row])

    def related(self, number: int, n: int) -> list[tuple[int, float, str]]:
        """Items like one, the nearest first: number, similarity, and which source knows them to be alike."""
        found = self.model.related_to(int(self._rows[number]), self._allowed, n)
        sources = ["neighbours"] * found.together + ["two_tower"] * (len(found.rows) - found.together)
        return list(zip(self._numbers[found.rows].tolist(), found.similarities.tolist(), sources, strict=True))

    def popular(self, n: int) -> list[tuple[int, float]]:
        """The `n` items most liked at the shortest half-life: number and share."""
        popularity = self._popularity_of(EVERYONE)
        rows = popularity.top(0, n)
        return list(zip(self._numbers[rows].tolist(), popularity.shares()[rows, 0].tolist(), strict=True))

    def trending(self, n: int) -> list[list[int]]:
        """For each half-life the numbers of the `n` items most liked at it, without those withdrawn."""
        popularity = self._popularity_of(EVERYONE)
        tops = [popularity.top(half_life, n) for half_life in range(len(self._settings.popularity.half_lives_s))]
        return [self._numbers[rows[self._allowed[rows]]].tolist() for rows in tops]

    def counts(self, number: int) -> list[WindowCount]:
        """What was counted of an item, by its number, in each window up to the newest event."""
        popularity = self._popularity_of(EVERYONE)
        [counts] = popularity.windows(self.now, self._rows[[number]]).tolist()
        spans = self._settings.popularity.windows_s
        return [WindowCount(*each) for each in zip(spans, counts[: len(spans)], counts[len(spans) :], strict=True)]

    def _trend_of(self, state: UserState, profile: UserRecord | None) -> str:
        """The segment whose trends the user gets: everyone's; without history the narrowest well supported one."""
        if len(state.sequence) or profile is None:
            return EVERYONE
        supported = [
            (support, segment)
            for segment in segments_of(profile, self._settings)
            if segment in self._popularity and (support := self._support(segment)) >= SEGMENT_SUPPORT
        ]
        return min(supported)[1] if supported else EVERYONE

    def _support(self, segment: str) -> float:
        slowest = len(self._settings.popularity.half_lives_s)
        return float(self._popularity[segment].records[:, slowest].sum())

    def _popularity_of(self, segment: str) -> Popularity:
        if segment not in self._popularity:  # no event yet
            self._popularity[segment] = Popularity(self._settings.popularity, len(self.model.item_ids))
        return self._popularity[segment]

    def _known_rows(self, numbers: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """Rows of item numbers; those not taken in yet (numbered since the last sync) are left out."""
        rows: npt.NDArray[np.int32] = self._rows[numbers[numbers < len(self._rows)]]
        return rows

    def _rows_of_each(self, numbers: Sequence[npt.NDArray[np.uint32]]) -> list[npt.NDArray[np.int32]]:
        """As `_known_rows`, for each of B users: what all have is looked up together."""
        every = np.concatenate(numbers)
        if int(every.max(initial=0)) >= len(self._rows):
            return [self._known_rows(each) for each in numbers]
        rows = self._rows.take(every)
        ends = np.cumsum([len(each) for each in numbers]).tolist()
        return [rows[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def _query(
        self,
        states: Sequence[UserState],
        profiles: Sequence[UserRecord | None],
        moments: Sequence[int],
        segment: str,
        size: int,
    ) -> Query:
        return Query(
            model=self.model,
            items=self.items,
            users=self._batches.of(states, profiles, moments, self._rows),
            profiles=profiles,
            seen=self._rows_of_each([state.seen for state in states]),
            shown=self._rows_of_each([state.shown for state in states]),
            friends=self._rows_of_each([state.friends for state in states]),
            popularity=self._popularity_of(segment),
            available=self._allowed[: len(self.model.item_ids)],
            size=size,
            segments=[segments_of(profile, self._settings) if profile else [] for profile in profiles],
            trends_of=self._popularity.get,
        )

    def places(self, query: Query, lists: Lists) -> list[list[Ranked]]:
        """The places of lists that a pipeline made for the query's users."""
        alike = self.model.reasons(query.users, lists.items)
        columns = (
            self._numbers[np.maximum(lists.items, 0)].tolist(),
            _rounded(lists.scores),
            lists.sources.tolist(),
            _or_none(alike >= 0, self._numbers[np.maximum(alike, 0)]),
            _rounded(np.where(lists.propensity == 1.0, np.nan, lists.propensity)),
            _rounded(lists.probabilities),
            _rounded(lists.minutes),
        )
        lengths = np.count_nonzero(lists.items >= 0, axis=1).tolist()
        return [
            list(islice(map(Ranked, *places), length))
            for length, places in zip(lengths, zip(*columns, strict=True), strict=True)
        ]


def _rounded(values: npt.NDArray[np.floating]) -> list[list[float | None]]:
    """As lists are published: to six digits, None for nan."""
    return _or_none(~np.isnan(values), np.round(values.astype(np.float64), 6))


def _or_none(told: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> list[list[Any]]:
    """The values (B, n), None where there is none to tell."""
    if not told.all():
        values = values.astype(object)
        values[~told] = None
    listed: list[list[Any]] = values.tolist()
    return listed
