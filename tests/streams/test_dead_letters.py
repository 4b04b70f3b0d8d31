"""Dead letters: kept whole, read back in order, and sent again as they came."""

import uuid
from collections.abc import Awaitable, Iterator
from hashlib import sha256

import msgspec
import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError

from streams.contract import topics
from streams.contract.events import BadRecord, DeadLetter, encode
from streams.contract.topics import TopicNames
from streams.kafka.dead_letters import (
    HEADERS_MAX,
    KEY_MAX,
    REPLAYED_HEADER,
    VALUE_MAX,
    Replayed,
    dead_letter,
    position,
    read,
    replay,
    write,
)
from streams.settings.settings import Settings
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
    assert replay(settings, letters) == Replayed(2, {})
    origin = TopicNames.under(settings.topic_prefix).events
    marks = [(REPLAYED_HEADER, f"{origin}/1/{offset}".encode()) for offset in range(2)]
    assert list(events(settings, 2)) == [(b"k\xff", RAW, [*HEADERS, marks[0]]), (b"k\xff", None, [*HEADERS, marks[1]])]


def test_what_fails_twice_carries_the_mark_of_its_last_replay_alone(settings: Settings) -> None:
    letter = msgspec.structs.replace(letter_of(settings, 3), headers=[(REPLAYED_HEADER, b"events/0/1")])
    replay(settings, [letter])
    [(_, _, headers)] = events(settings, 1)
    assert [name for name, _ in headers] == [REPLAYED_HEADER] and headers[0][1].endswith(b"/1/3")


LARGE = b"not JSON " * 100_000


def put(settings: Settings, value: bytes, *, key: bytes = b"ann", topic: str | None = None) -> ConsumerRecord:
    """Put a record on the events topic, and give it back as a consumer sees it."""
    topic = topic or TopicNames.under(settings.topic_prefix).events
    producer = KafkaProducer(acks="all", **settings.kafka.kafka_python_options())
    headers = [("trace", b"1")]
    done = producer.send(topic, key=key, value=value, headers=headers).get(timeout=30)
    producer.close()
    return record(done.offset, value, key=key, topic=topic, partition=done.partition, headers=headers)


def test_a_letter_keeps_the_beginning_of_a_large_value_with_its_size_and_hash() -> None:
    letter = dead_letter(record(3, LARGE), BadRecord("not JSON"))
    assert letter.value == LARGE[:VALUE_MAX] and letter.cut == ["value"]
    assert (letter.size, letter.sha256) == (len(LARGE), sha256(LARGE).hexdigest())


def test_a_letter_says_the_size_and_hash_of_a_whole_value_too() -> None:
    letter = dead_letter(record(3, RAW, key=b"k"), BadRecord("not JSON"))
    assert (letter.value, letter.size, letter.sha256, letter.cut) == (RAW, len(RAW), sha256(RAW).hexdigest(), [])


@given(
    value=st.binary(max_size=10) | st.sampled_from([None, LARGE]),
    key=st.binary(max_size=10) | st.sampled_from([None, LARGE]),
    headers=st.lists(
        st.tuples(
            st.sampled_from(["trace", "", "\x00" * 10_000, "é" * 20_000]),
            st.sampled_from([None, b"", b"1", b"x" * 15_000, LARGE]),
        ),
        max_size=100,
    ),
    reason=st.sampled_from(["not JSON", "\x00" * 70_000]),
)
def test_a_letter_of_any_record_fits_into_a_message(
    value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes | None]], reason: str
) -> None:
    letter = dead_letter(record(3, value, key=key, headers=headers), BadRecord(reason, reason))
    raw = encode(letter)
    assert len(raw) < 400_000
    assert msgspec.json.decode(raw, type=DeadLetter) == letter
    whole = {"value": letter.value == value, "key": letter.key == key, "headers": letter.headers == headers}
    assert letter.cut == [part for part, is_whole in whole.items() if not is_whole]
    assert len(letter.key or b"") <= KEY_MAX
    assert sum(len(name.encode()) + len(each or b"") for name, each in letter.headers) <= HEADERS_MAX


def test_a_record_that_was_cut_is_sent_again_whole(settings: Settings) -> None:
    bad = put(settings, LARGE)
    assert replay(settings, [dead_letter(bad, BadRecord("not JSON"))]) == Replayed(1, {})
    first, again = events(settings, 2)
    assert first[:2] == again[:2] == (b"ann", LARGE)
    assert [name for name, _ in again[2]] == ["trace", REPLAYED_HEADER]


def test_a_record_with_a_large_key_is_sent_again_under_the_whole_key(settings: Settings) -> None:
    bad = put(settings, RAW, key=b"k" * 10_000)
    assert replay(settings, [dead_letter(bad, BadRecord("not JSON"))]).sent == 1
    assert [key for key, _, _ in events(settings, 2)] == [b"k" * 10_000] * 2


def test_a_record_that_cannot_be_fetched_is_not_sent_and_the_reason_is_given(settings: Settings) -> None:
    bad = put(settings, LARGE)
    letter = dead_letter(bad, BadRecord("not JSON"))
    other = msgspec.structs.replace(letter, sha256="0" * 64)
    later = msgspec.structs.replace(letter, offset=bad.offset + 5)
    elsewhere = msgspec.structs.replace(letter, topic="no-such-topic")
    whole = letter_of(settings, 9)
    done = replay(settings, [other, later, elsewhere, whole])
    assert done.sent == 1
    assert "another size or hash" in done.refused[position(other)]
    assert f"ends at offset {bad.offset + 1}" in done.refused[position(later)]
    assert "no partition" in done.refused[position(elsewhere)]


def test_a_record_that_retention_has_deleted_is_not_sent_and_the_reason_is_given(settings: Settings) -> None:
    bad = put(settings, LARGE)
    admin = topics.connect(settings)
    admin.delete_records({TopicPartition(bad.topic, bad.partition): bad.offset + 1})
    admin.close()
    done = replay(settings, [dead_letter(bad, BadRecord("not JSON"))])
    assert done.sent == 0 and "retention has deleted it" in done.refused[f"{bad.topic}-{bad.partition}-{bad.offset}"]


def test_a_header_without_a_value_is_read_and_sent_again_empty(settings: Settings) -> None:
    letter = dead_letter(record(0, RAW, topic=letter_of(settings, 0).topic, headers=[("trace", None)]), BadRecord("x"))
    bury(settings, letter)
    assert [each.headers for each in read(settings)] == [[("trace", None)]]
    assert replay(settings, [letter]).sent == 1
    [(_, _, headers)] = events(settings, 1)
    assert headers[0] == ("trace", b"")


def test_what_is_no_letter_does_not_hide_the_letters(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    topic = TopicNames.under(settings.topic_prefix).dead_letters
    put(settings, b"not a letter", topic=topic)
    letter = letter_of(settings, 1)
    bury(settings, letter)
    assert list(read(settings)) == [letter]
    assert f"{topic}-0-0 is no dead letter" in caplog.text


async def test_a_letter_that_cannot_be_written_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def refused(key: bytes, _value: bytes) -> Awaitable[object]:
        if b"-1" in key:
            raise OSError("no room")

        async def taken() -> None:
            if key == b"events-0-2":
                raise KafkaTimeoutError("the broker was silent")

        return taken()

    letters = [dead_letter(record(offset, RAW), BadRecord("not JSON", "ts")) for offset in range(4)]
    assert await write(letters, refused) == 2
    assert "dead letter events-0-1 (ts: not JSON) cannot be written: no room" in caplog.text
    assert "dead letter events-0-2 (ts: not JSON) cannot be written: KafkaTimeoutError: the broker was silent" in (
        caplog.text
    )
