"""Dead letters: records that could not be used, kept with the reason, to be looked at and sent again.

A letter must fit into a message of the default size (1 MB), or it could never be written. So a large value, key or
header is cut; the letter then gives the value's size and hash, and a replay fetches the record from its own topic.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
from aiokafka import ConsumerRecord
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError
from msgspec import UNSET

from streams.contract.events import BadRecord, DeadLetter, Part, encode
from streams.contract.topics import TopicNames
from streams.kafka.damaged import Damage, damage_of, skip_damaged_in_kafka_python
from streams.settings.settings import Settings

log = logging.getLogger(__name__)

#: Headers that a replayed dead letter carries, so that what fails again can be told from what is new.
REPLAYED_HEADER = "millstream-replayed-from"
#: What a letter keeps at most. Base64 makes bytes a third longer, and JSON may write a character of text as six bytes:
#: with these limits a letter stays below 400 kB.
VALUE_MAX: Final = 64 * 1024
KEY_MAX: Final = 4 * 1024
HEADERS_MAX: Final = 16 * 1024
_HEADERS_COUNT_MAX: Final = 64
_REASON_MAX: Final = 2_000
_PATIENCE_MS: Final = 30_000

#: Sends a key and a value to the dead letters' topic; the second wait ends when the broker has them.
Send = Callable[[bytes, bytes], Awaitable[Awaitable[object]]]


def dead_letter(record: ConsumerRecord, bad: BadRecord) -> DeadLetter:
    """The dead letter of a record: its position, and of its bytes and headers what fits.

    A record that stands for a damaged batch gets the letter of the batch, whatever `bad` says.
    """
    damage = damage_of(record)
    if damage is not None:
        return _letter_of_batch(record, damage)
    headers = _fitting(record.headers)
    cut: list[Part] = []
    if len(record.value or b"") > VALUE_MAX:
        cut.append("value")
    if len(record.key or b"") > KEY_MAX:
        cut.append("key")
    if len(headers) < len(record.headers):
        cut.append("headers")
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=bad.reason[:_REASON_MAX],
        field=bad.field[:_REASON_MAX],
        key=None if record.key is None else record.key[:KEY_MAX],
        value=None if record.value is None else record.value[:VALUE_MAX],
        size=len(record.value or b""),
        sha256="" if record.value is None else hashlib.sha256(record.value).hexdigest(),
        cut=cut,
        headers=headers,
        first_seen=int(time.time() * 1000),
        timestamp=record.timestamp,
    )


def _letter_of_batch(record: ConsumerRecord, damage: Damage) -> DeadLetter:
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        first_offset=damage.first_offset,
        reason=f"a damaged batch: {damage.reason}",
        value=damage.begin,
        size=damage.size,
        sha256=damage.sha256,
        cut=["value"] if damage.size > len(damage.begin) else [],
        first_seen=int(time.time() * 1000),
        timestamp=record.timestamp,
    )


def _fitting(headers: tuple[tuple[str, bytes | None], ...]) -> list[tuple[str, bytes | None]]:
    """The first headers that together stay within the limits."""
    kept: list[tuple[str, bytes | None]] = []
    room = HEADERS_MAX
    for name, value in headers[:_HEADERS_COUNT_MAX]:
        room -= len(name.encode()) + len(value or b"")
        if room < 0:
            break
        kept.append((name, value))
    return kept


def position(letter: DeadLetter) -> str:
    """Where the record lies, as commands name it and as the letter's key: topic-partition-offset."""
    return f"{letter.topic}-{letter.partition}-{letter.offset}"


async def write(letters: list[DeadLetter], send: Send) -> int:
    """Write letters to their topic; returns how many could not be written, each logged with position and reason.

    A failure raises nothing: one letter that the broker refuses would end the process at every restart. The record
    stays in its own topic until that deletes it.
    """
    written = await asyncio.gather(*(_write(letter, send) for letter in letters))
    return written.count(False)


async def _write(letter: DeadLetter, send: Send) -> bool:
    try:
        await (await send(position(letter).encode(), encode(letter)))
    except Exception as error:
        why = f"{letter.field}: {letter.reason}" if letter.field else letter.reason
        log.error("dead letter %s (%s) cannot be written: %s", position(letter), why, error or type(error).__name__)
        return False
    return True


def decode_letter(record: Any) -> DeadLetter | None:
    """The letter that a record of the dead letters' topic holds; None, with a line in the log, where it holds none."""
    if record.value is None:
        return None
    try:
        return msgspec.json.decode(record.value, type=DeadLetter)
    except msgspec.MsgspecError as error:
        log.warning("%s-%d-%d is no dead letter: %s", record.topic, record.partition, record.offset, error)
        return None


def read(settings: Settings) -> Iterator[DeadLetter]:
    """Every dead letter kept by now, those of a partition oldest first.

    Raises:
        KafkaTimeoutError: the broker has letters and does not give them.
    """
    topic = TopicNames.under(settings.topic_prefix).dead_letters
    consumer = KafkaConsumer(**settings.kafka.consumer_options())
    skip_damaged_in_kafka_python(consumer)
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
                    letter = decode_letter(record) if record.offset < ends[partition] else None
                    if letter is not None:
                        yield letter
    finally:
        consumer.close()


class Replayed(NamedTuple):
    """What a replay did: how many records it sent, and by the position of each other one why it could not be sent."""

    sent: int
    refused: dict[str, str]


class _Lost(Exception):
    """A record cannot be sent again; the message says why."""


class _Original(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def replay(settings: Settings, letters: list[DeadLetter]) -> Replayed:
    """Send the records of dead letters to the topics they came from, with their keys and headers.

    A record that the letter keeps in part is fetched from its topic. A header without a value is sent with an empty
    one, as kafka-python sends no others.

    Raises:
        KafkaError: no broker answers.
    """
    options = settings.kafka.kafka_python_options()
    # the broker's limit decides, not the producer's: what came in may be larger than the producer's default
    producer = KafkaProducer(acks="all", max_request_size=2**31 - 1, **options)
    consumer = KafkaConsumer(**settings.kafka.consumer_options())
    skip_damaged_in_kafka_python(consumer)
    sent: dict[str, Any] = {}
    refused: dict[str, str] = {}
    try:
        for letter in letters:
            try:
                if letter.first_offset is not UNSET:
                    raise _Lost(
                        f"it stands for a damaged batch (offsets {letter.first_offset:,} to {letter.offset:,}), "
                        "from which no record can be read"
                    )
                original = _fetched(consumer, letter) if letter.cut else _kept(letter)
                headers = [(name, value or b"") for name, value in original.headers if name != REPLAYED_HEADER]
                came_from = f"{letter.topic}/{letter.partition}/{letter.offset}".encode()
                headers.append((REPLAYED_HEADER, came_from))
                sent[position(letter)] = producer.send(
                    letter.topic, key=original.key, value=original.value, headers=headers
                )
            except (_Lost, KafkaError) as error:
                refused[position(letter)] = str(error) or type(error).__name__
        producer.flush()
        for where, future in sent.items():
            try:
                future.get(timeout=_PATIENCE_MS / 1000)
            except KafkaError as error:
                refused[where] = str(error) or type(error).__name__
        return Replayed(len(sent.keys() - refused.keys()), refused)
    finally:
        consumer.close()
        producer.close()


def _kept(letter: DeadLetter) -> _Original:
    return _Original(letter.key, letter.value, letter.headers)


def _fetched(consumer: KafkaConsumer, letter: DeadLetter) -> _Original:
    """The record of a letter, from its own topic.

    Raises:
        _Lost: the topic does not have it any more, or has another record in its place.
    """
    place = f"the letter keeps a part of the record ({', '.join(letter.cut)} cut), and"
    if letter.partition not in (consumer.partitions_for_topic(letter.topic) or set()):
        raise _Lost(f"{place} there is no partition {letter.partition} of topic {letter.topic}")
    partition = TopicPartition(letter.topic, letter.partition)
    begin = consumer.beginning_offsets([partition])[partition]
    end = consumer.end_offsets([partition])[partition]
    if letter.offset < begin:
        raise _Lost(f"{place} retention has deleted it: the partition begins at offset {begin:,}")
    if letter.offset >= end:
        raise _Lost(f"{place} the partition ends at offset {end:,}: the topic was deleted and made again")
    consumer.assign([partition])
    consumer.seek(partition, letter.offset)
    batches = consumer.poll(timeout_ms=_PATIENCE_MS, max_records=1)
    if not batches:
        raise _Lost(f"{place} the broker did not give it within {_PATIENCE_MS // 1000} s")
    record = batches[partition][0]
    if damage_of(record) is not None:
        raise _Lost(f"{place} its batch is damaged by now")
    if record.offset != letter.offset:
        raise _Lost(f"{place} compaction has deleted it: the next record is at offset {record.offset:,}")
    found = "" if record.value is None else hashlib.sha256(record.value).hexdigest()
    if (len(record.value or b""), found) != (letter.size, letter.sha256):
        raise _Lost(f"{place} the record at its offset has another size or hash: the topic was deleted and made again")
    return _Original(record.key, record.value, list(record.headers))
