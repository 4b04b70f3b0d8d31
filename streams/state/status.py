"""What the roles tell of themselves, through Redis."""

import time

import msgspec

from streams.state.store import Store

#: The trainer's name among the roles, and how the workers' names begin.
TRAINER = "trainer"
WORKER = "worker:"
#: A role that has not told its status for so long, in seconds, is taken for gone.
SILENT_S = 5.0


class Due(msgspec.Struct):
    """When the next training is due: at so many events logged, or at event time `ts` (ms) with `least` logged."""

    events: int
    ts: float | None
    least: int

    def is_due(self, logged: int, newest_ts: int) -> bool:
        by_time = self.ts is not None and newest_ts >= self.ts and logged >= self.least
        return by_time or logged >= self.events


class TrainerStatus(msgspec.Struct):
    """What the trainer tells of itself in Redis.

    Attributes:
        positions: per `log:partition` the offset that the sample log wants next.
        logged: events in the sample log, copies included.
        busy: a training runs or is about to; `stage` and `done` tell how far it is.
        trainings: how many have ended since the trainer started.
        version: the artefact in service.
        no_model: why the last training made no model, empty when it made one.
    """

    positions: dict[str, int]
    logged: int
    newest_ts: int
    due: Due
    busy: bool
    stage: str
    done: float
    trainings: int
    version: str | None
    at: float
    no_model: str = ""


class WorkerStatus(msgspec.Struct):
    """What a worker tells of itself, four times a second.

    Attributes:
        applied, copies, dead_letters, lists: counts since it started.
        dead_letters_unwritten: those of the dead letters that the broker did not take; the log has each one's reason.
        lag: records of its partitions that are not acknowledged yet.
        freshness_ms: p50, p95 and p99 of its newest lists, from their event's arrival in Kafka; empty before the first.
    """

    name: str
    started_at: float
    at: float = 0.0
    model: str = "none"
    applied: int = 0
    copies: int = 0
    dead_letters: int = 0
    dead_letters_unwritten: int = 0
    lists: int = 0
    lag: int = 0
    partitions: int = 0
    freshness_ms: list[float] = []


async def live_workers(store: Store) -> list[WorkerStatus]:
    """The workers that have told their status of late."""
    found = [
        msgspec.json.decode(raw, type=WorkerStatus)
        for role, raw in (await store.statuses()).items()
        if role.startswith(WORKER)
    ]
    return [worker for worker in found if time.time() - worker.at < SILENT_S]


async def trainer_status(store: Store) -> TrainerStatus | None:
    """What the trainer told last, however long ago."""
    raw = (await store.statuses()).get(TRAINER)
    return msgspec.json.decode(raw, type=TrainerStatus) if raw else None
