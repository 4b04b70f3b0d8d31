"""The prequential score as it stands now: recall over the newest events, in bounded memory, for the dashboard."""

from array import array
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from models.classics import DecayedTrending

#: Half-lives of the trending lists that the system is measured against, in seconds of event time.
HALF_LIVES_S: Final = (21_600.0, 259_200.0, 2_592_000.0)
_CUT: Final = 10
_WINDOW: Final = 2_000
_USERS: Final = 20_000
_SEEN: Final = 500
_MODELS: Final = 50


class Listed(NamedTuple):
    """A list that was out: since when (ms), by which model, and its items by number."""

    at: int
    model: str
    items: "array[int]"


@dataclass
class _User:
    lists: deque[Listed] = field(default_factory=lambda: deque(maxlen=3))
    seen: OrderedDict[int, None] = field(default_factory=OrderedDict)


class _Scored(NamedTuple):
    hit: bool
    trending: tuple[bool, ...]


@dataclass
class ModelScore:
    """How a model's lists have done: events looked up in them, and how many were in the first ten."""

    scored: int = 0
    hits: int = 0


class RollingRecall:
    """Looks each positive up in the list that was out before it, and in what was trending before it, then learns.

    Recall@10 over the newest `window` events that could be scored: positives on items new to their user, not taken
    from a list themselves (`rec_id`), of users whose list has come by. Trending is taken at the half-life that does
    best over the window. Users are forgotten, the longest silent first, so memory is bounded.
    """

    def __init__(self, window: int = _WINDOW) -> None:
        self._trending = [DecayedTrending(half_life) for half_life in HALF_LIVES_S]
        self._users: OrderedDict[str, _User] = OrderedDict()
        self._window: deque[_Scored] = deque(maxlen=window)
        self.scored = 0
        self.models: OrderedDict[str, ModelScore] = OrderedDict()

    def listed(self, user: str, made: Listed) -> None:
        """Take in a list that was published."""
        self._user(user).lists.append(made)

    def add(self, user: str, item: int, ts: int, *, arrived_at: int, positive: bool, free: bool) -> None:
        """Take in an event that consumes an item.

        Args:
            ts: event time in ms.
            arrived_at: clock time of its arrival in Kafka, in ms: only lists from before count.
            free: the user found the item without a list.
        """
        known = self._user(user)
        if positive and free and item not in known.seen:
            before = next((made for made in reversed(known.lists) if made.at < arrived_at), None)
            if before is not None:
                self._score(item, before, known)
        for baseline in self._trending:
            baseline.learn(0, item, ts, positive)
        known.seen[item] = None
        if len(known.seen) > _SEEN:
            known.seen.popitem(last=False)

    def _score(self, item: int, before: Listed, user: _User) -> None:
        hit = item in before.items[:_CUT]
        tops = [baseline.top(0, _CUT, user.seen.keys()) for baseline in self._trending]
        self._window.append(_Scored(hit, tuple(item in top for top in tops)))
        self.scored += 1
        model = self.models.setdefault(before.model, ModelScore())
        model.scored += 1
        model.hits += hit
        if len(self.models) > _MODELS:
            self.models.popitem(last=False)

    def recall(self) -> tuple[float, float] | None:
        """Recall@10 of the system and of trending; None before anything could be scored."""
        if not self._window:
            return None
        n = len(self._window)
        trending = max(map(sum, zip(*(each.trending for each in self._window), strict=True)))
        return sum(each.hit for each in self._window) / n, trending / n

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
