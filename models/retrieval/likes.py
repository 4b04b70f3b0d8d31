"""Likes: which items each user of a log liked, for neighbours that follow them as they do in service."""

from __future__ import annotations

import numpy as np

from models.config import NeighboursConfig
from models.data.interactions import NO_ITEM, Interactions
from models.data.labels import POSITIVE
from models.retrieval.neighbours import Neighbours

#: Where so many likes or fewer lie between, following is quicker than counting all of them anew.
_NEAR = 5_000


class Likes:
    """Each user's first likes of items, in the order of time.

    Args:
        size: how many item rows there are.
    """

    def __init__(self, log: Interactions, size: int) -> None:
        liked = np.flatnonzero((log.label == POSITIVE) & (log.item != NO_ITEM))
        pairs = log.user[liked].astype(np.int64) * max(size, 1) + log.item[liked]
        self._rows = liked[np.sort(np.unique(pairs, return_index=True)[1])]
        self._users, self._items = log.user[self._rows], log.item[self._rows]
        self._size = size
        order = np.argsort(self._users, kind="stable")
        self._by_user = self._items[order]
        self._places = np.empty(len(order), dtype=np.int64)
        self._places[order] = np.arange(len(order))
        self._firsts = np.searchsorted(self._users[order], self._users)
        self._known: tuple[int, Neighbours] | None = None

    def between(self, start: int, stop: int) -> range:
        """The places of the likes from log row `start` to `stop`."""
        first, last = np.searchsorted(self._rows, [start, stop]).tolist()
        return range(first, last)

    def counted(self, stop: int, config: NeighboursConfig) -> Neighbours:
        """Who goes with whom as of log row `stop`, all likes counted at once."""
        known = len(self.between(0, stop))
        return Neighbours.fitted(self._users[:known], self._items[:known], self._size, config)

    def followed(self, stop: int, config: NeighboursConfig) -> Neighbours:
        """Neighbours as of log row `stop` that are to follow what comes after it."""
        at, known = self._known or (stop + 1, Neighbours.none(config))
        if at > stop or known.config != config or len(self.between(at, stop)) > _NEAR:
            at, known = self._known = stop, self.counted(stop, config)
        neighbours = known.copy()
        self.follow(neighbours, at, stop)
        return neighbours

    def follow(self, neighbours: Neighbours, start: int, stop: int) -> None:
        """Have neighbours count what was liked from log row `start` to `stop`."""
        for like in self.between(start, stop):
            place = self._places[like]
            before = self._by_user[max(self._firsts[like], place - neighbours.config.window) : place]
            neighbours.follow(int(self._items[like]), before)
