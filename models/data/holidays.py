"""Holidays: how far a moment is from those that are set, as days that recur each year or single dates."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from models.config import holiday_dates

_DAY_MS: Final = 86_400_000
_EPOCH: Final = date(1970, 1, 1).toordinal()
#: Further away than this, a holiday does not matter.
_FAR_DAYS: Final = 14.0


def days_to_and_from(now: npt.NDArray[np.int64], holidays: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Days from moments (B,) in ms to the next holiday, and since the last one, (B, 2): 0 on the day, 14 at most."""
    begins = _beginnings(holidays)
    if not len(begins):
        return np.full((len(now), 2), _FAR_DAYS)
    days = now // _DAY_MS
    after = np.searchsorted(begins, days)
    until = begins[np.minimum(after, len(begins) - 1)] - days
    since = days - begins[np.maximum(np.searchsorted(begins, days, side="right") - 1, 0)]
    both = np.stack([until, since], axis=1).astype(np.float64)
    return np.where(both < 0, _FAR_DAYS, np.minimum(both, _FAR_DAYS))


@lru_cache(maxsize=8)
def _beginnings(holidays: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """The holidays as days since 1970, ascending."""
    days = {day.toordinal() - _EPOCH for holiday in holidays for day in holiday_dates(holiday)}
    return np.array(sorted(days), dtype=np.int64)
