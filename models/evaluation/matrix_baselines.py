"""Contenders that are models over the matrix of who liked what: factorizations, neighbours among users, content."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, diags
from threadpoolctl import threadpool_limits

from models.config import ClassicsConfig
from models.evaluation.baselines import Asks, Fit, Floats, Items, Known, Tables, best_of
from models.training.context import Course

_LIKED: Final = 0.75
#: The products in a factorization are so small that several threads for each only wait for each other.
_one_thread = partial(threadpool_limits, limits=1, user_api="blas")


class Matrix(Fit):
    """A model over the matrix of who liked what before the split; a user is known by what the user likes as of now.

    Args:
        learnt: the likes as `users` and `items`, the `shape` of their matrix, and what was learnt of it.
    """

    def __init__(self, learnt: Tables, config: ClassicsConfig) -> None:
        self.learnt = learnt
        self.likes = _matrix(learnt["users"], learnt["items"], learnt["shape"])
        self.config = config

    @classmethod
    def fitted(cls, known: Known) -> Self:
        log = known.course.histories.log
        rows = np.flatnonzero(known.liked)
        shape = np.array([len(log.user_ids), len(known.course.items)])
        likes = {"users": log.user[rows], "items": log.item[rows], "shape": shape}
        return cls({**likes, **cls.learn(_matrix(*likes.values()), known)}, known.course.config.classics)

    @classmethod
    @abstractmethod
    def learn(cls, likes: Any, known: Known) -> dict[str, npt.NDArray[Any]]:
        """What it has to know beside the likes, sparse (users, items)."""

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        recent = asks.users.items
        of, places = np.nonzero((recent >= 0) & (asks.users.strengths >= _LIKED))
        liked = _matrix(of, recent[of, places], np.array([len(recent), self.likes.shape[1]]))
        scores = np.asarray(self.scores(liked, asks.codes), dtype=np.float32)
        # of whom nothing is known gets what is popular
        slow = asks.popularity.shares()[:, -1]
        return best_of(scores + 1e-6 * slow[: scores.shape[1]], asks, n), None

    @abstractmethod
    def scores(self, liked: Any, codes: npt.NDArray[np.int32]) -> Any:
        """The scores (B, items) for users of the log (B,) by what they like now, sparse (B, items)."""

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        return dict(self.learnt)

    @classmethod
    def from_tables(cls, tables: Tables, course: Course) -> Self:
        return cls(tables, course.config.classics)


class WeightedALS(Matrix):
    """Weighted alternating least squares for implicit feedback (Hu, Koren and Volinsky, 2008)."""

    def __init__(self, learnt: Tables, config: ClassicsConfig) -> None:
        super().__init__(learnt, config)
        self._model = self._new(config)
        self._model.item_factors = learnt["item_factors"]

    @classmethod
    def learn(cls, likes: Any, known: Known) -> dict[str, npt.NDArray[Any]]:
        config = known.course.config
        model = cls._new(config.classics, iterations=config.classics.als_rounds, random_state=config.seed)
        with _one_thread():
            model.fit(likes, show_progress=False)
        return {"item_factors": model.item_factors}

    @staticmethod
    def _new(config: ClassicsConfig, **training: Any) -> Any:
        from implicit.cpu.als import AlternatingLeastSquares

        with _one_thread():  # it looks at that when it is made
            return AlternatingLeastSquares(
                config.factors, config.regularisation, 1.0 / config.unobserved_weight, num_threads=1, **training
            )

    def scores(self, liked: Any, codes: npt.NDArray[np.int32]) -> Any:
        with _one_thread():
            factors = self._model.recalculate_user(np.arange(liked.shape[0]), liked)
        return np.atleast_2d(factors) @ self._model.item_factors.T


class FactorsBySGD(Matrix):
    """Matrix factorization by stochastic gradient descent on pairs (BPR; Rendle et al., 2009).

    It knows the users that it was trained on, as they were then.
    """

    @classmethod
    def learn(cls, likes: Any, known: Known) -> dict[str, npt.NDArray[Any]]:
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        config = known.course.config.classics
        model = BayesianPersonalizedRanking(
            config.factors,
            learning_rate=config.sgd_rate,
            regularization=config.regularisation,
            iterations=config.sgd_rounds,
            num_threads=1,
            random_state=known.course.config.seed,
        )
        model.fit(likes, show_progress=False)
        return {"user_factors": model.user_factors, "item_factors": model.item_factors}

    def scores(self, liked: Any, codes: npt.NDArray[np.int32]) -> Any:
        scores = self.learnt["user_factors"][codes] @ self.learnt["item_factors"].T
        unliked = np.asarray(self.likes.getnnz(axis=0) == 0)
        scores[:, unliked] = scores.min(initial=0.0)  # their factors are 0, which says nothing
        return scores


class UserUser(Matrix):
    """What the users who like the same liked: cosine over users, the nearest ones summed (Herlocker et al., 1999)."""

    @classmethod
    def learn(cls, likes: Any, known: Known) -> dict[str, npt.NDArray[Any]]:
        return {}

    def scores(self, liked: Any, codes: npt.NDArray[np.int32]) -> Any:
        weights = 1.0 / np.sqrt(np.maximum(self.likes.getnnz(axis=1), 1))
        near = np.asarray((liked @ self.likes.T).todense()) * weights
        count = self.config.neighbours
        if near.shape[1] > count:
            least = np.partition(near, near.shape[1] - count, axis=1)[:, -count, None]
            near[near < least] = 0.0
        return near @ self.likes


class ContentBased(Matrix):
    """Items with the content of what the user likes: cosine of keys weighed by how rare they are (TF-IDF)."""

    def __init__(self, learnt: Tables, config: ClassicsConfig) -> None:
        super().__init__(learnt, config)
        cells = learnt["content_items"], learnt["content_keys"]
        shape = self.likes.shape[1], int(learnt["content_keys"].max(initial=-1)) + 1
        self._content = csr_matrix((learnt["content_weights"], cells), shape=shape)

    @classmethod
    def learn(cls, likes: Any, known: Known) -> dict[str, npt.NDArray[Any]]:
        facts, buckets = known.course.facts, known.course.config.token_buckets
        items, places = np.nonzero(facts.keys)
        keys = facts.keys[items, places]
        rarity = np.log(len(facts) / np.maximum(np.bincount(keys, minlength=buckets), 1))
        content = csr_matrix((rarity[keys], (items, keys)), shape=(len(facts), buckets))
        lengths = np.sqrt(np.asarray(content.multiply(content).sum(axis=1)).ravel())
        cells = (diags(1.0 / np.maximum(lengths, 1e-9)) @ content).tocoo()
        return {"content_items": cells.row, "content_keys": cells.col, "content_weights": cells.data}

    def scores(self, liked: Any, codes: npt.NDArray[np.int32]) -> Any:
        return np.asarray((liked @ self._content @ self._content.T).todense())


def _matrix(rows: npt.NDArray[Any], columns: npt.NDArray[Any], shape: npt.NDArray[np.int64]) -> Any:
    """A sparse matrix of ones, float32, however often a cell is named."""
    cells = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=tuple(shape.tolist()))
    cells.data[:] = 1.0
    return cells
