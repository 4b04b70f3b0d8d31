"""Dead letters: records that could not be used, kept whole with the reason, to be looked at and sent again."""

import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from aiokafka import ConsumerRecord
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError

from streams.events import BadRecord, DeadLetter
from streams.settings import Settings
from streams.topics import TopicNames

#: Headers that a replayed dead letter carries, so that what fails again can be told from what is new.
REPLAYED_HEADER = "millstream-replayed-from"
_PATIENCE_MS: Final = 30_000


def dead_letter(record: ConsumerRecord, bad: BadRecord) -> DeadLetter:
    """The dead letter of a record, with its original bytes, headers and position."""
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=bad.reason,
        field=bad.field,
        key=record.key,
        value=record.value,
        headers=list(record.headers),
        first_seen=int(time.time() * 1000),
        timestamp=record.timestamp,
    )


def read(settings: Settings) -> Iterator[DeadLetter]:
    """Every dead letter kept by now, those of a partition oldest first.

    Raises:
        KafkaTimeoutError: the broker has letters and does not give them.
    """
    topic = TopicNames.under(settings.topic_prefix).dead_letters
    consumer = KafkaConsumer(**settings.kafka.consumer_options())
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or set())]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning(*partitions)
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            batches = consumer.poll(timeout_ms=_PATIENCE_MS)
            if not batches:
                raise KafkaTimeoutError(f"topic {topic} gave nothing for {_PATIENCE_MS // 1000} s, though it has more")
            for partition, records in batches.items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield msgspec.json.decode(record.value, type=DeadLetter)
    finally:
        consumer.close()


def replay(settings: Settings, letters: list[DeadLetter]) -> int:
    """Send dead letters to the topics they came from, with their keys and headers; returns how many were sent."""
    producer = KafkaProducer(acks="all", **settings.kafka.kafka_python_options())
    try:
        sent: list[Any] = [
            producer.send(
                letter.topic,
                key=letter.key,
                value=letter.value,
                headers=[
                    *((name, value) for name, value in letter.headers if name != REPLAYED_HEADER),
                    (REPLAYED_HEADER, f"{letter.topic}/{letter.partition}/{letter.offset}".encode()),
                ],
            )
            for letter in letters
        ]
        producer.flush()
        for future in sent:
            future.get(timeout=30)
        return len(sent)
    finally:
        producer.close()
