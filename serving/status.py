"""What the workers tell of themselves, through Redis."""

import time

import msgspec

from streams.state import Store

PREFIX = "worker:"
#: A role that has not told its status for so long, in seconds, is taken for gone.
SILENT_S = 5.0


class WorkerStatus(msgspec.Struct):
    """What a worker tells of itself, four times a second.

    Attributes:
        applied, copies, dead_letters, lists: counts since it started.
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
    lists: int = 0
    lag: int = 0
    partitions: int = 0
    freshness_ms: list[float] = []


async def live_workers(store: Store) -> list[WorkerStatus]:
    """The workers that have told their status of late."""
    found = [
        msgspec.json.decode(raw, type=WorkerStatus)
        for role, raw in (await store.statuses()).items()
        if role.startswith(PREFIX)
    ]
    return [worker for worker in found if time.time() - worker.at < SILENT_S]
