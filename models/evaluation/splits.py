"""Folds: what a protocol of evaluation lets models learn of a log, and what it asks of them then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from models.data.interactions import Interactions

Protocol = Literal["prequential", "temporal", "rolling", "loo"]
PROTOCOLS: Final[tuple[str, ...]] = get_args(Protocol)
_SPLITS: Final = 3

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """One training and what is asked of it.

    Attributes:
        start: the models know the log rows before it.
        stop: what is asked for lies before it.
        training: bool (len(log),) which rows are trained on.
        asks: int64 (A,) the rows as of which users ask, ascending.
        relevant: for each the rows of the items that they are then to be shown.
        moving: popularity moves on between the asks.
    """

    start: int
    stop: int
    training: npt.NDArray[np.bool_]
    asks: Rows
    relevant: list[npt.NDArray[np.int32]]
    moving: bool

    @property
    def begin(self) -> int:
        """The row as of which the first one asks, or `start`: what learns event by event has learnt all before it."""
        return min(self.start, int(self.asks[0])) if len(self.asks) else self.start

    def between(self, first: int, stop: int) -> Rows:
        """The rows from `first` to `stop` that are not left out: those trained on, and those met after the split."""
        rows = np.arange(first, stop)
        return rows[self.training[rows] | (rows >= self.start)]


def folds(
    protocol: Protocol, log: Interactions, targets: npt.NDArray[np.bool_], share: float, trainings: int = 1
) -> list[Fold]:
    """What the protocol asks of a log, of whose rows `targets` (len(log),) can be foretold.

    Args:
        share: of the log, the newest part, that is asked about; for `rolling` in each of three splits.
        trainings: for `prequential`, else 1: the equal parts of that share, each asked of models that know all before.
    """
    size = len(log)
    if protocol == "loo":
        last = np.full(len(log.user_ids), -1, dtype=np.int64)
        rows = np.flatnonzero(targets)
        last[log.user[rows]] = rows
        several = np.bincount(log.user[rows], minlength=len(log.user_ids)) > 1
        asks = np.sort(last[several])
        training = np.ones(size, dtype=bool)
        training[asks] = False
        return [Fold(size, size, training, asks, [log.item[[row]] for row in asks], True)]
    splits = _SPLITS if protocol == "rolling" else trainings
    share /= trainings
    made = []
    for back in range(splits, 0, -1):
        start = int(size * (1.0 - share * back))
        stop = int(size * (1.0 - share * (back - 1)))
        rows = start + np.flatnonzero(targets[start:stop])
        training = np.arange(size) < start
        if protocol == "prequential":
            made.append(Fold(start, stop, training, rows, [log.item[[row]] for row in rows], True))
            continue
        first = np.unique(log.user[rows], return_index=True)[1]
        asks = np.sort(rows[first])
        relevant = [log.item[rows[log.user[rows] == log.user[row]]] for row in asks]
        made.append(Fold(start, stop, training, asks, relevant, False))
    return made
