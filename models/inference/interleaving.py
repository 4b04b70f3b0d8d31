"""Team-draft interleaving: two rankings in one list, so that each user compares them.

Radlinski, Kurup and Joachims, "How Does Clickthrough Data Reflect Retrieval Quality?", CIKM 2008. It needs some tens of
times fewer users than two groups do, for what is a question of taste between two rankings and no more (Chapelle et
al., "Large-Scale Validation and Analysis of Interleaved Search Evaluation", 2012).
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from models.inference.effects import Estimate, mean_of

Item = TypeVar("Item", bound=Hashable)


class Draft(NamedTuple, Generic[Item]):
    """An interleaved list: its items (n,), and for each whether the second ranking put it there."""

    items: list[Item]
    second: list[bool]

    def credit(self, taken: Iterable[Item]) -> float:
        """Which ranking the taken items speak for: 1 for the second, -1 for the first, 0 for neither."""
        chosen = frozenset(taken)
        balance = sum(
            1 if second else -1 for item, second in zip(self.items, self.second, strict=True) if item in chosen
        )
        return float((balance > 0) - (balance < 0))


def team_draft(first: Sequence[Item], second: Sequence[Item], size: int, draw: random.Random) -> Draft[Item]:
    """Let the rankings pick in turns, each its best item not yet picked; in each round a coin says who goes first."""
    rankings = (iter(first), iter(second))
    items: list[Item] = []
    of_second: list[bool] = []
    picked: set[Item] = set()
    while len(items) < size:
        before = len(items)
        order = (False, True) if draw.random() < 0.5 else (True, False)
        for team in order:
            pick = next((item for item in rankings[team] if item not in picked), None)
            if pick is not None and len(items) < size:
                items.append(pick)
                of_second.append(team)
                picked.add(pick)
        if len(items) == before:
            break
    return Draft(items, of_second)


def preference(credit: npt.ArrayLike, users: npt.NDArray[np.integer]) -> Estimate:
    """How much the second ranking is preferred, in [-1, 1]: the mean over users of their lists' mean credit.

    Args:
        credit: (n,) of `Draft.credit`, lists from which nothing was taken left out.
        users: (n,) whose each is: one user's lists are not independent of each other.
    """
    _, of = np.unique(users, return_inverse=True)
    return mean_of(np.bincount(of, np.asarray(credit, np.float64)) / np.bincount(of))
