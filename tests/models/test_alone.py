"""The sequence model alone: several are what each is by itself, and asked together."""

from dataclasses import replace

import numpy as np
import pytest

from models.alone import Alone, alike
from models.config import TrainingConfig
from models.contenders import Asks, best_of
from models.popularity import Popularity, PopularityConfig
from models.training import Course
from tests.models import world


def test_several_models_differ_by_their_seed_and_their_scores_are_added() -> None:
    small = replace(world.SMALL, sequence=replace(world.SMALL.sequence, reads=("times", "moment"), epochs=2))
    log = alike(world.interactions(600))

    def taught(seed: int, members: int = 1) -> tuple[Alone, list[float]]:
        done: list[float] = []
        course = Course.over(world.data(log), replace(small, seed=seed, members=members), PopularityConfig(), [])
        return Alone.taught(course, done.append), done

    both, done = taught(1, members=2)
    assert done == [0.25, 0.5, 0.75, 1.0]
    course = Course.over(world.data(log), small, PopularityConfig(), [])
    rows = np.arange(500, 540)
    users, seen = course.histories.before(rows), course.histories.seen_before(rows)
    allowed = np.ones(len(course.items), bool)
    asks = Asks(log.user[rows], users, seen, Popularity(PopularityConfig(), len(course.items)), allowed)
    scores = []
    for seed, (_, vectors) in enumerate(both.members, start=1):
        [(network, its_vectors)] = taught(seed)[0].members
        np.testing.assert_array_equal(vectors, its_vectors)
        scores.append(network.queries(users, vectors) @ vectors.T)
    np.testing.assert_array_equal(both.lists(asks, 10)[0], best_of(scores[0] + scores[1], asks, 10))
    assert (best_of(scores[0], asks, 10) != best_of(scores[1], asks, 10)).any()


def test_there_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="members must be 1 or more, not 0"):
        TrainingConfig(members=0)
