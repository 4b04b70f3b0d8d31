"""The ledger: what became of each look for a video, beside the truth of how good the list was and could have been."""

from array import array
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from streams.simulator.profiles import DAY_MS

#: How a look ended.
NOTHING, FROM_LIST, FOUND = 0, 1, 2
_BOOTSTRAPS: Final = 1_000


class Look(NamedTuple):
    """One look for a video.

    Attributes:
        visit: a number that no other visit has.
        outcome: nothing taken, taken from the list, or found without it.
        relevance: the expected relevance of the list shown, weighted by how likely each place is looked at; NaN where
            no list was looked at.
        best: the same of the best list that there could have been at that moment.
        satisfied: the video was watched to the end, or nearly.
        minutes: how long it was watched.
    """

    ts: int
    user: int
    visit: int
    outcome: int
    relevance: float
    best: float
    satisfied: bool
    minutes: float


class Ledger:
    """Every look of the people, bots left out, in the order of event time."""

    def __init__(self) -> None:
        self._columns: dict[str, Any] = {
            "ts": array("q"),
            "user": array("i"),
            "visit": array("q"),
            "outcome": array("b"),
        } | {name: array("f") for name in ("relevance", "best", "satisfied", "minutes")}

    def __len__(self) -> int:
        return len(self._columns["ts"])

    def add(self, look: Look) -> None:
        for column, value in zip(self._columns.values(), look, strict=True):
            column.append(value)

    def column(self, name: str, start: int = 0) -> npt.NDArray[Any]:
        """A column from a row on, as `Look` names it."""
        return np.array(self._columns[name][start:])

    def summary(self, start: int = 0) -> dict[str, float]:
        """The looks from a row on, in few numbers.

        `engagement`: the share of visits in which something from the list was watched to the end;
        `satisfied_per_visit`: videos watched to the end in a visit, found ones included, and `minutes_per_visit`
        watched; `taken`: the share of lists looked at that something was taken from; `relevance` of the lists, `best`
        of the best ones, and `regret`, the difference.
        """
        ts, visit, outcome, satisfied = (self.column(name, start) for name in ("ts", "visit", "outcome", "satisfied"))
        relevance, best = self.column("relevance", start), self.column("best", start)
        listed = ~np.isnan(relevance)
        visits = max(len(np.unique(visit)), 1)
        good = (satisfied > 0) & (outcome == FROM_LIST)
        return {
            "looks": float(len(ts)),
            "visits": float(len(np.unique(visit))),
            "engagement": len(np.unique(visit[good])) / visits,
            "satisfied_per_visit": float(satisfied.sum()) / visits,
            "minutes_per_visit": float(self.column("minutes", start).sum()) / visits,
            "taken": _mean(outcome[listed] == FROM_LIST),
            "relevance": _mean(relevance[listed]),
            "best": _mean(best[listed]),
            "regret": _mean((best - relevance)[listed]),
        }

    def by_period(self, start_ms: int, period_ms: int = DAY_MS) -> list[dict[str, float]]:
        """The summary of each period of event time; `day` is when it begins, in days after the start."""
        edges = np.arange(start_ms, max(self._columns["ts"], default=start_ms) + 1, period_ms)
        return [
            {"day": (int(edge) - start_ms) / DAY_MS} | self.between(int(edge), int(edge) + period_ms) for edge in edges
        ]

    def between(self, start_ms: int, stop_ms: int) -> dict[str, float]:
        """The summary of the looks in a span of event time."""
        return self._part(start_ms, stop_ms).summary()

    def engagement_by_user(self, start_ms: int, stop_ms: int, users: int) -> npt.NDArray[np.float64]:
        """Of each user (users, 2) in a span of event time: the visits, and those engaged as `summary` says."""
        part = self._part(start_ms, stop_ms)
        user, visit = part.column("user"), part.column("visit")
        good = (part.column("satisfied") > 0) & (part.column("outcome") == FROM_LIST)
        counts = np.zeros((users, 2))
        for index, rows in enumerate((slice(None), good)):
            _, first = np.unique(visit[rows], return_index=True)
            counts[:, index] = np.bincount(user[rows][first], minlength=users)
        return counts

    def _part(self, start_ms: int, stop_ms: int) -> "Ledger":
        first, last = np.searchsorted(self.column("ts"), [start_ms, stop_ms])
        part = Ledger()
        part._columns = {name: column[first:last] for name, column in self._columns.items()}
        return part


def gap(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64], seed: int = 1) -> tuple[float, float, float]:
    """The gap in engagement between two worlds of the same people, with the 95 % bootstrap interval over people.

    Args:
        ours, theirs: (users, 2) visits and engaged visits of each user.
    """

    def engagement(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(counts[..., 1] / np.maximum(counts[..., 0], 1.0))

    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(ours), np.full(len(ours), 1.0 / len(ours)), _BOOTSTRAPS)
    drawn = engagement(times @ ours) - engagement(times @ theirs)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(engagement(ours.sum(axis=0)) - engagement(theirs.sum(axis=0))), float(low), float(high)


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else 0.0
