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
from models.neighbours import Neighbours
from tests.models import world

CONFIG = NeighboursConfig(window=50, size=10, damping=3.0, recent=5)
likes = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), unique=True, max_size=30)


@settings(max_examples=60, deadline=None)
@given(likes)
def test_similarities_are_damped_cosines_of_who_liked_both(log: list[tuple[int, int]]) -> None:
    users, items = (np.array([pair[n] for pair in log], dtype=np.int32) for n in (0, 1))
    made = Neighbours.of(users, items, 7, CONFIG)
    liked_by = [{user for user, item in log if item == row} for row in range(7)]
    for one, other in itertools.permutations(range(7), 2):
        both = len(liked_by[one] & liked_by[other])
        found = dict(zip(made.items[one].tolist(), made.similarities[one].tolist(), strict=True)).get(other, 0.0)
        expected = both / math.sqrt(len(liked_by[one]) * (len(liked_by[other]) + 3.0)) if both else 0.0
        assert found == pytest.approx(expected, rel=1e-5)
    assert made.likes.tolist() == [len(each) for each in liked_by]


def test_what_one_user_alone_liked_does_not_crowd_out_what_many_did() -> None:
    # five users liked 0 and 1, the last of them 2 as well: the plain cosines of 0 are 1 and 0.45
    users, items = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4]), np.array([0, 1] * 5 + [2])
    few = replace(CONFIG, size=1)
    assert Neighbours.of(users, items, 3, few).items[0].tolist() == [1]
    # user 5 liked 1 without 0, so many times over that only the damping keeps 1 the nearest
    crowd = np.arange(5, 50)
    users, items = np.r_[users, crowd], np.r_[items, np.ones(len(crowd), dtype=np.int64)]
    assert Neighbours.of(users, items, 3, replace(few, damping=0.0)).items[0].tolist() == [2]
    assert Neighbours.of(users, items, 3, replace(few, damping=20.0)).items[0].tolist() == [1]


def test_a_user_is_near_to_what_goes_with_the_last_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Neighbours.of(np.array([0, 0, 1, 1]), np.array([2, 3, 4, 5]), 6, CONFIG)
    users = world.nobody(2)
    users.items[0, -2:] = [2, 4]
    users.strengths[0, -2:] = [0.9, 0.1]
    for table in (0, 1 << 20):  # sorted, and in a table
        monkeypatch.setattr("models.neighbours._MAX_TABLE", table)
        near = made.near(users, 8, CONFIG)
        of, items, similarities = near.pairs()
        assert (of.tolist(), items.tolist()) == ([0], [3]), "item 4 was not liked"
        logs = near.logarithms(np.array([0, 0, 1]), np.array([3, 2, 3]))
        assert logs[0] == pytest.approx(np.log(similarities[0] + 0.2))
        assert logs[1] == logs[2] == pytest.approx(np.log(0.2))
