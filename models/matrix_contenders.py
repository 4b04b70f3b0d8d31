"""Contenders that are models over the matrix of who liked what: factorizations, neighbours among users, content."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.config import ClassicsConfig
from models.contenders import Asks, Floats, Items, best_of
from models.interactions import Interactions
from models.ranking.facts import ItemFacts

_LIKED: Final = 0.75


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
        scores = np.asarray(self.scores(liked, asks.codes), dtype=np.float32)
        # of whom nothing is known gets what is popular
        slow = asks.popularity.shares()[:, -1]
        return best_of(scores + 1e-6 * slow[: scores.shape[1]], asks, n), None

    @abstractmethod
    def scores(self, liked: Any, codes: npt.NDArray[np.int32]) -> Any:
        """The scores (B, items) for users of the log (B,) by what they like now, sparse (B, items)."""


class Factors(Matrix):
    """A factorization by a model of `implicit`, fitted to the matrix."""

    def __init__(
        self,
        log: Interactions,
        targets: npt.NDArray[np.bool_],
        stop: int,
        items: int,
        config: ClassicsConfig,
        seed: int,
    ) -> None:
        super().__init__(log, targets, stop, items)
        shape = {"factors": config.factors, "regularization": config.regularisation}
        self._model = self.model(config, **shape, num_threads=1, random_state=seed)
        self._model.fit(self.likes, show_progress=False)

    @abstractmethod
    def model(self, config: ClassicsConfig, **shared: Any) -> Any:
        """The model, not fitted yet; `shared` are arguments that all of them take."""


class WeightedALS(Factors):
    """Weighted alternating least squares for implicit feedback (Hu, Koren and Volinsky, 2008)."""

    def model(self, config: ClassicsConfig, **shared: Any) -> Any:
        from implicit.cpu.als import AlternatingLeastSquares

        return AlternatingLeastSquares(alpha=1.0 / config.unobserved_weight, iterations=config.als_rounds, **shared)

    def scores(self, liked: Any, codes: npt.NDArray[np.int32]) -> Any:
        factors = self._model.recalculate_user(np.arange(liked.shape[0]), liked)
        return np.atleast_2d(factors) @ self._model.item_factors.T


class FactorsBySGD(Factors):
    """Matrix factorization by stochastic gradient descent on pairs (BPR; Rendle et al., 2009).

    It knows the users that it was trained on, as they were then.
    """

    def model(self, config: ClassicsConfig, **shared: Any) -> Any:
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        return BayesianPersonalizedRanking(learning_rate=config.sgd_rate, iterations=config.sgd_rounds, **shared)

    def scores(self, liked: Any, codes: npt.NDArray[np.int32]) -> Any:
        scores = self._model.user_factors[codes] @ self._model.item_factors.T
        unliked = np.asarray(self.likes.getnnz(axis=0) == 0)
        scores[:, unliked] = scores.min(initial=0.0)  # their factors are 0, which says nothing
        return scores


class UserUser(Matrix):
    """What the users who like the same liked: cosine over users, the nearest ones summed (Herlocker et al., 1999)."""

    def __init__(
        self, log: Interactions, targets: npt.NDArray[np.bool_], stop: int, items: int, neighbours: int
    ) -> None:
        super().__init__(log, targets, stop, items)
        self._neighbours = neighbours

    def scores(self, liked: Any, codes: npt.NDArray[np.int32]) -> Any:
        weights = 1.0 / np.sqrt(np.maximum(self.likes.getnnz(axis=1), 1))
        near = np.asarray((liked @ self.likes.T).todense()) * weights
        if near.shape[1] > self._neighbours:
            least = np.partition(near, near.shape[1] - self._neighbours, axis=1)[:, -self._neighbours, None]
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

    def scores(self, liked: Any, codes: npt.NDArray[np.int32]) -> Any:
        return np.asarray((liked @ self._content @ self._content.T).todense())
