"""Record batches through Faust on the real broker: order, bounds, and what a restart delivers again.

Joining a group takes seconds, so all the scenes below play side by side, once; the tests look at what came of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.streams.batch_scene import BATCH_MAX, PARTITIONS, Scene
from tests.waiting import wait_until

#: Records put on each partition before the members start.
FIRST = 500
HELD = 2
#: Records that come one by one to a member that is slow.
SINGLES = 7


@dataclass
class Played:
    """What came of the scenes."""

    steady: Scene
    held: Scene
    killed: Scene
    pair: Scene
    committed: dict[str, dict[int, int | None]] = field(default_factory=dict)
    alone: dict[int, list[int]] = field(default_factory=dict)
    together: dict[str, set[int]] = field(default_factory=dict)
    trickled_from: int = 0


@pytest.fixture(scope="module")
def played(servers: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    root = tmp_path_factory.mktemp("transport")
    scenes = [Scene(servers, root / name) for name in ("steady", "held", "killed", "pair")]
    steady, held, killed, pair = scenes
    played = Played(steady, held, killed, pair)
    try:
        for scene in scenes:
            scene.send(FIRST)
        steady.start("first")
        held.start("first", f"hold:{HELD}")
        killed.start("first", "slow")
        pair.start("one")
        pair.start("two")

        def some() -> bool:
            return any(killed.batches("first"))

        wait_until(some, "the member that is to be killed gets its first batch", within_s=90)
        killed.kill("first")
        played.committed["killed"] = killed.committed()
        killed.start("second", "slow")
        for scene in (steady, held):
            scene.wait_for(FIRST, "first")
            scene.end("first")
        for scene in (steady, held):
            scene.stopped("first")
            played.committed[scene.folder.name] = scene.committed()
            scene.start("second")
        steady.send(1)
        pair.wait_for(FIRST, "one", "two")
        sent = share(pair, played)
        pair.end("one")
        pair.stopped("one")
        before = {p: len(offsets) for p, offsets in pair.offsets("two").items()}
        pair.send(20)
        steady.wait_for(1, "second")
        held.wait_for(FIRST - HELD * BATCH_MAX, "second")
        killed.wait_for(FIRST, "first", "second")
        played.trickled_from = len(killed.batches("second"))
        killed.trickle(SINGLES)
        wait_until(lambda: killed.offsets("second")[0][-1] == FIRST + SINGLES - 1, "what came one by one", within_s=90)
        pair.wait_for(sent + 20, "one", "two")
        played.alone = {p: offsets[before[p] :] for p, offsets in pair.offsets("two").items()}
        yield played
    finally:
        for scene in scenes:
            scene.close()


def share(pair: Scene, played: Played) -> int:
    """Send a few records at a time until both members have their share of the partitions; how many were sent each."""
    for sent in range(FIRST, FIRST + 100, 2):
        marks = {name: len(pair.batches(name)) for name in ("one", "two")}
        pair.send(2)
        pair.wait_for(sent + 2, "one", "two")
        played.together = {name: {p for p, _ in pair.batches(name)[mark:]} for name, mark in marks.items()}
        if all(played.together.values()):
            break
    return sent + 2


def test_batches_come_in_the_order_of_offsets_from_every_partition(played: Played) -> None:
    assert played.steady.offsets("first") == {p: list(range(FIRST)) for p in range(PARTITIONS)}


def test_no_batch_is_longer_than_batch_max(played: Played) -> None:
    sizes = [len(offsets) for _, offsets in played.steady.batches("first")]
    assert max(sizes) == BATCH_MAX


def test_what_was_acknowledged_is_committed_and_never_comes_again(played: Played) -> None:
    """The record sent last stands at the very offset that was committed."""
    assert played.committed["steady"] == dict.fromkeys(range(PARTITIONS), FIRST)
    assert played.steady.offsets("second") == {p: [FIRST] for p in range(PARTITIONS)}


def test_only_the_unbroken_run_of_acknowledged_batches_is_committed(played: Played) -> None:
    """One batch in the middle was never acknowledged, all after it were: from it on everything comes again."""
    held = {p: [o for q, o in played.held.batches("first") if q == p][HELD][0] for p in range(PARTITIONS)}
    assert played.committed["held"] == held
    assert played.held.offsets("second") == {p: list(range(held[p], FIRST)) for p in range(PARTITIONS)}


def test_after_a_sigkill_everything_not_committed_comes_again(played: Played) -> None:
    committed = {p: offset or 0 for p, offset in played.committed["killed"].items()}
    assert sum(committed.values()) < PARTITIONS * FIRST, "the kill came too late to prove anything"
    again = {p: [o for o in offsets if o < FIRST] for p, offsets in played.killed.offsets("second").items()}
    assert again == {p: list(range(committed[p], FIRST)) for p in range(PARTITIONS)}
    for partition, offsets in played.killed.offsets("first").items():
        assert committed[partition] <= len(offsets), "committed what was never delivered"


def test_what_comes_while_an_agent_is_busy_is_joined(played: Played) -> None:
    """Each record was fetched on its own; the agent took longer for the first than the others to come."""
    batches = [offsets for _, offsets in played.killed.batches("second")[played.trickled_from :]]
    assert [offset for offsets in batches for offset in offsets] == list(range(FIRST, FIRST + SINGLES))
    assert len(batches) < SINGLES - 1


def test_two_members_share_the_partitions(played: Played) -> None:
    one, two = played.together["one"], played.together["two"]
    assert one and two and not one & two and one | two == set(range(PARTITIONS))


def test_when_a_member_leaves_the_other_takes_its_partitions_and_nothing_is_lost(played: Played) -> None:
    everything = {p: sorted(set(offsets)) for p, offsets in played.pair.offsets("one", "two").items()}
    assert all(offsets == list(range(len(offsets))) for offsets in everything.values())
    assert all(len(set(offsets)) >= 20 for offsets in played.alone.values())
