"""A small world to try the system on: people whose tastes drift, a catalogue that grows, watching with watch times.

What somebody watches to the end depends on taste: genres first, then creators they came to like, the language, the
video's quality, and noise. They find part of what they watch by themselves and take part of it from the list that
they are shown, so a better list makes for more watching to the end. A recommender's hits are to be counted on what
people found by themselves (`rec_id` is None): what they took from its list was on its list, like it or not.

All is drawn from one seed: the same world shown the same lists does the same.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from streams.events import Event, ItemRecord, UserRecord

GENRES: Final = (
    "Animation", "Comedy", "Cooking", "Crafts", "Documentary", "Drama", "Fantasy", "Gaming", "Music", "Science",
    "Sports", "Travel",
)  # fmt: skip
_COUNTRIES: Final = {"KR": "ko", "US": "en", "GB": "en", "ES": "es", "MX": "es", "DE": "de"}
_LANGUAGES: Final = ("en", "en", "ko", "es", "de")
_TITLES: Final = ("Quiet River", "Golden Kitchen", "Hidden Signal", "Last Summer", "Paper Island", "Wild Garden")
_DEVICES: Final = ("phone", "phone", "tv", "tablet")
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True)
class WorldConfig:
    """What the world is like.

    Attributes:
        users, items, creators: how many there are at the start.
        arrivals_per_day: new videos in a day of event time.
        sessions_per_day, watches_per_session: a person's visits in a day, and videos in a visit, on average.
        drift: the chance, after a visit, that half of a person's taste moves to another genre.
        obedience: the share of choices that are made from the list shown, when there is one.
        start_ms: event time at the start.
        speed: how many times faster than the clock event time passes.
    """

    users: int = 1_000
    items: int = 1_200
    creators: int = 150
    arrivals_per_day: float = 40.0
    sessions_per_day: float = 3.0
    watches_per_session: float = 6.0
    drift: float = 0.04
    obedience: float = 0.6
    start_ms: int = 1_750_000_000_000
    speed: float = 2_000.0
    seed: int = 7


class Shown(NamedTuple):
    """A list as a person sees it: what it is called, and its items, best first."""

    rec_id: str
    items: Sequence[str]


class Happening(NamedTuple):
    """Something that reaches the system: an event, or a new item; `due_s` is by the clock, from the start."""

    due_s: float
    record: Event | ItemRecord


@dataclass
class _Person:
    user: UserRecord
    language: str
    device: str
    taste: npt.NDArray[np.float64]  # (genres,), 1 for the one liked best
    creators: deque[str]
    seen: set[int] = field(default_factory=set)
    sessions: int = 0
    left: int = 0
    watching: _Watching | None = None


class _Watching(NamedTuple):
    item: int
    seconds: float
    rec_id: str | None
    position: int | None


class World:
    """People and videos; `play` lets time pass."""

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config or WorldConfig()
        self._random = random.Random(self.config.seed)
        self._draw = np.random.default_rng(self.config.seed)
        self.catalogue: list[ItemRecord] = []  # it grows while the world plays
        self._genres = np.zeros((0, len(GENRES)))  # (items, genres), 1 for the main one
        self._quality: list[float] = []
        self._allure = np.zeros(0)  # how easily a video is come across: it grows as it is watched
        self._numbers: dict[str, int] = {}
        for _ in range(self.config.items):
            self._publish(self.config.start_ms - int(self._random.expovariate(1 / 60) * _DAY_MS))
        self._people = {f"user-{number}": self._person(f"user-{number}") for number in range(self.config.users)}

    def users(self) -> list[UserRecord]:
        """Everybody's profile."""
        return [person.user for person in self._people.values()]

    def liking(self, user_id: str, item_id: str) -> float:
        """How much the person likes the item now, in [0, 1]: what a perfect recommender would know."""
        return self._liking(self._people[user_id], self._numbers[item_id])

    def play(self, shown: Callable[[str], Shown | None]) -> Iterator[Happening]:
        """What happens, in the order of event time, without end.

        Args:
            shown: the list that a user sees at this moment, by user id; asked whenever somebody looks for a video.
        """
        start = self.config.start_ms
        waiting = [(start + self._until(self.config.sessions_per_day), user_id) for user_id in self._people]
        waiting.append((start + self._until(self.config.arrivals_per_day), ""))
        heapq.heapify(waiting)
        while True:
            now, user_id = heapq.heappop(waiting)
            due_s = (now - start) / 1000.0 / self.config.speed
            if user_id:
                for event in self._events(self._people[user_id], now):
                    yield Happening(due_s, event)
                again = self._choose(self._people[user_id], now, shown)
            else:
                yield Happening(due_s, self._publish(now))
                again = now + self._until(self.config.arrivals_per_day)
            heapq.heappush(waiting, (again, user_id))

    def _events(self, person: _Person, now: int) -> Iterator[Event]:
        """What the person sends on: the start of a visit, or what came of the video just watched."""
        watching, user_id = person.watching, person.user.user_id
        visit = Event(type="visit", user_id=user_id, ts=now, session_id=f"{user_id}/{person.sessions}")
        if watching is None:
            yield visit
            return
        item = self.catalogue[watching.item]
        watched = replace(
            visit,
            type="watch",
            item_id=item.item_id,
            watch_s=watching.seconds,
            duration_s=item.duration_s,
            rec_id=watching.rec_id,
            position=watching.position,
            context={"device": person.device},
        )
        yield watched
        liking = self._liking(person, watching.item)
        if watching.seconds >= 0.8 * (item.duration_s or 0.0):
            person.creators.append(item.categorical["creator"][0])
            if self._random.random() < 0.15 * liking:
                yield replace(watched, type="like")
        elif self._random.random() < 0.05 * (1 - liking):
            yield replace(watched, type="dislike")

    def _choose(self, person: _Person, now: int, shown: Callable[[str], Shown | None]) -> int:
        """Set the person to the next video, or to rest; returns when that is over."""
        if person.watching is None:
            person.left = 1 + int(self._random.expovariate(1 / max(self.config.watches_per_session - 0.5, 0.1)))
        if not person.left:
            person.watching = None
            person.sessions += 1
            if self._random.random() < self.config.drift:
                person.taste *= 0.5
                person.taste[self._random.randrange(len(GENRES))] += 0.5 * (1 + person.taste.max())
                person.taste /= person.taste.max()
            return now + 30 * 60_000 + self._until(self.config.sessions_per_day)
        person.left -= 1
        item, rec_id, position = self._from_list(person, shown(person.user.user_id)) or self._found(person)
        person.seen.add(item)
        self._allure[item] += 0.2
        share = self._random.gauss(self._liking(person, item), 0.12)
        seconds = round(min(max(share, 0.0), 1.0) * (self.catalogue[item].duration_s or 0.0), 1)
        person.watching = _Watching(item, seconds, rec_id, position)
        return now + 3_000 + int(seconds * 1000)

    def _from_list(self, person: _Person, shown: Shown | None) -> tuple[int, str | None, int | None] | None:
        """A place of the list, the upper ones likelier; None where the person looks elsewhere."""
        if shown is None or self._random.random() >= self.config.obedience:
            return None
        places = [
            (self._numbers[item_id], shown.rec_id, position)
            for position, item_id in enumerate(shown.items)
            if item_id in self._numbers and self._numbers[item_id] not in person.seen
        ]
        return places[min(int(self._random.expovariate(0.3)), len(places) - 1)] if places else None

    def _found(self, person: _Person) -> tuple[int, str | None, int | None]:
        """A video come across: of a few that are about, the one that looks best."""
        about = self._draw.choice(len(self.catalogue), 30, p=self._allure / self._allure.sum())
        fresh = [int(item) for item in about if int(item) not in person.seen] or [int(about[0])]
        return max(fresh, key=lambda item: self._liking(person, item) + self._random.gauss(0, 0.3)), None, None

    def _liking(self, person: _Person, item: int) -> float:
        record = self.catalogue[item]
        liking = 0.8 * float(self._genres[item] @ person.taste) + 0.3 * self._quality[item]
        liking += 0.15 * (record.categorical["creator"][0] in person.creators)
        return min(liking, 1.0) * (1.0 if record.categorical["language"][0] == person.language else 0.6)

    def _publish(self, now: int) -> ItemRecord:
        draw = self._random
        number, creator = len(self.catalogue), draw.randrange(self.config.creators)
        genres = [draw.randrange(len(GENRES)), draw.randrange(len(GENRES))]
        if draw.random() < 0.8:
            genres[0] = creator % len(GENRES)  # a creator stays with a genre, mostly
        weights = np.zeros((1, len(GENRES)))
        weights[0, genres[1]], weights[0, genres[0]] = 0.5, 1.0
        self._genres = np.vstack([self._genres, weights])
        self._quality.append(draw.betavariate(2, 2))
        self._allure = np.append(self._allure, 1.0 + 3.0 * self._quality[-1])
        item = ItemRecord(
            item_id=f"video-{number}",
            title=f"{draw.choice(_TITLES)} {number}",
            published_at=now,
            duration_s=round(min(draw.lognormvariate(4.5, 0.7), 1_200.0), 1),
            categorical={
                "genre": [GENRES[genre] for genre in dict.fromkeys(genres)],
                "creator": [f"creator-{creator}"],
                "language": [_LANGUAGES[creator % len(_LANGUAGES)]],
            },
        )
        self._numbers[item.item_id] = number
        self.catalogue.append(item)
        return item

    def _person(self, user_id: str) -> _Person:
        country = self._random.choice(list(_COUNTRIES))
        taste = self._draw.dirichlet(np.full(len(GENRES), 0.25))
        age = self._random.choice(("18-24", "25-34", "35-49", "50+"))
        features = {"country": [country], "language": [_COUNTRIES[country]], "age": [age]}
        user = UserRecord(user_id=user_id, categorical=features)
        return _Person(user, _COUNTRIES[country], self._random.choice(_DEVICES), taste / taste.max(), deque(maxlen=4))

    def _until(self, per_day: float) -> int:
        return 1 + int(self._random.expovariate(per_day / _DAY_MS))
