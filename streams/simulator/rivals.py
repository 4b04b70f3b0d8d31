"""Rivals: what other lists would have been worth to the very people who looked at the system's, by the truth.

What people find by themselves does not tell whose lists are best where they live on one of them: what is good on that
list they take from it, and what is left to be found is what it lacks. The truth tells, as it knows what each would
have made of any list.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from models.metrics.retrieval_metrics import bootstrap_interval
from streams.simulator.world import World

SYSTEM: Final = "system"
#: One look in so many is compared.
_EVERY: Final = 4


class Rivals:
    """The looks compared so far."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._looks = 0
        self._users = array("i")
        self._worth: dict[str, array[float]] = {}

    def count_look(self) -> bool:
        """Count a look at a list; whether it is one to be compared."""
        self._looks += 1
        return self._looks % _EVERY == 0

    def compare(self, looker: str, user: int, lists: Mapping[str, Sequence[int]]) -> None:
        """Weigh lists of videos, by number, for the person who looks next; what they are named is the same each time.

        Args:
            user: the person's number.
        """
        self._users.append(user)
        for name, value in zip(lists, self._world.worth(looker, list(lists.values())), strict=True):
            self._worth.setdefault(name, array("d")).append(value)

    def report(self) -> dict[str, Any]:
        """`looks` compared, and each rival's `worth`; of the others how far they are `behind` the system, with 95 %."""
        users, system = np.array(self._users), np.array(self._worth.get(SYSTEM, ()))
        told: dict[str, Any] = {"looks": len(users)}
        for name, values in self._worth.items():
            told[name] = {"worth": round(float(np.mean(values)), 4)}
            if name != SYSTEM:
                behind = system - np.array(values)
                low, high = bootstrap_interval(behind, users)
                told[name]["behind"] = {
                    name: round(float(value), 4)
                    for name, value in (("mean", behind.mean()), ("low", low), ("high", high))
                }
        return told
