"""Reasons before there is a model: what a user liked that others liked together with an item."""

import numpy as np

from models.config import NeighboursConfig
from models.data.popularity import PopularityConfig
from models.recommender import Recommender
from models.retrieval.neighbours import Neighbours
from tests.models import world

CONFIG = NeighboursConfig(window=50, size=10, damping=3.0, recent=5)


def test_before_the_first_model_the_reason_is_what_others_liked_together_with_the_item() -> None:
    users = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3])
    items = np.array([2, 3, 5, 2, 3, 4, 5, 4, 5])  # 3 goes with 2; 5 with 4, and once with 2 and 3
    model = Recommender.trending_only(PopularityConfig(), world.SMALL)
    asked = world.nobody(3)
    asked.items[0, -3:] = [2, 4, 7]  # the neighbours have not heard of 7 yet
    asked.strengths[0, -3:] = [0.9, 0.8, 1.0]
    asked.items[1, -2:] = [2, 4]
    asked.strengths[1, -2:] = [0.9, 0.1]
    ranked = np.array([[3, 5, 6, 7, -1]] * 3)
    assert (model.reasons(asked, ranked) == -1).all(), "nobody has liked anything yet"
    model.neighbours = Neighbours.fitted(users, items, 7, CONFIG)
    assert model.reasons(asked, ranked).tolist() == [[2, 4, -1, -1, -1], [2, 2, -1, -1, -1], [-1] * 5]


def test_the_reason_is_of_the_user_whoever_else_is_asked_about() -> None:
    rng = np.random.default_rng(4)
    model = Recommender.trending_only(PopularityConfig(), world.SMALL)
    model.neighbours = Neighbours.fitted(np.repeat(np.arange(40), 8), rng.integers(0, 30, 320), 30, CONFIG)
    asked = world.nobody(9)
    asked.items[:, -6:] = rng.integers(-1, 34, (9, 6))
    asked.strengths[:, -6:] = rng.random((9, 6))
    ranked = rng.integers(-1, 34, (9, 10))
    together = model.reasons(asked, ranked)
    assert (together >= 0).any()
    for at in range(9):
        alone = model.reasons(asked.take(slice(at, at + 1)), ranked[at : at + 1])
        assert alone.tolist() == together[at : at + 1].tolist()
        for item, reason in zip(ranked[at].tolist(), together[at].tolist(), strict=True):
            liked = asked.items[at][(asked.strengths[at] >= 0.5) & (asked.items[at] >= 0)].tolist()
            expected = {row for row in liked if item in model.neighbours.nearest(row)[0]}
            assert (reason in expected) if expected else reason == -1
