"""Rehearsal: the choices of a log met anew, each as of the moment before it, to learn from and to compare by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from models.config import RankerConfig
from models.ranking.blend import Blend, Choices
from models.ranking.examples import Examples
from models.ranking.features import names
from models.ranking.learning import learn
from models.ranking.ranker import Ranker
from models.recommender import Recommender
from models.training.context import Course
from models.training.gate import LIST
from models.training.prequential_walk import Rows, examples_among_candidates, popularity_before, ranks_in_lists, strides

_PAST_PARTS: Final = 6
#: Likes that neighbours follow on one walk; where there are more, one part of the past is little beside all before it.
_MOST_FOLLOWED: Final = 20_000


@dataclass(frozen=True)
class Studied:
    """What blend and rankers learn from, and the blends.

    Attributes:
        halves: the log rows, from and to, of each half of the newest slice.
        past: choices of before the slice; none where what goes on from an earlier model has learnt from them.
        examples: the choices of each half.
        crossed: for each half the blend that did not learn from it.
        blend: the one that learnt from all.
        width, buckets: how many features there are, and hashed tokens.
    """

    halves: tuple[tuple[int, int], tuple[int, int]]
    past: Examples
    examples: list[Examples]
    crossed: list[Blend]
    blend: Blend
    width: int
    buckets: int

    def rankers(self, config: RankerConfig, start: Ranker | None = None) -> tuple[list[Ranker], Ranker]:
        """For each half the ranker that did not learn from it, and one that learnt from all; see `learn`."""
        return learn(self.past, self.examples, self.crossed, self.blend, self.width, self.buckets, config, start)


def study(course: Course, candidate: Recommender, held_out: int, start: Blend | None = None) -> Studied:
    """Meet the choices of the past and of the slice from row `held_out` on, which the networks have not seen.

    Args:
        start: a blend that has learnt what the past says, to go on from.
    """
    config = course.config.blend
    past, blend = Examples.none(), start
    if blend is None:
        past = past_examples(course, held_out)
        blend = Blend.prior(course.popularity).fitted(past.choices, strength=config.prior_strength, steps=config.steps)
    candidate.blend = blend
    middle = course.middle_of(held_out)
    halves = (held_out, middle), (middle, len(course.histories.log))
    examples = [examples_of(course, candidate, *half) for half in halves]

    def fitted(choices: Choices) -> Blend:
        return blend.fitted(choices, strength=config.past_strength, steps=config.steps)

    return Studied(
        halves,
        past,
        examples,
        [fitted(other.choices) for other in reversed(examples)],
        fitted(Choices.together([half.choices for half in examples])),
        len(names(course.popularity, course.facts.number_names)),
        course.config.token_buckets,
    )


def examples_of(course: Course, recommender: Recommender, start: int, stop: int, *, every: int = 1) -> Examples:
    """What users chose among its candidates in rows from `start` to `stop`, of one stride in `every`."""
    log = course.histories.log
    rng = np.random.default_rng((course.config.ranker.seed, start))
    popularity = popularity_before(log, start, course.popularity, len(course.items))
    walk = strides(log, course.targets, start, stop, popularity, every=every)
    parts = [
        examples_among_candidates(recommender, course.histories, rows, popularity, course.allowed, rng)
        for rows in _followed(course, recommender, start, stop, walk)
    ]
    return Examples.together(parts)


def past_examples(course: Course, stop: int) -> Examples:
    """What users chose up to log row `stop` among the candidates of popularity and neighbours as of then.

    Choices are taken from all over the past but its first quarter, which there was little to choose by.
    """
    edges = np.linspace(stop // 4, stop, _PAST_PARTS + 1).astype(int).tolist()
    every = -(-int(course.targets[edges[0] : stop].sum()) // course.config.blend.past_choices)
    parts: list[Examples] = []
    blend = Blend.prior(course.popularity)
    for start, end in pairwise(edges):
        known = course.neighbours(start), blend, course.facts_before(start)
        model = Recommender("", course.config, course.popularity, course.histories.log.item_ids, None, *known)
        parts.append(examples_of(course, model, start, end, every=max(every, 1)))
        # what is described next time is what this blend puts first
        fitting = course.config.blend
        blend = blend.fitted(parts[-1].choices, strength=fitting.prior_strength, steps=fitting.steps)
    return Examples.together(parts)


def ranks_of_choices(
    course: Course, recommender: Recommender, start: int, stop: int, *, every: int = 1
) -> npt.NDArray[np.intp]:
    """The ranks of the positives from row `start` to `stop` in the lists it would have shown before each, (k,).

    Args:
        every: those of one stride in so many.
    """
    log = course.histories.log
    recommender.admit(course.items)
    popularity = popularity_before(log, start, course.popularity, len(course.items))
    walk = strides(log, course.targets, start, stop, popularity, every=every)
    found = [
        ranks_in_lists(recommender, course.histories, rows, popularity, course.allowed, n=LIST)
        for rows in _followed(course, recommender, start, stop, walk)
    ]
    return np.concatenate([np.zeros(0, np.intp), *found])


def _followed(course: Course, recommender: Recommender, start: int, stop: int, walk: Iterator[Rows]) -> Iterator[Rows]:
    """The walk, with the recommender's neighbours as they are in service: they follow what was liked until then."""
    neighbours = recommender.neighbours
    if neighbours is not None:
        neighbours = recommender.neighbours = course.likes.followed(start, neighbours.config)
    following = len(course.likes.between(start, stop)) <= _MOST_FOLLOWED
    for rows in walk:
        if neighbours is not None and following:
            course.likes.follow(neighbours, start, int(rows[0]))
            start = int(rows[0])
        yield rows
