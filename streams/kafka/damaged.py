"""Damaged batches: each is replaced, as it is fetched, by one stand-in record, so that reading goes on after it.

Neither aiokafka nor kafka-python moves past a batch with a wrong checksum or wrong framing: each fetch raises the same
error, and what the fetch brought from other partitions is lost. The stand-in has the offset of the batch's last record,
no key and no value, and a header with what is known of the batch, of which `dead_letter` makes a dead letter. Readers
of other topics take it for a tombstone without a key, which concerns nothing.

A batch in a codec that is not installed is no damaged batch. It stays as it is, and the client raises an error that
names the codec.
"""

import hashlib
import logging
import secrets
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from kafka import KafkaConsumer

log = logging.getLogger(__name__)

#: No more of a batch is kept than this.
BYTES_MAX: Final = 64 * 1024
#: The stand-in's header. Each process draws its own name for it, so that no producer can send such a header.
_MARK: Final = f"millstream-damaged-{secrets.token_hex(16)}"
_BASE_AND_LENGTH: Final = struct.Struct(">qi")
_MAGIC_AT: Final = 16
_LAST_OFFSET_DELTA: Final = struct.Struct(">i")
_LAST_OFFSET_DELTA_AT: Final = 23
#: The header of a batch of format 2, with which its smallest batch begins.
_HEADER_BYTES: Final = 61
_FORMAT: Final = 2
_NO_ERROR: Final = 0
_CORRUPT: Final = CorruptRecordException.errno


class Damage(msgspec.Struct, frozen=True):
    """What is known of a damaged batch: the first of its offsets, its size in bytes and SHA-256, and how it begins."""

    reason: str
    first_offset: int
    size: int
    sha256: str
    begin: bytes


def damage_of(record: Any) -> Damage | None:
    """The damage that a record stands for; None for a record that was sent."""
    for name, value in record.headers:
        if name == _MARK:
            return msgspec.msgpack.decode(value, type=Damage)
    return None


def skip_damaged(consumer: AIOKafkaConsumer) -> None:
    """Have a consumer that was started, and fetches nothing yet, read on after damaged batches."""
    fetcher = consumer._fetcher
    fetcher._client = _SoundClient(fetcher._client)
    fetcher._check_crcs = False  # that is done by now


def skip_damaged_in_kafka_python(consumer: KafkaConsumer) -> None:
    """The same for kafka-python's consumer."""
    fetcher = consumer._fetcher
    parse = fetcher._parse_fetched_data

    def parse_sound(fetched: Any) -> Any:
        data, tp = fetched.partition_data, fetched.topic_partition
        where = f"{tp.topic}-{tp.partition}"
        data.error_code, data.high_watermark, data.records = _sound_answer(
            where, fetched.fetched_offset, data.error_code, data.high_watermark, data.records
        )
        return parse(fetched)

    fetcher._parse_fetched_data = parse_sound


class _SoundClient:
    """aiokafka's client with fetches whose batches are all sound."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: Any, request: Any) -> Any:
        response = await self._client.send(node_id, request)
        if isinstance(request, FetchRequest):
            asked = {(topic, number): offset for topic, parts in request.topics for number, offset, _ in parts}
            response.topics = [
                (topic, [self._sound(topic, asked[topic, part[0]], part) for part in parts])
                for topic, parts in response.topics
            ]
        return response

    @staticmethod
    def _sound(topic: str, position: int, part: tuple[Any, ...]) -> tuple[Any, ...]:
        number, error, highwater, *between, data = part
        error, highwater, data = _sound_answer(f"{topic}-{number}", position, error, highwater, data)
        return (number, error, highwater, *between, data)


def _sound_answer(where: str, position: int, error: int, highwater: int, data: Any) -> tuple[int, int, Any]:
    """A broker's answer to a fetch of one partition: error code, end offset and batches, these all sound."""
    if error == _CORRUPT:  # the broker cannot find the way in its own file: one offset further it may
        damage = _damage("the broker cannot read it: the log of the partition is damaged", position, b"")
        log.error("%s-%d is damaged and becomes a dead letter: %s", where, position, damage.reason)
        return _NO_ERROR, max(highwater, position + 1), _stand_in(damage, position)
    if error != _NO_ERROR or not data:
        return error, highwater, data
    return error, highwater, sound(bytes(data), position, highwater, where)


def sound(data: bytes, position: int, end: int, where: str) -> bytes:
    """Batches as fetched, each damaged one replaced by its stand-in.

    Args:
        data: batches, the first of them with the offset `position`; the last may be cut off.
        end: the offset after the partition's last record.
        where: the partition's name, for the log.
    """
    parts: list[bytes] = []
    at = begun = 0
    while len(data) - at >= _BASE_AND_LENGTH.size:
        batch = _Batch.at(data, at)
        if at > begun and batch.size > len(data) - at:
            break  # the rest of it comes with the next fetch
        reason = batch.fault(data, position, end)
        if reason is None:
            at += batch.size
            position = batch.last_offset + 1
            continue
        parts.append(data[begun:at])
        following = _next_sound(data, at, batch, position, end)
        raw = data[at : following.start if following else len(data)]
        if following is not None:
            last = following.base_offset - 1
        else:
            # without a plausible last offset the reader steps on by one, and the broker finds the next batch
            last = batch.last_offset if position <= batch.last_offset < end else position
        damage = _damage(reason, position, raw)
        log.error(
            "%s: the batch of offsets %d to %d (%d bytes) is damaged and becomes a dead letter: %s",
            *(where, position, last, len(raw), reason),
        )
        parts.append(_stand_in(damage, last))
        at += len(raw)
        begun = at
        position = last + 1
    if not parts:
        return data
    parts.append(data[begun:])
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What a batch's header says, which may be wrong."""

    start: int
    size: int
    base_offset: int
    last_offset: int

    @classmethod
    def at(cls, data: bytes, start: int) -> "_Batch":
        base_offset, length = _BASE_AND_LENGTH.unpack_from(data, start)
        delta = 0
        if len(data) - start >= _HEADER_BYTES and data[start + _MAGIC_AT] >= _FORMAT:
            (delta,) = _LAST_OFFSET_DELTA.unpack_from(data, start + _LAST_OFFSET_DELTA_AT)
        return cls(start, _BASE_AND_LENGTH.size + length, base_offset, base_offset + delta)

    def fault(self, data: bytes, position: int, end: int) -> str | None:
        """What is wrong with the batch, which has an offset from `position` on and before `end`; None for nothing."""
        if not _BASE_AND_LENGTH.size < self.size <= len(data) - self.start:
            return f"its header gives a size of {self.size:,} bytes; {len(data) - self.start:,} follow"
        if not (self.base_offset < end and position <= self.last_offset):
            return (
                f"its header gives the offsets {self.base_offset:,} to {self.last_offset:,}, not {position:,} or later"
            )
        try:
            batch: Any = MemoryRecords(data[self.start : self.start + self.size]).next_batch()
            if not batch.validate_crc():
                return "its checksum is wrong"
            for _ in batch:
                pass
        except UnsupportedCodecError:
            return None
        except Exception as error:  # each codec's library raises errors of its own
            return f"its records cannot be read: {error or type(error).__name__}"
        return None


def _next_sound(data: bytes, start: int, damaged: _Batch, position: int, end: int) -> _Batch | None:
    """The first sound batch after a damaged one, which is looked for where its header says that it ends first."""
    least = start + 1
    for at in (start + damaged.size, *_formats(data, least)):
        if least <= at <= len(data) - _HEADER_BYTES:
            batch = _Batch.at(data, at)
            if position < batch.base_offset and batch.fault(data, position, end) is None:
                return batch
    return None


def _formats(data: bytes, least: int) -> Iterator[int]:
    """The places from `least` on where a header may begin, by its byte that gives the batch's format."""
    found = data.find(_FORMAT, least + _MAGIC_AT)
    while found >= 0:
        yield found - _MAGIC_AT
        found = data.find(_FORMAT, found + 1)


def _damage(reason: str, first_offset: int, raw: bytes) -> Damage:
    return Damage(reason, first_offset, len(raw), hashlib.sha256(raw).hexdigest(), raw[:BYTES_MAX])


def _stand_in(damage: Damage, offset: int) -> bytes:
    """A sound batch of one record, which has that offset and stands for the damaged batch."""
    builder = DefaultRecordBatchBuilder(
        magic=_FORMAT,
        compression_type=0,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=2 * BYTES_MAX,
    )
    headers = [(_MARK, msgspec.msgpack.encode(damage))]
    builder.append(offset=0, timestamp=int(time.time() * 1000), key=None, value=None, headers=headers)
    batch = builder.build()
    struct.pack_into(">q", batch, 0, offset)
    return bytes(batch)
