"""The ranking metrics against their definitions, and the interval against what it promises."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import retrieval_metrics as metrics

ranks_lists = st.lists(st.integers(-1, 30), max_size=40)


@given(ranks_lists, st.integers(1, 20))
def test_means_equal_the_definitions(ranks: list[int], k: int) -> None:
    n = max(len(ranks), 1)
    array = np.array(ranks, dtype=np.int64)
    inside = [rank for rank in ranks if 0 <= rank < k]
    assert math.isclose(metrics.recall_at(array, k), len(inside) / n)
    assert math.isclose(metrics.ndcg_at(array, k), sum(1 / math.log2(rank + 2) for rank in inside) / n)
    assert math.isclose(metrics.mrr(array), sum(1 / (rank + 1) for rank in ranks if rank >= 0) / n)


@given(ranks_lists)
def test_a_better_rank_never_lowers_a_metric(ranks: list[int]) -> None:
    array = np.array(ranks, dtype=np.int64)
    better = np.where(array > 0, array - 1, array)
    assert metrics.recall_at(better, 10) >= metrics.recall_at(array, 10)
    assert metrics.ndcg_at(better, 10) >= metrics.ndcg_at(array, 10)
    assert metrics.mrr(better) >= metrics.mrr(array)


@given(st.lists(st.tuples(st.lists(st.integers(0, 9), min_size=4, max_size=4), st.integers(0, 9)), max_size=20))
def test_a_rank_is_the_first_place_of_the_target(rows: list[tuple[list[int], int]]) -> None:
    lists = np.array([items for items, _ in rows]).reshape(-1, 4)
    ranks = metrics.ranks_of(lists, np.array([target for _, target in rows]))
    assert ranks.tolist() == [items.index(target) if target in items else -1 for items, target in rows]


def test_empty_lists_hold_nothing() -> None:
    assert metrics.ranks_of(np.zeros((2, 0), dtype=np.int64), np.array([1, 2])).tolist() == [-1, -1]


def test_a_first_place_is_worth_one_in_every_metric() -> None:
    first = np.array([0])
    assert (metrics.recall_at(first, 1), metrics.ndcg_at(first, 1), metrics.mrr(first)) == (1.0, 1.0, 1.0)


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(100):
        low, high = metrics.bootstrap_interval(rng.normal(3.0, 1.0, 60), np.arange(60), resamples=200, seed=trial)
        covered += low <= 3.0 <= high
    assert 86 <= covered <= 100


def test_the_interval_knows_that_events_of_one_user_are_not_independent() -> None:
    rng = np.random.default_rng(2)
    values = np.repeat(rng.normal(0.0, 1.0, 20), 50)
    apart = metrics.bootstrap_interval(values, np.arange(1000))
    together = metrics.bootstrap_interval(values, np.repeat(np.arange(20), 50))
    assert together[1] - together[0] > 3 * (apart[1] - apart[0])


def test_the_interval_is_repeatable_and_empty_for_nothing() -> None:
    values, users = np.array([0.0, 1.0, 1.0]), np.array([0, 1, 1])
    assert metrics.bootstrap_interval(values, users) == metrics.bootstrap_interval(values, users)
    assert metrics.bootstrap_interval(np.zeros(0), np.zeros(0, dtype=np.int64)) == (0.0, 0.0)
