"""The tests' own node of Apache Kafka: it keeps its data over a crash, and says what it lacks."""

from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from tests.apache_kafka import ApacheKafka


def test_a_node_starts_again_with_its_data_after_a_crash(kafka_home: Path, tmp_path: Path) -> None:
    node = ApacheKafka(kafka_home, tmp_path / "node", {"message.max.bytes": "2000000"})
    with node:
        admin = KafkaAdminClient(bootstrap_servers=node.server)
        admin.create_topics([NewTopic("t", 1, 1)])
        admin.close()
        producer = KafkaProducer(bootstrap_servers=node.server, acks="all", max_request_size=2_000_000)
        producer.send("t", b"x" * 1_500_000).get(timeout=30)
        producer.close()
        node.kill()
        node.start()
        consumer = KafkaConsumer("t", bootstrap_servers=node.server, auto_offset_reset="earliest")
        assert len(next(consumer).value) == 1_500_000
        consumer.close()


def test_a_folder_without_kafka_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/libs holds no Kafka"):
        ApacheKafka(tmp_path, tmp_path / "node")
