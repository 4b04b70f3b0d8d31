"""What makes a producer idempotent: per partition, the last batches of each producer."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from kafka.errors import InvalidProducerEpochError, OutOfOrderSequenceNumberError

from deploy.broker.batch import BatchHeader

#: A producer has at most five requests under way, so none older can come again.
_REMEMBERED: Final = 5
#: Ids of producers that ended long ago are forgotten, the longest silent one first.
_PRODUCERS_MAX: Final = 1_000
_SEQUENCES: Final = 2**31


@dataclass(slots=True)
class _Producer:
    epoch: int
    #: base sequence, count of records, base offset
    batches: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))


class Producers:
    """The idempotent producers of one partition."""

    def __init__(self) -> None:
        self._by_id: dict[int, _Producer] = {}

    def find_duplicate(self, header: BatchHeader) -> int | None:
        """The base offset of the batch where it has been appended before, or None for one that is next.

        Raises:
            InvalidProducerEpochError: a newer instance of the producer has written meanwhile.
            OutOfOrderSequenceNumberError: a batch before this one is missing.
        """
        if header.producer_id < 0:
            return None
        known = self._by_id.get(header.producer_id)
        if known is None:
            return None  # as in Kafka: what was known of it has been deleted with its records
        if header.producer_epoch < known.epoch:
            raise InvalidProducerEpochError(f"producer {header.producer_id} is at epoch {known.epoch}")
        if header.producer_epoch > known.epoch:
            expected = 0
        else:
            for sequence, count, offset in known.batches:
                if (sequence, count) == (header.base_sequence, header.n_records):
                    return offset
            sequence, count, _ = known.batches[-1]
            expected = (sequence + count) % _SEQUENCES
        if header.base_sequence != expected:
            raise OutOfOrderSequenceNumberError(
                f"producer {header.producer_id} sent sequence {header.base_sequence} where {expected} is next"
            )
        return None

    def note(self, header: BatchHeader, base_offset: int) -> None:
        """Remember a batch that has been appended."""
        if header.producer_id < 0:
            return
        known = self._by_id.pop(header.producer_id, None)
        if known is None or known.epoch != header.producer_epoch:
            known = _Producer(header.producer_epoch)
        known.batches.append((header.base_sequence, header.n_records, base_offset))
        self._by_id[header.producer_id] = known  # the last of the dict is the one heard last
        if len(self._by_id) > _PRODUCERS_MAX:
            del self._by_id[next(iter(self._by_id))]
