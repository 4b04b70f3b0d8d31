"""Histograms: what a user turned to, by categorical item feature, each entry counting half after every half-life.

Weights are kept as of a landmark in the past, so adding touches only the keys added to and shares need no clock.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from heapq import nlargest
from operator import itemgetter
from typing import Generic, TypeVar

from models.data.labels import CONSUMING, NEGATIVE

K = TypeVar("K", bound=Hashable)

_MAX_DOUBLINGS = 32.0
_NEGLIGIBLE = 1e-6
_CONSUMING = frozenset(int(action) for action in CONSUMING)


def histogram_weight(action: int, strength: float, label: int) -> float:
    """What an event adds to the histogram entries of its item: its strength, unless the user disliked the item."""
    return strength if action in _CONSUMING and label > NEGATIVE else 0.0


class Histogram(Generic[K]):
    """One user's decayed histogram over keys such as `genre=Drama`, or their hashed tokens."""

    __slots__ = ("_half_life_ms", "_landmark", "_weights")

    def __init__(self, half_life_s: float) -> None:
        self._half_life_ms = half_life_s * 1000.0
        self._landmark: int | None = None
        self._weights: dict[K, float] = {}

    def add(self, keys: Sequence[K], ts_ms: int, weight: float) -> None:
        """Count an event at `ts_ms` with `weight`; late events are decayed into their place."""
        if weight <= 0 or not keys:
            return
        if self._landmark is None:
            self._landmark = ts_ms
        doublings = (ts_ms - self._landmark) / self._half_life_ms
        if doublings > _MAX_DOUBLINGS:
            self._move_landmark(ts_ms)
            doublings = 0.0
        scaled = weight * 2.0 ** max(doublings, -1000.0)
        for key in keys:
            self._weights[key] = self._weights.get(key, 0.0) + scaled

    def top(self, m: int) -> list[tuple[K, float]]:
        """The `m` heaviest keys with their shares among these, heaviest first."""
        best = nlargest(m, self._weights.items(), key=itemgetter(1))
        total = sum(weight for _, weight in best)
        return [(key, weight / total) for key, weight in best] if total > 0 else []

    def _move_landmark(self, ts_ms: int) -> None:
        assert self._landmark is not None
        scale = 2.0 ** max((self._landmark - ts_ms) / self._half_life_ms, -1000.0)
        self._weights = {key: w * scale for key, w in self._weights.items() if w * scale > _NEGLIGIBLE}
        self._landmark = ts_ms
