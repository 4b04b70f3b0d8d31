"""A record batch's header: read, checked and stamped; the records behind it stay opaque bytes."""

import struct
from dataclasses import dataclass
from typing import Final

from aiokafka.record.util import calc_crc32c
from kafka.errors import CorruptRecordError, InvalidRecordError, UnsupportedForMessageFormatError

#: base offset, length, leader epoch, magic, CRC, attributes, last offset delta, base and max timestamp,
#: producer id and epoch, base sequence, record count
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = _HEADER.size
#: What the length does not count: the base offset and itself.
_UNCOUNTED: Final = 12
_CRC_AT: Final = 17
#: The CRC covers everything from here on, so the base offset and the epoch may change without it.
_ATTRIBUTES_AT: Final = 21
_MAX_TIMESTAMP_AT: Final = 35
_LOG_APPEND_TIME: Final = 0x08
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
MAGIC: Final = 2


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """What the broker has to know of a record batch; `size` counts the header too."""

    base_offset: int
    size: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    n_records: int

    @classmethod
    def read(cls, data: bytes | bytearray | memoryview, at: int = 0) -> "BatchHeader":
        """The header at that position; `struct.error` where the data ends before it does."""
        base, length, _, magic, crc, attributes, delta, _, newest, producer, epoch, sequence, count = (
            _HEADER.unpack_from(data, at)
        )
        return cls(base, length + _UNCOUNTED, magic, crc, attributes, delta, newest, producer, epoch, sequence, count)

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def stamped_by_broker(self) -> bool:
        """Whether all its records bear the time at which the broker appended them."""
        return bool(self.attributes & _LOG_APPEND_TIME)


def check(data: bytes) -> BatchHeader:
    """The header of exactly one sound record batch that a producer may append.

    Raises:
        CorruptRecordError: the lengths or the CRC are wrong.
        UnsupportedForMessageFormatError: the batch is of a format before version 2.
        InvalidRecordError: it is not one batch, is empty, or belongs to a transaction.
    """
    if len(data) < HEADER_BYTES:
        raise CorruptRecordError("the batch ends within its header")
    header = BatchHeader.read(data)
    if header.magic != MAGIC:
        raise UnsupportedForMessageFormatError(f"record format {header.magic}; only 2 is kept")
    if header.size < HEADER_BYTES or header.size > len(data):
        raise CorruptRecordError(f"the batch tells of {header.size} bytes and has {len(data)}")
    if header.size < len(data):
        raise InvalidRecordError("a partition takes one batch per request")
    if header.crc != calc_crc32c(memoryview(data)[_ATTRIBUTES_AT:]):
        raise CorruptRecordError("the batch's CRC is wrong")
    if header.n_records < 1 or header.last_offset_delta != header.n_records - 1:
        raise InvalidRecordError("the batch's offsets do not fit its count of records")
    if header.attributes & (_TRANSACTIONAL | _CONTROL):
        raise InvalidRecordError("there are no transactions here")
    return header


def stamp(data: bytes, base_offset: int, append_time_ms: int | None) -> bytearray:
    """The batch as the log keeps it: with its offset and, unless None, with the time of appending as its timestamp."""
    kept = bytearray(data)
    struct.pack_into(">q", kept, 0, base_offset)
    struct.pack_into(">i", kept, _UNCOUNTED, 0)  # the leader's epoch: there is but one leader ever
    if append_time_ms is not None:
        (attributes,) = struct.unpack_from(">h", kept, _ATTRIBUTES_AT)
        struct.pack_into(">h", kept, _ATTRIBUTES_AT, attributes | _LOG_APPEND_TIME)
        struct.pack_into(">q", kept, _MAX_TIMESTAMP_AT, append_time_ms)
        struct.pack_into(">I", kept, _CRC_AT, calc_crc32c(memoryview(kept)[_ATTRIBUTES_AT:]))
    return kept
