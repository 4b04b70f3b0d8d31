"""Filters: what a user is not shown, and for which reason. Only they may drop a candidate.

Some name all that they bar for each user, which the sources then pass over; the others look at candidates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

import numpy as np
import numpy.typing as npt

from models.data.labels import Action
from serving.pipeline.query import Query, Rows
from serving.pipeline.sources import ContinueWatching
from streams.contract.events import UserRecord
from streams.settings.pipeline import PipelineSettings

_NONE: Final[npt.NDArray[np.int64]] = np.zeros(0, np.int64)


class Filter(ABC):
    """A reason not to show an item; `name` is what explanations call it."""

    name: str

    def __init__(self, settings: PipelineSettings) -> None:
        self.settings = settings

    @abstractmethod
    def removes(
        self, query: Query, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Which of the pairs (p,) are not to be shown."""


class ListFilter(Filter):
    """A filter that can tell all at once: the sources then propose other items instead."""

    @abstractmethod
    def bars(self, query: Query) -> list[Rows]:
        """Per user the rows not to be shown, in no order; a row may come twice."""

    def removes(
        self, query: Query, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        barred = self.bars(query)
        size = 1 + max(int(each.max(initial=0)) for each in (items, *barred))
        keys = [place * size + np.asarray(rows, np.int64) for place, rows in enumerate(barred)]
        return np.isin(users * size + items, np.concatenate([np.zeros(0, np.int64), *keys]))


class Withdrawn(Filter):
    """The item's record says that it is not available."""

    name = "withdrawn"

    def removes(
        self, query: Query, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        return ~query.available[items]


class _Acted(ListFilter):
    """The user's last action of some kinds on the item was one of these."""

    actions: tuple[Action, ...]

    def bars(self, query: Query) -> list[Rows]:
        users = query.users
        acted = np.logical_or.reduce([users.actions == each for each in self.actions]) & (users.items >= 0)
        barred: list[Rows] = [_NONE] * len(users)
        for place in np.flatnonzero(np.count_nonzero(acted, axis=1)).tolist():
            barred[place] = users.items[place][acted[place]]
        return barred


class Hidden(_Acted):
    """The user hid the item."""

    name = "hidden"
    actions = (Action.HIDE,)


class Disliked(_Acted):
    """The user disliked the item."""

    name = "disliked"
    actions = (Action.DISLIKE,)


class Seen(ListFilter):
    """The user has dealt with the item; what was begun and not finished may come back where a source proposes it."""

    name = "seen"

    def __init__(self, settings: PipelineSettings) -> None:
        super().__init__(settings)
        self._begun = ContinueWatching(settings) if ContinueWatching.name in settings.sources else None

    def bars(self, query: Query) -> list[Rows]:
        seen = list(query.seen)
        if self._begun is not None:
            begun = self._begun.begun(query.users)
            for place in np.flatnonzero(begun.any(axis=1)).tolist():
                seen[place] = np.setdiff1d(seen[place], query.users.items[place][begun[place]])
        return seen


class Fatigue(ListFilter):
    """The item was shown to the user again and again, and never turned to."""

    name = "fatigue"

    def bars(self, query: Query) -> list[Rows]:
        return [self._tired_of(rows) if len(rows) >= self.settings.fatigue else _NONE for rows in query.shown]

    def _tired_of(self, rows: Rows) -> Rows:
        distinct, counts = np.unique(rows, return_counts=True)
        return distinct[counts >= self.settings.fatigue]


class Country(Filter):
    """The item may not be shown in the user's country."""

    name = "country"

    def removes(
        self, query: Query, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        territories = query.items.territories
        if len(territories) == 1:  # none is limited
            return np.zeros(len(users), bool)
        feature = self.settings.countries.feature
        countries = [_first(profile, feature) for profile in query.profiles]
        barred = np.array(
            [[_barred(country, only, never) for only, never in territories] for country in countries], dtype=bool
        )
        found: npt.NDArray[np.bool_] = barred[users, query.items.territory[items]]
        return found


class Maturity(Filter):
    """The item is for people older than the user, or above the limit that the user's profile sets."""

    name = "maturity"

    def removes(
        self, query: Query, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        if not query.items.least_age.any():
            return np.zeros(len(users), bool)
        ages = np.array([self._age(profile) for profile in query.profiles], np.float32)
        removed: npt.NDArray[np.bool_] = query.items.least_age[items] > ages[users]
        return removed

    def _age(self, profile: UserRecord | None) -> float:
        maturity = self.settings.maturity
        if profile is None:
            return maturity.unknown_age
        told = profile.numeric.get(maturity.age)
        if told is None:
            told = _lower_end(_first(profile, maturity.age))
        age = maturity.unknown_age if told is None else told
        return min(age, profile.numeric.get(maturity.limit, np.inf))


def _first(profile: UserRecord | None, feature: str) -> str:
    values = profile.categorical.get(feature) if profile else None
    return values[0] if values else ""


def _barred(country: str, only: frozenset[str], never: frozenset[str]) -> bool:
    return country in never or (bool(only) and country not in only)


def _lower_end(text: str) -> float | None:
    """The years that an age or an age group begins with: 25 of `25-34`."""
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    return float(digits) if digits else None


FILTERS: Final = {each.name: each for each in (Withdrawn, Hidden, Disliked, Seen, Fatigue, Country, Maturity)}
