"""What happened to each item of late: shown on lists, acted on, liked, in short steps of clock time."""

from collections import Counter, deque
from collections.abc import Iterable
from typing import Final, NamedTuple

#: A step's length in seconds, and how many are kept: the last half hour.
STEP_S: Final = 15
STEPS: Final = 120


class Step(NamedTuple):
    """Counts by item number in one step."""

    number: int
    listed: Counter[int]
    acted: Counter[int]
    liked: Counter[int]


class Activity:
    """Counts of the newest steps; older ones are dropped."""

    def __init__(self) -> None:
        self._steps: deque[Step] = deque(maxlen=STEPS)

    def show(self, at: float, items: Iterable[int]) -> None:
        """Count the places of a list that was published at clock time `at` (s)."""
        self._step(at).listed.update(items)

    def act(self, at: float, item: int, *, liked: bool) -> None:
        """Count an event that consumed an item."""
        step = self._step(at)
        step.acted[item] += 1
        if liked:
            step.liked[item] += 1

    def of(self, item: int) -> list[tuple[int, int, int, int]]:
        """One item's steps, oldest first: when it began (clock, ms), places on lists, actions, likes."""
        return [
            (step.number * STEP_S * 1000, step.listed[item], step.acted[item], step.liked[item]) for step in self._steps
        ]

    def _step(self, at: float) -> Step:
        number = int(at // STEP_S)
        if not self._steps or number > self._steps[-1].number:
            self._steps.append(Step(number, Counter(), Counter(), Counter()))
        return self._steps[-1]
