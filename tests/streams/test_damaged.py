"""A damaged batch costs its own records alone: a stand-in takes its place among the batches fetched."""

import struct

import aiokafka.codec
import pytest
from aiokafka.errors import UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import assume, given
from hypothesis import strategies as st

from streams.kafka.damaged import BYTES_MAX, damage_of, sound

#: Records of a batch.
SIZE = 5
NONE, LZ4 = 0, 3


def made(base_offset: int, *, codec: int = NONE, size: int = SIZE, header: str | None = None) -> bytes:
    """A batch as a broker gives it."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    headers = [(header, b"")] if header else []
    for number in range(size):
        value = b"value %d" % (base_offset + number)
        builder.append(offset=number, timestamp=1, key=b"k", value=value, headers=headers)
    batch = builder.build()
    struct.pack_into(">q", batch, 0, base_offset)
    return bytes(batch)


def read(data: bytes) -> list[tuple[int, bytes | None, bool]]:
    """The records of batches: offset, value, and whether it stands for a damaged batch."""
    records = MemoryRecords(data)
    found = []
    while records.has_next():
        batch = records.next_batch()
        assert batch is not None and batch.validate_crc()
        found += [(record.offset, record.value, damage_of(record) is not None) for record in batch]
    return found


def expected(base_offset: int) -> list[tuple[int, bytes | None, bool]]:
    return [(offset, b"value %d" % offset, False) for offset in range(base_offset, base_offset + SIZE)]


def flipped(data: bytes, at: int, bits: int = 0xFF) -> bytes:
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


@pytest.mark.parametrize("codec", [NONE, LZ4])
def test_sound_batches_stay_as_they_are(codec: int) -> None:
    data = b"".join(made(base, codec=codec) for base in (10, 15, 20))
    assert sound(data, 12, 25, "t-0") is data
    cut = data[:-7]
    assert sound(cut, 12, 25, "t-0") is cut


def read_all(batches: list[bytes]) -> list[tuple[int, bytes | None, bool]]:
    """What a reader gets of batches from offset 10 on: each fetch begins with the batch that holds its offset."""
    end = 10 + SIZE * len(batches)
    position = 10
    found = []
    while position < end:
        rows = read(sound(b"".join(batches[(position - 10) // SIZE :]), position, end, "t-0"))
        found += [row for row in rows if row[0] >= position]
        assert found[-1][0] >= position, "each fetch brings the reader forward"
        position = found[-1][0] + 1
    return found


@given(at=st.integers(8, 200).filter(lambda at: not 12 <= at <= 16), bits=st.integers(1, 255))
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("codec", [NONE, LZ4])
def test_any_damage_to_a_batch_costs_this_batch_alone(codec: int, which: int, at: int, bits: int) -> None:
    batches = [made(base, codec=codec) for base in (10, 15, 20)]
    assume(at < len(batches[which]))
    batches[which] = flipped(batches[which], at, bits)
    found = read_all(batches)
    first = 10 + SIZE * which
    assert [row for row in found if not row[2]] == [
        row for base in (10, 15, 20) if base != first for row in expected(base)
    ]
    stand_ins = [offset for offset, _, stands_in in found if stands_in]
    assert stand_ins[-1] == first + SIZE - 1 and stand_ins[0] >= first
    assert found == sorted(found)


def test_a_record_that_cannot_be_parsed_costs_its_batch_alone() -> None:
    """As of a producer whose header names are not UTF-8: the checksum is right."""
    batch = bytearray(made(10, header="trace"))
    batch[:] = batch.replace(b"trace", b"tr\xffce")
    struct.pack_into(">I", batch, 17, calc_crc32c(memoryview(batch)[21:]))
    assert read_all([bytes(batch), made(15)]) == [(14, None, True), *expected(15)]


def test_a_batch_in_a_codec_that_is_not_installed_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(0, codec=LZ4) + made(5)
    monkeypatch.setattr(aiokafka.codec, "cramjam", None)
    assert sound(data, 0, 10, "t-0") is data
    with pytest.raises(UnsupportedCodecError, match="lz4"):
        read(data)


def test_what_is_kept_of_a_damaged_batch_is_bounded() -> None:
    data = flipped(made(10, size=20_000), 21)
    [record] = list(MemoryRecords(sound(data, 10, 20_010, "t-0")).next_batch() or [])
    damage = damage_of(record)
    assert damage is not None and damage.begin == data[:BYTES_MAX] and damage.size == len(data)
    assert (damage.first_offset, record.offset) == (10, 20_009)
