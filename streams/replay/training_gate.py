"""Waiting for the trainings that are due, so that what is measured does not depend on how fast the machine trains."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from streams.replay.probe import ANSWER_PATIENCE_S, NoAnswer, Wire
from streams.state.status import SILENT_S, TrainerStatus

_GONE_S = 60.0


class Trainings:
    """Knows from what was sent when a training is due, and waits until it is done and its model serves.

    Attributes:
        waited_s: clock time spent waiting.
    """

    def __init__(self, wire: Wire, *, in_step: bool, tell: Callable[[str], None]) -> None:
        """Nothing is waited for unless `in_step`; `tell` is told what is waited for, and "" when it is over."""
        self._wire = wire
        self._in_step = in_step
        self._tell = tell
        self._status: TrainerStatus | None = None
        self._logged_before = 0
        self.waited_s = 0.0

    @property
    def version(self) -> str:
        """The model in service when the trainer was last looked at."""
        return self._status.version or "" if self._status else ""

    async def meet(self, sent: int = 0) -> None:
        """See how the trainer stands once it has taken in the events `sent`, by the count that `wait` is told.

        In step it is waited for, as it may still be starting.

        Raises:
            NoAnswer: in step, and no trainer runs.
        """
        deadline = time.monotonic() + ANSWER_PATIENCE_S
        self._tell("the trainer")
        while True:
            self._status = await self._wire.trainer()
            if not self._in_step or (self._status is not None and time.time() - self._status.at < SILENT_S):
                break
            if time.monotonic() > deadline:
                raise NoAnswer("no trainer runs: start `millstream trainer`, or do not play in step with it")
            await asyncio.sleep(0.1)
        self._logged_before = self._status.logged - sent if self._status else 0
        self._tell("")

    async def wait(self, sent: int, newest_ts: int, drain: Callable[[], Awaitable[None]]) -> None:
        """When a training is due by the events sent, wait until it is done and its model serves.

        Args:
            sent: events sent, by the count that `meet` was told; `newest_ts` is the event time, in ms, of the newest.
            drain: called before waiting, so that nothing sent is still under way.

        Raises:
            NoAnswer: the trainer has gone, or no worker takes its model.
        """
        due = self._status.due if self._status and self._in_step else None
        logged = self._logged_before + sent
        if due is None or not due.is_due(logged, newest_ts):
            return
        started = time.monotonic()
        await drain()
        while True:
            status = await self._wire.trainer()
            if status is None or time.time() - status.at > _GONE_S:
                raise NoAnswer("the trainer has gone silent: `millstream doctor` tells more")
            self._tell(f"training: {status.stage} {status.done:.0%}" if status.busy else "the trainer")
            if status.due != due and not status.busy and status.logged >= logged:  # a training moves what is due next
                break
            await asyncio.sleep(0.1)
        self._status = status
        await self._in_service(status.version)
        self.waited_s += time.monotonic() - started
        self._tell("")

    async def _in_service(self, version: str | None) -> None:
        deadline = time.monotonic() + ANSWER_PATIENCE_S
        while version and await self._wire.serving() != {version}:
            if time.monotonic() > deadline:
                raise NoAnswer(f"no worker took model {version} into service within {ANSWER_PATIENCE_S:.0f} s")
            await asyncio.sleep(0.1)
