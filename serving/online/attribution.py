"""Attribution: joins what users do with the lists that they did it on, by `rec_id` and `position`.

Plain state and no clock: lists and events go in, in the order of their arrival in Kafka, and what is to be counted
comes out. Sessions are counted when they begin and are engaged from their first click or watch on, so nothing has to
wait for a session's end.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar
from zlib import crc32

from serving.measures import Credit, Labels, Measure
from streams.contract.events import Event, Recommendations
from streams.settings.online import OnlineSettings

#: The labels that come before those of the item and of the user.
DIMENSIONS: Final = ("variant", "model", "source", "position", "type")
NONE: Final = "none"  # there was no list, no place, no item
ORGANIC: Final = "organic"  # as a source: found without a list
UNKNOWN: Final = "unknown"  # of a segment, or a feature of an item
_ASKED_MOST: Final = 3  # a new user's profile may come a little after the first event
_DEEP: Final = 20  # from this position on, places are counted together

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _List:
    """A list as attribution remembers it: some hundred bytes."""

    __slots__ = ("arrived", "items", "model", "shown", "sources", "taken", "teams", "user", "variant")

    def __init__(self, made: Recommendations, arrived: int, sources: tuple[tuple[str, ...], ...]) -> None:
        self.user = made.user_id
        self.variant = made.variant
        self.model = made.model
        self.arrived = arrived
        self.items = tuple(crc32(place.item_id.encode()) for place in made.items)
        self.sources = sources
        self.teams = bytes(place.team for place in made.items if place.team is not None)  # of every place, or of none
        self.shown = 0  # bit by place
        self.taken = 0


class _Place(NamedTuple):
    made: _List
    at: int


@dataclass(slots=True)
class _User:
    segments: tuple[str, ...]
    variant: str = NONE
    model: str = NONE
    arrived: int = 0
    asked: int = 0


@dataclass(slots=True)
class _Session:
    start: int
    last: int
    variant: str
    model: str
    segments: tuple[str, ...]
    engaged: bool = False


@dataclass
class Attribution:
    """What is known of lists, users and sessions; the ones not heard of for longest are forgotten first.

    Attributes:
        completed_share: the share of an item's length from which a watch went to its end.
        features_of: an item's values of `settings.item_features`, a tuple of them for each; empty where nobody knows.
        unmatched: events whose `rec_id` led to no place, by why: `unknown` list, `expired`, of another user
            (`foreign`), or an item that is not on it (`absent`).
    """

    settings: OnlineSettings
    completed_share: float = 0.8
    features_of: Callable[[str], tuple[tuple[str, ...], ...]] = lambda _: ()
    unmatched: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._lists: OrderedDict[str, _List] = OrderedDict()
        self._users: OrderedDict[str, _User] = OrderedDict()
        self._sessions: OrderedDict[tuple[str, str | None], _Session] = OrderedDict()
        self._ids: OrderedDict[int, None] = OrderedDict()
        self._sources: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._gap_ms = self.settings.session_gap_s * 1000.0
        self._window_ms = self.settings.attribution_s * 1000.0
        self._nowhere = (UNKNOWN,) * len(self.settings.segments)
        self._nothing = (NONE,) * len(self.settings.item_features)
        self._undescribed = (UNKNOWN,) * len(self.settings.item_features)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The names of the labels."""
        return (*DIMENSIONS, *self.settings.item_features, *self.settings.segments)

    # -- what comes in

    def take_list(self, made: Recommendations, arrived: int) -> None:
        """Remember a list, which arrived in Kafka at that time (ms)."""
        _put(self._lists, made.rec_id, _List(made, arrived, self._sources_of(made)), self.settings.max_lists)
        user = self._user(made.user_id)
        if arrived >= user.arrived:
            user.variant, user.model, user.arrived = made.variant, made.model, arrived

    def take_event(self, event: Event, arrived: int) -> list[Credit]:
        """What an event, which arrived in Kafka at that time (ms), is to be counted as; nothing for a copy."""
        digest = hash((event.user_id, event.event_id))
        if digest in self._ids:
            return []
        _put(self._ids, digest, None, self.settings.max_lists)
        ts = min(event.ts, arrived)  # no event moves event time into the future
        user = self._user(event.user_id)
        user.segments = self._segments(event, user.segments)
        place = self._place(event, arrived)
        found: list[Credit] = []
        session = self._session(event, ts, user, found)
        if UNKNOWN in session.segments and session.segments != user.segments and not session.engaged:
            found.append(Credit(session.start, event.user_id, self._begun(session), ((Measure.SESSIONS, -1.0),)))
            session.segments = user.segments
            found.append(Credit(session.start, event.user_id, self._begun(session), ((Measure.SESSIONS, 1.0),)))
        labels = (*_where(place, session), event.type, *self._features(event.item_id), *user.segments)
        if event.type in ("click", "watch") and not session.engaged:
            session.engaged = True
            earned = (session.variant, session.model, *labels[2 : -len(user.segments) or None], *session.segments)
            found.append(Credit(session.start, event.user_id, self._begun(session), ((Measure.SESSIONS, -1.0),)))
            both = ((Measure.SESSIONS, 1.0), (Measure.ENGAGED_SESSIONS, 1.0))
            found.append(Credit(session.start, event.user_id, earned, both))
        amounts = ((Measure.EVENTS, 1.0), *self._amounts(event), *_mark(event, place))
        found.append(Credit(ts, event.user_id, labels, amounts))
        return found

    def wants_profile(self, user_id: str) -> bool:
        """Whether `take_profile` should tell of the user: not yet known, and not asked for in vain too often."""
        user = self._users.get(user_id)
        return user is None or user.asked < _ASKED_MOST

    def take_profile(self, user_id: str, categorical: Mapping[str, list[str]] | None) -> None:
        """What the user's profile, if there is one yet, says of the segments that no event's context told."""
        user = self._user(user_id)
        if categorical is None:
            user.asked += 1
            return
        user.asked = _ASKED_MOST
        told = ((categorical.get(name) or [UNKNOWN])[0] for name in self.settings.segments)
        user.segments = tuple(new if old == UNKNOWN else old for new, old in zip(told, user.segments, strict=True))

    def forget(self, user_id: str) -> None:
        """Forget an erased user; what was counted stays counted."""
        self._users.pop(user_id, None)
        for key in [key for key in self._sessions if key[0] == user_id]:
            del self._sessions[key]
        for rec_id in [rec_id for rec_id, made in self._lists.items() if made.user == user_id]:
            del self._lists[rec_id]

    # -- what is known

    def _user(self, user_id: str) -> _User:
        user = self._users.get(user_id)
        if user is None:
            return _put(self._users, user_id, _User(self._nowhere), self.settings.max_users)
        self._users.move_to_end(user_id)
        return user

    def _sources_of(self, made: Recommendations) -> tuple[tuple[str, ...], ...]:
        """Each place's sources; there are few sets of them, so every one is kept once."""
        each = (tuple(place.sources) or (UNKNOWN,) for place in made.items)
        return tuple(self._sources.setdefault(names, names) for names in each)

    def _segments(self, event: Event, known: tuple[str, ...]) -> tuple[str, ...]:
        if not event.context:
            return known
        told = (event.context.get(name) for name in self.settings.segments)
        return tuple(
            value[:64] if isinstance(value, str) and value else old for value, old in zip(told, known, strict=True)
        )

    def _session(self, event: Event, ts: int, user: _User, found: list[Credit]) -> _Session:
        key = (event.user_id, event.session_id)
        session = self._sessions.get(key)
        if session is None or (event.session_id is None and ts - session.last > self._gap_ms):
            session = _Session(ts, ts, user.variant, user.model, user.segments)
            _put(self._sessions, key, session, self.settings.max_users)
            found.append(Credit(ts, event.user_id, self._begun(session), ((Measure.SESSIONS, 1.0),)))
        session.last = max(session.last, ts)
        self._sessions.move_to_end(key)
        return session

    def _begun(self, session: _Session) -> Labels:
        return (session.variant, session.model, NONE, NONE, NONE, *self._nothing, *session.segments)

    def _features(self, item_id: str | None) -> Labels:
        if item_id is None:
            return self._nothing
        return tuple(values or (UNKNOWN,) for values in self.features_of(item_id)) or self._undescribed

    def _place(self, event: Event, arrived: int) -> _Place | None:
        if event.rec_id is None or event.item_id is None:
            return None
        made = self._lists.get(event.rec_id)
        if made is None:
            self.unmatched["unknown"] += 1
        elif made.user != event.user_id:
            self.unmatched["foreign"] += 1
        elif arrived - made.arrived > self._window_ms:
            self.unmatched["expired"] += 1
        else:
            item = crc32(event.item_id.encode())
            at = event.position
            if at is not None and at < len(made.items) and made.items[at] == item:
                return _Place(made, at)
            if item in made.items:  # the list was shown with gaps, or the position is left out
                return _Place(made, made.items.index(item))
            self.unmatched["absent"] += 1
        return None

    def _amounts(self, event: Event) -> list[tuple[Measure, float]]:
        match event.type:
            case "click":
                return [(Measure.CLICKS, 1.0)]
            case "watch":
                seconds, length = event.watch_s or 0.0, event.duration_s or 0.0
                found = [(Measure.WATCHES, 1.0), (Measure.WATCH_S, seconds)]
                if seconds >= self.settings.long_watch_s:
                    found.append((Measure.LONG_WATCHES, 1.0))
                if length and seconds >= self.completed_share * length:
                    found.append((Measure.COMPLETIONS, 1.0))
                return found
            case "like" | "save" | "share":
                return [(Measure.LIKES, 1.0)]
            case "dislike" | "hide":
                return [(Measure.REFUSALS, 1.0)]
        return []


def _where(place: _Place | None, session: _Session) -> Labels:
    """Variant, model, source and position."""
    if place is None:
        return (session.variant, session.model, ORGANIC, NONE)
    made, at = place
    position = str(at) if at < _DEEP else f"{_DEEP}+"
    return (made.variant, made.model, made.sources[at], position)


def _mark(event: Event, place: _Place | None) -> list[tuple[Measure, float]]:
    """Note that the place was shown or taken; each counts once, and both together in whichever order they come."""
    if place is None:
        return []
    made, bit = place.made, 1 << place.at
    found: list[tuple[Measure, float]] = []
    if event.type == "impression" and not made.shown & bit:
        made.shown |= bit
        found.append((Measure.SHOWN, 1.0))
    elif event.type in ("click", "watch") and not made.taken & bit:
        made.taken |= bit
        found.append((Measure.TAKEN, 1.0))
        if made.teams:
            found.append((Measure.SECOND_TAKEN if made.teams[place.at] else Measure.FIRST_TAKEN, 1.0))
    if found and made.shown & made.taken & bit:
        found.append((Measure.SHOWN_AND_TAKEN, 1.0))
    return found


def _put(known: OrderedDict[K, V], key: K, value: V, most: int) -> V:
    known[key] = value
    if len(known) > most:
        known.popitem(last=False)
    return value
