"""Hand-made records and batches for the tests of what agents do with them."""

from collections.abc import Sequence

from aiokafka import ConsumerRecord

from streams.kafka.batching import RecordBatch

ARRIVED = 1_700_000_000_000


def record(
    offset: int,
    value: bytes | None,
    *,
    key: bytes | None = None,
    topic: str = "events",
    partition: int = 0,
    headers: Sequence[tuple[str, bytes | None]] = (),
) -> ConsumerRecord:
    return ConsumerRecord(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=ARRIVED + offset,
        timestamp_type=1,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key or b""),
        serialized_value_size=len(value or b""),
        headers=tuple(headers),
    )


def batch(records: Sequence[ConsumerRecord]) -> RecordBatch:
    """The records, all of one partition, as one batch."""
    return RecordBatch(records[0].topic, records[0].partition, records)
