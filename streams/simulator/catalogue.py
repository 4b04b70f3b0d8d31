"""The world's videos: genres, a style that no feature tells, creators, quality, and how easily they are come across."""

from typing import Final

import numpy as np
import numpy.typing as npt

from streams.contract.events import ItemRecord
from streams.simulator.profiles import DAY_MS, WorldConfig

GENRES: Final = (
    "Animation", "Comedy", "Cooking", "Crafts", "Documentary", "Drama", "Fantasy", "Gaming", "Music", "Science",
    "Sports", "Travel",
)  # fmt: skip
#: Dimensions of taste that show in nothing but in who watches what.
STYLES: Final = 6
LANGUAGES: Final = ("en", "ko", "es", "de")
_LANGUAGE_SHARES: Final = (0.4, 0.2, 0.2, 0.2)
_FIRST: Final = ("Quiet", "Golden", "Hidden", "Last", "Paper", "Wild", "Second", "Northern")
_SECOND: Final = ("River", "Kitchen", "Signal", "Summer", "Island", "Garden", "Letters", "Machine")
_NOVELTY_DAYS: Final = 3.0
_STORY_DAYS: Final = 0.7
_FADE_PER_DAY: Final = 0.5

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


class Catalogue:
    """Every video by its number, in the order of publication. It is the same whatever is recommended to whom.

    Attributes:
        records: the items as the system is told of them.
        traits: float64 (items, genres + styles), what a video is like.
        quality, seconds: float64 (items,) in [0, 1], and the length.
        creator, language, published: int64 (items,); ms of event time.
        allure: float64 (items,), how easily a video is come across: it grows as it is watched, and fades.
    """

    def __init__(self, config: WorldConfig) -> None:
        self._config = config
        self._rng = np.random.default_rng([config.seed, 1])
        self._creator_genre = self._rng.integers(len(GENRES), size=config.creators)
        self._creator_language = self._rng.choice(len(LANGUAGES), config.creators, p=_LANGUAGE_SHARES)
        self._creator_style = self._rng.normal(size=(config.creators, STYLES))
        self.records: list[ItemRecord] = []
        self.numbers: dict[str, int] = {}
        self._story: Numbers = np.zeros(0, np.int64)
        self._appeal: tuple[tuple[int, int], Floats, Floats] | None = None
        room = config.items + 64
        self._traits: Floats = np.zeros((room, len(GENRES) + STYLES))
        self._columns: Floats = np.zeros((3, room))
        self._codes: Numbers = np.zeros((3, room), np.int64)
        for _ in range(config.items - round(config.items * config.newcomers)):
            self.publish(config.start_ms - int(self._rng.exponential(40.0) * DAY_MS))
        self._faded_at = config.start_ms

    def __len__(self) -> int:
        return len(self.records)

    @property
    def n_creators(self) -> int:
        """How many creators there are."""
        return len(self._creator_genre)

    @property
    def traits(self) -> Floats:
        return self._traits[: len(self)]

    @property
    def quality(self) -> Floats:
        return self._columns[0, : len(self)]

    @property
    def seconds(self) -> Floats:
        return self._columns[1, : len(self)]

    @property
    def allure(self) -> Floats:
        return self._columns[2, : len(self)]

    @property
    def creator(self) -> Numbers:
        return self._codes[0, : len(self)]

    @property
    def language(self) -> Numbers:
        return self._codes[1, : len(self)]

    @property
    def published(self) -> Numbers:
        return self._codes[2, : len(self)]

    def arrivals(self) -> list[tuple[int, bool]]:
        """The moments (ms) of the newcomers and the story's videos to come, and whether each is of the story."""
        config = self._config
        late = round(config.items * config.newcomers)
        moments = self._rng.uniform(0.0, config.newcomer_days, late)
        plain = [(config.start_ms + int(day * DAY_MS), False) for day in moments]
        told = config.turn_day + np.arange(config.breaking_items) / max(config.breaking_items, 1)
        return plain + [(config.start_ms + int(day * DAY_MS), True) for day in told]

    def until_next(self) -> int:
        """The time in ms until the next of the videos that keep coming."""
        return 1 + int(self._rng.exponential(DAY_MS / self._config.arrivals_per_day))

    def publish(self, now: int, *, breaking: bool = False) -> ItemRecord:
        """A new video; a `breaking` one tells the story that everybody wants to see."""
        rng, number = self._rng, len(self.records)
        creator = int(rng.integers(self._config.creators))
        # a creator stays with a genre, mostly
        main = int(self._creator_genre[creator]) if rng.random() < 0.8 else int(rng.integers(len(GENRES)))
        other = int(rng.integers(len(GENRES)))
        style = 0.8 * self._creator_style[creator] + 0.6 * rng.normal(size=STYLES)
        quality = float(rng.beta(2, 2))
        language = int(self._creator_language[creator])
        seconds = round(float(min(rng.lognormal(4.5, 0.7), 1_200.0)), 1)
        name = f"{_FIRST[int(rng.integers(len(_FIRST)))]} {_SECOND[int(rng.integers(len(_SECOND)))]}"
        self._make_room()
        traits = self._traits[number]
        traits[other], traits[main] = 0.5, 1.0
        traits[len(GENRES) :] = style / np.linalg.norm(style)
        self._columns[:, number] = quality, seconds, 0.5 + 2.0 * quality + 20.0 * breaking
        self._codes[:, number] = creator, language, now
        if breaking:
            self._story = np.append(self._story, number)
        record = ItemRecord(
            item_id=f"video-{number}",
            title=f"Breaking: {name} {number}" if breaking else f"{name} {number}",
            published_at=now,
            duration_s=seconds,
            categorical={
                "genre": [GENRES[genre] for genre in dict.fromkeys((main, other))],
                "creator": [f"creator-{creator}"],
                "language": [LANGUAGES[language]],
            },
        )
        self.numbers[record.item_id] = number
        self.records.append(record)
        return record

    def appeal(self, now: int) -> tuple[Floats, Floats]:
        """What draws people to each video in the minute of event time `now`, whatever their taste, (items,) each.

        Quality and novelty, which the rest of what a person looks for is added to; and the talk of the day, which
        goes beyond all that.
        """
        minute = now // 60_000
        if self._appeal is None or self._appeal[0] != (minute, len(self)):
            age = (minute * 60_000 - self.published) / DAY_MS
            talk = np.zeros(len(self))
            talk[self._story] = 0.6 * np.exp(-age[self._story] / _STORY_DAYS)
            charm = 0.22 * self.quality + 0.15 * np.exp(-np.maximum(age, 0.0) / _NOVELTY_DAYS)
            self._appeal = (minute, len(self)), charm, talk
        return self._appeal[1:]

    def watched(self, item: int, now: int) -> None:
        """A video was watched, which others come to see."""
        days = (now - self._faded_at) / DAY_MS
        if days > 0.02:
            base = 0.5 + 2.0 * self.quality
            self.allure[:] = base + (self.allure - base) * _FADE_PER_DAY**days
            self._faded_at = now
        self.allure[item] += 0.2

    def come_across(self, n: int, rng: np.random.Generator) -> Numbers:
        """`n` videos that are about, the alluring ones likelier; one may come twice."""
        mass = np.cumsum(self.allure)
        return np.asarray(np.searchsorted(mass, rng.random(n) * mass[-1]), np.int64)

    def _make_room(self) -> None:
        if len(self.records) < len(self._traits):
            return
        more = len(self._traits)
        self._traits = np.vstack([self._traits, np.zeros((more, self._traits.shape[1]))])
        self._columns = np.hstack([self._columns, np.zeros((3, more))])
        self._codes = np.hstack([self._codes, np.zeros((3, more), np.int64)])
