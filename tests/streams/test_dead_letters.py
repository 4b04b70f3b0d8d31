"""Dead letters: kept whole, read back in order, and sent again as they came."""

import uuid
from collections.abc import Iterator

import msgspec
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streams import topics
from streams.dead_letters import REPLAYED_HEADER, dead_letter, read, replay
from streams.events import BadRecord, DeadLetter, encode
from streams.settings import Settings
from streams.topics import TopicNames
from tests.conftest import MakeSettings
from tests.streams.records import ARRIVED, record

RAW = b'\x00\xff{"type": broken'
HEADERS = [("trace", b"\x01\x02"), ("empty", b""), ("trace", b"again")]


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    settings = make_settings(topic_prefix=f"dead-{uuid.uuid4().hex[:8]}.")
    topics.create(settings)
    return settings


def bury(settings: Settings, *letters: DeadLetter) -> None:
    producer = KafkaProducer(**settings.kafka.kafka_python_options())
    for letter in letters:
        producer.send(TopicNames.under(settings.topic_prefix).dead_letters, value=encode(letter))
    producer.flush()
    producer.close()


def events(settings: Settings, wanted: int) -> Iterator[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]:
    topic = TopicNames.under(settings.topic_prefix).events
    consumer = KafkaConsumer(
        auto_offset_reset="earliest", enable_auto_commit=False, **settings.kafka.kafka_python_options()
    )
    consumer.assign([TopicPartition(topic, partition) for partition in range(settings.partitions)])
    found = [next(consumer) for _ in range(wanted)]
    consumer.close()
    return ((each.key, each.value, list(each.headers)) for each in found)


def letter_of(settings: Settings, offset: int, value: bytes | None = RAW) -> DeadLetter:
    topic = TopicNames.under(settings.topic_prefix).events
    return dead_letter(
        record(offset, value, key=b"k\xff", topic=topic, partition=1, headers=HEADERS), BadRecord("not JSON", "ts")
    )


def test_a_dead_letter_keeps_all_of_its_record_on_the_wire(settings: Settings) -> None:
    letter = msgspec.json.decode(encode(letter_of(settings, 7)), type=DeadLetter)
    assert (letter.key, letter.value, letter.headers) == (b"k\xff", RAW, HEADERS)
    assert (letter.partition, letter.offset, letter.timestamp) == (1, 7, ARRIVED + 7)
    assert (letter.reason, letter.field) == ("not JSON", "ts")


def test_dead_letters_are_read_oldest_first_and_none_where_there_are_none(settings: Settings) -> None:
    assert list(read(settings)) == []
    letters = [letter_of(settings, offset) for offset in range(5)]
    bury(settings, *letters)
    assert list(read(settings)) == letters


def test_a_replayed_dead_letter_is_the_record_as_it_came(settings: Settings) -> None:
    letters = [letter_of(settings, 0), letter_of(settings, 1, None)]
    assert replay(settings, letters) == 2
    origin = TopicNames.under(settings.topic_prefix).events
    marks = [(REPLAYED_HEADER, f"{origin}/1/{offset}".encode()) for offset in range(2)]
    assert list(events(settings, 2)) == [(b"k\xff", RAW, [*HEADERS, marks[0]]), (b"k\xff", None, [*HEADERS, marks[1]])]


def test_what_fails_twice_carries_the_mark_of_its_last_replay_alone(settings: Settings) -> None:
    letter = msgspec.structs.replace(letter_of(settings, 3), headers=[(REPLAYED_HEADER, b"events/0/1")])
    replay(settings, [letter])
    [(_, _, headers)] = events(settings, 1)
    assert [name for name, _ in headers] == [REPLAYED_HEADER] and headers[0][1].endswith(b"/1/3")
