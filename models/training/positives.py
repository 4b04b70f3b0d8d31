"""Positives are what every model learns from: without one there is no training, but a count of the rows there are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from models.data.interactions import NO_ITEM, Interactions
from models.data.labels import NEGATIVE, POSITIVE, Action


class NothingToLearn(Exception):
    """A log without a positive; the message counts its rows by action and by why they are none."""


def require_positives(log: Interactions, targets: npt.NDArray[np.bool_], n_items: int) -> None:
    """Refuse a log of whose rows none is a positive.

    Args:
        targets: bool (len(log),), the positives on an item that was new to its user.
        n_items: how many items the log and the catalogue name together.

    Raises:
        NothingToLearn: there is none.
    """
    if targets.any():
        return
    if not n_items:
        raise NothingToLearn(f"no items yet: nothing to train on; {_rows(log)}")
    raise NothingToLearn(f"no positives: nothing to train on; {_rows(log)}; a model learns from items that users liked")


def _rows(log: Interactions) -> str:
    """How many rows there are of each action, and why none of them is a positive on a new item."""
    if not len(log):
        return "there are no interactions"
    label = np.where(log.item == NO_ITEM, _NO_ITEM, log.label).tolist()
    counts = Counter(zip(log.action.tolist(), label, strict=True))
    told = [f"{count:,} {Action(action).name.lower()} ({_WHY[why]})" for (action, why), count in counts.most_common()]
    return f"{len(log):,} interactions: {', '.join(told)}"


_NO_ITEM = NEGATIVE - 1
_WHY = {
    _NO_ITEM: "about no item",
    NEGATIVE: "disliked",
    0: "neither liked nor disliked",
    POSITIVE: "of an item that the user knew already",
}
