"""Neighbours: which items the same users liked, as each item's nearest few; the memory beside the networks.

Where users are few, counting together what was liked together beats what a network can learn of it; the blend finds
out which of them to trust. The similarity is the cosine of co-occurrence (Sarwar et al., 2001), damped as in
`models.classics.ItemItem`: two items that one user alone ever liked must not crowd out everything else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.config import NeighboursConfig
from models.users import UserBatch

Floats = npt.NDArray[np.float32]
_MAX_PAIRS = 20_000_000
#: Cells of a users-by-items table up to which it is filled; beyond, what is alike is sorted.
_MAX_TABLE = 4_000_000
#: Added to the summed similarities before the logarithm.
_FLOOR = 0.2


@dataclass(frozen=True)
class Neighbours:
    """Each item's nearest, for rows 0 … n - 1.

    Attributes:
        items: int32 (n, k) rows, padded with -1.
        similarities: float32 (n, k), 0 where padded.
        likes: float32 (n,), how many likes of each were counted.
    """

    items: npt.NDArray[np.int32]
    similarities: Floats
    likes: Floats

    @classmethod
    def of(
        cls, users: npt.NDArray[np.integer], items: npt.NDArray[np.integer], size: int, config: NeighboursConfig
    ) -> Neighbours:
        """Count what was liked within `config.window` likes of the same user.

        Args:
            users, items: (m,) the likes in the order of time, each item of a user once.
            size: how many item rows there are.
        """
        order = np.argsort(users, kind="stable")
        users, items = users[order], items[order].astype(np.int64)
        window = min(config.window, max(1, _MAX_PAIRS // max(len(items), 1)))
        keys = []
        for apart in range(1, window + 1):
            same = users[apart:] == users[:-apart]
            one, other = items[:-apart][same], items[apart:][same]
            keys.append(np.minimum(one, other) * size + np.maximum(one, other))
        pairs, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *keys]), return_counts=True)
        one, other = np.divmod(pairs, max(size, 1))
        degrees = np.bincount(items, minlength=size).astype(np.float32)
        source, target = np.concatenate([one, other]), np.concatenate([other, one])
        norms = np.sqrt(degrees[source] * (degrees[target].astype(np.float64) + config.damping))
        cosines = (np.concatenate([counts, counts]) / norms).astype(np.float32)
        ranked = np.lexsort((target, -cosines, source))
        source = source[ranked]
        places = np.arange(len(source)) - np.searchsorted(source, source)
        kept = ranked[places < config.size]
        made = cls(np.full((size, config.size), -1, np.int32), np.zeros((size, config.size), np.float32), degrees)
        at = (source[places < config.size], places[places < config.size])
        made.items[at] = target[kept]
        made.similarities[at] = cosines[kept]
        return made

    def near(self, users: UserBatch, size: int, config: NeighboursConfig) -> Similarities:
        """For each user and each of `size` rows the similarities summed over what the user liked last."""
        recent = users.items[:, -config.recent :]
        liked = (recent >= 0) & (recent < len(self.items)) & (users.strengths[:, -config.recent :] >= config.liked)
        of, places = np.nonzero(liked)
        rows = recent[of, places]
        near = self.items[rows]
        cells = (of[:, None] * size + near)[near >= 0]
        similarities = self.similarities[rows][near >= 0]
        if len(users) * size <= _MAX_TABLE:
            summed = np.bincount(cells, similarities, minlength=1)
            keys = np.flatnonzero(summed)
            return Similarities(size, keys, summed[keys].astype(np.float32))
        # cell and place make one integer, as that is quicker to sort than to order by
        shift = len(cells).bit_length()
        cells = np.sort((cells << shift) | np.arange(len(cells)))
        similarities = similarities[cells & ((1 << shift) - 1)]
        cells >>= shift
        starts = np.flatnonzero(np.r_[True, cells[1:] != cells[:-1]]) if len(cells) else cells
        summed = np.add.reduceat(similarities, starts, dtype=np.float64) if len(cells) else similarities
        return Similarities(size, cells[starts], summed.astype(np.float32))


@dataclass(frozen=True)
class Similarities:
    """How like items are to what each user of a batch liked last; 0 where not told.

    Attributes:
        size: item rows.
        keys: int64 (m,), ascending: `user * size + item`.
        values: float32 (m,).
    """

    size: int
    keys: npt.NDArray[np.int64]
    values: Floats

    def pairs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
        """Users (m,), ascending, items (m,) and their similarities (m,)."""
        users, items = np.divmod(self.keys, max(self.size, 1))
        return users, items, self.values

    def logarithms(self, users: npt.NDArray[np.integer], items: npt.NDArray[np.integer]) -> Floats:
        """Those of the pairs (p,) as the blend reads them."""
        values = np.zeros(len(users), np.float32)
        if len(self.keys):
            wanted = users * self.size + items
            at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            told = self.keys[at] == wanted
            values[told] = self.values[at[told]]
        logs: Floats = np.log(values + np.float32(_FLOOR))
        return logs
