"""Neighbours: items liked together are near each other, by the damped cosine of their co-occurrence."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import NeighboursConfig
from models.retrieval.neighbours import Neighbours
from tests.models import world

CONFIG = NeighboursConfig(window=50, size=10, damping=3.0, recent=5)
likes = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), unique=True, max_size=30)


@settings(max_examples=60, deadline=None)
@given(likes)
def test_similarities_are_damped_cosines_of_who_liked_both(log: list[tuple[int, int]]) -> None:
    users, items = (np.array([pair[n] for pair in log], dtype=np.int32) for n in (0, 1))
    made = Neighbours.fitted(users, items, 7, CONFIG)
    liked_by = [{user for user, item in log if item == row} for row in range(7)]
    for one, other in itertools.permutations(range(7), 2):
        both = len(liked_by[one] & liked_by[other])
        found = _similarity(made, one, other)
        expected = both / math.sqrt(len(liked_by[one]) * (len(liked_by[other]) + 3.0)) if both else 0.0
        assert found == pytest.approx(expected, rel=1e-5)
    assert made.likes.tolist() == [len(each) for each in liked_by]


@settings(max_examples=60, deadline=None)
@given(likes, st.integers(0, 30))
def test_likes_followed_one_by_one_count_as_all_at_once(log: list[tuple[int, int]], known: int) -> None:
    users, items = (np.array([pair[n] for pair in log], dtype=np.int32) for n in (0, 1))
    for window in (2, 50):
        config = replace(CONFIG, window=window)
        followed = Neighbours.fitted(users[:known], items[:known], int(items[:known].max(initial=-1)) + 1, config)
        for at in range(known, len(log)):
            before = [item for user, item in log[:at] if user == log[at][0]]
            followed.follow(log[at][1], np.array(before, dtype=np.int32))
        made = Neighbours.fitted(users, items, 7, config)
        for one, other in itertools.permutations(range(7), 2):
            assert _similarity(followed, one, other) == pytest.approx(_similarity(made, one, other), rel=1e-6)


def test_where_a_row_is_full_what_is_least_like_gives_way() -> None:
    users, items = np.array([0, 0, 1, 1, 2, 2, 3, 4]), np.array([0, 1, 0, 1, 0, 2, 2, 2])
    made = Neighbours.fitted(users, items, 5, replace(CONFIG, size=2))
    assert made.items[0].tolist() == [1, 2]
    made.follow(4, np.array([0]))  # liked less often than 2, so that one like says more
    assert made.items[0].tolist() == [1, 4]
    assert made.items[4].tolist() == [0, -1]
    made.follow(3, np.array([1, 0]))
    made.follow(2, np.array([0]))
    assert sorted(made.items[0].tolist()) == [1, 3], "nor does it come back for as little"


def test_neighbours_survive_an_artefact() -> None:
    rng = np.random.default_rng(1)
    users, items = np.repeat(np.arange(20), 30), np.concatenate([rng.permutation(60)[:30] for _ in range(20)])
    made = Neighbours.fitted(users, items, 61, CONFIG)
    again = Neighbours.from_tables(made.tables(), CONFIG)
    for name in ("items", "counts", "likes"):
        np.testing.assert_array_equal(getattr(made, name), getattr(again, name))


def _similarity(made: Neighbours, one: int, other: int) -> float:
    row = made.similarities(np.array([one]))[0] if one < len(made.items) else np.zeros(0)
    return float(row[made.items[one] == other].sum()) if len(row) else 0.0


def test_what_one_user_alone_liked_does_not_crowd_out_what_many_did() -> None:
    # five users liked 0 and 1, the last of them 2 as well: the plain cosines of 0 are 1 and 0.45
    users, items = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4]), np.array([0, 1] * 5 + [2])
    few = replace(CONFIG, size=1)
    assert Neighbours.fitted(users, items, 3, few).items[0].tolist() == [1]
    # user 5 liked 1 without 0, so many times over that only the damping keeps 1 the nearest
    crowd = np.arange(5, 50)
    users, items = np.r_[users, crowd], np.r_[items, np.ones(len(crowd), dtype=np.int64)]
    assert Neighbours.fitted(users, items, 3, replace(few, damping=0.0)).items[0].tolist() == [2]
    assert Neighbours.fitted(users, items, 3, replace(few, damping=20.0)).items[0].tolist() == [1]


def test_a_user_is_near_to_what_goes_with_the_last_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Neighbours.fitted(np.array([0, 0, 1, 1]), np.array([2, 3, 4, 5]), 6, CONFIG)
    users = world.nobody(2)
    users.items[0, -2:] = [2, 4]
    users.strengths[0, -2:] = [0.9, 0.1]
    for table in (0, 1 << 20):  # sorted, and in a table
        monkeypatch.setattr("models.retrieval.similarities._MAX_TABLE", table)
        near = made.near(users, 8)
        of, items, similarities = near.pairs()
        assert (of.tolist(), items.tolist()) == ([0], [3]), "item 4 was not liked"
        logs = near.logarithms(np.array([0, 0, 1]), np.array([3, 2, 3]), np.float32(0.2))
        assert logs[0] == pytest.approx(np.log(similarities[0] + 0.2))
        assert logs[1] == logs[2] == pytest.approx(np.log(0.2))
