"""One file of a partition's log: raw record batches one after another, and where each begins."""

import logging
import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Final

from deploy.broker.batch import HEADER_BYTES, MAGIC, BatchHeader

log = logging.getLogger(__name__)

_SCAN_BYTES: Final = 1 << 20


class Segment:
    """An append-only file of consecutive batches, found by bisection in memory.

    Attributes:
        base_offset: of its first record; it names the file.
        next_offset: the one after its last record.
        size: bytes.
    """

    def __init__(self, folder: Path, base_offset: int) -> None:
        """Open the file, made if missing; `load` reads what it holds."""
        self.path = folder / f"{base_offset:020d}.log"
        self.base_offset = base_offset
        self.next_offset = base_offset
        self.size = 0
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._offsets = array("q")
        self._positions = array("q")
        #: per batch, the newest timestamp so far: it only grows, so the first batch that reaches a time is bisected
        self._newest = array("q")

    @property
    def newest_ms(self) -> int:
        """The newest timestamp of all its records; -1 while it is empty."""
        return self._newest[-1] if self._newest else -1

    def load(self, note: Callable[[BatchHeader], None]) -> None:
        """Read the headers of all batches; what a crash has left half-written at the end is cut off."""
        end = os.fstat(self._file).st_size
        window, window_at = b"", 0
        while self.size < end:
            if self.size + HEADER_BYTES > window_at + len(window):
                window, window_at = os.pread(self._file, _SCAN_BYTES, self.size), self.size
            if len(window) - (self.size - window_at) < HEADER_BYTES:
                break
            header = BatchHeader.read(window, self.size - window_at)
            whole = HEADER_BYTES <= header.size <= end - self.size
            if not whole or header.magic != MAGIC or header.base_offset != self.next_offset:
                break
            self._index(header.base_offset, header.last_offset + 1, header.max_timestamp, header.size)
            note(header)
        if self.size < end:
            log.warning("%s: cut off %d bytes that are no whole batch", self.path.name, end - self.size)
            os.ftruncate(self._file, self.size)

    def append(self, batch: bytearray, n_records: int, max_timestamp: int) -> None:
        """Write a batch that begins at `next_offset`.

        Raises:
            OSError: it could not be written; the file is as it was.
        """
        try:
            written = os.write(self._file, batch)
            if written < len(batch):
                raise OSError(f"{self.path}: only {written} of {len(batch)} bytes could be written; is the disk full?")
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self._index(self.next_offset, self.next_offset + n_records, max_timestamp, len(batch))

    def _index(self, base_offset: int, next_offset: int, max_timestamp: int, size: int) -> None:
        self._offsets.append(base_offset)
        self._positions.append(self.size)
        self._newest.append(max(max_timestamp, self.newest_ms))
        self.next_offset = next_offset
        self.size += size

    def position(self, offset: int) -> int:
        """Where the batch that holds the offset begins; the end for one past the last."""
        if offset >= self.next_offset:
            return self.size
        return self._positions[bisect_right(self._offsets, offset) - 1]

    def read(self, offset: int, max_bytes: int, *, at_least_one: bool) -> bytes:
        """Whole batches from the one that holds the offset, of `max_bytes` at most, or one that is larger."""
        start = self.position(offset)
        if start == self.size:
            return b""
        end = self.size
        if end - start > max_bytes:
            following = bisect_right(self._positions, start + max_bytes) - 1
            end = self._positions[following]
            if end == start:
                if not at_least_one:
                    return b""
                end = self._positions[following + 1] if following + 1 < len(self._positions) else self.size
        return os.pread(self._file, end - start, start)

    def first_reaching(self, timestamp_ms: int) -> int | None:
        """The base offset of the first batch with a record of that time or later."""
        at = bisect_left(self._newest, timestamp_ms)
        return self._offsets[at] if at < len(self._offsets) else None

    def sync(self) -> None:
        """Bring it onto the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def delete(self) -> None:
        """Close it for good."""
        self.close()
        self.path.unlink(missing_ok=True)
