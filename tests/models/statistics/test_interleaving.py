"""Team-draft interleaving is fair, and finds the better ranking."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.statistics.effects import Estimate
from models.statistics.interleaving import preference, team_draft


@settings(max_examples=50)
@given(st.permutations(range(12)), st.permutations(range(12)), st.integers(1, 15), st.integers(0, 9))
def test_a_draft_has_each_item_once_and_the_teams_in_balance(
    first: list[int], second: list[int], size: int, seed: int
) -> None:
    drafted = team_draft(first, second, size, random.Random(seed))
    assert len(drafted.items) == min(size, 12) == len(set(drafted.items))
    for at in range(len(drafted.items) + 1):
        picks = drafted.second[:at]
        assert abs(2 * sum(picks) - len(picks)) <= 1
    for team, ranking in ((False, first), (True, second)):
        of_team = [item for item, by in zip(drafted.items, drafted.second, strict=True) if by is team]
        assert [ranking.index(item) for item in of_team] == sorted(ranking.index(item) for item in of_team)


def test_when_one_ranking_is_through_the_other_fills_the_list() -> None:
    drafted = team_draft(["a"], ["a", "b", "c"], 5, random.Random(1))
    assert drafted.items == ["a", "b", "c"] and drafted.second[1:] == [True, True]


def played(noise_of_second: float, users: int = 300, seed: int = 2) -> Estimate:
    """Users who take the items they like, shown drafts of a ranking by liking with noise 1 and of a second one."""
    rng, draw = np.random.default_rng(seed), random.Random(seed)
    counts = np.zeros((2, users))
    for user in range(users):
        liking = rng.normal(0.0, 1.0, 30)
        for _ in range(3):
            first, second = (
                np.argsort(-(liking + rng.normal(0.0, noise, 30))).tolist() for noise in (1.0, noise_of_second)
            )
            drafted = team_draft(first, second, 10, draw)
            for item, by in zip(drafted.items, drafted.second, strict=True):
                counts[int(by), user] += rng.random() < 0.3 * (liking[item] > 0.5)
    return preference(*counts)


def test_the_better_ranking_is_preferred_whichever_side_it_is_on() -> None:
    better, worse = played(0.3), played(3.0)
    assert better.value > 0 and better.p_value() < 0.01
    assert worse.value < 0 and worse.p_value() < 0.01


def test_of_two_equal_rankings_neither_is_preferred_more_often_than_chance_has_it() -> None:
    wrong = np.mean([played(1.0, users=30, seed=seed).p_value() < 0.05 for seed in range(40)])
    assert wrong <= 0.15
    assert played(1.0, users=300).value == pytest.approx(0.0, abs=0.15)


def test_a_preference_is_by_users_and_of_those_who_took_something() -> None:
    found = preference([0, 4, 0], [1, 0, 0])
    assert found.value == 0.0 and found.variance == pytest.approx(1.0)
    assert np.isinf(preference([0], [0]).variance)
