"""Trends: one process's view of the item statistics of all partitions, by segment and item number, and of new likes."""

import asyncio

import numpy as np
import numpy.typing as npt

from models.data.popularity import PopularityConfig, merged
from streams.settings.settings import Settings
from streams.state.likes import NewestLikes
from streams.state.store import Store

#: The segment of all users.
EVERYONE = ""

#: So many likes are followed when a model goes into service: about a second of it.
_MOST_LIKES = 10_000

Floats = npt.NDArray[np.float64]


class _Segment:
    """Records of the items that a segment has events on: per partition, and merged."""

    def __init__(self, partitions: int, width: int) -> None:
        self.slots: dict[int, int] = {}
        self.parts: Floats = np.zeros((partitions, 0, width))

    def put(self, partition: int, numbers: list[int], packed: bytes) -> npt.NDArray[np.intp]:
        """Take in one partition's records; returns the slots touched."""
        slots = np.array([self.slots.setdefault(number, len(self.slots)) for number in numbers], dtype=np.intp)
        partitions, room, width = self.parts.shape
        if len(self.slots) > room:
            grown = np.zeros((partitions, max(len(self.slots), 2 * room), width))
            grown[:, :room] = self.parts
            self.parts = grown
        self.parts[partition, slots] = np.frombuffer(packed, "<f8").reshape(-1, width)
        return slots


class Trends:
    """The item statistics as of the last `sync`.

    Attributes:
        likes: the newest likes as of then.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._config: PopularityConfig = settings.popularity
        self._versions = [0] * settings.partitions
        self._batches = [0] * settings.partitions
        self._segments: dict[str, _Segment] = {}
        self.likes = NewestLikes(_MOST_LIKES)

    async def sync(self) -> dict[str, tuple[npt.NDArray[np.intp], Floats]]:
        """Take in what changed; returns per segment the item numbers (k,) and their records (k, width)."""
        touched: dict[str, set[int]] = {}
        known = zip(self._versions, self._batches, strict=True)
        reads = await asyncio.gather(*(self._store.read_items(p, *each) for p, each in enumerate(known)))
        for partition, (version, changed, batches, likes) in enumerate(reads):
            self._versions[partition], self._batches[partition] = version, batches
            self.likes.take(likes)
            for segment, (numbers, packed) in changed.items():
                table = self._segments.setdefault(segment, _Segment(len(self._versions), self._config.width))
                table.put(partition, numbers, packed)
                touched.setdefault(segment, set()).update(numbers)
        return {segment: self._merged(segment, sorted(numbers)) for segment, numbers in touched.items()}

    def all(self) -> dict[str, tuple[npt.NDArray[np.intp], Floats]]:
        """Every record, in the form of `sync`."""
        return {segment: self._merged(segment, sorted(table.slots)) for segment, table in self._segments.items()}

    def _merged(self, segment: str, numbers: list[int]) -> tuple[npt.NDArray[np.intp], Floats]:
        table = self._segments[segment]
        slots = [table.slots[number] for number in numbers]
        return np.array(numbers, dtype=np.intp), merged(table.parts[:, slots], self._config)
