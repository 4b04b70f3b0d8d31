"""The pipeline's own sources: who proposes what to whom."""

import numpy as np
import pytest

from models.data.labels import Action
from models.retrieval.sources import Proposals
from serving.pipeline.query import Asked
from serving.pipeline.stages import Stages
from streams.contract.events import ItemRecord, UserRecord
from tests.serving.pipeline.bench import DAY_MS, NOW, Bench, pipeline


def test_new_releases_come_newest_first_and_none_that_is_old_or_not_out_yet() -> None:
    published = {"today": 0, "week": 7, "old": 60, "tomorrow": -1}
    records = [ItemRecord(item_id=name, published_at=NOW - days * DAY_MS) for name, days in published.items()]
    bench = Bench(dict.fromkeys([*published, "hit"], 0) | {"hit": 5}, records)
    made = pipeline(sources={"new_releases": 10})
    assert bench.listed(made, trained=5) == ["today", "week"]
    one = pipeline(sources={"new_releases": 1})
    assert bench.listed(one, trained=5) == ["today"]
    assert bench.listed(one, trained=5, seen=["today"]) == ["week"]


def test_what_came_since_the_training_is_new_though_no_record_dates_it() -> None:
    bench = Bench({"trained": 5, "came": 0, "came later": 0})
    assert bench.listed(pipeline(sources={"new_releases": 10}), trained=1) == ["came", "came later"]


def test_a_users_segments_propose_what_is_trending_among_them() -> None:
    bench = Bench({"world": 50, "korea": 1, "tv": 1})
    made = pipeline(sources={"segment_trending": 2})
    assert bench.listed(made) == []
    trends = {"country=KR": [0, 9, 0], "device=tv": [0, 0, 9]}
    assert sorted(bench.listed(made, segments=trends)) == ["korea", "tv"]
    assert bench.listed(made, segments=trends, seen=["korea"]) == ["tv"]


def test_choices_at_the_start_make_a_list_at_once_and_fade_with_what_is_done() -> None:
    records = [
        ItemRecord(item_id="drama", categorical={"genre": ["Drama"], "language": ["ko"]}),
        ItemRecord(item_id="korean", categorical={"language": ["ko"]}),
        ItemRecord(item_id="comedy", categorical={"genre": ["Comedy"]}),
        ItemRecord(item_id="chosen", categorical={"genre": ["Comedy"]}),
    ]
    bench = Bench({"hit": 60, "drama": 1, "korean": 1, "comedy": 1, "chosen": 1, "new drama": 0}, records)
    made = pipeline(sources={"trending": 10, "onboarding": 10})
    choices = UserRecord(user_id="ann", categorical={"onboarding": ["genre=Drama", "language=ko"]})
    assert bench.listed(made)[0] == "hit"
    assert bench.listed(made, profile=choices)[:2] == ["drama", "hit"]
    title = UserRecord(user_id="ann", categorical={"onboarding_items": ["chosen"]})
    assert set(bench.listed(pipeline(sources={"onboarding": 10}), profile=title)) == {"comedy", "chosen"}
    many = [("hit", Action.WATCH, 0.5, 1)] * 5
    assert bench.listed(pipeline(sources={"onboarding": 10}), profile=choices, acts=many) == []


def test_friends_propose_what_they_liked_last() -> None:
    bench = Bench({"a": 1, "b": 1, "c": 1})
    made = pipeline(sources={"friends": 2})
    assert sorted(bench.listed(made, friends=["a", "b", "c", "b"])) == ["b", "c"]
    assert bench.listed(made, friends=["b"], seen=["b"]) == []


def test_what_was_begun_may_be_gone_on_with_and_nothing_else_that_was_seen() -> None:
    bench = Bench({"begun": 1, "finished": 1, "left": 1, "old": 1, "begun and finished": 1, "other": 1})
    acts = [
        ("old", Action.WATCH, 0.5, 90),
        ("begun and finished", Action.WATCH, 0.5, 3),
        ("begun", Action.WATCH, 0.5, 2),
        ("finished", Action.WATCH, 0.95, 2),
        ("left", Action.WATCH, 0.02, 2),
        ("begun and finished", Action.WATCH, 1.0, 1),
    ]
    seen = [name for name, *_ in acts]
    made = pipeline(sources={"trending": 10, "continue_watching": 10})
    assert sorted(bench.listed(made, acts=acts, seen=seen)) == ["begun", "other"]
    assert bench.listed(pipeline(), acts=acts, seen=seen) == ["other"]


def test_a_source_that_fails_is_passed_over_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench({"a": 2, "b": 1})
    made = pipeline(sources={"trending": 10, "new_releases": 10})

    def fails(_asked: Asked, _quota: int) -> Proposals:
        raise RuntimeError("away")

    monkeypatch.setattr(made._sources[1][0], "propose", fails)
    assert bench.listed(made) == ["a", "b"]
    assert made.stages.counts["sources/new_releases"].failures == 1
    assert made.stages.counts["sources/trending"].failures == 0


def test_stages_count_what_comes_in_and_goes_out() -> None:
    stages = Stages()
    for _ in range(2):
        with stages.timed("filters/seen", 10) as counts:
            counts.left += 7
    counted = stages.counts["filters/seen"]
    assert (counted.calls, counted.entered, counted.left, counted.removed) == (2, 20, 14, 6)
    assert counted.seconds > 0 and np.isfinite(counted.seconds)
