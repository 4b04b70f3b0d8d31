"""Contenders that learn event by event: what is trending, overall and by segment, and item-item neighbours."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from models.data.interactions import NO_ITEM, Interactions
from models.data.labels import POSITIVE
from models.evaluation.baselines import Asks, Fit, Floats, Items, Known, Tables, best_of
from models.evaluation.classics import Baseline, DecayedTrending, ItemItem, filled
from models.evaluation.splits import Fold
from models.training.context import Course

#: Half-lives tried for the trending baseline, in days; the best on the tenth before the split is the baseline.
TRENDING_DAYS: Final = (0.25, 1.0, 3.0, 7.0, 30.0, 90.0, 365.0)
_DAY_S: Final = 86_400.0
#: How far down lists are looked at when half-lives are tried, and on how many likes.
_TRIED, _TRIALS = 10, 1000
#: A segment's trends count half where it has so many decayed positives.
_SUPPORT: Final = 50.0
#: Half-lives after which decayed counts are brought back to size.
_REBASE: Final = 30.0


def best_half_life(course: Course, fold: Fold) -> float:
    """The half-life in seconds under which trending finds the most in the tenth of the training before the split."""
    log = course.histories.log
    begin = fold.start - fold.start // 10
    rows = begin + np.flatnonzero((course.targets & fold.training)[begin : fold.start])
    rows = rows[:: max(1, len(rows) // _TRIALS)]
    tried = [DecayedTrending(days * _DAY_S) for days in TRENDING_DAYS]
    found = np.zeros(len(tried))
    known = 0
    for row, seen in zip(rows.tolist(), course.histories.seen_before(rows), strict=True):
        for earlier in known + np.flatnonzero(course.targets[known:row]):
            for trending in tried:
                trending.learn(0, int(log.item[earlier]), int(log.ts[earlier]), True)
        known = row
        hidden = set(seen.tolist())
        found += [int(log.item[row]) in trending.top(0, _TRIED, hidden) for trending in tried]
    return tried[int(np.argmax(found))].half_life_s


class Trending(Fit):
    """What is trending; before it come the lists of another baseline, if there is one."""

    event_by_event: ClassVar[bool] = True

    def __init__(self, trending: DecayedTrending, first: Baseline | None = None) -> None:
        self.trending = trending
        self._first = first

    @classmethod
    def fitted(cls, known: Known) -> Self:
        return cls(DecayedTrending(known.half_life_s)).caught_up(known.course.histories.log, known.fold)

    def follow(self, log: Interactions, rows: npt.NDArray[np.int64]) -> None:
        for row in rows[log.item[rows] != NO_ITEM].tolist():
            event = int(log.user[row]), int(log.item[row]), int(log.ts[row]), bool(log.label[row] == POSITIVE)
            self.trending.learn(*event)
            if self._first is not None:
                self._first.learn(*event)

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        listed = np.full((len(asks.codes), n), -1, dtype=np.int32)
        hidden = set(np.flatnonzero(~asks.allowed).tolist())
        for place, (user, seen) in enumerate(zip(asks.codes.tolist(), asks.seen, strict=True)):
            known = hidden | set(seen.tolist())
            best = self.trending.top(user, n, known)
            if self._first is not None:
                best = filled(self._first.top(user, n, known), best, n)
            listed[place, : len(best)] = best
        return listed, None

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        return self.trending.tables()

    @classmethod
    def from_tables(cls, tables: Tables, course: Course) -> Self:
        return cls(DecayedTrending.from_tables(tables))


class ItemItemFirst(Trending):
    """Item-item neighbours, and then what is trending."""

    def __init__(self, trending: DecayedTrending, item_item: ItemItem | None = None) -> None:
        self._item_item = item_item or ItemItem()
        super().__init__(trending, self._item_item)

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        return self.trending.tables() | self._item_item.tables()

    @classmethod
    def from_tables(cls, tables: Tables, course: Course) -> Self:
        return cls(DecayedTrending.from_tables(tables), ItemItem.from_tables(tables))


class SegmentTrending(Fit):
    """What is trending among those who share the user's profile: the mean over its tokens, each leant on everybody's.

    Args:
        segments: (users of the log, P) which segments each user is in; 0 is everybody's and pads.
        positives: float64 (segments, items) decayed counts, as of `landmark` in ms.
    """

    event_by_event: ClassVar[bool] = True

    def __init__(
        self, half_life_s: float, segments: npt.NDArray[np.int64], positives: npt.NDArray[np.float64], landmark: int = 0
    ) -> None:
        self._half_life_s = half_life_s
        self._segments = segments
        self._positives = positives
        self._landmark = landmark

    @classmethod
    def fitted(cls, known: Known) -> Self:
        profiles = known.course.histories.profiles
        tokens = np.unique(np.append(profiles, 0))
        counts = np.zeros((len(tokens), len(known.course.items)))
        made = cls(known.half_life_s, np.searchsorted(tokens, profiles), counts)
        return made.caught_up(known.course.histories.log, known.fold)

    def follow(self, log: Interactions, rows: npt.NDArray[np.int64]) -> None:
        for row in rows[(log.item[rows] != NO_ITEM) & (log.label[rows] == POSITIVE)].tolist():
            passed = self._passed(int(log.ts[row]))
            if passed > _REBASE:
                self._positives *= 2.0**-passed
                self._landmark, passed = int(log.ts[row]), 0.0
            own = np.append(self._segments[log.user[row]], 0)
            self._positives[np.unique(own), log.item[row]] += 2.0**passed

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        everybody = self._positives[0] / max(self._positives[0].sum(), 1e-300)
        lean = _SUPPORT * 2.0 ** min(self._passed(int(asks.users.now.max())), 2 * _REBASE)
        scores = np.empty((len(asks.codes), len(everybody)), dtype=np.float32)
        for place, code in enumerate(asks.codes.tolist()):
            own = self._positives[self._segments[code][self._segments[code] > 0]]
            shares = (own + lean * everybody) / (own.sum(axis=1, keepdims=True) + lean)
            scores[place] = shares.mean(axis=0) if len(own) else everybody
        return best_of(scores, asks, n), None

    def _passed(self, ts: int) -> float:
        return (ts - self._landmark) / (self._half_life_s * 1000.0)

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        return {
            "half_life_s": np.array([self._half_life_s]),
            "segments": self._segments,
            "positives": self._positives,
            "landmark": np.array([self._landmark]),
        }

    @classmethod
    def from_tables(cls, tables: Tables, course: Course) -> Self:
        half_life_s, landmark = float(tables["half_life_s"][0]), int(tables["landmark"][0])
        return cls(half_life_s, tables["segments"], tables["positives"], landmark)
