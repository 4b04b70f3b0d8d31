"""The prequential score: what is scored, what is learnt and when, and what the report says of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.classics import DecayedTrending, ItemItem
from streams.replay.scoring import PrequentialScore

START = 1_700_000_000_000 - 1_700_000_000_000 % 86_400_000
HOUR = 3_600_000

Log = list[tuple[int, int, bool]]
logs: st.SearchStrategy[Log] = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 15), st.sampled_from([True, True, False])), max_size=80
)


def play(
    score: PrequentialScore, log: Log, listed: Sequence[int] | None = None, gap_ms: int = HOUR
) -> PrequentialScore:
    for index, (user, item, positive) in enumerate(log):
        score.add(
            event_id=str(index), user=user, item=item, ts=START + index * gap_ms, positive=positive, listed=listed
        )
    return score


def test_the_list_that_was_out_is_what_counts() -> None:
    score = PrequentialScore()
    for event_id, item, listed in (("a", 1, [9, 1]), ("b", 2, [2]), ("c", 3, None), ("d", 4, [*range(100, 110), 4])):
        score.add(event_id=event_id, user=0, item=item, ts=START, positive=True, listed=listed)
    report = score.report()
    assert (report["events_scored"], report["events_scored_without_list"]) == (4, 1)
    assert report["recall_at_10"] == 0.5
    assert report["ndcg_at_10"] == pytest.approx((1 / math.log2(3) + 1) / 4, abs=1e-6)
    assert report["mrr"] == pytest.approx((1 / 2 + 1 + 1 / 11) / 4, abs=1e-6)


def test_only_positives_on_items_new_to_their_user_are_scored() -> None:
    log = [(0, 1, False), (0, 1, True), (0, 2, True), (0, 2, True), (1, 1, True), (1, 3, False)]
    report = play(PrequentialScore(), log, [1, 2, 3]).report()
    assert report["events_scored"] == 2
    assert report["recall_at_10"] == 1.0


def test_a_copy_neither_scores_nor_teaches() -> None:
    once, twice = PrequentialScore(), PrequentialScore()
    for score, copies in ((once, 1), (twice, 3)):
        for user, item in ((0, 1), (1, 2), (2, 1), (3, 1), (3, 2)):
            for _ in range(copies):
                score.add(event_id=f"{user} {item}", user=user, item=item, ts=START, positive=True, listed=[item])
    first, second = once.report(), twice.report()
    assert (first["copies_not_scored"], second["copies_not_scored"]) == (0, 10)
    for name in ("recall_at_10", "trending", "item_item", "events_scored", "by_day"):
        assert first[name] == second[name]


def test_what_proves_nothing_is_learnt_from_but_not_scored() -> None:
    score = PrequentialScore()
    for user, scored in ((0, True), (1, False), (2, True)):
        score.add(event_id="x", user=user, item=7, ts=START, positive=True, listed=[7], scored=scored)
    score.add(event_id="y", user=1, item=7, ts=START, positive=True, listed=[7])
    report = score.report()
    assert report["events_scored"] == 2
    assert report["trending"]["recall_at_10"] == 0.5


def test_an_id_is_forgotten_after_as_many_others_of_its_user() -> None:
    score = PrequentialScore(recent_event_ids=2)
    for event_id in ("a", "b", "a", "c", "a"):
        score.add(event_id=event_id, user=0, item=ord(event_id), ts=START, positive=True, listed=None)
    score.add(event_id="c", user=1, item=1, ts=START, positive=True, listed=None)
    assert score.report()["copies_not_scored"] == 1


@settings(max_examples=40)
@given(logs)
def test_the_classics_are_asked_before_they_learn_and_never_offer_what_was_seen(log: Log) -> None:
    report = play(PrequentialScore(half_lives_s=(7_200.0,)), log).report()
    trending, item_item = DecayedTrending(7_200.0), ItemItem()
    seen: dict[int, set[int]] = {}
    hits, near_hits, scored = 0, 0, 0
    for index, (user, item, positive) in enumerate(log):
        before = seen.setdefault(user, set())
        if positive and item not in before:
            top = trending.top(user, 10, before)
            near = item_item.top(user, 10, before)
            near += [other for other in top if other not in near]
            scored += 1
            hits += item in top
            near_hits += item in near[:10]
        trending.learn(user, item, START + index * HOUR, positive)
        item_item.learn(user, item, START + index * HOUR, positive)
        before.add(item)
    assert report["events_scored"] == scored
    assert report["trending"]["recall_at_10"] == pytest.approx(hits / max(scored, 1), abs=1e-6)
    assert report["item_item"]["recall_at_10"] == pytest.approx(near_hits / max(scored, 1), abs=1e-6)


def test_the_half_life_is_tuned_on_the_first_tenth_and_then_kept() -> None:
    # In the first tenth one item after the other is in fashion, so a short memory wins; afterwards eight are liked
    # over and over while many others come once, so a long memory would have won.
    short, long = 1_800.0, 1e9
    early = [(user, user // 20 % 15, True) for user in range(300)]
    late = [(user, 1000 + user if user % 4 else user // 4 % 8, True) for user in range(300, 3000)]
    score = play(PrequentialScore(half_lives_s=(short, long), list_size=10), early + late)
    report = score.report()
    assert report["trending"]["half_life_s"] == short
    assert report["trending_in_hindsight"]["half_life_s"] == long
    assert report["trending_in_hindsight"]["recall_at_10"] > report["trending"]["recall_at_10"]


@settings(max_examples=20)
@given(logs, st.sampled_from([HOUR, 13 * HOUR]))
def test_days_and_slices_add_up_to_the_whole(log: Log, gap_ms: int) -> None:
    report = play(PrequentialScore(), log, [1, 2, 3], gap_ms).report()
    for parts in (report["by_day"], report["by_events"]):
        assert sum(part["events_scored"] for part in parts) == report["events_scored"]
        hits = sum(part["system"]["recall_at_10"] * part["events_scored"] for part in parts)
        assert hits == pytest.approx(report["recall_at_10"] * report["events_scored"], abs=1e-3)
    assert [part["day"] for part in report["by_day"]] == sorted({part["day"] for part in report["by_day"]})
    assert json.loads(json.dumps(report)) == report


def test_days_are_those_of_event_time_in_utc_and_slices_count_events() -> None:
    log = [(user, 0, True) for user in range(10_050)]
    report = play(PrequentialScore(), log, [0], gap_ms=10_000).report()
    assert [(part["day"], part["events_scored"]) for part in report["by_day"]] == [
        ("2023-11-14", 8_640), ("2023-11-15", 1_410),
    ]  # fmt: skip
    assert [(part["from"], part["to"], part["events_scored"]) for part in report["by_events"]] == [
        (0, 10_000, 10_000), (10_000, 10_050, 50),
    ]  # fmt: skip


def test_the_gain_over_trending_comes_with_its_interval() -> None:
    log = [(user, user, True) for user in range(400)]
    score = PrequentialScore()
    for index, (user, item, positive) in enumerate(log):
        score.add(event_id="x", user=user, item=item, ts=START, positive=positive, listed=[item] if index % 4 else [])
    gain = score.report()["recall_gain"]
    assert gain["mean"] == 0.75
    assert 0.68 < gain["low"] < 0.75 < gain["high"] < 0.82


def test_the_score_so_far_can_be_shown_at_any_time() -> None:
    score = PrequentialScore()
    assert score.so_far() == (0.0, 0.0)
    play(score, [(0, 1, True), (1, 1, True)], [1])
    assert score.so_far() == (1.0, 0.5)


def test_nothing_scored_is_reported_as_nothing() -> None:
    report = PrequentialScore().report()
    assert (report["events_scored"], report["recall_at_10"], report["by_day"]) == (0, 0.0, [])
    assert report["recall_gain"]["mean"] == 0.0
