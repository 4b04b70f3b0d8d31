"""A whole system of real processes, shared by the end-to-end tests; its models are tiny."""

import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from models.config import BlendConfig, RankerConfig, SequenceConfig, TowersConfig, TrainingConfig
from streams.contract import topics
from streams.contract.topics import TopicNames
from streams.settings.settings import ApiSettings, Settings, TrainingSettings

TINY = TrainingConfig(
    sequence=SequenceConfig(dim=16, blocks=1, heads=1, length=20, epochs=3, fine_tune_epochs=1),
    towers=TowersConfig(dim=16, hidden=16, batch=128, negatives=64, epochs=1, fine_tune_epochs=1),
    blend=BlendConfig(past_choices=500),
    ranker=RankerConfig(epochs=1, depth=40),
    token_buckets=512,
    time_budget_s=10.0,
)


class Process:
    """A role as a child process, its output in a file."""

    def __init__(self, settings: Settings, role: str, log: Path) -> None:
        self.log = log
        self._child = subprocess.Popen(
            [sys.executable, "-m", "serving.cli", role],
            env=settings.environment(),
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
        )

    def stop(self) -> int:
        self._child.terminate()
        return self._child.wait(30)

    def kill(self) -> None:
        self._child.kill()
        self._child.wait(30)


class World:
    """The system from outside: what goes in over Kafka, and what comes out."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.names = TopicNames.under(settings.topic_prefix)
        self._folder = folder
        topics.create(settings)
        options = settings.kafka.kafka_python_options()
        self._producer = KafkaProducer(acks="all", linger_ms=0, **options)
        self.processes: dict[str, Process] = {}

    def start(self, name: str, role: str) -> Process:
        self.processes[name] = Process(self.settings, role, self._folder / f"{name}.log")
        return self.processes[name]

    def stop(self) -> None:
        for process in self.processes.values():
            process.stop()
        self._producer.close()

    def send(
        self, topic: str, key: str | None, value: bytes | None, headers: list[tuple[str, bytes]] | None = None
    ) -> None:
        self._producer.send(topic, key=key.encode() if key else None, value=value, headers=headers or [])

    def flush(self) -> None:
        self._producer.flush()

    def read(self, topic: str) -> "Reader":
        return Reader(self.settings, topic)


class Reader:
    """Reads a topic from its beginning with kafka-python."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._consumer = KafkaConsumer(
            auto_offset_reset="earliest", enable_auto_commit=False, **settings.kafka.kafka_python_options()
        )
        partitions = self._consumer.partitions_for_topic(topic) or set()
        self._consumer.assign([TopicPartition(topic, partition) for partition in partitions])

    def poll(self, seconds: float = 0.2) -> list[tuple[str, bytes | None]]:
        """What has come since the last poll, as (key, value)."""
        batches = self._consumer.poll(timeout_ms=int(seconds * 1000), max_records=100_000)
        return [((record.key or b"").decode(), record.value) for batch in batches.values() for record in batch]

    def until(self, wanted: object, seconds: float = 100.0) -> list[tuple[str, bytes | None]]:
        """Everything up to and with the first poll after which `wanted(all)` holds."""
        found: list[tuple[str, bytes | None]] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found += self.poll()
            if wanted(found):  # type: ignore[operator]
                return found
        raise AssertionError(f"not within {seconds} s; {len(found)} records came, the last {found[-3:]}")

    def close(self) -> None:
        self._consumer.close()


def system_settings(servers: tuple[str, str], folder: Path, **given: object) -> Settings:
    return Settings(
        **{
            "broker_url": servers[0],
            "redis_url": servers[1],
            "data_dir": folder,
            "topic_prefix": f"e2e-{uuid.uuid4().hex[:8]}.",
            "partitions": 2,
            "model": TINY,
            "training": TrainingSettings(first_events=1500, every_events=1500, min_events=1000, threads=1, flush_s=0.2),
        }
        | given  # type: ignore[arg-type]
    )


@pytest.fixture(scope="package")
def world(servers: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A system with one worker and a trainer, ended with the last of these tests: it costs something also when idle."""
    folder = tmp_path_factory.mktemp("world")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = World(system_settings(servers, folder, api=ApiSettings(port=port)), folder)
    world.start("worker", "worker")
    world.start("trainer", "trainer")
    yield world
    world.stop()
