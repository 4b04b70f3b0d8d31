"""Exploration: now and then a place for a new item, drawn by Thompson sampling, and how probable the draw was.

Of each new item the rate at which events on it are positive has a Beta posterior out of the item statistics; a draw
from each, and the highest wins (Thompson, 1933). The propensity, the share of many draws that the item won times the
rate at which a list explores, is written into the list, so that what is learnt from it can be weighed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from serving.pipeline.query import Asked, Query
from serving.pipeline.sources import NewReleases
from streams.settings.pipeline import PipelineSettings

MayShow = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.bool_]]
_DRAWS = 200


class Exploration:
    """Draws the items to explore."""

    name = "exploration"

    def __init__(self, settings: PipelineSettings, rng: np.random.Generator) -> None:
        self._settings = settings.exploration
        self._new = NewReleases(settings)
        self._rng = rng

    def draw(self, asked: Asked, may_show: MayShow) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Per user the row to explore, -1 for most of them, and its propensity: (B,) each.

        Args:
            may_show: which pairs of a user (p,) and a row (p,) no filter removes, (p,).
        """
        query = asked.query
        drawn = np.full(len(query), -1, np.int64)
        propensity = np.ones(len(query), np.float32)
        explores = self._rng.random(len(query)) < self._settings.rate
        if not explores.any():
            return drawn, propensity
        proposed = self._new.propose(asked, self._settings.pool)
        exploring = explores[proposed.users]
        users, items = proposed.users[exploring], proposed.items[exploring]
        shown = may_show(users, items)
        users, items = users[shown], items[shown]
        rows = np.unique(items)
        rows = rows[self._likes(query, rows) < self._settings.likes_below]
        if not len(rows):
            return drawn, propensity
        offered = np.zeros((len(query), len(rows)), bool)
        places = np.minimum(np.searchsorted(rows, items), len(rows) - 1)
        told = rows[places] == items
        offered[users[told], places[told]] = True
        events, likes = self._counts(query, rows)
        draws = self._rng.beta(1.0 + likes, 1.0 + np.maximum(events - likes, 0), (_DRAWS, len(rows)))
        for place in np.flatnonzero(offered.any(axis=1)).tolist():
            winners = np.where(offered[place], draws, -1.0).argmax(axis=1)
            winner = int(winners[self._rng.integers(_DRAWS)])
            drawn[place] = rows[winner]
            propensity[place] = self._settings.rate * float((winners == winner).mean())
        return drawn, propensity

    def _likes(self, query: Query, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        slowest = len(query.popularity.config.half_lives_s)
        likes: npt.NDArray[np.float64] = query.popularity.records[rows, slowest]
        return likes

    def _counts(
        self, query: Query, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Events and positives of rows (k,) in the longest window."""
        windows = query.popularity.windows(int(query.users.now.max(initial=0)), rows)
        width = len(query.popularity.config.windows_s)
        return windows[:, width - 1], windows[:, 2 * width - 1]
