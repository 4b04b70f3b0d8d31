"""The world: time passes, people come, look at what they are shown, watch, like, hide and leave, and videos come out.

How somebody goes through a list is the cascade of Craswell et al. (2008): from the top, taking the first place that
appeals and otherwise looking at the next one with a chance that falls short of 1. Who is let down looks at the lists
less, and leaves sooner. All chance comes from the seed: the same world shown the same lists does the same, and who
comes when, and what is published, is the same whatever is shown.
"""

import heapq
import itertools
import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np

from streams.contract.events import Event, ItemRecord, UserRecord
from streams.simulator.catalogue import Catalogue, Floats
from streams.simulator.ledger import FOUND, FROM_LIST, NOTHING, Ledger, Look
from streams.simulator.people import People, Person, Visit, Watching, relevance, wished_for
from streams.simulator.profiles import DAY_MS, WorldConfig

Record = Event | ItemRecord | UserRecord

#: A place appeals by its relevance, as a logistic curve with this middle and width, and noise before it.
_APPEAL_MIDDLE: Final = 0.5
_APPEAL_WIDTH: Final = 0.08
_NOISE: Final = 0.08
#: Who looks without the list chooses among so many videos, and takes none that appeals less than this.
_ABOUT: Final = 20
_LEAST_APPEAL: Final = 0.3
_STAYS_WITHOUT: Final = 0.5
_TRUST_RATE: Final = 0.1


class Shown(NamedTuple):
    """A list as a person sees it: what it is called, and its items, best first."""

    rec_id: str
    items: Sequence[str]


class Coming(NamedTuple):
    """What comes next: event time in ms, and who is about to look at their list, if that is it."""

    ts: int
    looker: str | None


class _Kind(IntEnum):
    JOIN = 0
    VISIT = 1
    LOOK = 2
    FINISH = 3
    BOT = 4
    ARRIVAL = 5
    STORY = 6
    NEWCOMER = 7


class _Due(NamedTuple):
    ts: int
    order: int
    kind: _Kind
    number: int


class World:
    """People and videos. `coming` tells what is next, `step` lets it happen.

    Attributes:
        config: what it is like.
        catalogue: the videos that are out.
        people: everybody, those still to join included.
        ledger: what came of every look.
    """

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config or WorldConfig()
        self.catalogue = Catalogue(self.config)
        self.people = People(self.config)
        self.ledger = Ledger()
        self._by_id = {person.user_id: person for person in self.people.everybody}
        self._order = itertools.count()
        self._due: list[_Due] = []
        start = self.config.start_ms
        self._weights = self.config.persistence ** np.arange(self.config.places)
        self._weights /= self._weights.sum()
        for person in self.people.everybody:
            joins = self.people.joins_at(person)
            if joins > start:
                self._plan(joins, _Kind.JOIN, person)
            elif person.bot:
                self._plan(start, _Kind.BOT, person)
            else:
                rng = np.random.default_rng([self.config.seed, 5, person.number])
                self._plan(self.people.next_visit(person, start, rng), _Kind.VISIT, person)
        for moment, of_story in self.catalogue.arrivals():
            self._plan(moment, _Kind.STORY if of_story else _Kind.NEWCOMER)
        self._plan(start + self.catalogue.until_next(), _Kind.ARRIVAL)

    def items(self) -> list[ItemRecord]:
        """The videos that are out."""
        return list(self.catalogue.records)

    def users(self) -> list[UserRecord]:
        """The profiles of those who have joined."""
        waiting = {due.number for due in self._due if due.kind is _Kind.JOIN}
        return [person.user for person in self.people.everybody if person.number not in waiting]

    def is_bot(self, user_id: str) -> bool:
        """Whether the user is none of the people."""
        return self._by_id[user_id].bot

    @property
    def coming(self) -> Coming:
        """What happens next."""
        due = self._due[0]
        looker = self.people.everybody[due.number].user_id if due.kind is _Kind.LOOK else None
        return Coming(due.ts, looker)

    def worth(self, looker: str, lists: Sequence[Sequence[int]]) -> list[float]:
        """The expected relevance of lists of videos, by number, to the person who looks next; nothing happens by it.

        What was shown in vain before does not count against a list: no other than the one that is looked at ever was.
        """
        person = self._by_id[looker]
        truth = relevance(person, self.catalogue, self.coming.ts, tired=False)
        unseen = ([number for number in each if number not in person.seen] for each in lists)
        return [self._worth(each[: self.config.places], truth)[0] for each in unseen]

    def step(self, shown: Shown | None = None) -> list[Record]:
        """Let the next thing happen; returns what the system is told of it, in order.

        Args:
            shown: the list that `coming.looker` sees, if there is one; it is looked at by nobody else.
        """
        due = heapq.heappop(self._due)
        now = due.ts
        if due.kind in (_Kind.ARRIVAL, _Kind.STORY, _Kind.NEWCOMER):
            if due.kind is _Kind.ARRIVAL:
                self._plan(now + self.catalogue.until_next(), _Kind.ARRIVAL)
            return [self.catalogue.publish(now, breaking=due.kind is _Kind.STORY)]
        person = self.people.everybody[due.number]
        if due.kind is _Kind.JOIN:
            self._plan(now + 1_000, _Kind.VISIT, person)
            return [person.user]
        if due.kind is _Kind.BOT:
            return list(self._bot_acts(person, now))
        if due.kind is _Kind.VISIT:
            begun = self.people.begin_visit(person, now)
            self._plan(now + self._pause(begun), _Kind.LOOK, person)
            return [self._event("visit", person, begun, now)]
        visit = person.visit
        assert visit is not None, "who looks or watches is there"
        if due.kind is _Kind.LOOK:
            return list(self._look(person, visit, now, shown))
        return list(self._finish(person, visit, now))

    # -- what people do

    def _look(self, person: Person, visit: Visit, now: int, shown: Shown | None) -> list[Event]:
        """Go through the list, or look without it; what is taken is watched from now on."""
        rng = visit.rng
        truth = relevance(person, self.catalogue, now)
        events: list[Event] = []
        taken: tuple[int, str | None, int | None] | None = None
        value, best = math.nan, math.nan
        uses_list = rng.random() < (1.0 - self.config.exploration) * (0.3 + 0.7 * person.trust)
        if shown is not None and uses_list:
            places = self._places(person, shown)
            value, best = self._worth([number for _, number in places], truth)
            taken = self._through_list(person, visit, now, shown.rec_id, places, truth, events)
        if taken is None and (not events or rng.random() < _STAYS_WITHOUT):
            taken = self._without_list(visit, truth)
        watching = self._watch(person, visit, now, truth, taken) if taken else None
        outcome = NOTHING if taken is None else FOUND if taken[1] is None else FROM_LIST
        self.ledger.add(
            Look(
                ts=now,
                user=person.number,
                visit=(person.number << 32) + visit.number,
                outcome=outcome,
                relevance=value,
                best=best,
                satisfied=watching is not None and watching.satisfied,
                minutes=watching.seconds / 60.0 if watching else 0.0,
            )
        )
        if watching is None and self._goes_on(person, visit, now, chance=_STAYS_WITHOUT):
            events += self._search(person, visit, now, truth)
        return events

    def _search(self, person: Person, visit: Visit, now: int, truth: Floats) -> list[Event]:
        """Perhaps say what is missed: a genre, or the title of the best of some videos that the person has heard of."""
        rng = np.random.default_rng([self.config.seed, 7, person.number, now])  # its own: all else comes as without
        if rng.random() >= self.config.searching:
            return []
        heard_of = self.catalogue.come_across(_ABOUT, rng)
        title = self.catalogue.records[int(heard_of[truth[heard_of].argmax()])].title
        query = title if rng.random() < 0.5 else wished_for(person, visit)
        return [self._event("search", person, visit, now, query=query.lower())]

    def _through_list(
        self,
        person: Person,
        visit: Visit,
        now: int,
        rec_id: str,
        places: list[tuple[int, int]],
        truth: Floats,
        events: list[Event],
    ) -> tuple[int, str | None, int | None] | None:
        """From the top of the list, or from where the eye came to rest; what is looked at is told as `events`."""
        rng = visit.rng
        first = visit.looked_down_to if visit.rec_id == rec_id else 0
        visit.rec_id = rec_id
        for position, number in places:
            if position < first:
                continue
            visit.looked_down_to = position + 1
            item_id = self.catalogue.records[number].item_id
            seen = {"item_id": item_id, "rec_id": rec_id, "position": position}
            events.append(self._event("impression", person, visit, now, **seen))
            relevant = float(truth[number])
            appeal = (relevant + _NOISE * rng.normal() - _APPEAL_MIDDLE) / _APPEAL_WIDTH
            if rng.random() < 1.0 / (1.0 + math.exp(-max(min(appeal, 30.0), -30.0))):
                return number, rec_id, position
            person.passed_over(number)
            if relevant < 0.1 and rng.random() < 0.03:
                person.seen.add(number)
                events.append(self._event("hide", person, visit, now, **seen))
            if rng.random() >= self.config.persistence:
                break
        return None

    def _without_list(self, visit: Visit, truth: Floats) -> tuple[int, str | None, int | None] | None:
        """Of a few videos that are about, the one that looks best."""
        about = self.catalogue.come_across(_ABOUT, visit.rng)
        appeal = truth[about] + _NOISE * visit.rng.normal(size=len(about))
        appeal[truth[about] == 0.0] = 0.0
        at = int(appeal.argmax())
        return (int(about[at]), None, None) if appeal[at] > _LEAST_APPEAL else None

    def _watch(
        self, person: Person, visit: Visit, now: int, truth: Floats, taken: tuple[int, str | None, int | None]
    ) -> Watching:
        item, rec_id, position = taken
        satisfied = bool(visit.rng.random() < truth[item])
        share = visit.rng.uniform(0.8, 1.0) if satisfied else 0.8 * visit.rng.beta(0.8, 2.0)
        length = float(self.catalogue.seconds[item])
        # rounded up: what was watched to the end must not fall short of it
        seconds = min(math.ceil(share * length * 10.0) / 10.0, length)
        person.seen.add(item)
        person.shown.pop(item, None)
        self.catalogue.watched(item, now)
        visit.watching = Watching(item, seconds, satisfied, rec_id, position)
        self._plan(now + int(seconds * 1000.0), _Kind.FINISH, person)
        return visit.watching

    def _finish(self, person: Person, visit: Visit, now: int) -> list[Event]:
        """A video is over: it is told, perhaps with a like or a dislike, and the person looks for another or leaves."""
        watching, visit.watching = visit.watching, None
        assert watching is not None, "a video that ends was begun"
        rng = visit.rng
        record = self.catalogue.records[watching.item]
        of = {"item_id": record.item_id, "rec_id": watching.rec_id, "position": watching.position}
        told = self._event("watch", person, visit, now, watch_s=watching.seconds, duration_s=record.duration_s, **of)
        events = [told]
        if watching.satisfied:
            person.creators.append(int(self.catalogue.creator[watching.item]))
            if rng.random() < 0.15:
                events.append(self._event("like", person, visit, now, **of))
        elif watching.seconds < 0.1 * float(self.catalogue.seconds[watching.item]) and rng.random() < 0.15:
            events.append(self._event("dislike", person, visit, now, **of))
        if watching.rec_id is not None:
            person.trust += _TRUST_RATE * (watching.satisfied - person.trust)
        leaves = (1.0 if watching.satisfied else 2.0) / self.config.session_length
        self._goes_on(person, visit, now, chance=1.0 - leaves)
        return events

    def _goes_on(self, person: Person, visit: Visit, now: int, *, chance: float) -> bool:
        """Whether the person stays, and looks for the next video after a pause, or leaves until the next visit."""
        stays = bool(visit.rng.random() < chance)
        if stays:
            self._plan(now + self._pause(visit), _Kind.LOOK, person)
        else:
            person.visit = None
            self._plan(max(visit.returns_at, now + 60_000), _Kind.VISIT, person)
        return stays

    def _bot_acts(self, person: Person, now: int) -> list[Event]:
        """A bot has a video of its creator run to the end, likes it, and does so again."""
        rng = np.random.default_rng([self.config.seed, 6, person.number, person.visits])
        person.visits += 1
        own = np.flatnonzero(self.catalogue.creator == self.catalogue.creator[0])
        record = self.catalogue.records[int(rng.choice(own))]
        act = Event(
            type="watch",
            user_id=person.user_id,
            ts=now,
            item_id=record.item_id,
            watch_s=record.duration_s,
            duration_s=record.duration_s,
        )
        self._plan(now + 1 + int(rng.exponential(DAY_MS / self.config.bot_actions_per_day)), _Kind.BOT, person)
        return [act, Event(type="like", user_id=person.user_id, ts=now, item_id=record.item_id)]

    # -- the truth

    def _places(self, person: Person, shown: Shown) -> list[tuple[int, int]]:
        """What is shown of a list, as (position, number): an application leaves out what was dealt with since."""
        numbers = ((position, self.catalogue.numbers.get(item_id)) for position, item_id in enumerate(shown.items))
        places = [(at, number) for at, number in numbers if number is not None and number not in person.seen]
        return places[: self.config.places]

    def _worth(self, numbers: list[int], truth: Floats) -> tuple[float, float]:
        """The expected relevance of a list of videos by number, and of the best one that there could be."""
        places = len(self._weights)
        listed = np.zeros(places)
        listed[: len(numbers)] = truth[numbers]
        best = np.zeros(places)
        top = np.sort(np.partition(truth, -min(places, len(truth)))[-places:])[::-1]
        best[: len(top)] = top
        return float(listed @ self._weights), float(best @ self._weights)

    # -- bookkeeping

    def _event(self, type_: str, person: Person, visit: Visit, now: int, **more: object) -> Event:
        return Event(
            type=type_,  # type: ignore[arg-type]
            user_id=person.user_id,
            ts=now,
            session_id=f"{person.user_id}/{visit.number}",
            context={"device": visit.device, "country": person.country},
            **more,  # type: ignore[arg-type]
        )

    def _pause(self, visit: Visit) -> int:
        """The time in ms between a video, or coming, and looking for the next."""
        return 2_000 + int(visit.rng.exponential(3_000.0))

    def _plan(self, ts: int, kind: _Kind, person: Person | None = None) -> None:
        heapq.heappush(self._due, _Due(ts, next(self._order), kind, person.number if person else -1))
