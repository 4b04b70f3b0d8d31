"""Replay: a log played through the running system in event time, each list scored on what the user did next.

In step, an event that will be scored waits until the list that answers its user's last event is out, and the whole
replay waits for a training that is due: so the score does not depend on the machine's speed. A session's start is
announced as an application would: with the user's profile when it is the first, with a `visit` event otherwise. (What
is not scored has no need to wait, nor its session to be announced: nobody looks at the list before it.)
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from models.data.labels import CONSUMING, POSITIVE
from streams.contract.events import BadRecord, Event, decode_event, encode
from streams.datasets.dataset import Dataset, LoggedEvent
from streams.replay.probe import ANSWER_PATIENCE_S, NoAnswer, Wire
from streams.replay.scoring import PrequentialScore
from streams.replay.training_gate import Trainings
from streams.settings.settings import Settings
from streams.state.status import live_workers

log = logging.getLogger(__name__)

SESSION_GAP_MS = 30 * 60 * 1000
#: How many events ahead a session's start is announced, so that its list is there when its first event comes.
LOOKAHEAD = 64
#: Users who may have an unanswered event at once.
IN_FLIGHT = 256
#: The most events held back to be sent together; one that is waited for sends them all at once.
TOGETHER = 64


@dataclass
class Progress:
    """How far a replay is, for those who watch it."""

    events: int = 0
    lists: int = 0
    model: str = ""
    waiting_for: str = ""
    recall: float = 0.0
    trending: float = 0.0


@dataclass
class Replay:
    """One run over a data set.

    Attributes:
        speed: event time per clock time, or None for as fast as the system goes.
        limit: the most events sent.
        in_step: wait as the module says; otherwise send flat out.
        fault: tells why the system cannot go on, once it cannot.
    """

    settings: Settings
    dataset: Dataset
    speed: float | None = None
    limit: int | None = None
    in_step: bool = True
    on_progress: Callable[[Progress], None] = lambda _: None
    fault: Callable[[], str | None] = lambda: None
    progress: Progress = field(default_factory=Progress)
    stopping: bool = field(default=False, init=False)

    def stop(self) -> None:
        """Read no further: what was sent is settled and reported."""
        self.stopping = True

    async def run(self) -> dict[str, Any]:
        """Play the log; returns the report.

        Raises:
            NoAnswer: a part of the system does not answer.
        """
        async with Wire.open(self.settings) as wire:
            run = _Run(self, wire)
            await run.load_catalogue()
            before = await wire.store.totals()
            started = time.monotonic()
            await run.play()
            seconds = time.monotonic() - started
            totals = await run.settle(before)
            await asyncio.sleep(0.5)  # the announcement of the last training may be on its way
            return run.report(totals, seconds)


@dataclass
class _Planned:
    logged: LoggedEvent
    event: Event | None
    announced: "asyncio.Future[None] | None"


class _Step(NamedTuple):
    user: int
    item: int
    positive: bool
    will_be_scored: bool


class _Run:
    """What one replay knows on its way."""

    def __init__(self, replay: Replay, wire: Wire) -> None:
        self._replay = replay
        self._settings = replay.settings
        self._wire = wire
        self._score = PrequentialScore()
        self._users: dict[str, int] = {}
        self._profiles: dict[str, bytes] = {}
        self._items: dict[str, int] = {}
        self._outstanding: dict[str, asyncio.Future[None]] = {}
        self._last_seen: dict[str, int] = {}
        self._sent = 0
        self._usable = 0
        self._visits = 0
        self._newest_ts = 0
        self._trainings = Trainings(wire, in_step=replay.in_step, tell=lambda what: self._tell(waiting_for=what))

    async def load_catalogue(self) -> None:
        """Send the item records and wait until they are kept; hold the profiles back for their users' first session."""
        wire = self._wire
        records = {item.item_id: encode(item) for item in self._replay.dataset.items()}
        self._tell(waiting_for=f"the catalogue ({len(records):,} items)")
        for item_id, raw in records.items():
            await wire.producer.send(wire.names.items, key=item_id.encode(), value=raw)
        await wire.producer.flush()
        deadline = time.monotonic() + ANSWER_PATIENCE_S
        while await wire.store.count_described() < len(records):
            if time.monotonic() > deadline:
                raise NoAnswer("the catalogue was not taken in: is a worker running? `millstream doctor` tells")
            await asyncio.sleep(0.1)
        self._profiles = {user.user_id: encode(user) for user in self._replay.dataset.users()}
        await self._trainings.meet()

    async def play(self) -> None:
        """Send every event in the order of event time."""
        planned: deque[_Planned] = deque()
        pace = _Pace(self._replay.speed)
        for logged in self._events():
            planned.append(await self._plan(logged))
            if len(planned) > LOOKAHEAD:
                await self._perform(planned.popleft(), pace)
        while planned:
            await self._perform(planned.popleft(), pace)
        await self._drain()

    def _events(self) -> Iterator[LoggedEvent]:
        for count, logged in enumerate(self._replay.dataset.events()):
            over = self._replay.limit is not None and count >= self._replay.limit
            if over or self._replay.stopping:
                return
            yield logged

    async def _plan(self, logged: LoggedEvent) -> _Planned:
        """Decode an event, and announce its session when it is the first of one."""
        try:
            event = decode_event(logged.raw, max_bytes=self._settings.ingest.max_event_bytes)
        except BadRecord:
            return _Planned(logged, None, None)
        user = event.user_id
        last = self._last_seen.get(user)
        self._last_seen[user] = event.ts
        announced = None
        if last is None and user in self._profiles:
            announced = self._wire.hold_profile(user, self._profiles.pop(user))
        elif (last is None or event.ts - last > SESSION_GAP_MS) and self._may_be_scored(event):
            visit = Event(type="visit", user_id=user, ts=event.ts, event_id=f"visit {event.event_id}")
            await self._wait_for_training()
            announced = self._wire.hold_event(encode(visit), user, visit.event_id)
            self._visits += 1
            self._count(event.ts)
        return _Planned(logged, event, announced if self._replay.in_step else None)

    async def _perform(self, planned: _Planned, pace: "_Pace") -> None:
        """Send an event once all that comes before it for its user is answered, scoring the user's list first."""
        logged, event = planned.logged, planned.event
        await pace.wait(logged.ts)
        if event is None:
            self._wire.hold_event(logged.raw, logged.user_id, None)
            self._sent += 1
            return
        step = self._step(event)
        if self._replay.in_step:
            if step is not None and step.will_be_scored:
                await self._answer_to(planned.announced, event)
                await self._answer_to(self._outstanding.pop(event.user_id, None), event)
            if self._wire.awaits(event.user_id, event.event_id):
                # a copy: sent now, it could not be told whether a list answers it or its original
                await self._answer_to(self._outstanding.pop(event.user_id, None), event)
            while len(self._outstanding) >= IN_FLIGHT:
                user = next(iter(self._outstanding))
                await self._answer_to(self._outstanding.pop(user), event)
            await self._wait_for_training()
        if step is not None:
            self._learn_and_score(event, step)
        awaited = event.event_id if event.calls_for_list else None
        answer = self._wire.hold_event(logged.raw, event.user_id, awaited)
        self._sent += 1
        self._count(event.ts)
        if self._replay.in_step and answer is not None:
            self._outstanding[event.user_id] = answer
        if self._wire.n_held >= (TOGETHER if self._replay.speed is None else 1):
            await self._wire.release()
            self._tell()
            await asyncio.sleep(0)

    def _count(self, ts: int) -> None:
        self._usable += 1
        self._newest_ts = max(self._newest_ts, ts)

    def _may_be_scored(self, event: Event) -> bool:
        step = self._step(event)
        return step is not None and step.will_be_scored

    def _step(self, event: Event) -> "_Step | None":
        """The event as the score sees it; None for one that neither scores nor teaches."""
        graded = event.grade(self._settings.labels)
        if event.item_id is None or graded.action not in CONSUMING:
            return None
        user, item = self._users.setdefault(event.user_id, len(self._users)), self._item(event.item_id)
        positive = graded.label == POSITIVE
        scored = self._score.will_score(event_id=event.event_id or "", user=user, item=item, positive=positive)
        return _Step(user, item, positive, scored)

    def _learn_and_score(self, event: Event, step: "_Step") -> None:
        published = self._wire.lists.get(event.user_id)
        self._score.add(
            event_id=event.event_id or "",
            user=step.user,
            item=step.item,
            ts=event.ts,
            positive=step.positive,
            listed=None if published is None else [self._item(place.item_id) for place in published.items],
        )

    def _item(self, item_id: str) -> int:
        return self._items.setdefault(item_id, len(self._items))

    async def _wait_for_training(self) -> None:
        await self._trainings.wait(self._usable, self._newest_ts, self._drain)

    async def _drain(self) -> None:
        await self._wire.release()
        for user in list(self._outstanding):
            await self._answer_to(self._outstanding.pop(user), None)

    async def _answer_to(self, answer: "asyncio.Future[None] | None", event: Event | None) -> None:
        if answer is not None and not answer.done():
            to = f"what came before event {event.event_id} of user {event.user_id}" if event else "the last events"
            await self._wire.answered(answer, self._replay.fault, to)

    async def settle(self, before: dict[str, int]) -> dict[str, int]:
        """Wait until every event sent is accounted for, or nothing moves for a while; returns what was counted."""
        patience = 30.0
        moved = time.monotonic()
        counted: dict[str, int] = {}
        while True:
            now = await self._wire.store.totals()
            latest = {name: now.get(name, 0) - before.get(name, 0) for name in ("applied", "copies", "dead_letters")}
            if sum(latest.values()) >= self._sent + self._visits:
                if not self._replay.in_step:
                    await self._lists_out(patience)
                await self._letters_in(latest["dead_letters"])
                return latest
            if latest != counted:
                counted, moved = latest, time.monotonic()
            elif time.monotonic() - moved > patience:
                return latest
            self._tell(waiting_for=f"{self._sent + self._visits - sum(latest.values()):,} events to be applied")
            await asyncio.sleep(0.1)

    async def _lists_out(self, patience: float) -> None:
        """Wait until workers, asked from now on, have acknowledged all: by then the lists of all events are out."""
        since = time.time()
        while time.time() - since < patience:
            workers = await live_workers(self._wire.store)
            if workers and all(worker.at > since and not worker.lag for worker in workers):
                return
            await asyncio.sleep(0.1)

    async def _letters_in(self, wanted: int, patience: float = 5.0) -> None:
        """Wait until the dead letters that were counted have come in, so that their reasons can be reported."""
        since = time.monotonic()
        while len(self._wire.dead) < wanted and time.monotonic() - since < patience:
            await asyncio.sleep(0.05)

    def report(self, totals: dict[str, int], seconds: float) -> dict[str, Any]:
        """What came of it; `events_lost` is what nothing accounts for."""
        wire = self._wire
        applied = totals["applied"] - self._visits
        accounted = applied + totals["copies"] + totals["dead_letters"]
        scores = self._score.report()
        return {
            "dataset": self._replay.dataset.name,
            "in_step": self._replay.in_step,
            "stopped_early": self._replay.stopping,
            "events_read": self._sent,
            "events_applied": applied,
            "events_duplicate": totals["copies"],
            "dead_letters": totals["dead_letters"],
            "dead_letter_reasons": dict(wire.refusals.reasons.most_common()),
            "events_lost": self._sent - accounted,
            "visits_announced": self._visits,
            "lists_published": wire.n_lists,
            **scores,
            "freshness_ms": _percentiles(wire.freshness_ms),
            "events_per_s": round(self._sent / seconds, 1),
            "seconds": round(seconds, 1),
            "seconds_waited_for_training": round(self._trainings.waited_s, 1),
            "model_versions": [
                {name: getattr(model, name) for name in ("version", "kind", "promoted", "why", "events", "metrics")}
                for model in wire.models
            ],
        }

    def _tell(self, waiting_for: str | None = None) -> None:
        progress = self._replay.progress
        progress.events = self._sent
        progress.lists = self._wire.n_lists
        progress.model = self._trainings.version
        progress.recall, progress.trending = self._score.so_far()
        if waiting_for is not None:
            progress.waiting_for = waiting_for
        self._replay.on_progress(progress)


class _Pace:
    """Holds events back to `speed` times the log's own pace."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._origin: tuple[float, int] | None = None

    async def wait(self, ts: int) -> None:
        if self._speed is None:
            return
        if self._origin is None:
            self._origin = (time.monotonic(), ts)
        began, first = self._origin
        ahead = (ts - first) / 1000.0 / self._speed - (time.monotonic() - began)
        if ahead > 0:
            await asyncio.sleep(ahead)


def _percentiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {"p50": round(float(p50), 1), "p95": round(float(p95), 1), "p99": round(float(p99), 1)}
