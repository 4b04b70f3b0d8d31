"""What could be found for newcomers at most: no list is better than that in hindsight; and what is needed beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.quality import newcomers
from benchmarks.quality.baselines import METRICS
from benchmarks.quality.claims import TIMES_THE_BEST
from models.data.interactions import Interactions
from models.data.popularity import PopularityConfig
from models.evaluation.evaluate import LIST, answers
from models.evaluation.splits import Fold, folds
from models.training.context import Course
from tests.models import world


def arriving(events: int = 1500) -> Interactions:
    """A log to which new users come all the time."""
    log = world.interactions(events, users=30)
    user = log.user + 10 * (np.arange(events, dtype=np.int32) // 100)
    return replace(log, user=user, user_ids=[f"u{n}" for n in range(int(user.max()) + 1)])


@pytest.fixture(scope="module")
def last() -> tuple[Course, Fold]:
    course = Course.over(world.data(arriving()), world.SMALL, PopularityConfig(), [])
    return course, folds("rolling", course.histories.log, course.targets, 0.1)[-1]


def of_newcomers(given_to: newcomers.OneList, metric: str, last: tuple[Course, Fold]) -> float:
    course, fold = last
    found = answers(given_to, "one list", course, fold, PopularityConfig())
    assert 0 < (~found.warm_user).sum() < len(found.users)
    return float(newcomers.IN_HINDSIGHT[metric](found.hits, found.relevant, LIST)[~found.warm_user].mean())


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), near=st.booleans())
def test_no_list_is_better_for_newcomers_than_the_one_in_hindsight(
    last: tuple[Course, Fold], metric: str, seed: int, near: bool
) -> None:
    best = newcomers.in_hindsight(newcomers.IN_HINDSIGHT[metric])(*last, 0.0)
    rng = np.random.default_rng(seed)
    # another order of nearly the same items, or any items
    other = (
        best.scores + rng.normal(size=len(best.scores)) * best.scores.std() if near else rng.random(len(best.scores))
    )
    found = of_newcomers(best, metric, last)
    assert found >= of_newcomers(newcomers.OneList(other.astype(np.float32)), metric, last) - 1e-9 and found > 0


@given(
    of_known=st.floats(0.01, 0.5),
    of_newcomers=st.floats(0.01, 0.5),
    more=st.floats(1.0, 2.0),
    asks=st.integers(1, 99),
)
def test_with_known_users_so_many_times_better_the_whole_is(
    of_known: float, of_newcomers: float, more: float, asks: int
) -> None:
    share = asks / 100

    def told(new: float) -> dict[str, object]:
        segments = {"warm_users": {METRICS[0]: of_known}, "cold_users": {METRICS[0]: new, "asks": asks}}
        return {METRICS[0]: share * new + (1 - share) * of_known, "segments": segments}

    models = {
        "trending": told(of_newcomers),
        "item_item": told(of_newcomers / 2),
        METRICS[0]: told(of_newcomers * more),
    }
    found = newcomers.bounds({"asks": 100, "models": models}, METRICS[0])
    assert found["newcomers"] == share and found["best_of_newcomers"] == of_newcomers
    whole = TIMES_THE_BEST * float(str(models["trending"][METRICS[0]]))
    for new, needed in ((of_newcomers, "needed"), (of_newcomers * more, "needed_in_hindsight")):
        assert share * new + (1 - share) * found[needed] * of_known == pytest.approx(whole)
