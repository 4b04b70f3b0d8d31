"""Transactions on Apache Kafka: committed events count, those of aborted and open ones do not, and lag reaches 0."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaProducer

from tests.streams.batch_scene import PARTITIONS, Scene
from tests.waiting import wait_until

COUNT = 30
ROOT = Path(__file__).parents[2]


class Transaction:
    """A producer's one transaction over all partitions of a scene."""

    def __init__(self, scene: Scene, name: str) -> None:
        options = scene.settings.kafka.kafka_python_options()
        self._producer = KafkaProducer(transactional_id=f"{scene.folder.name}-{name}", acks="all", **options)
        self._producer.init_transactions()
        self._producer.begin_transaction()
        for partition in range(PARTITIONS):
            for _ in range(COUNT):
                self._producer.send(scene.topic, value=name.encode(), partition=partition)
        self._producer.flush()

    def commit(self) -> None:
        self._producer.commit_transaction()
        self._producer.close()

    def abort(self) -> None:
        self._producer.abort_transaction()
        self._producer.close()


@pytest.fixture
def scene(apache_kafka: str, servers: tuple[str, str], tmp_path: Path) -> Iterator[Scene]:  # noqa: ARG001
    scene = Scene(servers, tmp_path / "transactions")
    yield scene
    scene.close()


def everywhere(offsets: list[int]) -> dict[int, list[int]]:
    return dict.fromkeys(range(PARTITIONS), offsets)


def wait_committed(scene: Scene, offset: int) -> None:
    expected = dict.fromkeys(range(PARTITIONS), offset)
    wait_until(lambda: scene.committed() == expected, f"offset {offset} committed in every partition")


def test_only_committed_events_are_delivered_and_the_commit_passes_all_that_is_decided(scene: Scene) -> None:
    Transaction(scene, "committed").commit()
    Transaction(scene, "aborted").abort()
    scene.start("member")
    # the records of both, and the control record that ends each
    decided = 2 * (COUNT + 1)
    wait_committed(scene, decided)
    assert scene.offsets("member") == everywhere(list(range(COUNT)))

    open_one = Transaction(scene, "open")
    scene.send(1)  # lies behind the open transaction, and waits with it
    Transaction(scene, "aborted too").abort()
    assert scene.offsets("member") == everywhere(list(range(COUNT)))
    assert scene.committed() == dict.fromkeys(range(PARTITIONS), decided)

    open_one.commit()
    wait_committed(scene, decided + COUNT + 1 + (COUNT + 1) + 1)
    later = [*range(decided, decided + COUNT + 1)]
    assert scene.offsets("member") == everywhere([*range(COUNT), *later])


def test_an_aborted_transaction_alone_leaves_no_lag(scene: Scene) -> None:
    Transaction(scene, "aborted").abort()
    scene.start("member")
    wait_committed(scene, COUNT + 1)
    assert not scene.batches("member")


def test_every_consumer_of_the_system_reads_committed_transactions_only() -> None:
    """Groups do by the transport, all others by `consumer_options`."""
    consumers = []
    for package in ("streams", "serving"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("KafkaConsumer", "AIOKafkaConsumer"):
                    options = [ast.unparse(word.value) for word in node.keywords if word.arg is None]
                    consumers.append((path.name, options))
    assert len(consumers) >= 7
    assert all(len(options) == 1 and options[0].endswith(".consumer_options()") for _, options in consumers), consumers
