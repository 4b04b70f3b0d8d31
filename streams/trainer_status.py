"""What the trainer tells of itself, through Redis."""

import msgspec

#: The name it goes by among the roles.
STATUS = "trainer"


class Due(msgspec.Struct):
    """When the next training is due: at so many events logged, or at this event time (ms) with `least` events logged."""

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
