"""Shadows: lists that are made beside those in service, shown to nobody, and scored on what their users then find.

Plain state. A shadow's list is paired with the published one that it was made beside. What the user then likes without
a list (no `rec_id`) is looked up in both, until the published one was shown: from then on it would have helped.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from pydantic import BaseModel, Field

from models.data.labels import CONSUMING, POSITIVE, LabelRules
from models.statistics.effects import linearised, mean_of
from serving.experiments.results import USERS_LEAST, Effect, Interval, effect_of, interval_of
from serving.lists.assignment import point
from streams.contract.events import Event, Recommendations
from streams.settings.online import ShadowSettings

_CUT: Final = 10
#: The relative effect that the test is made for: between models, recall differs more than what users do.
_HOPED: Final = 0.2
_USERS: Final = 20_000
_PENDING: Final = 200
_TAKEN: Final = 50_000
_EVENTS, _SERVED, _OWN = range(3)


class ShadowResult(BaseModel):
    """How a shadow does: recall@10 of its lists and of those published beside them, on the same events."""

    name: str
    pipeline: str | None
    model: str = Field(description="the version that makes its lists; empty before the first")
    lists: int = Field(description="that it made")
    passed_over: int = Field(description="lists that it did not make, for want of time")
    users: int
    events: int
    served: Interval
    own: Interval
    difference: Effect = Field(description="the shadow's recall less that of what was published")
    verdict: str


class _Pair(NamedTuple):
    at: int  # clock (ms) from which on both lists are there
    rec_id: str
    served: frozenset[str]
    own: frozenset[str]


@dataclass
class Shadow:
    """One shadow's lists and scores; when its model changes they begin anew.

    Attributes:
        lists, passed_over: how many lists it made, and how many it had no time for.
    """

    settings: ShadowSettings
    labels: LabelRules
    model: str = ""
    lists: int = 0
    passed_over: int = 0
    _pending: OrderedDict[str, Recommendations] = field(default_factory=OrderedDict)
    _pairs: OrderedDict[str, _Pair] = field(default_factory=OrderedDict)
    _taken: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)
    _sums: dict[str, list[float]] = field(default_factory=dict)
    _forgotten: int = 0

    # -- what comes in

    def offer(self, made: Recommendations) -> None:
        """Tell of a list that was just published; of most users nothing comes of it."""
        if point(f"shadow/{self.settings.name}", made.user_id) >= self.settings.share:
            return
        self._pending[made.user_id] = made
        self._pending.move_to_end(made.user_id)
        if len(self._pending) > _PENDING:
            self._pending.popitem(last=False)
            self.passed_over += 1

    def due(self, most: int) -> list[Recommendations]:
        """The published lists, at most so many, beside which one is to be made now: the newest."""
        return [self._pending.popitem()[1] for _ in range(min(most, len(self._pending)))]

    def take_lists(self, served: Sequence[Recommendations], own: Sequence[Recommendations], at: int) -> None:
        """Take in the lists made beside published ones, of states that were read before `at` (clock, ms)."""
        for published, made in zip(served, own, strict=True):
            if made.model != self.model:
                self.model = made.model
                self._pairs.clear()
                self._sums.clear()
            self.lists += 1
            both = (frozenset(place.item_id for place in each.items[:_CUT]) for each in (published, made))
            self._pairs[made.user_id] = _Pair(at, published.rec_id, *both)
            self._pairs.move_to_end(made.user_id)
            if len(self._pairs) > _USERS:
                self._pairs.popitem(last=False)

    def take_event(self, event: Event, arrived: int) -> None:
        """Take in an event, which arrived in Kafka at that time (ms), and score both lists on it."""
        pair = self._pairs.get(event.user_id)
        if pair is None or event.item_id is None:
            return
        if event.rec_id is not None:
            if event.rec_id == pair.rec_id:
                del self._pairs[event.user_id]
            return
        graded = event.grade(self.labels)
        key = event.user_id, event.item_id
        if arrived <= pair.at or graded.label != POSITIVE or graded.action not in CONSUMING or key in self._taken:
            return
        self._taken[key] = None
        if len(self._taken) > _TAKEN:
            self._taken.popitem(last=False)
        if event.user_id not in self._sums and len(self._sums) >= _USERS:
            return
        sums = self._sums.setdefault(event.user_id, [0.0, 0.0, 0.0])
        sums[_EVENTS] += 1
        sums[_SERVED] += event.item_id in pair.served
        sums[_OWN] += event.item_id in pair.own

    def forget(self, user: str) -> None:
        """Forget an erased user; the sums stay, nobody's."""
        self._pending.pop(user, None)
        self._pairs.pop(user, None)
        for key in [key for key in self._taken if key[0] == user]:
            del self._taken[key]
        if user in self._sums:
            self._forgotten += 1
            self._sums[f"\x1f{self._forgotten}"] = self._sums.pop(user)

    # -- what it says

    def result(self, alpha: float) -> ShadowResult:
        """How it does as of now, users being what is drawn."""
        sums = np.array(list(self._sums.values())).reshape(-1, 3)
        events, served, own = sums[:, _EVENTS], sums[:, _SERVED], sums[:, _OWN]
        recalls = [mean_of(linearised(hits, events)) for hits in (served, own)]
        tau = _HOPED * float(recalls[0].value) or _HOPED
        difference = effect_of(mean_of(linearised(own - served, events)), tau, alpha)
        return ShadowResult(
            name=self.settings.name,
            pipeline=self.settings.pipeline,
            model=self.model,
            lists=self.lists,
            passed_over=self.passed_over,
            users=len(sums),
            events=int(events.sum()),
            served=interval_of(recalls[0], 1 - alpha),
            own=interval_of(recalls[1], 1 - alpha),
            difference=difference,
            verdict=self._verdict(len(sums), difference, alpha),
        )

    def _verdict(self, users: int, difference: Effect, alpha: float) -> str:
        if not self.lists:
            return "It has made no list yet: its model is not among the artefacts, or is the one in service."
        if users < USERS_LEAST:
            return f"Too early: fewer than {USERS_LEAST} users found anything since they had both lists."
        told = difference.always
        bounds = f"{told.low or 0:+.4f} to {told.high or 0:+.4f}"
        what = f"recall@10 {told.value:+.4f} ({bounds} at whatever moment one looks)"
        if difference.p_always >= alpha:
            return f"{self.settings.name} is not shown to differ from what is served: {what}."
        return f"{self.settings.name} finds {'more' if told.value > 0 else 'less'} than what is served: {what}."
