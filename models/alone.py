"""The sequence model taught and asked alone, on a log in which every interaction counts alike.

So the published tables have it: each user's last interaction is left out, the model is taught all others, and then
asked for it among all items that the user has not dealt with. There is no popularity, blend or ranker beside it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from models.config import SequenceConfig
from models.contenders import Asks, Items, best_of
from models.fitting import Lesson, fit_sequence
from models.interactions import NO_ITEM, Interactions
from models.labels import CONSUMING, POSITIVE
from models.sequence import SequenceModel
from models.training import Course

Floats = npt.NDArray[np.float32]

#: For half an hour on two cores with MovieLens 1M. It reads what HSTU reads there: which items, in which order, when,
#: and the moment that is asked about.
QUICK: Final = SequenceConfig(
    layers="hstu",
    loss="softmax",
    reads=("times", "moment"),
    dim=64,
    blocks=2,
    heads=2,
    length=200,
    stretch=1,
    dropout=0.2,
    item_dropout=0.0,
    batch_tokens=2048,
    learning_rate=1e-3,
    warmup=200,
    weight_decay=0.1,
    epochs=24,
)


def alike(log: Interactions) -> Interactions:
    """The log with every interaction with an item a positive example of the same weight."""
    dealt = np.isin(log.action, sorted(CONSUMING)) & (log.item != NO_ITEM)
    return replace(log, label=np.where(dealt, POSITIVE, log.label).astype(np.int8), weight=np.ones_like(log.weight))


@dataclass(frozen=True)
class Alone:
    """The networks, and of each the vectors (rows, dim) of all items; what they make of an item is added up.

    Networks that differ by their seed alone err in different places, so that several find more than the best of them.
    """

    members: list[tuple[SequenceModel, Floats]]

    @classmethod
    def taught(cls, course: Course, progress: Callable[[float], None]) -> Alone:
        """As many as the course's configuration wants, each taught all of the course's targets, one after the other."""
        wanted = course.config.members

        def taught(member: int) -> tuple[SequenceModel, Floats]:
            return _member(course, course.config.seed + member, lambda done: progress((member + done) / wanted))

        return cls([taught(member) for member in range(wanted)])

    def follow(self, log: Interactions, rows: npt.NDArray[np.int64]) -> None:
        """It is as old as its training."""

    def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
        of_members = (
            network.queries(asks.users, vectors) @ vectors.T + network.prior.now(asks.popularity)
            for network, vectors in self.members
        )
        return best_of(functools.reduce(np.add, of_members), asks, n), None


def _member(course: Course, seed: int, progress: Callable[[float], None]) -> tuple[SequenceModel, Floats]:
    config = course.config
    torch.manual_seed(seed)
    network = SequenceModel(
        len(course.items), config.token_buckets, len(course.popularity.half_lives_s), config.sequence
    )
    lesson = Lesson(
        course.histories,
        course.content,
        course.trends,
        np.ones(len(course.targets), np.float32),
        course.targets,
        config.sequence.epochs,
        math.inf,
        np.random.default_rng(seed),
        progress,
        compute=course.compute,
    )
    fit_sequence(network, lesson)
    with torch.no_grad():
        return network, network.of_items(torch.arange(len(course.items)), course.content).numpy()
