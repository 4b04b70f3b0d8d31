"""Moments: the time of day, the day of the week and the season of an event, as points on circles."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

HOURS: Final = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos", "weekend")
SEASON: Final = ("season_sin", "season_cos")
CALENDAR: Final = (*HOURS, *SEASON)

_DAY_MS: Final = 86_400_000.0
_YEAR_DAYS: Final = 365.2425


def calendar(now: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """What moments (B,) in ms are, by `CALENDAR`: float32 (B, 7), in UTC."""
    days = now / _DAY_MS
    hour, weekday = days % 1.0, (days + 3.0) % 7.0  # the epoch began on a Thursday
    season = days % _YEAR_DAYS / _YEAR_DAYS
    angles = 2.0 * np.pi * np.stack([hour, weekday / 7.0, season])
    sines, cosines = np.sin(angles), np.cos(angles)
    columns = [sines[0], cosines[0], sines[1], cosines[1], weekday >= 5.0, sines[2], cosines[2]]
    return np.stack(columns, axis=1).astype(np.float32)
