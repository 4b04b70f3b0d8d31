"""Labels: what one event says of a user's liking, as an action, a strength and a label.

The thresholds follow the field's practice for implicit feedback: a watch counts by the share of the
item that was watched, and what lies between the thresholds is kept as an action but left out of the
labels as noise.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt


class Action(IntEnum):
    """An event's kind as the models see it. The numbers are stored in Redis and Parquet: never reuse one."""

    IMPRESSION = 0
    CLICK = 1
    WATCH = 2
    LIKE = 3
    DISLIKE = 4
    RATING = 5
    SAVE = 6
    SHARE = 7
    FOLLOW = 8
    HIDE = 9
    SEARCH = 10
    VISIT = 11


N_ACTIONS: Final = len(Action)

#: Actions on an item that mean the user has dealt with it: it is dropped from later lists.
CONSUMING: Final = frozenset(Action) - {Action.IMPRESSION, Action.FOLLOW, Action.SEARCH, Action.VISIT}

POSITIVE: Final = 1
NEUTRAL: Final = 0
NEGATIVE: Final = -1


class Grade(NamedTuple):
    """What one event says: the action, how strongly in [0, 1], the label in {-1, 0, 1}, and an example weight."""

    action: Action
    strength: float
    label: int
    weight: float


@dataclass(frozen=True)
class LabelRules:
    """Where positive and negative begin. Ratios are shares of the item's duration or of the rating scale."""

    watch_positive: float = 0.8
    watch_negative: float = 0.1
    rating_positive: float = 0.8
    rating_negative: float = 0.4
    rating_scale: float = 5.0
    click_is_positive: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.watch_negative < self.watch_positive <= 1:
            raise ValueError("labels: need 0 <= watch_negative < watch_positive <= 1")
        if not 0 <= self.rating_negative < self.rating_positive <= 1:
            raise ValueError("labels: need 0 <= rating_negative < rating_positive <= 1")
        if not self.rating_scale > 0:
            raise ValueError("labels: rating_scale must be above 0")


_EXPLICIT: Final = {
    Action.LIKE: (1.0, POSITIVE),
    Action.SAVE: (1.0, POSITIVE),
    Action.SHARE: (1.0, POSITIVE),
    Action.DISLIKE: (0.0, NEGATIVE),
    Action.HIDE: (0.0, NEGATIVE),
    Action.IMPRESSION: (0.0, NEUTRAL),
    Action.FOLLOW: (0.0, NEUTRAL),
    Action.SEARCH: (0.0, NEUTRAL),
    Action.VISIT: (0.0, NEUTRAL),
}

#: A watch counts no more than this.
_MAX_MINUTES: Final = 120.0


def grade(
    action: Action,
    rules: LabelRules,
    *,
    watch_s: float | None = None,
    duration_s: float | None = None,
    value: float | None = None,
    scale: float | None = None,
) -> Grade:
    """Grade one event.

    A watch of unknown length (`duration_s` absent or 0) is neutral: its share cannot be told. The weight is
    1 plus the minutes watched on a square-root scale, so a film counts for more than a clip, not 60 times more.

    Args:
        watch_s, duration_s: seconds watched, and the item's length in seconds.
        value, scale: a rating and the top of its scale (default `rules.rating_scale`).
    """
    weight = 1.0
    if watch_s is not None and watch_s > 0:
        weight += (min(watch_s / 60.0, _MAX_MINUTES) / 10.0) ** 0.5
    if action is Action.WATCH:
        if not duration_s or watch_s is None:
            return Grade(action, 0.5, NEUTRAL, weight)
        share = min(watch_s / duration_s, 1.0)
        return Grade(action, share, _label(share, rules.watch_positive, rules.watch_negative, inclusive=False), weight)
    if action is Action.RATING:
        share = min(max((value or 0.0) / (scale or rules.rating_scale), 0.0), 1.0)
        return Grade(action, share, _label(share, rules.rating_positive, rules.rating_negative, inclusive=True), weight)
    if action is Action.CLICK:
        return Grade(action, 0.5, POSITIVE if rules.click_is_positive else NEUTRAL, weight)
    strength, label = _EXPLICIT[action]
    return Grade(action, strength, label, weight)


def minutes_of(weights: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """The minutes watched (k,) behind the weights of examples (k,), at most 120; nan where none are known of."""
    minutes = 10.0 * (np.asarray(weights, dtype=np.float64) - 1.0) ** 2
    return np.where(np.asarray(weights) > 1.0, minutes, np.nan).astype(np.float32)


def _label(share: float, positive: float, negative: float, *, inclusive: bool) -> int:
    if share >= positive:
        return POSITIVE
    if share < negative or (inclusive and share == negative):
        return NEGATIVE
    return NEUTRAL
