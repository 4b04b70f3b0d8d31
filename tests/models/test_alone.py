"""The sequence model alone: asked as it was taught, and with SLIST beside it where that is to count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.config import SlistConfig
from models.data.popularity import Popularity, PopularityConfig
from models.evaluation.baselines import Asks, best_of
from models.evaluation.standalone_sequence import Alone, alike
from models.training.context import Course
from tests.models import world


def test_slist_counts_as_much_as_it_is_told_to() -> None:
    small = replace(world.SMALL, sequence=replace(world.SMALL.sequence, reads=("times", "moment"), epochs=2))
    log = alike(world.interactions(600))

    def taught(beside: float) -> Alone:
        slist = SlistConfig(damping=1.0, sitting_s=3600.0, beside=beside)
        return Alone.taught(Course.over(world.data(log), replace(small, slist=slist), PopularityConfig(), []), told)

    done: list[float] = []
    told = done.append
    alone, both, much = taught(0.0), taught(0.5), taught(1e6)
    assert done == [0.5, 1.0] * 3
    assert alone.slist is None
    assert both.slist is not None
    course = Course.over(world.data(log), small, PopularityConfig(), [])
    rows = np.arange(500, 540)
    users, seen = course.histories.before(rows), course.histories.seen_before(rows)
    allowed = np.ones(len(course.items), bool)
    asks = Asks(log.user[rows], users, seen, Popularity(PopularityConfig(), len(course.items)), allowed)
    scores = alone.network.queries(users, alone.vectors) @ alone.vectors.T
    logs = both.slist.logarithms(users, len(course.items))
    np.testing.assert_array_equal(alone.lists(asks, 10)[0], best_of(scores, asks, 10))
    np.testing.assert_array_equal(both.lists(asks, 10)[0], best_of(scores + np.float32(0.5) * logs, asks, 10))
    np.testing.assert_array_equal(much.lists(asks, 3)[0], best_of(logs, asks, 3))
    assert (alone.lists(asks, 10)[0] != both.lists(asks, 10)[0]).any()
