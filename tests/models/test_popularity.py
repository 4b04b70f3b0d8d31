"""The item statistics: what they count, how they forget, and that the order of arrival is of no account."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.popularity import Popularity, PopularityConfig, merged

CONFIG = PopularityConfig(half_lives_s=(3_600.0, 259_200.0), windows_s=(60, 3_600))
START = 1_700_000_000_000
N = 5

Log = list[tuple[int, int, bool]]
events: st.SearchStrategy[Log] = st.lists(
    st.tuples(st.integers(0, N - 1), st.integers(START, START + 4 * 3_600_000), st.booleans()), max_size=60
)


def sequentially(log: Log, config: PopularityConfig = CONFIG) -> npt.NDArray[np.float64]:
    """The records by the rule for one event at a time, as the store's script applies it."""
    records = np.zeros((N, config.width))
    for item, ts, positive in log:
        record = records[item]
        last, n_decayed = record[0], len(config.half_lives_s)
        for h, half_life in enumerate(config.half_lives_s, start=1):
            if ts >= last:
                record[h] = record[h] * 2 ** -((ts - last) / 1000 / half_life) + positive
            else:
                record[h] += positive * 2 ** -((last - ts) / 1000 / half_life)
        record[0] = max(last, ts)
        for w, window in enumerate(config.windows_s):
            at = 1 + n_decayed + 5 * w
            bucket = ts // (1000 * window)
            ahead = bucket - record[at]
            if ahead > 0:
                events, liked = (record[at + 1], record[at + 3]) if ahead == 1 else (0, 0)
                record[at : at + 5] = bucket, 1, events, positive, liked
            elif ahead == 0:
                record[[at + 1, at + 3]] += 1, positive
            elif ahead == -1:
                record[[at + 2, at + 4]] += 1, positive
    return records


def counted(log: Log, cut: int | None = None) -> Popularity:
    popularity = Popularity(CONFIG, N)
    for part in (log,) if cut is None else (log[:cut], log[cut:]):
        popularity.add([e[0] for e in part], [e[1] for e in part], [e[2] for e in part])
    return popularity


@given(events)
def test_a_batch_counts_as_its_events_one_by_one_do(log: Log) -> None:
    np.testing.assert_allclose(counted(log).records, sequentially(log), rtol=1e-9, atol=1e-12)


@given(events, st.integers(0, 60), st.randoms(use_true_random=False))
def test_neither_the_order_of_arrival_nor_the_cut_into_batches_matters(log: Log, cut: int, random: Random) -> None:
    shuffled = list(log)
    random.shuffle(shuffled)
    np.testing.assert_allclose(counted(log).records, counted(shuffled, cut).records, rtol=1e-9, atol=1e-12)


@given(events)
def test_shares_are_those_of_the_decayed_positives_and_sum_to_one_or_to_nothing(log: Log) -> None:
    shares = counted(log).shares()
    now = START + 10 * 3_600_000
    for h, half_life in enumerate(CONFIG.half_lives_s):
        decayed = np.zeros(N)
        for item, ts, positive in log:
            decayed[item] += positive * 2 ** -((now - ts) / 1000 / half_life)
        expected = decayed / decayed.sum() if decayed.sum() else decayed
        np.testing.assert_allclose(shares[:, h], expected, rtol=1e-4, atol=1e-7)


@given(events)
def test_events_that_like_nothing_leave_the_shares_as_they_are(log: Log) -> None:
    popularity = counted(log)
    before = popularity.shares().copy()
    popularity.add([0, 3], [START + 9 * 3_600_000, START + 20 * 3_600_000], [False, False])
    np.testing.assert_allclose(popularity.shares(), before, rtol=1e-4, atol=1e-7)


@given(events)
def test_records_taken_over_from_a_store_give_the_same_answers(log: Log) -> None:
    there = counted(log)
    here = Popularity(CONFIG)
    here.grow(N)
    here.put(np.arange(N), there.records)
    np.testing.assert_array_equal(here.shares(), there.shares())
    np.testing.assert_array_equal(here.windows(START + 1), there.windows(START + 1))


@given(events, st.integers(0, N + 1), st.integers(0, 1))
def test_top_is_the_order_of_the_shares(log: Log, k: int, half_life: int) -> None:
    popularity = counted(log)
    shares = popularity.shares()[:, half_life]
    top = popularity.top(half_life, k)
    assert len(top) == min(k, np.count_nonzero(shares))
    assert (np.diff(shares[top]) <= 0).all()
    if len(top):
        assert shares[top].min() >= np.delete(shares, top).max(initial=0.0)


def test_equally_popular_items_come_in_the_order_of_their_rows() -> None:
    popularity = Popularity(CONFIG, 40)
    popularity.add(np.arange(40)[::-1], np.full(40, START), np.ones(40, dtype=bool))
    assert popularity.top(0, 3).tolist() == [0, 1, 2]


def test_decades_between_events_neither_overflow_nor_lose_the_newest() -> None:
    popularity = Popularity(PopularityConfig(half_lives_s=(60.0,)), 3)
    day = 86_400_000
    popularity.add([0, 1, 2], [0, 10_000 * day, 20_000 * day], [True, True, True])
    assert popularity.shares()[:, 0].tolist() == [0.0, 0.0, 1.0]
    assert popularity.top(0, 3).tolist() == [2]


def test_a_sliding_window_takes_the_part_of_the_bucket_before_that_it_still_covers() -> None:
    popularity = Popularity(PopularityConfig(windows_s=(60,)), 2)
    minute = START - START % 60_000
    popularity.add([0, 0, 0, 0], [minute + 1, minute + 2, minute + 3, minute + 60_000], [True, False, True, False])
    at_half = popularity.windows(minute + 90_000)
    assert at_half[0].tolist() == [1 + 3 / 2, 2 / 2]
    assert popularity.windows(minute + 150_000)[0].tolist() == [0.5, 0.0]
    assert popularity.windows(minute + 180_000)[0].tolist() == [0.0, 0.0]
    assert at_half[1].tolist() == [0.0, 0.0]


def test_growing_keeps_what_is_there() -> None:
    popularity = counted([(4, START, True)])
    popularity.grow(9)
    popularity.grow(2)
    assert len(popularity) == 9
    assert popularity.shares()[4].tolist() == [1.0, 1.0]
    popularity.add([8], [START], [True])
    assert popularity.top(0, 9).tolist() == [4, 8]


def test_nothing_counted_has_no_shares() -> None:
    assert not Popularity(CONFIG).shares().size
    assert not Popularity(CONFIG, 3).shares().any()
    assert not len(Popularity(CONFIG, 3).top(0, 10))


def test_a_record_has_room_for_every_half_life_and_window() -> None:
    assert PopularityConfig().width == 20
    with pytest.raises(ValueError, match="half_lives_s"):
        PopularityConfig(half_lives_s=(0.0,))
    with pytest.raises(ValueError, match="windows_s"):
        PopularityConfig(windows_s=(0,))


@settings(max_examples=20)
@given(st.integers(1, 50))
def test_one_half_life_halves_a_count(k: int) -> None:
    popularity = Popularity(PopularityConfig(half_lives_s=(3_600.0,)), 1)
    popularity.add([0] * k, [START] * k, [True] * k)
    popularity.add([0], [START + 3_600_000], [False])
    assert math.isclose(popularity.records[0, 1], k / 2)


@given(events, st.lists(st.integers(0, 2), min_size=60, max_size=60))
def test_records_counted_apart_merge_to_those_counted_together(log: Log, parts: list[int]) -> None:
    apart = [counted([event for event, part in zip(log, parts, strict=False) if part == p]).records for p in range(3)]
    np.testing.assert_allclose(merged(np.stack(apart), CONFIG), counted(log).records, rtol=1e-9, atol=1e-12)
