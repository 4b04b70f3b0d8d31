"""Filters: who is not shown what, and why."""

from typing import Any

import numpy as np
import pytest

from models.data.labels import Action
from serving.pipeline.filters import Filter
from serving.pipeline.query import Query
from streams.contract.events import ItemRecord, UserRecord
from streams.settings.settings import SettingsError
from tests.serving.pipeline.bench import Bench, pipeline


def user(**features: Any) -> UserRecord:
    numeric = {name: value for name, value in features.items() if isinstance(value, int | float)}
    return UserRecord(
        user_id="ann",
        numeric=numeric,
        categorical={name: [value] for name, value in features.items() if name not in numeric},
    )


def test_what_was_hidden_disliked_or_seen_is_left_out() -> None:
    bench = Bench({"hidden": 3, "disliked": 2, "seen": 2, "left": 1})
    acts = [("hidden", Action.HIDE, 0.0, 1), ("disliked", Action.DISLIKE, 0.0, 1)]
    for filters, expected in (
        ((), ["hidden", "disliked", "seen", "left"]),
        (("hidden",), ["disliked", "seen", "left"]),
        (("hidden", "disliked", "seen"), ["left"]),
    ):
        assert bench.listed(pipeline(filters=filters), acts=acts, seen=["seen"]) == expected


def test_withdrawn_items_are_left_out_unless_the_filter_is() -> None:
    bench = Bench({"gone": 3, "there": 1}, [ItemRecord(item_id="gone", available=False)])
    assert bench.listed(pipeline()) == ["there"]
    assert bench.listed(pipeline(filters=())) == ["gone", "there"]


def test_an_item_shown_again_and_again_is_left_out() -> None:
    bench = Bench({"tiring": 3, "shown": 2})
    made = pipeline(fatigue=3)
    assert bench.listed(made, shown=["tiring", "shown", "tiring"]) == ["tiring", "shown"]
    assert bench.listed(made, shown=["tiring", "shown", "tiring", "tiring"]) == ["shown"]


def test_an_item_is_shown_where_it_may_be() -> None:
    records = [
        ItemRecord(item_id="korea only", categorical={"available_in": ["KR", "JP"]}),
        ItemRecord(item_id="not in korea", categorical={"blocked_in": ["KR"]}),
    ]
    bench = Bench({"korea only": 3, "not in korea": 2, "all": 1}, records)
    assert bench.listed(pipeline(), profile=user(country="KR")) == ["korea only", "all"]
    assert bench.listed(pipeline(), profile=user(country="DE")) == ["not in korea", "all"]
    assert bench.listed(pipeline(), profile=None) == ["not in korea", "all"], "nobody knows where the user is"


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (user(age=12), ["children"]),
        (user(age=15), ["film", "children"]),
        (user(age="18-24"), ["adults", "film", "children"]),
        (user(age="45+", max_age_rating=15), ["film", "children"]),
        (user(country="KR"), ["adults", "film", "children"]),
        (None, ["adults", "film", "children"]),
    ],
)
def test_what_is_for_older_people_is_left_out(profile: UserRecord | None, expected: list[str]) -> None:
    records = [
        ItemRecord(item_id="adults", numeric={"min_age": 18}),
        ItemRecord(item_id="film", categorical={"certificate": ["PG-13"]}),
    ]
    bench = Bench({"adults": 3, "film": 2, "children": 1}, records)
    assert bench.listed(pipeline(), profile=profile) == expected


class StartsWithA(Filter):
    """A team's own."""

    name = "starts_with_a"

    def removes(self, query: Query, users: Any, items: Any) -> Any:
        return np.array([query.model.item_ids[row].startswith("a") for row in items.tolist()], bool)


def test_a_teams_own_filter_is_named_by_its_import_path() -> None:
    bench = Bench({"a1": 3, "b1": 2, "a2": 1})
    own = f"{__name__}:StartsWithA"
    assert bench.listed(pipeline(filters=(own,))) == ["b1"]
    assert bench.listed(pipeline(late_filters=(own,))) == ["b1"]


@pytest.mark.parametrize("name", ["sene", "tests.serving.pipeline:Nothing", "no_such_module:Filter"])
def test_a_filter_that_is_not_there_is_told_of(name: str) -> None:
    with pytest.raises(SettingsError, match=r"filter.*" + name):
        pipeline(filters=(name,))


def test_a_list_that_a_late_filter_empties_is_filled_from_the_reserve() -> None:
    bench = Bench({f"a{n}": 50 - n for n in range(10)} | {f"b{n}": 9 - n for n in range(5)})
    own = f"{__name__}:StartsWithA"
    made = pipeline(late_filters=(own,))
    assert bench.listed(made, size=3) == ["b0", "b1", "b2"]
    assert made.stages.counts["late filters/starts_with_a"].removed == 10
