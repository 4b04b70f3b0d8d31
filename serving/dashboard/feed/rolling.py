"""The prequential score as it stands now: recall over the newest events, in bounded memory, for the dashboard."""

from array import array
from collections import OrderedDict, deque
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import Final, NamedTuple

_CUT: Final = 10
_WINDOW: Final = 2_000
_USERS: Final = 20_000
_SEEN: Final = 500
_MODELS: Final = 50
_TRENDS: Final = 8


class Listed(NamedTuple):
    """A list that was out: since when (clock, ms), by which model, and its items by number."""

    at: int
    model: str
    items: "array[int]"


class Trend(NamedTuple):
    """What was trending at a moment (clock, ms): item numbers, most popular first, for each half-life."""

    at: int
    tops: Sequence[Sequence[int]]


class Found(NamedTuple):
    """An event to be scored: what its user found, and what was out before it."""

    user: str
    item: int
    listed: Listed
    trend: Trend


@dataclass
class ModelScore:
    """How a model's lists have done: events looked up in them, and how many were in the first ten."""

    scored: int = 0
    hits: int = 0


@dataclass
class _User:
    lists: deque[Listed] = field(default_factory=lambda: deque(maxlen=3))
    taken: OrderedDict[int, None] = field(default_factory=OrderedDict)


class RollingRecall:
    """Looks up what users find in the list that was out before, and in what was trending before.

    Recall@10 over the newest `window` events that were scored: positives on items new to their user, not taken from a
    list themselves (`rec_id`), of users whose list has come by. Trending is taken at the half-life that does best over
    the window. Users are forgotten, the longest silent first, so memory is bounded.
    """

    def __init__(self, window: int = _WINDOW) -> None:
        self._users: OrderedDict[str, _User] = OrderedDict()
        self._trends: deque[Trend] = deque(maxlen=_TRENDS)
        self._window: deque[tuple[bool, ...]] = deque()  # of each event whether the system had it, and each trend
        self._most = window
        self._hits: list[int] = []
        self.scored = 0
        self.models: OrderedDict[str, ModelScore] = OrderedDict()

    def listed(self, user: str, made: Listed) -> None:
        """Take in a list that was published."""
        self._user(user).lists.append(made)

    def trending(self, trend: Trend) -> None:
        """Take in what is trending now."""
        self._trends.append(trend)

    def take(self, user: str, item: int, *, arrived_at: int, positive: bool, free: bool) -> Found | None:
        """Take in an event that consumes an item; returns what there is to be scored of it, if anything.

        Args:
            arrived_at: clock time of its arrival in Kafka, in ms: only what was out before counts.
            free: the user found the item without a list.
        """
        known = self._user(user)
        new = item not in known.taken
        known.taken[item] = None
        if len(known.taken) > _SEEN:
            known.taken.popitem(last=False)
        if not (positive and free and new):
            return None
        listed = next((made for made in reversed(known.lists) if made.at < arrived_at), None)
        trend = next((each for each in reversed(self._trends) if each.at < arrived_at), None)
        return Found(user, item, listed, trend) if listed and trend else None

    def score(self, found: Found, seen: Container[int]) -> None:
        """Score an event; `seen` are the items that its user had seen, which trending would not show either."""
        hit = found.item in found.listed.items[:_CUT]
        tops = [
            list(islice((item for item in top if item == found.item or item not in seen), _CUT))
            for top in found.trend.tops
        ]
        self._window.append((hit, *(found.item in top for top in tops)))
        gone = self._window.popleft() if len(self._window) > self._most else ()
        self._hits = [
            total + came - went for total, came, went in zip_longest(self._hits, self._window[-1], gone, fillvalue=0)
        ]
        self.scored += 1
        model = self.models.setdefault(found.listed.model, ModelScore())
        model.scored += 1
        model.hits += hit
        if len(self.models) > _MODELS:
            self.models.popitem(last=False)

    def recall(self) -> tuple[float, float] | None:
        """Recall@10 of the system and of trending; None before anything was scored."""
        if not self._window:
            return None
        system, *trends = (hits / len(self._window) for hits in self._hits)
        return system, max(trends)

    def _user(self, user: str) -> _User:
        known = self._users.get(user)
        if known is None:
            known = self._users[user] = _User()
            if len(self._users) > _USERS:
                self._users.popitem(last=False)
        else:
            self._users.move_to_end(user)
        return known


def by_number(ids: Sequence[str], numbers: dict[str, int]) -> "array[int]":
    """Items by number; those that are not known yet are -1, which no event is on."""
    return array("i", [numbers.get(item_id, -1) for item_id in ids])
