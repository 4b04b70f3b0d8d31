"""Rates from counters that only grow, over the last few seconds."""

from collections import deque
from typing import Final

_SPAN: Final = 7


class Rates:
    """Keeps the newest readings of some counters."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, dict[str, int]]] = deque(maxlen=_SPAN)

    def add(self, at: float, **counts: int) -> dict[str, float]:
        """Take a reading at clock time `at` (s); what each counter grew by a second since the oldest reading kept.

        Nothing at the first reading, nor after a counter went back, as when the state was emptied.
        """
        if self._readings and any(counts[name] < old for name, old in self._readings[-1][1].items()):
            self._readings.clear()
        self._readings.append((at, counts))
        then, before = self._readings[0]
        return {name: (count - before[name]) / (at - then) for name, count in counts.items()} if at > then else {}
