"""Records of several partitions in the order in which they arrived in Kafka, so that a list comes before its clicks."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar


class Arrived(Protocol):
    """A record, as far as this needs to know it."""

    @property
    def timestamp(self) -> int:
        """When it arrived, in ms."""


Partition = TypeVar("Partition")
Record = TypeVar("Record", bound=Arrived)


class _Held(NamedTuple, Generic[Record]):
    record: Record
    received: float


class InOrder(Generic[Partition, Record]):
    """Merges partitions. A partition that holds nothing and is not read to its end holds the others up."""

    def __init__(self, partitions: Iterable[Partition], *, settle_s: float) -> None:
        """Nothing is held at first.

        Args:
            settle_s: how long a record waits for older ones of partitions that were read to their end.
        """
        self._held: dict[Partition, deque[_Held[Record]]] = {partition: deque() for partition in partitions}
        self._settle_s = settle_s

    def put(self, partition: Partition, records: Iterable[Record], now: float) -> None:
        """Take in records of one partition, in their order, received at the time `now` (s)."""
        self._held[partition].extend(_Held(record, now) for record in records)

    def held(self, partition: Partition) -> int:
        """How many records of the partition wait."""
        return len(self._held[partition])

    def take(self, at_end: Collection[Partition], now: float) -> Iterator[tuple[Partition, Record]]:
        """The records whose turn it is; `at_end` are the partitions of which nothing more is there to be read."""
        while True:
            empty = [partition for partition, held in self._held.items() if not held]
            if len(empty) == len(self._held) or any(partition not in at_end for partition in empty):
                return
            partition = min(
                (p for p, held in self._held.items() if held), key=lambda p: self._held[p][0].record.timestamp
            )
            if empty and now - self._held[partition][0].received < self._settle_s:
                return
            yield partition, self._held[partition].popleft().record
