"""The classics, learnt event by event, against the same thing computed from the whole log."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.classics import DecayedTrending, ItemItem, filled

DAY = 86_400_000
START = 1_700_000_000_000
Log = list[tuple[int, int, int, bool]]
logs: st.SearchStrategy[Log] = st.lists(
    st.tuples(
        st.integers(0, 4), st.integers(0, 8), st.integers(START, START + 30 * DAY), st.sampled_from([True, True, False])
    ),
    max_size=60,
).map(lambda log: sorted(log, key=lambda event: event[2]))
seen_sets = st.sets(st.integers(0, 8), max_size=4)


@given(logs, seen_sets, st.sampled_from([0.1, 3.0, 100.0]))
def test_trending_ranks_by_the_decayed_count_of_positives(log: Log, seen: set[int], days: float) -> None:
    trending = DecayedTrending(days * DAY / 1000)
    for event in log:
        trending.learn(*event)
    counts: Counter[int] = Counter()
    for _, item, ts, positive in log:
        if positive:
            counts[item] += 2 ** -((START + 30 * DAY - ts) / DAY / days)  # type: ignore[assignment]
    top = trending.top(0, 3, seen)
    unseen = sorted((count for item, count in counts.items() if item not in seen), reverse=True)
    assert len(set(top)) == len(top)
    assert not seen & set(top)
    assert all(math.isclose(counts[item], best, rel_tol=1e-6) for item, best in zip(top, unseen[:3], strict=True))


def test_trending_outlives_any_span_of_time() -> None:
    trending = DecayedTrending(3_600)
    for year in range(100):
        trending.learn(0, year, year * 365 * DAY, True)
    assert trending.top(0, 2, set()) == [99, 98]


@given(logs, seen_sets, st.integers(0, 4), st.integers(1, 3), st.integers(1, 3))
def test_item_item_scores_by_cosine_over_recent_positives(
    log: Log, seen: set[int], user: int, window: int, recent: int
) -> None:
    baseline = ItemItem(window, recent, damping=2.0)
    liked: dict[int, list[int]] = {}
    together: Counter[frozenset[int]] = Counter()
    alone: Counter[int] = Counter()
    for event in log:
        baseline.learn(*event)
        who, item, _, positive = event
        if not positive:
            continue
        last = liked.setdefault(who, [])
        if item in last:
            last.remove(item)
        else:
            alone[item] += 1
            together.update(frozenset((item, other)) for other in last)
        liked[who] = [*last, item][-window:]
    scores = {
        item: sum(
            together[frozenset((item, other))] / math.sqrt(alone[other] * (alone[item] + 2.0))
            for other in liked.get(user, [])[-recent:]
            if other != item
        )
        for item in alone
        if item not in seen
    }
    top = baseline.top(user, 4, seen)
    expected = sorted((score for score in scores.values() if score > 0), reverse=True)[:4]
    assert len(set(top)) == len(top)
    assert not seen & set(top)
    assert all(math.isclose(scores[item], best, rel_tol=1e-5) for item, best in zip(top, expected, strict=True))


def test_item_item_keeps_its_counts_when_its_buffers_are_merged() -> None:
    baseline = ItemItem()
    for user in range(300):
        baseline.learn(user, 5000, START, True)
        baseline.learn(user, user % 2, START, True)
    baseline.learn(1000, 5000, START, True)
    baseline.learn(1001, 5000, START, True)
    baseline.learn(1001, 1, START, True)
    assert baseline.top(1000, 5, set()) == [1, 0]
    assert baseline.top(1000, 5, {1}) == [0]


@given(logs, st.integers(0, 60), st.booleans())
def test_classics_that_were_kept_go_on_as_if_they_had_not_been(log: Log, cut: int, merging: bool) -> None:
    for made in (DecayedTrending(DAY / 1000), ItemItem(5, 3, damping=2.0)):
        for event in log[:cut]:
            made.learn(*event)
        if merging and cut > 0:
            for user in range(80):  # so many that buffers are merged
                made.learn(100 + user, 7, START, True)
                made.learn(100 + user, user % 7, START, True)
        kept = type(made).from_tables({name: table.copy() for name, table in made.tables().items()})
        for each in (made, kept):
            for event in log[cut:]:
                each.learn(*event)
        for user in range(5):
            assert kept.top(user, 9, set()) == made.top(user, 9, set())
        assert {name: table.tolist() for name, table in kept.tables().items()} == {
            name: table.tolist() for name, table in made.tables().items()
        }


def test_a_user_without_positives_gets_trending_but_no_neighbours() -> None:
    trending, neighbours = DecayedTrending(60), ItemItem()
    for baseline in (trending, neighbours):
        baseline.learn(1, 7, START, True)
        baseline.learn(2, 8, START, False)
    assert trending.top(2, 5, set()) == [7]
    assert neighbours.top(2, 5, set()) == []


def test_a_list_too_short_is_made_up_without_repeats() -> None:
    assert filled([3, 1], [1, 4, 3, 5, 6], 4) == [3, 1, 4, 5]
    assert filled([3, 1], [], 4) == [3, 1]
    assert filled([3, 1], [5], 1) == [3]
