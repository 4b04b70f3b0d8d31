"""Neighbours: which items the same users liked, as each item's nearest few; the memory beside the networks.

Where users are few, counting together what was liked together beats what a network can learn of it; the blend finds
out which of them to trust. The similarity is the cosine of co-occurrence (Sarwar et al., 2001), damped as in
`models.evaluation.classics.ItemItem`: two items that one user alone ever liked must not crowd out everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.config import NeighboursConfig
from models.data.users import UserBatch
from models.retrieval.similarities import Similarities

Floats = npt.NDArray[np.float32]
_MAX_PAIRS = 20_000_000
#: Added to the summed similarities before the logarithm.
FLOOR: Final = np.float32(0.2)


class Neighbours:
    """Each item's nearest, for rows 0 … n - 1; they follow what is liked after the training.

    Counts are kept, not similarities: each like of an item changes its similarity to all others.

    Attributes:
        items: int32 (n, k) rows, padded with -1.
        counts: float32 (n, k), how often they were liked together, 0 where padded.
        likes: float32 (n,), how many likes of each were counted.
    """

    def __init__(self, items: npt.NDArray[np.int32], counts: Floats, likes: Floats, config: NeighboursConfig) -> None:
        self.items = items
        self.counts = counts
        self.likes = likes
        self.config = config
        self._window = _window(int(likes.sum()), config)
        self._shrinking = _shrinking(likes, config)

    @classmethod
    def none(cls, config: NeighboursConfig) -> Neighbours:
        """Before anything was liked."""
        nobody = np.zeros(0, np.int32)
        return cls.fitted(nobody, nobody, 0, config)

    @classmethod
    def fitted(
        cls, users: npt.NDArray[np.integer], items: npt.NDArray[np.integer], size: int, config: NeighboursConfig
    ) -> Neighbours:
        """Count what was liked within `config.window` likes of the same user.

        Args:
            users, items: (m,) the likes in the order of time, each item of a user once.
            size: how many item rows there are.
        """
        order = np.argsort(users, kind="stable")
        users, items = users[order], items[order].astype(np.int64)
        keys = []
        for apart in range(1, _window(len(items), config) + 1):
            same = users[apart:] == users[:-apart]
            one, other = items[:-apart][same], items[apart:][same]
            keys.append(np.minimum(one, other) * size + np.maximum(one, other))
        pairs, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *keys]), return_counts=True)
        one, other = np.divmod(pairs, max(size, 1))
        degrees = np.bincount(items, minlength=size).astype(np.float32)
        source, target = np.concatenate([one, other]), np.concatenate([other, one])
        counts = np.concatenate([counts, counts]).astype(np.float32)
        ranked = np.lexsort((target, -counts * _shrinking(degrees, config)[target], source))
        source = source[ranked]
        places = np.arange(len(source)) - np.searchsorted(source, source)
        kept = ranked[places < config.size]
        made = cls(
            np.full((size, config.size), -1, np.int32), np.zeros((size, config.size), np.float32), degrees, config
        )
        at = (source[places < config.size], places[places < config.size])
        made.items[at] = target[kept]
        made.counts[at] = counts[kept]
        return made

    def follow(self, item: int, before: npt.NDArray[np.integer]) -> None:
        """Count a like of an item by a user who liked others `before` it, (m,) rows, oldest first, each once.

        Where an item's row is full, what is least like it gives way to what is more like it.
        """
        self._make_room(max(item, int(before.max(initial=0))) + 1)
        self.likes[item] += 1
        self._shrinking[item] = 1.0 / np.sqrt(self.likes[item] + self.config.damping)
        before = before[-self._window :]
        if not len(before):
            return
        self._count(item, before)
        width = self.items.shape[1]
        cells = np.flatnonzero(self.items.take(before, axis=0) == item)
        held = cells // width
        self.counts[before[held], cells - held * width] += 1.0
        lacking = np.ones(len(before), dtype=bool)
        lacking[held] = False
        rows = before[lacking]
        if len(rows):
            alike = self.counts.take(rows, axis=0) * self._shrinking.take(self.items.take(rows, axis=0))
            weakest = alike.argmin(axis=1)
            takes = alike[np.arange(len(rows)), weakest] <= self._shrinking[item]
            rows, weakest = rows[takes], weakest[takes]
            self.items[rows, weakest] = item
            self.counts[rows, weakest] = 1.0

    def _count(self, item: int, others: npt.NDArray[np.integer]) -> None:
        """Count others (m,) into the row of one."""
        items, counts = self.items[item], self.counts[item]
        cells = np.flatnonzero(others[:, None] == items)
        held = cells // len(items)
        counts[cells - held * len(items)] += 1.0
        lacking = np.ones(len(others), dtype=bool)
        lacking[held] = False
        fresh = others[lacking]
        if len(fresh):
            alike = counts * self._shrinking.take(items)
            weakest = alike.argsort(kind="stable")[: len(fresh)]
            fresh = fresh[(-self._shrinking.take(fresh)).argsort(kind="stable")][: len(weakest)]
            takes = alike[weakest] <= self._shrinking.take(fresh)
            items[weakest[takes]] = fresh[takes]
            counts[weakest[takes]] = 1.0

    def copy(self) -> Neighbours:
        """Neighbours that follow on their own from here."""
        return Neighbours(self.items.copy(), self.counts.copy(), self.likes.copy(), self.config)

    def _make_room(self, size: int) -> None:
        known = len(self.items)
        if size > known:
            more = max(size, known + known // 8) - known
            self.items = np.concatenate([self.items, np.full((more, self.config.size), -1, np.int32)])
            self.counts = np.concatenate([self.counts, np.zeros((more, self.config.size), np.float32)])
            self.likes = np.concatenate([self.likes, np.zeros(more, np.float32)])
            self._shrinking = _shrinking(self.likes, self.config)

    def near(self, users: UserBatch, size: int) -> Similarities:
        """For each user and each of `size` rows the similarities summed over what the user liked last."""
        config = self.config
        recent = users.items[:, -config.recent :]
        liked = (recent >= 0) & (recent < len(self.items)) & (users.strengths[:, -config.recent :] >= config.liked)
        of, places = np.nonzero(liked)
        rows = recent[of, places]
        near = self.items[rows]
        return Similarities.summed(of, near, self.similarities(rows), len(users), size)

    def nearest(self, row: int) -> tuple[npt.NDArray[np.int32], Floats]:
        """The items (r,) most like one, the nearest first, and how like it they are."""
        if row >= len(self.items):
            return np.zeros(0, np.int32), np.zeros(0, np.float32)
        [alike] = self.similarities(np.array([row]))
        order = np.argsort(-alike, kind="stable")[: np.count_nonzero(self.items[row] >= 0)]
        return self.items[row][order], alike[order]

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        """Its numbers, to be kept in an artefact."""
        similarities = self.similarities(np.arange(len(self.items)))
        return {"neighbours": self.items, "similarities": similarities, "likes": self.likes}

    @classmethod
    def from_tables(cls, tables: Mapping[str, npt.NDArray[Any]], config: NeighboursConfig) -> Neighbours:
        """What `tables` was made of."""
        items, likes = tables["neighbours"], tables["likes"]
        norms = np.sqrt(likes[:, None]) / _shrinking(likes, config)[items]
        return cls(items.copy(), np.rint(tables["similarities"] * norms), likes.copy(), config)

    def similarities(self, rows: npt.NDArray[np.integer]) -> Floats:
        """Of rows (r,) to what is in each place, (r, k); 0 where there is nothing."""
        norms = 1.0 / np.sqrt(np.maximum(self.likes[rows], 1.0))
        found: Floats = self.counts[rows] * self._shrinking[self.items[rows]] * norms[:, None]
        return found


def _window(likes: int, config: NeighboursConfig) -> int:
    return min(config.window, max(1, _MAX_PAIRS // max(likes, 1)))


def _shrinking(likes: Floats, config: NeighboursConfig) -> Floats:
    """What an item's counts are multiplied by in others' rows."""
    # without damping an item that nobody liked has no counts either
    made: Floats = (1.0 / np.sqrt(np.maximum(likes + np.float32(config.damping), 1e-9))).astype(np.float32)
    return made
