"""Batches of every codec reach every reader, whoever chose the codec; a codec that is missing is named at the start."""

import logging
import multiprocessing
import uuid
from collections.abc import Iterator
from pathlib import Path

import aiokafka.codec
import kafka.codec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic

from streams.contract import topics
from streams.contract.topics import TopicNames
from streams.kafka import codecs
from streams.settings.settings import Settings
from tests.streams import batch_member
from tests.waiting import wait_until

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([batch_member.__name__])
CODECS = ("gzip", "snappy", "lz4", "zstd")
#: They compress well, so that no producer and no broker keeps them as they are.
VALUES = [b'{"type": "like", "number": %d}' % number + b" " * 500 for number in range(50)]


class Group:
    """A member of a consumer group, on the transport of worker and trainer, and the events topic that it reads."""

    def __init__(self, servers: tuple[str, str], folder: Path, by_topic: str | None) -> None:
        folder.mkdir()
        self.settings = Settings(
            broker_url=servers[0],
            redis_url=servers[1],
            data_dir=folder,
            topic_prefix=f"codec-{uuid.uuid4().hex[:8]}.",
            partitions=1,
        )
        self.topic = TopicNames.under(self.settings.topic_prefix).events
        if by_topic is not None:
            admin = topics.connect(self.settings)
            admin.create_topics([NewTopic(self.topic, 1, 1, topic_configs={"compression.type": by_topic})])
            admin.close()
        topics.create(self.settings)
        self._notes, self._log = folder / "notes.jsonl", folder / "log"
        self._member = FORKS.Process(target=batch_member.main, args=(self.settings, self._notes, "all", self._log))
        self._member.start()

    def send(self, codec: str | None) -> None:
        options = self.settings.kafka.kafka_python_options()
        producer = KafkaProducer(acks="all", compression_type=codec, linger_ms=100, **options)
        for value in VALUES:
            producer.send(self.topic, value, partition=0)
        producer.close()

    def received(self) -> int:
        """The records that the member got, once it has them all."""

        def count() -> int:
            assert self._member.is_alive(), self._log.read_text()
            return sum(len(offsets) for _, offsets in batch_member.notes(self._notes))

        wait_until(lambda: count() >= len(VALUES), "the member's records")
        return count()

    def close(self) -> None:
        self._member.terminate()
        self._member.join(30)


@pytest.fixture(scope="module", params=["producer", "topic"])
def groups(
    request: pytest.FixtureRequest, servers: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Group]]:
    """By codec, a group whose topic has one batch in it: the producer or the topic's setting chose the codec."""
    by_topic = request.param == "topic"
    if by_topic:
        request.getfixturevalue("apache_kafka")  # the embedded broker keeps batches as they come
    folder = tmp_path_factory.mktemp("codecs")
    groups = {codec: Group(servers, folder / codec, codec if by_topic else None) for codec in CODECS}
    for codec, group in groups.items():
        group.send(None if by_topic else codec)
    yield groups
    for group in groups.values():
        group.close()


@pytest.mark.parametrize("codec", CODECS)
async def test_a_compressed_batch_reaches_every_reader(groups: dict[str, Group], codec: str) -> None:
    group = groups[codec]
    assert group.received() == len(VALUES)
    options = group.settings.kafka.aiokafka_options()
    async with AIOKafkaConsumer(enable_auto_commit=False, auto_offset_reset="earliest", **options) as consumer:
        consumer.assign([TopicPartition(group.topic, 0)])
        assert [(await consumer.getone()).value for _ in VALUES] == VALUES
    reader = KafkaConsumer(group.topic, auto_offset_reset="earliest", **group.settings.kafka.kafka_python_options())
    assert [next(reader).value for _ in VALUES] == VALUES
    reader.close()


def test_a_batch_in_a_codec_that_is_missing_ends_the_process_which_names_the_codec(
    servers: tuple[str, str], tmp_path: Path
) -> None:
    settings = Settings(
        broker_url=servers[0],
        redis_url=servers[1],
        data_dir=tmp_path,
        topic_prefix=f"codec-{uuid.uuid4().hex[:8]}.",
        partitions=1,
    )
    topics.create(settings)
    producer = KafkaProducer(acks="all", compression_type="lz4", **settings.kafka.kafka_python_options())
    producer.send(TopicNames.under(settings.topic_prefix).events, VALUES[0])
    producer.close()
    log, notes = tmp_path / "log", tmp_path / "notes"
    member = FORKS.Process(target=run_without_codecs, args=(settings, notes, log))
    member.start()
    member.join(60)
    assert member.exitcode == 1
    assert "Libraries for lz4 compression codec not found" in log.read_text()
    assert batch_member.notes(notes) == []


def run_without_codecs(settings: Settings, notes: Path, log: Path) -> None:
    """A member where the package of aiokafka's codecs is not installed."""
    aiokafka.codec.cramjam = None
    logging.basicConfig()
    batch_member.main(settings, notes, "all", log)


@pytest.mark.parametrize(
    ("library", "module", "message"),
    [
        (aiokafka.codec, "cramjam", r"snappy \(needs cramjam\), lz4 \(needs cramjam\), zstd \(needs cramjam\)\."),
        (kafka.codec, "snappy", r"snappy \(needs python-snappy\)\."),
        (kafka.codec, "lz4", r"lz4 \(needs lz4\)\."),
        (kafka.codec, "zstd", r"zstd \(needs zstandard\)\."),
    ],
)
def test_a_missing_codec_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, library: object, module: str, message: str
) -> None:
    assert codecs.missing() == []
    monkeypatch.setattr(library, module, None)
    with pytest.raises(codecs.CodecMissing, match=message):
        codecs.check()
