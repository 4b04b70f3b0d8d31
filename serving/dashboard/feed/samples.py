"""How the loop stood, twice a second: one sample, and a bounded history of them that covers all the time."""

from typing import Final, Generic, TypeVar

from msgspec import Struct

_KEPT: Final = 480

S = TypeVar("S")


class Sample(Struct, omit_defaults=True):
    """The loop at one moment; rates are per second, `None` is what is not known.

    Attributes:
        at: clock time in ms.
        freshness: p50, p95 and p99 in ms, of the slowest worker.
        lag: events that the workers have not acknowledged yet.
        model_age_s: since the model in service was made.
        recall, trending: prequential recall@10 over the newest scored events.
        engaged, clicked: engagement and click-through over the newest `online.recent_s` of event time.
        away: which server does not answer, in words; empty when all do.
    """

    at: int
    events: float | None = None
    dead: float | None = None
    lists: float | None = None
    lag: int | None = None
    freshness: list[float] | None = None
    workers: int = 0
    model: str = "none"
    model_age_s: float | None = None
    index: str = ""
    index_recall: float | None = None
    items: int = 0
    trainer: str = ""
    training: float | None = None
    logged: int | None = None
    due: int | None = None
    recall: float | None = None
    trending: float | None = None
    scored: int = 0
    engaged: float | None = None
    clicked: float | None = None
    totals: dict[str, int] = {}
    away: str = ""


class History(Generic[S]):
    """Samples spread evenly over all the time since the start.

    When it is full every other one is dropped and from then on half as many are taken, so it never grows and always
    reaches back to the start.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._stride = 1
        self._count = 0
        self.samples: list[S] = []

    def add(self, sample: S) -> None:
        """Take in the next sample."""
        if self._count % self._stride == 0:
            self.samples.append(sample)
        self._count += 1
        if len(self.samples) >= self._kept:
            self.samples = self.samples[::2]
            self._stride *= 2
