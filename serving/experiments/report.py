"""The results of all experiments that run, made anew at most every few seconds, in a thread of their own."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from serving.experiments.ledger import Ledgers
from serving.experiments.results import ExperimentResult, result_of
from serving.experiments.shadows import Shadow, ShadowResult
from streams.settings.online import HOLDOUT, ArmSettings, ExperimentSettings

_EVERY_S: Final = 5.0


class Report:
    """What the ledgers say.

    Attributes:
        results, shadows: as of the last `refresh`.
    """

    def __init__(self, ledgers: Ledgers, shadows: Sequence[Shadow]) -> None:
        self._ledgers = ledgers
        self._shadows = shadows
        self._made_at = float("-inf")
        self._one_at_a_time = asyncio.Lock()
        self.results: list[ExperimentResult] = []
        self.shadows: list[ShadowResult] = []

    async def refresh(self) -> list[ExperimentResult]:
        """The results, made anew unless they are new."""
        async with self._one_at_a_time:
            if time.monotonic() - self._made_at >= _EVERY_S:
                # the samples are copies, made before the event loop counts on
                jobs = [
                    (each, self._ledgers.of[each.name], self._ledgers.of[each.name].sample())
                    for each in self._settings()
                ]
                alpha = self._ledgers.experiments.settings.alpha
                self.results = await asyncio.to_thread(lambda: [result_of(*job, alpha) for job in jobs])
                self.shadows = [shadow.result(alpha) for shadow in self._shadows]
                self._made_at = time.monotonic()
        return self.results

    def _settings(self) -> list[ExperimentSettings]:
        settings = self._ledgers.experiments.settings
        found = list(settings.running)
        if settings.holdout:
            arms = (
                ArmSettings(name=HOLDOUT, share=settings.holdout),
                ArmSettings(name="everybody-else", share=1.0 - settings.holdout),
            )
            found.append(ExperimentSettings(name=HOLDOUT, arms=arms))
        return found
