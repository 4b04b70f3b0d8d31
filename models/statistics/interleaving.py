"""Team-draft interleaving: two rankings in one list, so that each user compares them.

Radlinski, Kurup and Joachims, "How Does Clickthrough Data Reflect Retrieval Quality?", CIKM 2008. It needs some tens of
times fewer users than two groups do, for what is a question of taste between two rankings and no more (Chapelle et
al., "Large-Scale Validation and Analysis of Interleaved Search Evaluation", 2012).
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from models.statistics.effects import Estimate, mean_of

Item = TypeVar("Item", bound=Hashable)


class Draft(NamedTuple, Generic[Item]):
    """An interleaved list: its items (n,), and for each whether the second ranking put it there."""

    items: list[Item]
    second: list[bool]


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


def preference(of_first: npt.ArrayLike, of_second: npt.ArrayLike) -> Estimate:
    """How much users prefer the second ranking, in [-1, 1]: the mean of `(s - f) / (s + f)` over those who took any.

    By users, as one user's lists are not independent of each other. Where neither is preferred it is 0 on average.

    Args:
        of_first, of_second: (n,) how many of the places picked by each ranking a user took, over all lists.
    """
    first, second = np.asarray(of_first, np.float64), np.asarray(of_second, np.float64)
    took = first + second > 0
    return mean_of((second[took] - first[took]) / (second[took] + first[took]))
