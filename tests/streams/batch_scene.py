"""A consumer group on topics of its own; its members are processes that note what they get."""

import multiprocessing
import uuid
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streams.contract import topics
from streams.contract.topics import TopicNames
from streams.settings.settings import IngestSettings, Settings
from tests.streams import batch_member
from tests.waiting import wait_until

#: The members are forked from a process that has imported all they need.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([batch_member.__name__])
PARTITIONS = 3
BATCH_MAX = 40

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
