"""The simulated world: it can be repeated, speaks the wire contract, and rewards a recommender that knows taste."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice

import pytest

from models.labels import POSITIVE, LabelRules, grade
from streams.events import Event, ItemRecord, decode_event, decode_item, decode_user, encode
from streams.simulator import Happening, Shown, World, WorldConfig

SMALL = WorldConfig(users=60, items=150, creators=30, arrivals_per_day=100.0)
Lists = Callable[[str], Shown | None]


def nothing(_: str) -> None:
    return None


class ByTaste:
    """The ten items that a user likes best of those not watched: what only the world itself knows."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.watched: set[tuple[str, str]] = set()

    def __call__(self, user_id: str) -> Shown:
        fresh = (item.item_id for item in self.world.catalogue if (user_id, item.item_id) not in self.watched)
        return Shown("taste", sorted(fresh, key=lambda item_id: -self.world.liking(user_id, item_id))[:10])

    def play(self, n: int) -> list[Event]:
        events = []
        for happening in islice(self.world.play(self), n):
            if isinstance(happening.record, Event):
                events.append(happening.record)
                self.watched.add((happening.record.user_id, happening.record.item_id or ""))
        return events


def at_random(world: World) -> Lists:
    draw = random.Random(1)
    return lambda _: Shown("chance", [item.item_id for item in draw.sample(world.catalogue, 10)])


def played(world: World, shown: Lists, n: int = 1_500) -> list[Happening]:
    return list(islice(world.play(shown), n))


def events_of(happenings: list[Happening]) -> list[Event]:
    return [happening.record for happening in happenings if isinstance(happening.record, Event)]


def satisfaction(events: list[Event]) -> float:
    """The share of watches that are positive."""
    watches = [event for event in events if event.type == "watch"]
    labels = [
        grade(event.action, LabelRules(), watch_s=event.watch_s, duration_s=event.duration_s).label for event in watches
    ]
    return labels.count(POSITIVE) / len(labels)


def test_the_same_seed_and_lists_make_the_same_world() -> None:
    first, second, other = World(SMALL), World(SMALL), World(WorldConfig(users=60, items=150, seed=8))
    assert first.users() == second.users()
    assert first.catalogue == second.catalogue
    assert played(first, at_random(first)) == played(second, at_random(second))
    assert first.users() != other.users()


def test_all_that_happens_is_valid_on_the_wire() -> None:
    world = World(SMALL)
    for item in world.catalogue:
        assert decode_item(encode(item)) == item
    for user in world.users():
        assert decode_user(encode(user)) == user
    ids = set()
    for happening in played(world, at_random(world)):
        if isinstance(happening.record, ItemRecord):
            assert decode_item(encode(happening.record)) == happening.record
        else:
            ids.add(decode_event(encode(happening.record)).event_id)
    assert len(ids) > 1_000


def test_event_time_runs_forward_at_the_given_speed() -> None:
    happenings = played(World(SMALL), nothing)
    times = [event.ts for event in events_of(happenings)]
    assert times == sorted(times)
    for happening in happenings:
        record = happening.record
        ts = record.ts if isinstance(record, Event) else record.published_at
        assert happening.due_s == pytest.approx(((ts or 0) - SMALL.start_ms) / 1000 / SMALL.speed)


def test_a_visit_comes_before_the_watches_of_its_session() -> None:
    begun = set()
    for event in events_of(played(World(SMALL), nothing)):
        if event.type == "visit":
            assert event.session_id not in begun
            begun.add(event.session_id)
        assert event.session_id in begun


def test_videos_are_not_watched_longer_than_they_are() -> None:
    for event in events_of(played(World(SMALL), nothing)):
        if event.type == "watch":
            assert event.watch_s is not None
            assert 0 <= event.watch_s <= (event.duration_s or 0) + 0.1


def test_new_videos_come_and_are_watched() -> None:
    world = World(SMALL)
    old = {item.item_id for item in world.catalogue}
    happenings = played(world, nothing, 3_000)
    new = {happening.record.item_id for happening in happenings if isinstance(happening.record, ItemRecord)}
    assert new
    assert {item.item_id for item in world.catalogue} == old | new
    assert new & {event.item_id for event in events_of(happenings)}


def test_what_is_taken_from_a_list_says_which_and_where() -> None:
    world = World(SMALL)
    taken = [event for event in events_of(played(world, at_random(world))) if event.rec_id is not None]
    found = [event for event in events_of(played(World(SMALL), nothing)) if event.type == "watch"]
    assert taken
    assert all(event.rec_id == "chance" and event.position in range(10) for event in taken)
    assert all(event.rec_id is None and event.position is None for event in found)


def test_taste_matters_to_those_who_recommend() -> None:
    known, guessed, left_alone = (World(WorldConfig(users=60, items=400)) for _ in range(3))
    taste = satisfaction([event for event in ByTaste(known).play(400) if event.rec_id])
    chance = satisfaction([event for event in events_of(played(guessed, at_random(guessed))) if event.rec_id])
    alone = satisfaction(events_of(played(left_alone, nothing)))
    assert taste > 2 * alone
    assert alone > 4 * chance


def test_tastes_drift() -> None:
    world = World(WorldConfig(users=20, items=100, drift=0.5))

    def likings() -> list[float]:
        return [world.liking(user.user_id, f"video-{item}") for user in world.users() for item in range(50)]

    before = likings()
    played(world, nothing, 3_000)
    moved = sum(abs(now - then) > 0.2 for now, then in zip(likings(), before, strict=True))
    assert moved > len(before) / 10
