"""Sending one event by hand, validated as ingest will."""

import time
from typing import Any, NamedTuple

import msgspec
from kafka import KafkaProducer

from streams.contract.events import decode_event
from streams.contract.topics import TopicNames
from streams.settings.settings import Settings


class Sent(NamedTuple):
    """Where an event went."""

    topic: str
    partition: int
    offset: int
    event_id: str


def send_event(settings: Settings, fields: dict[str, Any]) -> Sent:
    """Send the event with these fields; `ts` is now, when absent.

    Raises:
        BadRecord: the fields are no event by the contract.
    """
    raw = msgspec.json.encode({"ts": int(time.time() * 1000)} | fields)
    event = decode_event(raw, max_bytes=settings.ingest.max_event_bytes)
    topic = TopicNames.under(settings.topic_prefix).events
    producer = KafkaProducer(acks="all", **settings.kafka.kafka_python_options())
    try:
        done = producer.send(topic, key=event.user_id.encode(), value=raw).get(timeout=30)
        return Sent(topic, done.partition, done.offset, event.event_id or "")
    finally:
        producer.close()
