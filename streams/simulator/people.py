"""The world's people: tastes, habits, devices, trust in the lists, and how all of that changes."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.contract.events import UserRecord
from streams.simulator.catalogue import GENRES, LANGUAGES, STYLES, Catalogue, Floats
from streams.simulator.profiles import DAY_MS, WorldConfig

_COUNTRIES: Final = {"KR": "ko", "US": "en", "GB": "en", "ES": "es", "MX": "es", "DE": "de"}
_AGES: Final = ("18-24", "25-34", "35-49", "50+")
#: On which device a visit is, and how long a video may be before it is too long for it, in seconds.
_DEVICES: Final = {"phone": 120.0, "tablet": 300.0, "tv": 1_200.0}
#: Groups of like taste: who is in one likes much of what the others in it like.
_CIRCLES: Final = 8
_REMEMBERED: Final = 200
#: By how much more somebody comes at their hour of the day, and less twelve hours later.
_DAILY: Final = 0.6
_HOUR_MS: Final = 3_600_000
#: How much less a video is liked that is not in one's language, by person's and video's language.
_OWN_LANGUAGE: Final = np.where(np.eye(len(LANGUAGES)) > 0, 1.0, 0.5)
_REST_MS: Final = 1_800_000


@dataclass
class Visit:
    """A visit under way; `rng` is its own, so that it begins alike whatever the visits before it were shown.

    Attributes:
        mood: float64 (genres,), what the person is more or less in the mood for.
        returns_at: when the person comes next, in ms.
        watching: what is being watched, until it is over.
        rec_id, looked_down_to: the list last looked at, and the place where the eye came to rest.
    """

    number: int
    device: str
    mood: Floats
    rng: np.random.Generator
    returns_at: int
    watching: Watching | None = None
    rec_id: str = ""
    looked_down_to: int = 0


@dataclass(frozen=True)
class Watching:
    """A video that somebody watches: for how long, and from which list and place it was taken, if from one."""

    item: int
    seconds: float
    satisfied: bool
    rec_id: str | None
    position: int | None


@dataclass
class Person:
    """Somebody, or a bot.

    Attributes:
        number: a dense number, which the ledger counts by.
        taste: float64 (genres + styles,), the genres' part 1 for the one liked best.
        trust: in [0, 1], how much the lists are believed in: it follows what came of them.
        shown: how often an item was shown of late and passed over.
        seen: the items dealt with.
        creators: those liked last.
    """

    number: int
    user: UserRecord
    country: str
    language: int
    peak_hour: float
    likes_tv: float
    taste: Floats
    trust: float = 0.6
    shown: Counter[int] = field(default_factory=Counter)
    seen: set[int] = field(default_factory=set)
    creators: deque[int] = field(default_factory=lambda: deque(maxlen=4))
    visits: int = 0
    visit: Visit | None = None
    turned: bool = False
    bot: bool = False

    @property
    def user_id(self) -> str:
        return self.user.user_id

    def passed_over(self, item: int) -> None:
        """An item was shown and not taken: it tires, and soon it is not looked at any more."""
        self.shown[item] += 1
        if len(self.shown) > _REMEMBERED:
            del self.shown[next(iter(self.shown))]


class People:
    """Everybody, by number. Who they are does not depend on what is recommended to them."""

    def __init__(self, config: WorldConfig) -> None:
        self._config = config
        self._rng = np.random.default_rng([config.seed, 2])
        self._circles = self._tastes_of_circles()
        self._turned = self._tastes_of_circles()
        self.everybody = [self._person(number) for number in range(config.users)]
        for number in range(config.users, config.users + config.bots):
            bot = self._person(number)
            bot.bot = True
            self.everybody.append(bot)

    def joins_at(self, person: Person) -> int:
        """When the person is there first, in ms: newcomers come one after the other, the others from the start on."""
        config = self._config
        at_first = config.users - round(config.users * config.newcomers)
        if person.bot or person.number < at_first:
            return config.start_ms
        rng = np.random.default_rng([config.seed, 3, person.number])
        return config.start_ms + int(rng.uniform(0.0, config.newcomer_days) * DAY_MS)

    def next_visit(self, person: Person, after: int, rng: np.random.Generator) -> int:
        """When the person comes next: a Poisson process whose rate follows the person's time of day, by thinning."""
        highest = (1.0 + _DAILY) * self._config.sessions_per_day
        at = after
        while True:
            at += 1 + int(rng.exponential(DAY_MS / highest))
            away = math.tau * (at / _HOUR_MS - person.peak_hour) / 24.0
            if rng.random() < (1.0 + _DAILY * math.cos(away)) / (1.0 + _DAILY):
                return at

    def begin_visit(self, person: Person, now: int) -> Visit:
        """The next visit. Who it is drawn for has by then changed as time asks: tastes drift, or turn."""
        config = self._config
        rng = np.random.default_rng([config.seed, 4, person.number, person.visits])
        if not person.turned and config.day(now) >= config.turn_day:
            person.turned = True
            if rng.random() < config.turn_share:
                person.taste = self._taste(self._turned, rng)
        if rng.random() < config.drift:
            genres = person.taste[: len(GENRES)]
            genres *= 0.5
            genres[rng.integers(len(GENRES))] += 0.5 + 0.5 * genres.max()
            genres /= genres.max()
        evening = 1.0 if (now // _HOUR_MS) % 24 >= 18 else 0.4
        device = "tv" if rng.random() < person.likes_tv * evening else "tablet" if rng.random() < 0.15 else "phone"
        mood = rng.normal(0.0, 0.12, len(GENRES))
        mood[rng.choice(len(GENRES), p=_shares(person.taste))] += 0.25
        visit = Visit(person.visits, device, mood, rng, self.next_visit(person, now + _REST_MS, rng))
        person.visit, person.visits = visit, person.visits + 1
        return visit

    def _person(self, number: int) -> Person:
        rng = self._rng
        country = list(_COUNTRIES)[int(rng.integers(len(_COUNTRIES)))]
        features = {"country": [country], "language": [_COUNTRIES[country]], "age": [_AGES[int(rng.integers(4))]]}
        return Person(
            number=number,
            user=UserRecord(user_id=f"user-{number}", categorical=features),
            country=country,
            language=LANGUAGES.index(_COUNTRIES[country]),
            peak_hour=float(rng.normal(20.0, 4.0)),
            likes_tv=float(rng.beta(1.5, 3.0)),
            taste=self._taste(self._circles, rng),
        )

    def _taste(self, circles: Floats, rng: np.random.Generator) -> Floats:
        circle = circles[rng.integers(_CIRCLES)]
        genres = 0.65 * circle[: len(GENRES)] + 0.35 * rng.dirichlet(np.full(len(GENRES), 0.25))
        style = circle[len(GENRES) :] + 0.5 * rng.normal(size=STYLES)
        return np.concatenate([genres / genres.max(), style / np.linalg.norm(style)])

    def _tastes_of_circles(self) -> Floats:
        genres = self._rng.dirichlet(np.full(len(GENRES), 0.3), _CIRCLES)
        style = self._rng.normal(size=(_CIRCLES, STYLES))
        return np.hstack([genres, style / np.linalg.norm(style, axis=1, keepdims=True)])


def relevance(person: Person, catalogue: Catalogue, now: int, *, tired: bool = True) -> Floats:
    """How likely the person is to watch each video to the end at event time `now` (ms), in [0, 1]: (items,).

    What a perfect recommender would know: taste and mood, the style that no feature tells, language, quality and
    novelty, the talk of the day, the device at hand, creators liked of late, and what tires; 0 for what is seen.
    Without `tired` it is as if nothing had been shown in vain before.
    """
    charm, talk = catalogue.appeal(now)
    visit = person.visit
    wish = 0.48 * person.taste
    wish[len(GENRES) :] *= 0.35
    if visit is not None:
        wish[: len(GENRES)] += 0.48 * visit.mood
    liking = catalogue.traits @ wish
    liking += charm
    favourite = np.zeros(catalogue.n_creators)
    favourite[list(person.creators)] = 0.1
    liking += favourite[catalogue.creator]
    liking *= _OWN_LANGUAGE[person.language][catalogue.language]
    if visit is not None:
        liking[catalogue.seconds > _DEVICES[visit.device]] *= 0.75
    liking += talk
    if tired and person.shown:
        liking[list(person.shown)] -= 0.04 * np.minimum(list(person.shown.values()), 8)
    liking[list(person.seen)] = 0.0
    return np.asarray(np.clip(liking, 0.0, 1.0))


def wished_for(person: Person, visit: Visit) -> str:
    """The genre that the person is in the mood for most."""
    return GENRES[int(np.argmax(person.taste[: len(GENRES)] + visit.mood))]


def _shares(taste: Floats) -> npt.NDArray[np.float64]:
    genres = taste[: len(GENRES)]
    return np.asarray(genres / genres.sum())
