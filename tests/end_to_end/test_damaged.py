"""A batch is damaged on the broker's disk: it becomes a dead letter, and every reader goes on with the next one."""

import asyncio
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from kafka import KafkaConsumer, KafkaProducer
from kafka import TopicPartition as KafkaPythonPartition

from deploy.embedded import Embedded
from streams.contract import topics
from streams.contract.topics import TopicNames
from streams.kafka.damaged import damage_of, skip_damaged, skip_damaged_in_kafka_python
from streams.kafka.dead_letters import read, replay
from streams.settings.settings import Settings
from streams.state.status import trainer_status
from streams.state.store import Store
from tests.apache_kafka import ApacheKafka
from tests.end_to_end.conftest import Process, system_settings
from tests.waiting import wait_until

NOW = int(time.time() * 1000)
#: Records of a batch, and batches; the second one is damaged.
SIZE, BATCHES = 5, 3
SOUND = [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]


def event(number: int) -> bytes:
    return json.dumps({"type": "click", "user_id": f"u{number}", "item_id": f"item-{number:03d}", "ts": NOW}).encode()


def damage_second_batch(log_dir: Path, at: int) -> None:
    """Flip the bits of one byte of the second batch on the broker's disk, while the broker runs."""
    [segment] = [path for path in log_dir.rglob("*.log") if b"item-007" in path.read_bytes()]
    with segment.open("r+b") as file:
        data = file.read()
        (length,) = struct.unpack_from(">i", data, 8)
        file.seek(12 + length + at)
        file.write(bytes([data[12 + length + at] ^ 0xFF]))


@pytest.fixture(params=["embedded", "Apache Kafka"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The URL of a broker of the test's own, and the folder of its logs."""
    if request.param == "Apache Kafka":
        with ApacheKafka(request.getfixturevalue("kafka_home"), tmp_path / "kafka") as node:
            yield node.url, node.log_dir
        return
    with Embedded(tmp_path / "embedded", redis=False) as started:
        yield str(started.broker_url), tmp_path / "embedded"


def fill(settings: Settings) -> str:
    """Put the batches on one partition of the events topic, and give its name."""
    topics.create(settings)
    topic = TopicNames.under(settings.topic_prefix).events
    producer = KafkaProducer(acks="all", linger_ms=10_000, **settings.kafka.kafka_python_options())
    for number in range(BATCHES * SIZE):
        producer.send(topic, event(number), partition=0)
        if number % SIZE == SIZE - 1:
            producer.flush()
    producer.close()
    return topic


async def heard_by_aiokafka(settings: Settings, topic: str) -> list[int]:
    options = settings.kafka.aiokafka_options()
    consumer = AIOKafkaConsumer(enable_auto_commit=False, auto_offset_reset="earliest", **options)
    await consumer.start()
    skip_damaged(consumer)
    consumer.assign([TopicPartition(topic, 0)])
    offsets: list[int] = []
    while not offsets or offsets[-1] != SOUND[-1]:
        record = await consumer.getone()
        offsets.append(record.offset if damage_of(record) is None else -record.offset)
    await consumer.stop()
    return offsets


def heard_by_kafka_python(settings: Settings, topic: str) -> list[int]:
    consumer = KafkaConsumer(auto_offset_reset="earliest", **settings.kafka.kafka_python_options())
    skip_damaged_in_kafka_python(consumer)
    consumer.assign([KafkaPythonPartition(topic, 0)])
    offsets: list[int] = []
    while not offsets or offsets[-1] != SOUND[-1]:
        offsets += [
            record.offset if damage_of(record) is None else -record.offset
            for records in consumer.poll(timeout_ms=1000).values()
            for record in records
        ]
    consumer.close()
    return offsets


@pytest.mark.parametrize("at", [100, 8], ids=["checksum", "length"])
def test_a_damaged_batch_stops_no_reader(
    servers: tuple[str, str], broker: tuple[str, Path], tmp_path: Path, at: int
) -> None:
    url, logs = broker
    settings = system_settings((url, servers[1]), tmp_path / "data", partitions=1)
    settings.data_dir.mkdir()
    topic = fill(settings)
    damage_second_batch(logs, at)
    roles = [Process(settings, role, tmp_path / f"{role}.log") for role in ("worker", "trainer")]

    async def counted() -> tuple[int, int]:
        store = Store(settings)
        totals, trainer = await store.totals(), await trainer_status(store)
        await store.close()
        return totals.get("applied", 0), trainer.logged if trainer else 0

    wait_until(lambda: asyncio.run(counted()) == (len(SOUND), len(SOUND)), "the sound events", within_s=120)
    wait_until(lambda: [letter.offset for letter in read(settings)][-1:] == [9], "the dead letter")
    assert [role.stop() for role in roles] == [0, 0]
    letters = list(read(settings))
    assert {letter.first_offset for letter in letters} <= set(range(5, 10))
    assert all("damaged" in letter.reason and letter.topic == topic for letter in letters)
    done = replay(settings, letters)
    assert done.sent == 0 and all("damaged batch" in why for why in done.refused.values())
    heard = asyncio.run(heard_by_aiokafka(settings, topic))
    assert [offset for offset in heard if offset >= 0] == SOUND
    assert [-offset for offset in heard if offset < 0] == [letter.offset for letter in letters]
    assert heard_by_kafka_python(settings, topic) == heard
