"""What users make of their lists, made once for all pages: counting goes on while somebody looks."""

import asyncio
import time
from typing import Final, NamedTuple

from serving.api.live import Live, now_ms
from serving.dashboard.feed.samples import History
from serving.experiments.exploring import PolicyResult, judged
from serving.experiments.results import Effect, ExperimentResult
from serving.measures import rates
from serving.online.windows import summed

#: The rates are made anew so often, in seconds; breakdowns, which are dearer, when a page asks and they are older.
_EVERY_S: Final = 5.0
_ROUNDS: Final = 3

Breakdown = dict[str, tuple[list[float], dict[str, float | None]]]


class Moment(NamedTuple):
    """What an arm's effect was said to be at a moment (clock, ms)."""

    at: int
    effect: Effect


class Outcomes:
    """What the tally and the experiments say, as of some seconds ago at most.

    Attributes:
        counts: whether this process counts at all.
        rates: over the newest `online.recent_s` of event time.
        drift, skew: stability indexes of the input by dimension, and of the ranker's features.
        exploring: what policies for the place that explores earn.
        concentration: Gini coefficients over the items.
        results: of the experiments that run.
        courses: by experiment and arm what the effect in the metric that decides was said to be, since the start.
    """

    def __init__(self, live: Live) -> None:
        self._live = live
        self._breakdowns: dict[str, tuple[float, Breakdown]] = {}
        self.counts = live.settings.online.enabled
        self.rates: dict[str, float | None] = {}
        self.drift: dict[str, float] = {}
        self.skew: dict[str, float] = {}
        self.exploring: list[PolicyResult] = []
        self.concentration: dict[str, float] = {}
        self.results: list[ExperimentResult] = []
        self.courses: dict[tuple[str, str], History[Moment]] = {}

    async def follow(self) -> None:
        """Keep up to date; never returns."""
        rounds = 0
        while self.counts:
            windows = self._live.tally.windows
            since = windows.since(self._live.settings.online.recent_s)
            self.rates = rates(summed(windows.totals(windows.dimensions[0], since=since)))
            if rounds % _ROUNDS == 0:
                self.drift = self._live.tally.drift()
                self.skew = self._live.skew.stability()
                self.exploring = judged(self._live.tally.exploring.choices())
                self.concentration = self._live.gauges.concentration()
                self.results = await self._live.report.refresh()
                self._remember()
            rounds += 1
            await asyncio.sleep(_EVERY_S)

    def _remember(self) -> None:
        for result in self.results:
            for arm, effect in effects(result).items():
                self.courses.setdefault((result.name, arm), History()).add(Moment(now_ms(), effect))

    def breakdown(self, dimension: str) -> Breakdown:
        """The tally's counts and rates of all windows by value of a dimension.

        Raises:
            ValueError: there is no such dimension.
        """
        made_at, found = self._breakdowns.get(dimension, (float("-inf"), {}))
        if time.monotonic() - made_at >= _EVERY_S:
            found = self._live.tally.breakdown(dimension)
            self._breakdowns[dimension] = time.monotonic(), found
        return found


def effects(result: ExperimentResult) -> dict[str, Effect]:
    """The effect that decides, by arm; of an interleaved experiment the preference for the second arm."""
    if result.preference is not None:
        return {result.arms[1].name: result.preference}
    return {arm.name: arm.against_control[result.metric].best for arm in result.arms if arm.against_control is not None}
