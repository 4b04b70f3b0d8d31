"""The contenders of an evaluation: whatever can make lists out of what was known, the system among them.

All see the same asks. Those that learn event by event never lag; the others know what they were trained on, and of the
user who asks also what came since.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from models.classics import Baseline, DecayedTrending, filled
from models.interactions import NO_ITEM, Interactions
from models.labels import POSITIVE
from models.likes import Likes
from models.popularity import Popularity
from models.recommender import Recommender
from models.slist import Slist
from models.users import UserBatch

Items = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

#: A segment's trends count half where it has so many decayed positives.
_SUPPORT: Final = 50.0
#: Half-lives after which decayed counts are brought back to size.
_REBASE: Final = 30.0


@dataclass(frozen=True)
class Asks:
    """B users who ask for a list.

    Attributes:
        codes: int32 (B,) the users in the log.
        users: what is known of them.
        seen: per user the rows not to be listed.
        popularity: as of then.
        allowed: bool (rows,).
    """

    codes: npt.NDArray[np.int32]
    users: UserBatch
    seen: list[npt.NDArray[np.int32]]
    popularity: Popularity
    allowed: npt.NDArray[np.bool_]


class Contender(Protocol):
    """What can make lists."""

    def follow(self, log: Interactions, rows: npt.NDArray[np.int64]) -> None:
        """Take in rows of the log, which come after all it knows."""

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        """For each user the best items (B, n), padded with -1, and what it says of their probabilities."""


@dataclass
class System:
    """The whole stack: all sources, the blend and the ranker.

    Attributes:
        start: the model has not learnt from the log's rows from this one on.
    """

    model: Recommender
    likes: Likes
    start: int

    def __post_init__(self) -> None:
        self.model = copy(self.model)
        if self.model.neighbours is not None:  # what this one follows is no news to another contender
            self.model.neighbours = self.model.neighbours.copy()

    def follow(self, log: Interactions, rows: npt.NDArray[np.int64]) -> None:
        """The networks are as old as their training; users and popularity come with the asks."""
        if len(rows) and self.model.neighbours is not None:
            self.likes.follow(self.model.neighbours, max(self.start, int(rows[0])), int(rows[-1]) + 1)

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        ranking = self.model.rank(asks.users, asks.popularity, allowed=asks.allowed, seen=asks.seen, n=n)
        return ranking.items, ranking.probabilities


@dataclass
class NetworkAlone:
    """One of the networks alone, with the popularity as of the asks."""

    model: Recommender
    name: str

    def follow(self, log: Interactions, rows: npt.NDArray[np.int64]) -> None:
        """As the system."""

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        networks = self.model.networks
        assert networks is not None
        network, index = (
            (networks.sequence, networks.sequence_index)
            if self.name == "sequence"
            else (networks.towers, networks.towers_index)
        )
        vectors = index.vectors[:, :-1]  # the last number is the prior as of the build
        scores = network.queries(asks.users, vectors) @ vectors.T + network.prior.now(asks.popularity)
        return best_of(scores, asks, n), None


@dataclass
class SlistAlone:
    """SLIST alone."""

    model: Slist

    def follow(self, log: Interactions, rows: npt.NDArray[np.int64]) -> None:
        """It is as old as its training."""

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        return best_of(self.model.logarithms(asks.users, len(asks.allowed)), asks, n), None


class Classic:
    """A baseline that learns event by event, filled up with trending items.

    Args:
        half_life_s: of trending.
    """

    def __init__(self, half_life_s: float, first: Baseline | None = None) -> None:
        self._trending = DecayedTrending(half_life_s)
        self._first = first

    def follow(self, log: Interactions, rows: npt.NDArray[np.int64]) -> None:
        for row in rows[log.item[rows] != NO_ITEM].tolist():
            event = int(log.user[row]), int(log.item[row]), int(log.ts[row]), bool(log.label[row] == POSITIVE)
            self._trending.learn(*event)
            if self._first is not None:
                self._first.learn(*event)

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        listed = np.full((len(asks.codes), n), -1, dtype=np.int32)
        hidden = set(np.flatnonzero(~asks.allowed).tolist())
        for place, (user, seen) in enumerate(zip(asks.codes.tolist(), asks.seen, strict=True)):
            known = hidden | set(seen.tolist())
            best = self._trending.top(user, n, known)
            if self._first is not None:
                best = filled(self._first.top(user, n, known), best, n)
            listed[place, : len(best)] = best
        return listed, None


class SegmentTrending:
    """What is trending among those who share the user's profile: the mean over its tokens, each leant on everybody's.

    Args:
        profiles: int32 (users of the log, P) tokens, padded with 0.
    """

    def __init__(self, half_life_s: float, profiles: npt.NDArray[np.int32], items: int) -> None:
        tokens = np.unique(np.append(profiles, 0))
        self._half_life_ms = half_life_s * 1000.0
        self._segments = np.searchsorted(tokens, profiles)
        self._positives = np.zeros((len(tokens), items))  # the first row is everybody's
        self._landmark = 0

    def follow(self, log: Interactions, rows: npt.NDArray[np.int64]) -> None:
        for row in rows[(log.item[rows] != NO_ITEM) & (log.label[rows] == POSITIVE)].tolist():
            passed = (int(log.ts[row]) - self._landmark) / self._half_life_ms
            if passed > _REBASE:
                self._positives *= 2.0**-passed
                self._landmark, passed = int(log.ts[row]), 0.0
            own = np.append(self._segments[log.user[row]], 0)
            self._positives[np.unique(own), log.item[row]] += 2.0**passed

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        everybody = self._positives[0] / max(self._positives[0].sum(), 1e-300)
        passed = (int(asks.users.now.max()) - self._landmark) / self._half_life_ms
        unit = 2.0 ** min(passed, 2 * _REBASE)
        scores = np.empty((len(asks.codes), len(everybody)), dtype=np.float32)
        for place, code in enumerate(asks.codes.tolist()):
            own = self._positives[self._segments[code][self._segments[code] > 0]]
            lean = _SUPPORT * unit
            shares = (own + lean * everybody) / (own.sum(axis=1, keepdims=True) + lean)
            scores[place] = shares.mean(axis=0) if len(own) else everybody
        return best_of(scores, asks, n), None


def best_of(scores: Floats, asks: Asks, n: int) -> Items:
    """The best `n` allowed and unseen rows for each user by scores (B, rows), the first of equals first."""
    scores = np.where(asks.allowed[: scores.shape[1]], scores, -np.inf)
    for place, seen in enumerate(asks.seen):
        scores[place, seen] = -np.inf
    n_best = min(n, scores.shape[1])
    near = np.argpartition(-scores, n_best - 1, axis=1)[:, :n_best]
    near.sort(axis=1)
    own = np.take_along_axis(scores, near, axis=1)
    order = np.argsort(-own, axis=1, kind="stable")
    best, values = np.take_along_axis(near, order, axis=1), np.take_along_axis(own, order, axis=1)
    listed = np.full((len(scores), n), -1, dtype=np.int32)
    listed[:, :n_best] = np.where(np.isfinite(values), best, -1)
    return listed


def blend_alone(model: Recommender) -> Recommender:
    """The same recommender without its ranker's say."""
    other = copy(model)
    if model.ranker is not None:
        other.ranker = replace(model.ranker, share=0.0)
    return other
