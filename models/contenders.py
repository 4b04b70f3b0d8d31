"""The contenders of an evaluation: whatever can make lists out of what was known, the system among them.

All see the same asks. Those that learn event by event never lag; the others know what they were trained on, and of the
user who asks also what came since.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from models.classics import Baseline, DecayedTrending, filled
from models.interactions import NO_ITEM, Interactions
from models.labels import POSITIVE
from models.popularity import Popularity
from models.ranking.facts import ItemFacts
from models.recommender import Recommender
from models.users import UserBatch

Items = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

_LIKED: Final = 0.75
_FACTORS, _ALPHA, _REGULARISATION, _ROUNDS = 64, 10.0, 0.05, 15
_NEIGHBOURS = 100


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
    """The whole stack: all sources, the blend and the ranker."""

    model: Recommender

    def follow(self, log: Interactions, rows: npt.NDArray[np.int64]) -> None:
        """The model is as old as its training; users and popularity come with the asks."""

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        ranking = self.model.rank(asks.users, asks.popularity, allowed=asks.allowed, seen=asks.seen, n=n)
        return ranking.items, ranking.probabilities


@dataclass
class Network:
    """One of the networks alone, with the popularity that its index holds."""

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
        vectors = index.vectors
        queries = network.queries(asks.users, vectors[:, :-1])
        return best_of(queries @ vectors[:, :-1].T + vectors[:, -1], asks, n), None


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


class Matrix(ABC):
    """A model over the matrix of who liked what before row `stop`; a user is known by what the user likes as of now."""

    def __init__(self, log: Interactions, targets: npt.NDArray[np.bool_], stop: int, items: int) -> None:
        from scipy.sparse import csr_matrix

        rows = np.flatnonzero(targets[:stop])
        shape = (len(log.user_ids), items)
        likes = csr_matrix((np.ones(len(rows), np.float32), (log.user[rows], log.item[rows])), shape=shape)
        likes.data[:] = 1.0
        self.likes = likes

    def follow(self, log: Interactions, rows: npt.NDArray[np.int64]) -> None:
        """It is as old as its training."""
        return

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        from scipy.sparse import csr_matrix

        recent = asks.users.items
        of, places = np.nonzero((recent >= 0) & (asks.users.strengths >= _LIKED))
        liked = csr_matrix((np.ones(len(of), np.float32), (of, recent[of, places])), (len(recent), self.likes.shape[1]))
        liked.data[:] = 1.0
        scores = np.asarray(self.scores(liked), dtype=np.float32)
        # of whom nothing is known gets what is popular
        slow = asks.popularity.shares()[:, -1]
        return best_of(scores + 1e-6 * slow[: scores.shape[1]], asks, n), None

    @abstractmethod
    def scores(self, liked: Any) -> Any:
        """The scores (B, items) for users by what they like, sparse (B, items)."""


class WeightedALS(Matrix):
    """Weighted alternating least squares for implicit feedback (Hu, Koren and Volinsky, 2008), by `implicit`."""

    def __init__(self, log: Interactions, targets: npt.NDArray[np.bool_], stop: int, items: int, seed: int) -> None:
        super().__init__(log, targets, stop, items)
        from implicit.cpu.als import AlternatingLeastSquares

        self._model = AlternatingLeastSquares(
            factors=_FACTORS,
            alpha=_ALPHA,
            regularization=_REGULARISATION,
            iterations=_ROUNDS,
            num_threads=1,
            random_state=seed,
        )
        self._model.fit(self.likes, show_progress=False)

    def scores(self, liked: Any) -> Any:
        factors = self._model.recalculate_user(np.arange(liked.shape[0]), liked)
        return np.atleast_2d(factors) @ self._model.item_factors.T


class UserUser(Matrix):
    """What the users who like the same liked: cosine over users, the nearest ones summed (Herlocker et al., 1999)."""

    def scores(self, liked: Any) -> Any:
        weights = 1.0 / np.sqrt(np.maximum(self.likes.getnnz(axis=1), 1))
        near = np.asarray((liked @ self.likes.T).todense()) * weights
        if near.shape[1] > _NEIGHBOURS:
            least = np.partition(near, near.shape[1] - _NEIGHBOURS, axis=1)[:, -_NEIGHBOURS, None]
            near[near < least] = 0.0
        return near @ self.likes


class ContentBased(Matrix):
    """Items with the content of what the user likes: cosine of keys weighed by how rare they are (TF-IDF)."""

    def __init__(
        self, log: Interactions, targets: npt.NDArray[np.bool_], stop: int, facts: ItemFacts, buckets: int
    ) -> None:
        super().__init__(log, targets, stop, len(facts))
        from scipy.sparse import csr_matrix, diags

        items, places = np.nonzero(facts.keys)
        keys = facts.keys[items, places]
        rarity = np.log(len(facts) / np.maximum(np.bincount(keys, minlength=buckets), 1))
        content = csr_matrix((rarity[keys], (items, keys)), shape=(len(facts), buckets))
        lengths = np.sqrt(np.asarray(content.multiply(content).sum(axis=1)).ravel())
        self._content = diags(1.0 / np.maximum(lengths, 1e-9)) @ content

    def scores(self, liked: Any) -> Any:
        return np.asarray((liked @ self._content @ self._content.T).todense())


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
    other = Recommender(
        model.version, model.config, model.popularity, model.item_ids, model.networks, model.neighbours, model.blend
    )
    if model.ranker is not None:
        other.facts, other.ranker = model.facts, replace(model.ranker, share=0.0)
    return other
