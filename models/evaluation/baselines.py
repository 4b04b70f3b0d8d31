"""The contenders of an evaluation: whatever can make lists out of what was known, the system among them.

All see the same asks. Those that learn event by event never lag; the others know what they were trained on, and of the
user who asks also what came since, popularity being up to a stride of events old, as a served list is older than the
event as well. The system and its networks are parts of an artefact; the others are fits of their own, kept as tables.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from models.data.interactions import Interactions
from models.data.popularity import Popularity
from models.data.users import UserBatch
from models.evaluation.splits import Fold
from models.recommender import Recommender
from models.retrieval.likes import Likes
from models.retrieval.slist import Slist
from models.training.context import Course, TrainingData

Items = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Tables = Mapping[str, npt.NDArray[Any]]

_TABLES: Final = "tables.safetensors"


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


class Contender(ABC):
    """What can make lists.

    Attributes:
        event_by_event: each ask is met after every event before it; else those of a stride are met together.
    """

    event_by_event: ClassVar[bool] = False

    def follow(self, log: Interactions, rows: npt.NDArray[np.int64]) -> None:
        """Take in rows of the log, which come after all it knows; it stays as it is, if it does not say otherwise."""
        return

    @abstractmethod
    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        """For each user the best items (B, n), padded with -1, and what it says of their probabilities."""


@dataclass(frozen=True)
class Known:
    """What a fit may learn: of a log, what a fold does not leave out.

    Attributes:
        data: all of the log; `course` has it in the rows of the models.
        half_life_s: of trending, for what asks for it.
        progress: called with the share of a long fit that is done.
    """

    data: TrainingData
    course: Course
    fold: Fold
    half_life_s: float = 0.0
    progress: Callable[[float], None] = lambda _done: None

    @property
    def liked(self) -> npt.NDArray[np.bool_]:
        """Which rows of the log are examples of what was chosen, (len(log),)."""
        return self.course.targets & self.fold.training

    @property
    def learnt(self) -> TrainingData:
        """The data without what is left out."""
        return replace(self.data, interactions=self.data.interactions.rows(self.fold.training))


class Fit(Contender):
    """A contender that is fitted on its own, and kept as tables of numbers."""

    @classmethod
    @abstractmethod
    def fitted(cls, known: Known) -> Self:
        """Learn what lies before `known.fold.begin`."""

    def caught_up(self, log: Interactions, fold: Fold) -> Self:
        """Itself, having followed all that a fold lets it know before the first one asks."""
        self.follow(log, fold.between(0, fold.begin))
        return self

    @abstractmethod
    def tables(self) -> dict[str, npt.NDArray[Any]]:
        """All that it has learnt."""

    @classmethod
    @abstractmethod
    def from_tables(cls, tables: Tables, course: Course) -> Self:
        """What `tables` was made of, for a course over the same data."""

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        save_file(self.tables(), folder / _TABLES)

    @classmethod
    def load(cls, folder: Path, course: Course) -> Self:
        """What `save` wrote.

        Raises:
            OSError, SafetensorError, KeyError, ValueError: there is no such file, or it holds something else.
        """
        return cls.from_tables(load_file(folder / _TABLES), course)


@dataclass
class System(Contender):
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
class NetworkAlone(Contender):
    """One of the networks alone, with the popularity as of the asks."""

    model: Recommender
    name: str

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
class SlistAlone(Fit):
    """SLIST alone."""

    model: Slist

    @classmethod
    def fitted(cls, known: Known) -> Self:
        return cls(known.course.slist(known.fold.training))

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        return best_of(self.model.logarithms(asks.users, len(asks.allowed)), asks, n), None

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        return self.model.tables()

    @classmethod
    def from_tables(cls, tables: Tables, course: Course) -> Self:
        return cls(Slist.from_tables(tables, course.config.slist))


def of_model(name: str, course: Course, fold: Fold, model: Recommender) -> Contender:
    """A trained recommender as `system`, without its ranker as `blend`, or a network of it: `sequence`, `two_tower`."""
    if name in ("sequence", "two_tower"):
        return NetworkAlone(model, name)
    return System(_blend_alone(model) if name == "blend" else model, course.likes, fold.start)


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


def _blend_alone(model: Recommender) -> Recommender:
    """The same recommender without its ranker's say."""
    other = copy(model)
    if model.ranker is not None:
        other.ranker = replace(model.ranker, share=0.0)
    return other
