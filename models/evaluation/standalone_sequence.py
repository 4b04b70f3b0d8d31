"""The sequence model taught and asked alone, on a log in which every interaction counts alike.

So the published tables have it: each user's last interaction is left out, the model is taught all others, and then
asked for it among all items that the user has not dealt with. Beside it counts SLIST, where it is told to; there is no
popularity, blend or ranker.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import torch

from models.config import SequenceConfig, SlistConfig, TrainingConfig
from models.data.interactions import NO_ITEM, Interactions
from models.data.labels import CONSUMING, POSITIVE
from models.evaluation.baselines import Asks, Fit, Items, Known, Tables, best_of
from models.networks.sequence import SequenceModel
from models.networks.training_loop import Lesson
from models.retrieval.slist import Slist
from models.training.context import Course

Floats = npt.NDArray[np.float32]

_OF_NETWORK: Final = "network."


def quick(config: TrainingConfig) -> TrainingConfig:
    """For a quarter of an hour on two cores with MovieLens 1M.

    It reads what HSTU reads there: which items, in which order, when, and the moment that is asked about.
    """
    sequence = SequenceConfig(
        layers="hstu",
        loss="softmax",
        similarity="cosine",
        reads=("times", "moment"),
        dim=128,
        blocks=2,
        heads=2,
        length=200,
        stretch=1,
        dropout=0.2,
        item_dropout=0.0,
        temperature=0.05,
        batch_tokens=2048,
        learning_rate=1e-3,
        warmup=200,
        weight_decay=0.1,
        epochs=8,
    )
    slist = SlistConfig(recent=50, sitting_s=3600.0, damping=300.0, examples=1_000_000, size=100, beside=0.7)
    return replace(config, sequence=sequence, slist=slist)


def alike(log: Interactions) -> Interactions:
    """The log with every interaction with an item a positive example of the same weight."""
    dealt = np.isin(log.action, sorted(CONSUMING)) & (log.item != NO_ITEM)
    return replace(log, label=np.where(dealt, POSITIVE, log.label).astype(np.int8), weight=np.ones_like(log.weight))


@dataclass(frozen=True)
class Alone(Fit):
    """The network and the vectors (rows, dim) of all items, and beside it SLIST, if it counts for anything.

    Both tell logarithms of chances, which are added up. They err in different places: what comes next to what the one
    has to press into a few dimensions, and the other counts for each pair of items.
    """

    network: SequenceModel
    vectors: Floats
    slist: Slist | None

    @classmethod
    def fitted(cls, known: Known) -> Self:
        course = Course.over(known.learnt, known.course.config, known.course.popularity, [])
        return cls.taught(course, known.progress)

    @classmethod
    def taught(cls, course: Course, progress: Callable[[float], None]) -> Self:
        """Taught all of the course's targets."""
        config = course.config
        torch.manual_seed(config.seed)
        network = _untaught(course)
        lesson = Lesson(
            course.histories,
            course.content,
            course.trends,
            np.ones(len(course.targets), np.float32),
            course.targets,
            math.inf,
            np.random.default_rng(config.seed),
            progress,
            compute=course.compute,
        )
        network.fit(lesson)
        with torch.no_grad():
            vectors = network.of_items(torch.arange(len(course.items)), course.content).numpy()
        every = np.ones(len(course.targets), dtype=bool)
        return cls(network, vectors, course.slist(every) if config.slist.beside else None)

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        scores = self.network.queries(asks.users, self.vectors) @ self.vectors.T
        scores += self.network.prior.now(asks.popularity)
        if self.slist is not None:
            scores += self.slist.config.beside * self.slist.logarithms(asks.users, scores.shape[1])
        return best_of(scores, asks, n), None

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        weights = {_OF_NETWORK + name: weight.numpy() for name, weight in self.network.state_dict().items()}
        return {"vectors": self.vectors, **weights, **(self.slist.tables() if self.slist is not None else {})}

    @classmethod
    def from_tables(cls, tables: Tables, course: Course) -> Self:
        network, slist = _untaught(course), course.config.slist
        weights = {name: torch.from_numpy(tables[_OF_NETWORK + name]) for name in network.state_dict()}
        network.load_state_dict(weights)
        return cls(network.eval(), tables["vectors"], Slist.from_tables(tables, slist) if slist.beside else None)


def _untaught(course: Course) -> SequenceModel:
    config = course.config
    return SequenceModel(len(course.items), config.token_buckets, len(course.popularity.half_lives_s), config.sequence)
