"""Counts in windows of event time, broken down by several dimensions; as bounded as their settings."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from serving.measures import N_MEASURES, Amounts, Labels

#: Values told apart in one window of one dimension; what comes after them is `OTHER`.
VALUES_MAX: Final = 200
OTHER: Final = "other"

_Counts = list[float]


class Windows:
    """The newest windows. Every credit is counted once in every dimension, so all dimensions have the same totals.

    Attributes:
        late: credits that were older than the oldest window.
        newest: event time, in ms, that the newest window begins at; 0 before the first.
    """

    def __init__(self, dimensions: Sequence[str], *, window_s: float, kept: int) -> None:
        self.dimensions = tuple(dimensions)
        self.window_ms = max(int(window_s * 1000), 1)
        self.late = 0
        self.newest = 0
        self._kept = kept
        self._windows: dict[int, list[dict[str, _Counts]]] = {}
        self._order: deque[int] = deque()  # of the windows' beginnings, the oldest first

    def add(self, ts: int, labels: Labels, amounts: Amounts) -> None:
        """Count something that happened at event time `ts` (ms)."""
        window = self._window(ts)
        if window is None:
            self.late += 1
            return
        for counts, label in zip(window, labels, strict=True):
            if isinstance(label, str):
                _add(counts, label, amounts, 1.0)
            else:
                for part in label:
                    _add(counts, part, amounts, 1.0 / len(label))

    def _window(self, ts: int) -> list[dict[str, _Counts]] | None:
        start = ts - ts % self.window_ms
        found = self._windows.get(start)
        if found is not None:
            return found
        if self._windows and start <= self.newest - self._kept * self.window_ms:
            return None
        self.newest = max(self.newest, start)
        made = self._windows[start] = [{} for _ in self.dimensions]
        oldest = self.newest - (self._kept - 1) * self.window_ms
        if len(self._windows) > 1 and start < self.newest:
            self._order = deque(sorted(self._windows))  # a hole was filled
        else:
            self._order.append(start)
        while self._order[0] < oldest:
            del self._windows[self._order.popleft()]
        return made

    def totals(self, dimension: str, since: int = 0, until: int | None = None) -> dict[str, _Counts]:
        """The counts by value of a dimension, of the windows that begin in [since, until), in ms of event time.

        Raises:
            ValueError: there is no such dimension.
        """
        at = self._at(dimension)
        found: dict[str, _Counts] = {}
        for start, window in self._windows.items():
            if since <= start and (until is None or start < until):
                for value, counts in window[at].items():
                    total = found.setdefault(value, [0.0] * N_MEASURES)
                    for index, count in enumerate(counts):
                        total[index] += count
        return found

    def series(self, dimension: str) -> dict[int, dict[str, _Counts]]:
        """The counts by value of each window, by its beginning, the oldest first."""
        at = self._at(dimension)
        return {start: self._windows[start][at] for start in self._order}

    def since(self, seconds: float) -> int:
        """Where the windows of the newest so many seconds begin, in ms."""
        return self.newest - int(seconds * 1000) + self.window_ms

    def _at(self, dimension: str) -> int:
        if dimension not in self.dimensions:
            raise ValueError(f"there is no breakdown by {dimension!r}; there are {', '.join(self.dimensions)}")
        return self.dimensions.index(dimension)


def _add(counts: dict[str, _Counts], value: str, amounts: Amounts, part: float) -> None:
    found = counts.get(value)
    if found is None:
        if len(counts) >= VALUES_MAX:
            value = OTHER
        found = counts.setdefault(value, [0.0] * N_MEASURES)
    for measure, amount in amounts:
        found[measure] += amount * part


def summed(totals: dict[str, _Counts]) -> _Counts:
    """The counts of all values together."""
    return [sum(column) for column in zip(*totals.values(), strict=True)] or [0.0] * N_MEASURES
