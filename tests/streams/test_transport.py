"""Record batches through Faust on the real broker: order, bounds, and what a restart delivers again.

Joining a group takes seconds, so all the scenes below play side by side, once; the tests look at what came of them.
"""

import multiprocessing
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streams import topics
from streams.settings import IngestSettings, Settings
from streams.topics import TopicNames
from tests.streams import batch_member
from tests.waiting import wait_until

#: The members are processes of their own, forked from one that has imported all they need.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([batch_member.__name__])
PARTITIONS = 3
BATCH_MAX = 40
#: Records put on each partition before the members start.
FIRST = 500
HELD = 2
#: Records that come one by one to a member that is slow.
SINGLES = 7

Batches = list[tuple[int, list[int]]]


class Scene:
    """One consumer group on topics of its own."""

    def __init__(self, servers: tuple[str, str], folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.settings = Settings(
            broker_url=servers[0],
            redis_url=servers[1],
            data_dir=folder,
            topic_prefix=f"{folder.name}-{uuid.uuid4().hex[:8]}.",
            partitions=PARTITIONS,
            ingest=IngestSettings(batch_max=BATCH_MAX),
        )
        topics.create(self.settings)
        self.topic = TopicNames.under(self.settings.topic_prefix).events
        self._producer = KafkaProducer(acks="all", **self.settings.kafka.kafka_python_options())
        self._members: dict[str, ForkServerProcess] = {}

    def send(self, count: int) -> None:
        """Put so many records on each partition."""
        for partition in range(PARTITIONS):
            for number in range(count):
                self._producer.send(self.topic, value=b"%d" % number, partition=partition)
        self._producer.flush()

    def trickle(self, count: int) -> None:
        """Put so many records on the first partition, each when the one before it is there."""
        for _ in range(count):
            self._producer.send(self.topic, value=b"", partition=0).get(30)

    def start(self, name: str, policy: str = "all") -> None:
        notes, log = (self.folder / f"{name}.{kind}" for kind in ("jsonl", "log"))
        self._members[name] = FORKS.Process(target=batch_member.main, args=(self.settings, notes, policy, log))
        self._members[name].start()

    def end(self, name: str) -> None:
        self._members[name].terminate()

    def stopped(self, name: str) -> None:
        member = self._members.pop(name)
        member.join(30)
        assert member.exitcode == 0, (self.folder / f"{name}.log").read_text()

    def kill(self, name: str) -> None:
        self._members[name].kill()
        self._members.pop(name).join(30)

    def close(self) -> None:
        for name in list(self._members):
            self.kill(name)
        self._producer.close()

    def batches(self, *names: str) -> Batches:
        """What the members got, as (partition, offsets)."""
        return [note for name in names for note in batch_member.notes(self.folder / f"{name}.jsonl")]

    def offsets(self, *names: str) -> dict[int, list[int]]:
        """The offsets that the members got, by partition, in the order of delivery."""
        got: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
        for partition, offsets in self.batches(*names):
            got[partition] += offsets
        return got

    def committed(self) -> dict[int, int | None]:
        consumer = KafkaConsumer(
            group_id=f"{self.settings.topic_prefix}millstream-member",
            enable_auto_commit=False,
            **self.settings.kafka.kafka_python_options(),
        )
        try:
            return {p: consumer.committed(TopicPartition(self.topic, p)) for p in range(PARTITIONS)}
        finally:
            consumer.close()

    def wait_for(self, count: int, *names: str) -> None:
        """Wait until the members together got so many different records of each partition."""

        def got() -> bool:
            return all(len(set(offsets)) >= count for offsets in self.offsets(*names).values())

        wait_until(got, f"{self.folder.name}: {count} records a partition by {names}", within_s=90)


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
