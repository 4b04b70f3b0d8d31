"""What each stage of a pipeline has done so far: how often, how long, how much came in and went out, what failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

log = logging.getLogger(__name__)


@dataclass
class Counts:
    """Of one component. `entered` and `left` are candidates, summed over users; a source is entered by none."""

    calls: int = 0
    seconds: float = 0.0
    entered: int = 0
    left: int = 0
    failures: int = 0

    @property
    def removed(self) -> int:
        """How many candidates a filter has dropped."""
        return max(self.entered - self.left, 0)


@dataclass
class Stages:
    """The counts of all components, by `stage/component`, in the order in which they first ran."""

    counts: dict[str, Counts] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str, entered: int = 0) -> Iterator[Counts]:
        """Count a call and its time; the caller adds what left."""
        counts = self.counts.setdefault(name, Counts())
        counts.calls += 1
        counts.entered += entered
        began = time.perf_counter()
        try:
            yield counts
        finally:
            counts.seconds += time.perf_counter() - began

    @contextmanager
    def spared(self, name: str) -> Iterator[Counts]:
        """As `timed`, for what a list can do without: a failure is logged once in a while, and counted."""
        try:
            with self.timed(name) as counts:
                yield counts
        except Exception:
            counts = self.counts[name]
            counts.failures += 1
            if counts.failures & (counts.failures - 1) == 0:  # the first, second, fourth, …
                log.exception("%s failed, %d times so far; lists are made without it", name, counts.failures)
