"""What a world is like: its size, its habits, and the trouble that its profile brings."""

from dataclasses import dataclass
from typing import Final

DAY_MS: Final = 86_400_000


@dataclass(frozen=True)
class WorldConfig:
    """What the world is like. Days are days of event time, from its start.

    Attributes:
        users, items, creators: how many there are, those still to come included.
        arrivals_per_day: new videos in a day, beside `items`.
        sessions_per_day: a person's visits in a day, on average.
        session_length: videos that a content person watches in a visit, on average.
        places: how far down a list is shown.
        persistence: the chance to look at the next place of a list after passing one over.
        exploration: the least share of choices that are made without looking at the list.
        searching: the chance that somebody who found nothing and stays searches.
        drift: the chance, after a visit, that half of a person's taste moves to another genre.
        newcomers: the share of users who come, and of items that are published, in the first `newcomer_days`.
        turn_day: when what the profile brings happens.
        turn_share: the share of people whose taste turns then.
        breaking_items: videos of one story, the first at `turn_day`, all within a day: everybody wants to see them.
        bots: accounts that like one creator's items around the clock, `bot_actions_per_day` times a day each.
        start_ms: event time at the start.
        seed: what all chance comes from.
    """

    users: int = 1_000
    items: int = 1_200
    creators: int = 150
    arrivals_per_day: float = 60.0
    sessions_per_day: float = 3.0
    session_length: float = 5.0
    places: int = 12
    persistence: float = 0.85
    exploration: float = 0.25
    searching: float = 0.25
    drift: float = 0.03
    newcomers: float = 0.0
    newcomer_days: float = 2.0
    turn_day: float = 1.0
    turn_share: float = 0.0
    breaking_items: int = 0
    bots: int = 0
    bot_actions_per_day: float = 96.0
    start_ms: int = 1_750_075_200_000
    seed: int = 7

    def __post_init__(self) -> None:
        sizes = ("users", "items", "creators", "places")
        if wrong := [name for name in sizes if getattr(self, name) < 1]:
            raise ValueError(f"world: {', '.join(wrong)} must be at least 1")
        shares = ("persistence", "exploration", "searching", "drift", "newcomers", "turn_share")
        if wrong := [name for name in shares if not 0 <= getattr(self, name) <= 1]:
            raise ValueError(f"world: {', '.join(wrong)} must lie in [0, 1]")
        rates = ("arrivals_per_day", "sessions_per_day", "session_length", "newcomer_days", "bot_actions_per_day")
        if wrong := [name for name in rates if not getattr(self, name) > 0]:
            raise ValueError(f"world: {', '.join(wrong)} must be above 0")

    def day(self, ts: int) -> float:
        """How many days after the start the event time `ts` (ms) is."""
        return (ts - self.start_ms) / DAY_MS


#: What each profile changes of the world that `calm` is.
PROFILES: Final[dict[str, dict[str, float | int]]] = {
    "calm": {},
    "drift": {"turn_share": 0.9, "drift": 0.06},
    "breaking": {"breaking_items": 16},
    "cold": {"newcomers": 0.5},
    "adversarial": {"bots": 30},
}
