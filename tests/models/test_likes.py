"""Likes of a log: followed one after the other, neighbours are those that are counted at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.data.popularity import PopularityConfig
from models.evaluation.baselines import System
from models.recommender import Recommender
from models.retrieval.likes import Likes
from models.retrieval.neighbours import Neighbours
from tests.models import world

CONFIG = replace(world.SMALL.neighbours, size=200)


def test_neighbours_that_follow_a_log_are_those_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = world.interactions(1200)
    likes = Likes(log, len(log.item_ids))
    for near in (0, 10_000):  # counted anew, and followed from before
        monkeypatch.setattr("models.retrieval.likes._NEAR", near)
        likes.followed(600, CONFIG)
        followed = likes.followed(900, CONFIG)
        assert table(followed) == table(likes.counted(900, CONFIG)) != table(likes.counted(600, CONFIG))
        likes.follow(followed, 900, 1200)
        assert table(followed) == table(likes.counted(1200, CONFIG))


def test_who_likes_an_item_again_counts_once() -> None:
    log = world.interactions(600)
    repeated = replace(log, item=log.item % 5, label=np.ones_like(log.label))
    likes = Likes(repeated, 5)
    assert len(likes.between(0, 600)) == len(set(zip(repeated.user.tolist(), repeated.item.tolist(), strict=True)))


def test_what_a_contender_follows_is_no_news_to_another() -> None:
    log = world.interactions(600)
    likes = Likes(log, len(log.item_ids))
    model = Recommender("", world.SMALL, PopularityConfig(), log.item_ids, None, likes.counted(300, CONFIG))
    one, other = System(model, likes, 300), System(model, likes, 300)
    one.follow(log, np.arange(600))
    assert one.model.neighbours is not None and other.model.neighbours is not None
    assert table(other.model.neighbours) == table(likes.counted(300, CONFIG))
    assert table(one.model.neighbours) == table(likes.counted(600, CONFIG)), "what it was trained on counts once"


def table(neighbours: Neighbours) -> dict[tuple[int, int], float]:
    rows, places = np.nonzero(neighbours.items >= 0)
    counts = neighbours.counts[rows, places].tolist()
    return dict(zip(zip(rows.tolist(), neighbours.items[rows, places].tolist(), strict=True), counts, strict=True))
