"""The ranker: item numbers against model rows, what may be listed, and the trends that those without history get."""

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest

from models.config import TrainingConfig
from models.data.labels import Action
from models.data.popularity import PopularityConfig
from models.recommender import Recommender
from models.retrieval.neighbours import Neighbours
from serving.lists.explanation import Explanation
from serving.lists.live_model import SEGMENT_SUPPORT, Ranker
from serving.pipeline.pipeline import Pipeline
from streams.settings.pipeline import PipelineSettings
from streams.settings.settings import ListSettings, Settings
from streams.state.item_catalogue import Catalogue, keep_items
from streams.state.likes import Like
from streams.state.packing import RECORD, ItemEvent
from streams.state.store import Store
from streams.state.trends import Trends
from streams.state.user_states import UserState
from tests.conftest import MakeSettings
from tests.streams.records import batch, record

NOW = 1_700_000_000_000
LOG = "log"
PROFILE = b'{"user_id":"ann","categorical":{"country":["KR"],"gender":["F"]}}'


class Bench:
    """The state that a worker reads, and rankers over it."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self.catalogue = Catalogue(store)
        self.trends = Trends(store, settings)
        self._offset = 0

    async def describe(self, *names: str, start: int = 0, gone: bool = False) -> None:
        rows = [
            record(
                start + at, None if gone else json.dumps({"item_id": name}).encode(), key=name.encode(), topic="items"
            )
            for at, name in enumerate(names)
        ]
        await keep_items(batch(rows), LOG, self.store, self.settings)
        await self.catalogue.sync()

    async def like(self, name: str, times: int, segments: Sequence[str] = (), ts: int = NOW) -> None:
        item = self.catalogue.numbers[name]
        events = [ItemEvent(self._offset + n, item, ts, True, list(segments)) for n in range(times)]
        self._offset += times
        await self.store.apply_items(0, f"fence:{LOG}:0", self._offset - 1, events, [])

    async def likes(self, *pairs: tuple[str, Sequence[str]]) -> None:
        """Users' likes of an item, after others."""
        numbers = self.catalogue.numbers
        for name, before in pairs:
            liked = b"".join(struct.pack("<II", numbers[each], 0) for each in before)
            event = ItemEvent(self._offset, numbers[name], NOW, True, [])
            like = Like(self._offset, numbers[name], liked)
            await self.store.apply_items(0, f"fence:{LOG}:0", self._offset, [event], [], [like])
            self._offset += 1

    async def ranker(self, model: Recommender | None = None) -> Ranker:
        await self.trends.sync()
        self.trends.likes.drain()
        model = model or Recommender.trending_only(PopularityConfig(), TrainingConfig())
        return Ranker(model, self.catalogue, self.trends, self.settings)

    async def refresh(self, ranker: Ranker) -> None:
        """Bring the ranker up to date as the refresh agent does."""
        changed = await self.trends.sync()
        await self.catalogue.sync()
        ranker.take_items(self.catalogue.drain_changed())
        ranker.take_trends(changed)
        ranker.take_likes(self.trends.likes.drain())

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline(self.settings.pipeline, seed=1)

    def listed(self, ranker: Ranker, *states: UserState) -> list[list[str]]:
        ranked = ranker.rank(self.pipeline, states, [NOW] * len(states), self.settings.lists.size)
        return [[self.catalogue.ids[place.number] for place in places] for places in ranked]


def state(items: Sequence[int] = (), *, seen: Sequence[int] | None = None, profile: bytes = b"") -> UserState:
    sequence = np.zeros(len(items), RECORD)
    sequence["item"], sequence["action"], sequence["strength"], sequence["ts"] = items, Action.WATCH, 1.0, NOW
    return UserState(1, sequence, np.array(items if seen is None else seen, np.uint32), [], profile)


def on_bench(settings: Settings, work: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Store(settings)
        try:
            await work(Bench(settings, store))
        finally:
            await store.close()

    asyncio.run(main())


def test_the_most_liked_come_first_and_what_was_seen_is_left_out(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        await bench.describe("a", "b", "c")
        for name, times in (("a", 1), ("b", 9), ("c", 4)):
            await bench.like(name, times)
        ranker = await bench.ranker()
        assert bench.listed(ranker, state(), state([1]), state([1], seen=[0, 1, 2])) == [
            ["b", "c", "a"],
            ["c", "a"],
            [],
        ]
        assert ranker.now == NOW

    on_bench(make_settings(), work)


def test_a_list_has_as_many_places_as_set(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        names = [f"i{at}" for at in range(8)]
        await bench.describe(*names)
        for name in names:
            await bench.like(name, 2)
        assert [len(places) for places in bench.listed(await bench.ranker(), state(), state([0]))] == [3, 3]

    on_bench(make_settings(lists=ListSettings(size=3)), work)


def test_a_models_rows_need_not_be_the_item_numbers(make_settings: MakeSettings) -> None:
    """The model knows items in another order, one that is gone from the state, and not all that the state has."""

    async def work(bench: Bench) -> None:
        await bench.describe("a", "b", "c", "d")
        for name, times in (("a", 1), ("b", 2), ("c", 3), ("d", 4)):
            await bench.like(name, times)
        config = PopularityConfig()
        model = Recommender("v1", TrainingConfig(), config, ["c", "elsewhere", "a"], None)
        ranker = await bench.ranker(model)
        assert bench.listed(ranker, state(), state([3, 0])) == [["d", "c", "b", "a"], ["c", "b"]]
        assert "elsewhere" not in bench.catalogue.numbers

    on_bench(make_settings(), work)


def test_neighbours_follow_likes_and_a_new_model_counts_none_twice(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        await bench.describe("a", "b", "c")
        await bench.likes(("a", []), ("b", ["a"]))
        ranker = await bench.ranker(Recommender.untaught(PopularityConfig(), TrainingConfig()))
        await bench.refresh(ranker)
        assert pairs(ranker) == {("a", "b"): 1}
        await bench.describe("d", start=3)
        await bench.likes(("a", []), ("c", ["a"]), ("d", ["a", "c"]))
        await bench.refresh(ranker)
        assert pairs(ranker) == {("a", "b"): 1, ("a", "c"): 1, ("a", "d"): 1, ("c", "d"): 1}
        assert [name for name, _, _ in await related(bench, ranker, "d")] == ["c", "a"], "a was liked more often"
        # trained on the first three, in rows of its own
        config = TrainingConfig()
        neighbours = Neighbours.fitted(np.array([0, 0, 1]), np.array([2, 0, 2]), 3, config.neighbours)
        model = Recommender("v1", config, PopularityConfig(), ["b", "elsewhere", "a"], None, neighbours)
        model.offsets = {f"{LOG}:0": 3}
        swapped = await bench.ranker(model)
        await bench.refresh(swapped)
        assert pairs(swapped) == pairs(ranker)
        assert degrees(swapped) == degrees(ranker) == {"a": 2, "b": 1, "c": 1, "d": 1}

    async def related(bench: Bench, ranker: Ranker, name: str) -> list[tuple[str, float, str]]:
        found = ranker.related(bench.catalogue.numbers[name], 5)
        return [(bench.catalogue.ids[number], similarity, source) for number, similarity, source in found]

    on_bench(make_settings(), work)


def pairs(ranker: Ranker) -> dict[tuple[str, str], int]:
    """How often items were liked together, by their names."""
    model, counted = ranker.model, ranker.model.neighbours
    assert counted is not None
    rows, places = np.nonzero(counted.items >= 0)
    found = {
        (model.item_ids[row], model.item_ids[counted.items[row, place]]): int(counted.counts[row, place])
        for row, place in zip(rows.tolist(), places.tolist(), strict=True)
    }
    assert {(other, one): count for (one, other), count in found.items()} == found
    return {pair: count for pair, count in found.items() if pair == tuple(sorted(pair))}


def degrees(ranker: Ranker) -> dict[str, int]:
    """How many likes of each item were counted."""
    assert ranker.model.neighbours is not None
    named = zip(ranker.model.item_ids, ranker.model.neighbours.likes.tolist(), strict=False)
    return {name: int(count) for name, count in named if count}


def test_a_withdrawn_item_leaves_the_next_list_and_may_come_back(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        await bench.describe("a", "b")
        await bench.like("a", 5)
        await bench.like("b", 1)
        ranker = await bench.ranker()
        await bench.describe("a", start=2, gone=True)
        await bench.refresh(ranker)
        assert bench.listed(ranker, state()) == [["b"]]
        await bench.describe("a", start=3)
        await bench.refresh(ranker)
        assert bench.listed(ranker, state()) == [["a", "b"]]

    on_bench(make_settings(), work)


def test_items_numbered_since_the_last_sync_are_left_out_until_the_next(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        await bench.describe("a", "b")
        await bench.like("a", 2)
        await bench.like("b", 1)
        ranker = await bench.ranker()
        elsewhere = Catalogue(bench.store)  # another worker names an item
        await elsewhere.number(["c"])
        await bench.store.apply_items(1, f"fence:{LOG}:1", 0, [ItemEvent(0, 2, NOW, True, [])], [])
        assert bench.listed(ranker, state([2]), state([0, 2])) == [["a", "b"], ["b"]]
        await bench.refresh(ranker)
        [first, second] = bench.listed(ranker, state(), state([2]))
        assert set(first) == {"a", "b", "c"}
        assert set(second) == {"a", "b"}

    on_bench(make_settings(), work)


def test_who_has_no_history_gets_the_trends_of_their_segment(make_settings: MakeSettings) -> None:
    many = int(SEGMENT_SUPPORT)

    async def work(bench: Bench) -> None:
        await bench.describe("world", "korea", "women")
        await bench.like("world", 10 * many)
        await bench.like("korea", 2 * many, ["country=KR"])
        await bench.like("women", many, ["country=KR", "gender=F"])
        ranker = await bench.ranker()
        with_profile = state(profile=PROFILE)
        in_korea = state(profile=b'{"user_id":"ann","categorical":{"country":["KR"],"gender":["M"]}}')
        elsewhere = state(profile=b'{"user_id":"ann","categorical":{"country":["FR"]}}')
        firsts = [places[0] for places in bench.listed(ranker, with_profile, in_korea, elsewhere, state())]
        assert firsts == ["women", "korea", "world", "world"], "the narrowest that is well supported"
        [with_history] = bench.listed(ranker, state([2], profile=PROFILE))
        assert with_history[0] == "world"

    on_bench(make_settings(), work)


def test_a_segment_of_a_few_events_is_not_trusted(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        await bench.describe("world", "korea")
        await bench.like("world", 20)
        await bench.like("korea", int(SEGMENT_SUPPORT) - 1, ["country=KR"], ts=NOW - 1)
        await bench.like("world", 200)
        [places] = bench.listed(await bench.ranker(), state(profile=PROFILE))
        assert places[0] == "world"

    on_bench(make_settings(), work)


def test_before_any_item_every_list_is_empty(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        assert bench.listed(await bench.ranker(), state(), state(profile=PROFILE)) == [[], []]

    on_bench(make_settings(), work)


def test_the_fate_of_every_item_is_told_and_its_parts_add_up(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        names = [f"i{at}" for at in range(9)]
        await bench.describe(*names)
        for at, name in enumerate(names[:8]):  # i8 is liked by nobody, so no source proposes it
            await bench.like(name, 1 + at // 2)  # equal ones among them
        await bench.describe("i3", start=20, gone=True)
        ranker = await bench.ranker()
        of = state([5])
        [listed] = bench.listed(ranker, of)
        fates = {name: ranker.explain(bench.pipeline, of, NOW, bench.catalogue.numbers[name], 20) for name in names}
        assert {name: fate.fate for name, fate in fates.items() if fate.fate != "ranked"} == {
            "i3": "withdrawn",
            "i5": "seen",
            "i8": "not proposed",
        }
        assert [name for name, _ in sorted(ranks(fates), key=lambda pair: pair[1])] == listed
        assert sorted(rank for _, rank in ranks(fates)) == list(range(1, 7))
        scores = {name: fates[name].score for name in listed}
        mean = sum(scores.values()) / len(scores)
        for name in listed:
            assert sum(adds for _, adds in fates[name].parts) == pytest.approx(scores[name] - mean, abs=1e-4)
            assert fates[name].sources == ("trending",)

    def ranks(fates: dict[str, Explanation]) -> list[tuple[str, int]]:
        return [(name, fate.rank) for name, fate in fates.items() if fate.fate == "ranked"]

    on_bench(make_settings(pipeline=PipelineSettings(sources={"trending": 100})), work)
