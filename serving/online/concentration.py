"""How much of the exposures, or of the clicks, a few items have; the older one is, the less it counts."""

from array import array
from collections.abc import Iterable
from typing import Final

import numpy as np

from models.statistics.drift import gini

_PENDING_MAX: Final = 20_000


class Concentration:
    """Decayed counts by item number."""

    def __init__(self, half_life_s: float) -> None:
        self._half_life_ms = half_life_s * 1000.0
        self._pending = array("q")
        self._counts = np.zeros(0)
        self._moment = 0  # event time of the counts, in ms

    def add(self, numbers: Iterable[int], ts: int) -> None:
        """Count items at event time `ts` (ms)."""
        self._pending.extend(numbers)
        if len(self._pending) >= _PENDING_MAX:
            self._settle(ts)

    def gini(self, items: int, ts: int) -> float:
        """The Gini coefficient over so many items, those that never occurred too."""
        self._settle(ts)
        counts = np.zeros(max(items, len(self._counts)))
        counts[: len(self._counts)] = self._counts
        return gini(counts)

    def _settle(self, ts: int) -> None:
        added = np.bincount(np.frombuffer(self._pending, np.int64), minlength=len(self._counts)).astype(np.float64)
        faded = 0.5 ** (max(ts - self._moment, 0) / self._half_life_ms) if self._moment else 0.0
        added[: len(self._counts)] += faded * self._counts
        self._counts = added
        self._moment = max(ts, self._moment)
        self._pending = array("q")
