"""The pipeline as a whole: rules, boosts, exploration with its propensity, and what it tells of itself."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from models.data.popularity import Popularity
from models.data.users import UserBatch
from models.ranking.ranker import Scored
from models.recommender import Recommender
from models.retrieval.candidates import Candidates
from serving.pipeline.pipeline import Trace
from streams.contract.events import ItemRecord, UserRecord
from streams.settings.pipeline import PipelineSettings
from streams.settings.settings import SettingsError
from tests.serving.pipeline.bench import DAY_MS, NOW, Bench, pipeline


def test_rules_boost_demote_pin_and_remove_by_feature_or_item() -> None:
    records = [ItemRecord(item_id="news", categorical={"genre": ["News"]})]
    bench = Bench({"hit": 9, "news": 8, "other": 7, "unknown": 0}, records)
    for rules, expected in (
        ([], ["hit", "news", "other"]),
        ([{"match": "genre=News", "action": "boost", "by": 5}], ["news", "hit", "other"]),
        ([{"match": "item=hit", "action": "demote", "by": 5}], ["news", "other", "hit"]),
        ([{"match": "item=unknown", "action": "pin"}], ["unknown", "hit", "news", "other"]),
        ([{"match": "genre=News", "action": "remove"}], ["hit", "other"]),
        (
            [{"match": "genre=Nothing", "action": "pin"}, {"match": "item=nothing", "action": "remove"}],
            ["hit", "news", "other"],
        ),
    ):
        assert bench.listed(pipeline(rules=rules)) == expected, rules
    made = pipeline(rules=[{"match": "item=other", "action": "pin"}])
    assert float(made.run(bench.query(made)).scores[0, 0]) < 100, "the score is told as it was"
    with pytest.raises(ValidationError, match="match"):
        PipelineSettings.model_validate({"rules": [{"match": "News", "action": "pin"}]})


def test_a_pinned_item_is_filtered_all_the_same() -> None:
    bench = Bench({"pinned": 1, "hit": 9})
    made = pipeline(rules=[{"match": "item=pinned", "action": "pin"}])
    assert bench.listed(made) == ["pinned", "hit"]
    assert bench.listed(made, seen=["pinned"]) == ["hit"]


def test_minutes_count_as_much_as_they_are_to(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench({"short": 3, "long": 3})
    by_blend = Recommender.score

    def with_minutes(model: Recommender, users: UserBatch, popularity: Popularity, candidates: Candidates) -> Scored:
        minutes = np.where(candidates.items == bench.row("long"), 90.0, np.nan).astype(np.float32)
        return replace(by_blend(model, users, popularity, candidates), minutes=minutes)

    monkeypatch.setattr(Recommender, "score", with_minutes)
    assert bench.listed(pipeline()) == ["short", "long"]
    assert bench.listed(pipeline(minutes_weight=0.5)) == ["long", "short"]


def test_what_is_fresh_is_boosted_by_half_after_each_half_life() -> None:
    days = {"new": 0, "week": 7, "two weeks": 14}
    records = [ItemRecord(item_id=name, published_at=NOW - age * DAY_MS) for name, age in days.items()]
    bench = Bench(dict.fromkeys([*days, "undated"], 4), records)
    made = pipeline(freshness={"boost": 2.0, "half_life_days": 7.0})
    trace = Trace()
    made.run(bench.query(made), trace)
    assert trace.added["freshness"].tolist() == pytest.approx([2.0, 1.0, 0.5, 0.0])


def test_exploration_draws_new_items_and_tells_how_probably() -> None:
    likes = {f"hit{n}": 40 + n for n in range(6)} | {f"new{n}": 0 for n in range(3)}
    bench = Bench(likes)
    made = pipeline(exploration={"rate": 0.5, "place": 3, "likes_below": 5.0})
    lists = made.run(bench.query(made, 400, size=4, trained=6))
    explored = lists.propensity < 1
    assert not explored[:, [0, 1, 3]].any(), "only the third place explores"
    share = explored[:, 2].mean()
    assert 0.4 < share < 0.6
    rows = lists.items[explored]
    assert set(rows.tolist()) == {6, 7, 8}
    # what is drawn with the propensity told comes so often as it tells
    weights = np.zeros(9)
    np.add.at(weights, rows, 1.0 / lists.propensity[explored])
    assert weights[6:].sum() / 3 == pytest.approx(400, rel=0.2)
    assert {made.source_names[bit] for bit in range(8) if int(lists.sources[explored][0]) >> bit & 1} == {"exploration"}
    assert bench.names(lists)[int(np.flatnonzero(~explored[:, 2])[0])] == ["hit5", "hit4", "hit3", "hit2"]


def test_nothing_is_explored_where_nothing_is_new_or_the_list_is_short() -> None:
    made = pipeline(exploration={"rate": 1.0, "place": 3})
    old = Bench({f"hit{n}": 40 + n for n in range(6)})
    assert (made.run(old.query(made, 5, trained=6)).propensity == 1).all()
    short = Bench({"hit": 40, "new": 0})
    assert (made.run(short.query(made, 5, trained=1)).propensity == 1).all()


def test_what_a_filter_removes_is_not_explored_either() -> None:
    likes = {f"hit{n}": 40 + n for n in range(6)} | {"adults": 0, "ruled out": 0, "new": 0}
    records = [ItemRecord(item_id="adults", numeric={"min_age": 18})]
    child = UserRecord(user_id="ann", numeric={"age": 10})
    bench = Bench(likes, records)
    rules = [{"match": "item=ruled out", "action": "remove"}]
    made = pipeline(exploration={"rate": 0.9, "place": 3, "likes_below": 5.0}, rules=rules)
    lists = made.run(bench.query(made, 100, size=4, trained=6, profile=child))
    assert {bench.ids[row] for row in lists.items[lists.propensity < 1].tolist()} == {"new"}


def test_it_prints_itself_and_counts_exposure() -> None:
    records = [ItemRecord(item_id=f"i{n}", categorical={"creator": ["A" if n < 3 else "B"]}) for n in range(4)]
    bench = Bench({f"i{n}": 9 - n for n in range(4)}, records)
    made = pipeline()
    bench.listed(made, size=4)
    stages = dict(made.describe())
    assert list(stages) == ["sources", "filters", "scorer", "adjusters", "selection", "exploration", "late filters"]
    assert stages["sources"] == ["trending (100)"]
    shares = made.exposure.largest(5)
    assert list(shares) == ["A", "B"] and sum(shares.values()) == pytest.approx(1)
    assert shares["B"] == pytest.approx(
        (1 / np.log2(5)) / sum(1 / np.log2(place + 1) for place in range(1, 5)), abs=1e-5
    )
    assert 0 < made.exposure.gini < 1


def test_an_unknown_component_is_told_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"no source is called 'trendy'; known are .*trending"):
        pipeline(sources={"trendy": 5})
    with pytest.raises(SettingsError, match="no adjuster is called 'fresh'"):
        pipeline(adjusters=("fresh",))
    with pytest.raises(ValidationError, match="below 1"):
        PipelineSettings.model_validate({"diversity": {"kind": "dpp", "strength": 1}})


def test_without_any_item_every_list_is_empty() -> None:
    made = pipeline(caps={"genre": 1}, exploration={"rate": 1.0}, sources={"trending": 5, "new_releases": 5})
    lists = made.run(Bench({}).query(made, 3))
    assert lists.items.shape == (3, 0)
