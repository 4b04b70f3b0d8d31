"""What the trainer and its training process say to each other: a job in, progress and a result or a refusal out."""

from typing import Literal

import msgspec

Kind = Literal["retrain", "fine-tune"]


class Job(msgspec.Struct):
    """What to train: `incumbent` is the folder of the artefact in service, or None before the first."""

    kind: Kind
    version: str
    out: str
    incumbent: str | None
    segments: list[str]
    positions: dict[str, int]


class Progress(msgspec.Struct, tag="progress"):
    """How far the training is: `done` in [0, 1] of all its work."""

    stage: str
    done: float


class Result(msgspec.Struct, tag="result"):
    """How it ended: `trained_through` is the event time, in ms, of the newest event read; `losses` of each epoch."""

    kind: Kind
    metrics: dict[str, float]
    promoted: bool
    why: str
    events: int
    trained_through: int
    losses: dict[str, list[float]] = {}


class Refusal(msgspec.Struct, tag="refusal"):
    """There was nothing to learn from, and why."""

    why: str


Answer = Progress | Result | Refusal
