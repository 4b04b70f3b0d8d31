"""The simulated world: it can be repeated, speaks the wire contract, knows the truth, and rewards who knows taste."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.labels import NEGATIVE, POSITIVE, LabelRules
from streams.contract.events import Event, ItemRecord, UserRecord, decode_event, decode_item, decode_user, encode
from streams.simulator import PROFILES, Coming, Shown, World, WorldConfig
from streams.simulator.catalogue import GENRES
from streams.simulator.ledger import FROM_LIST, Look, gap
from streams.simulator.people import relevance
from streams.simulator.profiles import DAY_MS
from streams.simulator.rivals import SYSTEM, Rivals
from streams.simulator.world import Record

SMALL = WorldConfig(users=60, items=150, creators=30, arrivals_per_day=100.0)
Lists = Callable[[World, Coming], Shown | None]


def of_profile(profile: str, **more: float) -> World:
    return World(WorldConfig(**({"users": 80, "items": 150, "creators": 30} | PROFILES[profile] | more)))  # type: ignore[arg-type]


def truth(world: World, user_id: str, now: int) -> npt.NDArray[np.float64]:
    """What the user thinks of every video at that moment."""
    [person] = [person for person in world.people.everybody if person.user_id == user_id]
    return relevance(person, world.catalogue, now)


def nothing(_world: World, _coming: Coming) -> None:
    return None


class Listing:
    """Makes ten-item lists in an order, each with a name of its own."""

    def __init__(self, order: Callable[[World, Coming], npt.NDArray[np.intp]]) -> None:
        self._order = order
        self._count = count()

    def __call__(self, world: World, coming: Coming) -> Shown:
        items = [f"video-{number}" for number in self._order(world, coming)[:10]]
        return Shown(f"list-{next(self._count)}", items)


def at_random(seed: int = 1) -> Listing:
    rng = np.random.default_rng(seed)
    return Listing(lambda world, _: rng.permutation(len(world.catalogue)))


def by_taste() -> Listing:
    """What only the world itself knows."""
    return Listing(lambda world, coming: np.argsort(-truth(world, coming.looker or "", coming.ts)))


def play(world: World, lists: Lists, steps: int = 1_200) -> Iterator[tuple[Coming, Record]]:
    for _ in range(steps):
        coming = world.coming
        shown = lists(world, coming) if coming.looker else None
        for record in world.step(shown):
            yield coming, record


def events(world: World, lists: Lists, steps: int = 1_200) -> list[Event]:
    return [record for _, record in play(world, lists, steps) if isinstance(record, Event)]


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32), lists_seed=st.integers(0, 99), profile=st.sampled_from(sorted(PROFILES)))
def test_the_same_world_shown_the_same_lists_does_the_same(seed: int, lists_seed: int, profile: str) -> None:
    first, second = of_profile(profile, seed=seed), of_profile(profile, seed=seed)
    assert first.users() == second.users() and first.items() == second.items()
    assert list(play(first, at_random(lists_seed), 200)) == list(play(second, at_random(lists_seed), 200))
    assert first.ledger.summary() == second.ledger.summary()
    assert of_profile(profile, seed=seed + 1).users() != first.users()


def test_who_comes_when_and_what_is_published_is_the_same_whatever_is_shown() -> None:
    def fate(lists: Lists) -> tuple[list[ItemRecord], dict[str | None, int]]:
        found = list(play(World(SMALL), lists, 2_500))
        published = [record for _, record in found if isinstance(record, ItemRecord)]
        first = [record for _, record in found if isinstance(record, Event) and record.type == "visit"]
        return published[:20], {e.session_id: e.ts for e in first if str(e.session_id).endswith("/0")}

    (published, visits), (others, other_visits) = fate(at_random()), fate(by_taste())
    assert published == others and len(published) == 20
    both = visits.keys() & other_visits.keys()
    assert len(both) > 30 and all(visits[visit] == other_visits[visit] for visit in both)


@pytest.mark.parametrize("profile", PROFILES)
def test_all_that_happens_is_valid_on_the_wire_in_the_order_of_time(profile: str) -> None:
    world = of_profile(profile)
    for item in world.items():
        assert decode_item(encode(item)) == item
    times, ids = [], set()
    for coming, record in play(world, at_random()):
        times.append(coming.ts)
        if isinstance(record, Event):
            assert record.ts == coming.ts
            ids.add(decode_event(encode(record)).event_id)
        elif isinstance(record, UserRecord):
            assert decode_user(encode(record)) == record
        else:
            assert decode_item(encode(record)) == record and record.published_at == coming.ts
    assert times == sorted(times) and len(ids) > 1_000


def test_a_visit_begins_with_its_announcement_and_says_from_where() -> None:
    begun = set()
    for event in events(World(SMALL), at_random()):
        if event.type == "visit":
            assert event.session_id not in begun
            begun.add(event.session_id)
        assert event.session_id in begun and event.context is not None
        assert event.context["device"] in ("phone", "tablet", "tv") and event.context["country"]


def test_what_is_shown_is_told_place_by_place_before_what_is_taken() -> None:
    shown: dict[str, list[str]] = {}
    lists = at_random()

    def remembered(world: World, coming: Coming) -> Shown:
        made = lists(world, coming)
        shown[made.rec_id] = list(made.items)
        return made

    seen: set[tuple[str, int]] = set()
    dealt_with: set[tuple[str, str | None]] = set()
    kinds = set()
    for event in events(World(SMALL), remembered):
        if event.rec_id is None:
            dealt_with |= {(event.user_id, event.item_id)} if event.type == "watch" else set()
            continue
        assert event.position is not None and shown[event.rec_id][event.position] == event.item_id
        place = event.rec_id, event.position
        if event.type == "impression":
            assert place not in seen, "a place is looked at once"
            above = shown[event.rec_id][: event.position]
            assert all(
                (event.user_id, item) in dealt_with or (event.rec_id, at) in seen for at, item in enumerate(above)
            )
            seen.add(place)
        kinds.add(event.type)
        assert place in seen
        if event.type in ("watch", "hide"):
            dealt_with.add((event.user_id, event.item_id))
    assert kinds >= {"impression", "watch", "hide"}


def test_who_is_let_down_searches_for_what_is_there() -> None:
    world = World(replace(SMALL, searching=1.0))
    queries = [event.query for event in events(world, at_random()) if event.type == "search"]
    titles = {record.title.lower() for record in world.catalogue.records}
    genres = {genre.lower() for genre in GENRES}
    assert titles & set(queries) and genres & set(queries) and set(queries) <= titles | genres
    assert not [e for e in events(World(replace(SMALL, searching=0.0)), at_random()) if e.type == "search"]


def test_the_label_of_a_watch_is_what_the_ledger_says_of_it() -> None:
    world = World(SMALL)
    watches = [event for event in events(world, by_taste(), 2_000) if event.type == "watch"]
    labels = [event.grade(LabelRules()).label for event in watches]
    under_way = sum(person.visit is not None and person.visit.watching is not None for person in world.people.everybody)
    assert 0 <= world.ledger.column("satisfied").sum() - labels.count(POSITIVE) <= under_way
    assert NEGATIVE in labels


def test_what_was_hidden_or_watched_is_worth_nothing_any_more() -> None:
    world = World(SMALL)
    dealt_with = [e for e in events(world, at_random()) if e.type in ("hide", "watch") and e.item_id]
    for event in dealt_with[-50:]:
        liking = truth(world, event.user_id, world.coming.ts)
        assert liking[world.catalogue.numbers[event.item_id or ""]] == 0.0


@pytest.fixture(scope="module")
def served_well_and_badly() -> tuple[World, World]:
    """A world in which all lists are the best, and the same world with lists made at random."""
    best, chance = World(SMALL), World(SMALL)
    for world, lists in ((best, by_taste()), (chance, at_random())):
        events(world, lists, 2_000)
    return best, chance


def test_the_best_list_has_no_regret_and_engages_more(served_well_and_badly: tuple[World, World]) -> None:
    knowing, guessing = (world.ledger.summary() for world in served_well_and_badly)
    assert knowing["regret"] == pytest.approx(0.0, abs=0.05)  # ten of the twelve places are shown
    assert guessing["regret"] > 0.3
    assert knowing["engagement"] > 2 * guessing["engagement"]
    assert knowing["satisfied_per_visit"] > guessing["satisfied_per_visit"]


def test_upper_places_are_looked_at_more_often(served_well_and_badly: tuple[World, World]) -> None:
    _, chance = served_well_and_badly
    shown = [event for event in events(chance, at_random(2), 400) if event.type == "impression"]
    counts = np.bincount([event.position or 0 for event in shown], minlength=10)
    assert (np.diff(counts) <= 0).all() and counts[0] > 2 * counts[9] > 0


def test_who_is_let_down_trusts_the_lists_less(served_well_and_badly: tuple[World, World]) -> None:
    best, chance = (
        np.mean([person.trust for person in world.people.everybody if person.visits > 1])
        for world in served_well_and_badly
    )
    assert best > chance + 0.05


def test_tastes_turn_at_their_moment() -> None:
    world = of_profile("drift", turn_day=0.05, drift=0.0, sessions_per_day=12.0)
    before = {person.number: person.taste.copy() for person in world.people.everybody}
    list(play(world, nothing, 1_500))
    assert world.config.day(world.coming.ts) > 0.2

    def turned() -> float:
        return float(np.mean([not np.array_equal(p.taste, before[p.number]) for p in world.people.everybody]))

    assert 0.6 < turned() <= 1.0
    calm = of_profile("calm", drift=0.0)
    tastes = [person.taste.copy() for person in calm.people.everybody]
    list(play(calm, nothing, 1_500))
    assert all(np.array_equal(p.taste, then) for p, then in zip(calm.people.everybody, tastes, strict=True))


def test_an_item_that_explodes_is_wanted_by_everybody() -> None:
    world = of_profile("breaking", turn_day=0.2, sessions_per_day=12.0)
    found = [r for _, r in play(world, nothing, 2_500)]
    story = [r.item_id for r in found if isinstance(r, ItemRecord) and r.title.startswith("Breaking")]
    assert story
    watches = [event.item_id for event in found if isinstance(event, Event) and event.type == "watch"]
    plain = [item for item in set(watches) if item not in story]
    assert watches.count(story[0]) > 5 * np.mean([watches.count(item) for item in plain])


def test_in_a_cold_world_half_of_the_people_and_items_come_later() -> None:
    world = of_profile("cold", newcomer_days=0.5)
    users, items = {user.user_id for user in world.users()}, {item.item_id for item in world.items()}
    assert (len(users), len(items)) == (40, 75)
    joined: set[str] = set()
    for _, record in play(world, nothing, 2_000):
        if isinstance(record, UserRecord):
            joined.add(record.user_id)
        elif isinstance(record, ItemRecord):
            items.add(record.item_id)
        else:
            assert record.user_id in users | joined, "nobody acts before joining"
    assert len(joined) == 40 and len(items) >= 150


def test_bots_like_one_creators_items_and_do_not_count() -> None:
    world = of_profile("adversarial", bots=5)
    found = events(world, at_random(), 2_000)
    acts = [event for event in found if world.is_bot(event.user_id)]
    creators = {
        world.catalogue.records[world.catalogue.numbers[event.item_id or ""]].categorical["creator"][0]
        for event in acts
    }
    assert {event.type for event in acts} == {"watch", "like"} and len(creators) == 1
    assert len({event.user_id for event in acts}) == 5
    assert set(world.ledger.column("user").tolist()) <= set(range(world.config.users))


def test_a_world_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="users must be at least 1"):
        WorldConfig(users=0)
    with pytest.raises(ValueError, match=r"persistence must lie in \[0, 1\]"):
        WorldConfig(persistence=1.5)
    with pytest.raises(ValueError, match="sessions_per_day must be above 0"):
        WorldConfig(sessions_per_day=0.0)


def test_engagement_is_counted_by_visit_user_and_period() -> None:
    world = World(SMALL)
    for ts, user, visit, satisfied in ((0, 0, 1, 1), (5, 0, 1, 1), (10, 0, 2, 0), (DAY_MS, 1, 3, 1), (DAY_MS, 1, 4, 0)):
        world.ledger.add(Look(ts, user, visit, FROM_LIST, 0.25, 0.75, bool(satisfied), 1.0))
    summary = world.ledger.summary()
    assert (summary["visits"], summary["engagement"], summary["regret"]) == (4, 0.5, 0.5)
    assert [day["engagement"] for day in world.ledger.by_period(0)] == [0.5, 0.5]
    assert world.ledger.engagement_by_user(0, DAY_MS + 1, 3).tolist() == [[2, 1], [2, 1], [0, 0]]
    assert world.ledger.engagement_by_user(0, DAY_MS, 3).tolist() == [[2, 1], [0, 0], [0, 0]]


def test_the_gaps_interval_holds_the_gap_where_there_is_one_and_zero_where_there_is_none() -> None:
    rng = np.random.default_rng(3)
    visits = np.full(300, 20.0)

    def engaged(chance: float) -> npt.NDArray[np.float64]:
        return np.column_stack([visits, rng.binomial(20, chance, 300)])

    here, low, high = gap(engaged(0.5), engaged(0.4))
    assert low < here < high and low > 0 and abs(here - 0.1) < 0.03
    intervals = [gap(engaged(0.4), engaged(0.4)) for _ in range(30)]
    assert sum(not low <= 0 <= high for _, low, high in intervals) <= 5


def test_rivals_are_weighed_by_the_truth_and_nothing_happens_by_it() -> None:
    world, rng = World(SMALL), np.random.default_rng(4)
    rivals, lists = Rivals(world), at_random()
    for _ in range(1_200):
        coming = world.coming
        if coming.looker and rivals.count_look():
            best = np.argsort(-truth(world, coming.looker, coming.ts)).tolist()
            rivals.compare(
                coming.looker,
                int(coming.looker.removeprefix("user-")),
                {SYSTEM: best, "random": rng.permutation(best).tolist(), "worst": best[::-1], "none": []},
            )
        world.step(lists(world, coming) if coming.looker else None)
    report = rivals.report()
    assert report["looks"] == len(world.ledger) // 4 > 50
    assert (
        report[SYSTEM]["worth"] > report["random"]["worth"] > report["worst"]["worth"] >= report["none"]["worth"] == 0
    )
    assert (
        0 < report["random"]["behind"]["low"] < report["random"]["behind"]["mean"] < report["worst"]["behind"]["mean"]
    )

    alike = World(SMALL)
    events(alike, at_random())
    assert np.array_equal(alike.ledger.column("relevance"), world.ledger.column("relevance"), equal_nan=True)
