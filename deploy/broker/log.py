"""A partition's log: batches appended to the last segment, read from any, and deleted by whole segments."""

import asyncio
import logging
import time
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiokafka.errors import UnsupportedCodecError
from aiokafka.record.memory_records import MemoryRecords
from kafka.errors import MessageSizeTooLargeError, OffsetOutOfRangeError

from deploy.broker import batch
from deploy.broker.batch import BatchHeader
from deploy.broker.producers import Producers
from deploy.broker.segment import Segment

log = logging.getLogger(__name__)

NO_TIME: Final = -1


@dataclass(frozen=True, slots=True)
class LogRules:
    """What a topic's configuration says of its logs; -1 means without limit."""

    log_append_time: bool = False
    segment_bytes: int = 64 << 20
    batch_max_bytes: int = 1_048_588
    retention_ms: int = -1
    retention_bytes: int = -1


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a batch stands; `time_ms` is -1 unless the broker stamps the topic's records."""

    base_offset: int
    time_ms: int


class PartitionLog:
    """The records of one partition.

    Attributes:
        start_offset: the first that may be read.
        waiting: futures of fetches, to be resolved when something is appended or the log is closed.
    """

    def __init__(self, folder: Path, rules: LogRules) -> None:
        """Open the folder's segments, made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._rules = rules
        self._producers = Producers()
        self.waiting: set[asyncio.Future[None]] = set()
        start = folder / "start"
        self.start_offset = int(start.read_text()) if start.exists() else 0
        bases = sorted(int(path.stem) for path in folder.glob("*.log")) or [self.start_offset]
        self._segments: list[Segment] = []
        for base in bases:
            segment = Segment(folder, base)
            if self._segments and base != self.end_offset:
                # a power cut may take the end of a segment and leave the next one: nobody can read past the gap
                log.error("%s: %d bytes follow a gap and are deleted", segment.path, segment.path.stat().st_size)
                segment.delete()
                continue
            segment.load(lambda header: self._producers.note(header, header.base_offset))
            self._segments.append(segment)
        # a crash may have taken the end with it that the start was moved to
        self.start_offset = min(max(self.start_offset, self._segments[0].base_offset), self.end_offset)

    @property
    def end_offset(self) -> int:
        """The offset that the next record gets."""
        return self._segments[-1].next_offset

    def append(self, data: bytes) -> Appended:
        """Check a producer's batch and write it; one that was written before is only told of.

        Raises:
            BrokerResponseError: the batch cannot be taken, see `batch.check` and `Producers.find_duplicate`.
            OSError: it could not be written.
        """
        header = batch.check(data)
        if header.size > self._rules.batch_max_bytes:
            raise MessageSizeTooLargeError(f"{header.size} bytes; max.message.bytes is {self._rules.batch_max_bytes}")
        now = int(time.time() * 1000) if self._rules.log_append_time else None
        time_ms = NO_TIME if now is None else now
        duplicate = self._producers.find_duplicate(header)
        if duplicate is not None:
            return Appended(duplicate, time_ms)
        if self._segments[-1].size and self._segments[-1].size + header.size > self._rules.segment_bytes:
            self._roll()
        base_offset = self.end_offset
        kept = batch.stamp(data, base_offset, now)
        self._segments[-1].append(kept, header.n_records, header.max_timestamp if now is None else now)
        self._producers.note(header, base_offset)
        self.wake()
        return Appended(base_offset, time_ms)

    def wake(self) -> None:
        """Let the waiting fetches look again."""
        for future in self.waiting:
            if not future.done():
                future.set_result(None)

    def _segment(self, offset: int) -> int:
        return max(bisect_right(self._segments, offset, key=lambda segment: segment.base_offset) - 1, 0)

    def bytes_from(self, offset: int) -> int:
        """How much there is to read from that offset on.

        Raises:
            OffsetOutOfRangeError: the offset lies before the log's start or past its end.
        """
        if not self.start_offset <= offset <= self.end_offset:
            raise OffsetOutOfRangeError(f"{offset} is not in {self.start_offset}..{self.end_offset}")
        at = self._segment(offset)
        first = self._segments[at]
        return first.size - first.position(offset) + sum(segment.size for segment in self._segments[at + 1 :])

    def read(self, offset: int, max_bytes: int, *, at_least_one: bool) -> bytes:
        """Whole batches of one segment from the offset on, which `bytes_from` has found to be in the log."""
        return self._segments[self._segment(offset)].read(offset, max_bytes, at_least_one=at_least_one)

    def find_time(self, timestamp_ms: int) -> tuple[int, int] | None:
        """Offset and timestamp of the first record of that time or later."""
        for segment in self._segments:
            base_offset = segment.first_reaching(timestamp_ms)
            if base_offset is not None:
                return self._first_in_batch(segment.read(base_offset, 0, at_least_one=True), timestamp_ms)
        return None

    def newest(self) -> tuple[int, int] | None:
        """Offset and timestamp of the first record that bears the log's newest timestamp."""
        newest = max(segment.newest_ms for segment in self._segments)
        return None if newest < 0 else self.find_time(newest)

    def _first_in_batch(self, data: bytes, timestamp_ms: int) -> tuple[int, int]:
        header = BatchHeader.read(data)
        first = max(header.base_offset, self.start_offset)
        if not header.stamped_by_broker:
            try:
                for record in MemoryRecords(data).next_batch():
                    if record.timestamp >= timestamp_ms and record.offset >= first:
                        return record.offset, record.timestamp
            except UnsupportedCodecError:
                pass  # the codec is the clients' affair; an answer a few records early is allowed
        return first, header.max_timestamp

    def delete_before(self, offset: int) -> None:
        """Make the offset the first that may be read, and delete the segments that lie before it.

        Raises:
            OffsetOutOfRangeError: the offset lies past the end.
        """
        if not 0 <= offset <= self.end_offset:
            raise OffsetOutOfRangeError(f"{offset} is not in 0..{self.end_offset}")
        if offset <= self.start_offset:
            return
        partial = self._folder / "start.partial"
        partial.write_text(str(offset))
        partial.replace(self._folder / "start")
        self.start_offset = offset
        if offset == self.end_offset and self._segments[-1].size:
            self._roll()  # all records are to go, so those of the last segment too
        while len(self._segments) > 1 and self._segments[1].base_offset <= offset:
            self._segments.pop(0).delete()

    def retain(self) -> None:
        """Delete the segments that the rules say are too old or too much."""
        now = time.time() * 1000
        size = sum(segment.size for segment in self._segments)
        keep_ms, keep_bytes = self._rules.retention_ms, self._rules.retention_bytes
        kept_from = 0
        for segment in self._segments:
            too_old = 0 <= keep_ms < now - segment.newest_ms
            too_much = 0 <= keep_bytes <= size - segment.size
            if not too_old and not too_much:
                break
            size -= segment.size
            kept_from = segment.next_offset
        self.delete_before(max(kept_from, self.start_offset))

    def _roll(self) -> None:
        self._segments.append(Segment(self._folder, self.end_offset))

    def sync(self) -> None:
        """Bring all of it onto the disk."""
        for segment in self._segments:
            segment.sync()

    def close(self) -> None:
        """Let go of the files."""
        for segment in self._segments:
            segment.close()
        self.wake()
