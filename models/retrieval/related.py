"""Items like an item: first those that the same users liked, then those that the item tower puts near it.

They are looked up for all items at each index build; for an item that came since, they are searched for when asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.config import IndexConfig
from models.retrieval.index import VectorIndex, of_unit_length
from models.retrieval.neighbours import Neighbours

Floats = npt.NDArray[np.float32]

#: How many are kept of each item.
KEPT: Final = 40
_AT_ONCE: Final = 1024


@dataclass(frozen=True)
class Related:
    """Items like one item, the nearest first.

    Attributes:
        rows: int64 (k,).
        similarities: float32 (k,) damped cosines of co-occurrence for the first `together`, cosines of the tower's
            vectors for the rest.
        together: how many are there because the same users liked them.
    """

    rows: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float32]
    together: int


@dataclass(frozen=True)
class RelatedItems:
    """What is like each of n items, as of an index build.

    Attributes:
        rows: int32 (n, k), -1 where there are no more.
        similarities: float32 (n, k), as in `Related`.
        together: int32 (n,), as in `Related`.
    """

    rows: npt.NDArray[np.int32]
    similarities: Floats
    together: npt.NDArray[np.int32]

    @classmethod
    def over(cls, neighbours: Neighbours, vectors: Floats, config: IndexConfig, *, seed: int = 1) -> RelatedItems:
        """What is like each item with a vector of the item tower (n, d), without its prior, which is no likeness."""
        size = min(KEPT, max(len(vectors) - 1, 0))
        unit = of_unit_length(vectors)
        made = cls(
            np.full((len(unit), size), -1, np.int32),
            np.zeros((len(unit), size), np.float32),
            np.minimum(np.count_nonzero(neighbours.items >= 0, axis=1), size).astype(np.int32),
        )
        width = min(size, neighbours.items.shape[1])
        made.rows[:, :width] = neighbours.items[:, :width]
        made.similarities[:, :width] = neighbours.similarities(np.arange(len(unit)))[:, :width]
        index = VectorIndex.build(unit, unit[:256], config, seed=seed)
        lacking = np.flatnonzero(made.together < size)
        for start in range(0, len(lacking), _AT_ONCE):
            some = lacking[start : start + _AT_ONCE]
            # the item itself, and as many as may be there already, are found as well
            found = np.sort(index.search(unit[some], min(2 * size + 1, len(unit))), axis=1)
            cosines = np.einsum("id,ikd->ik", unit[some], unit[np.maximum(found, 0)])
            known = (found[:, :, None] == made.rows[some][:, None, :]).any(axis=2)
            cosines[(found < 0) | known | (found == some[:, None])] = -np.inf
            order = np.argsort(-cosines, axis=1, kind="stable")
            ranks = np.arange(order.shape[1])
            room = (ranks < (size - made.together[some])[:, None]) & np.isfinite(np.take_along_axis(cosines, order, 1))
            at, place = np.nonzero(room)
            to = some[at], made.together[some][at] + place
            made.rows[to] = found[at, order[at, place]]
            made.similarities[to] = cosines[at, order[at, place]]
        return made

    def of(self, row: int, allowed: npt.NDArray[np.bool_], n: int) -> Related | None:
        """At most `n` of them that may be shown; None where more would have to be searched for."""
        if row >= len(self.rows):
            return None
        kept = self.rows[row] >= 0
        kept[kept] = allowed[self.rows[row][kept]]
        places = np.flatnonzero(kept)[:n]
        if len(places) < n and len(self.rows) > len(self.rows[row]) + 1:
            return None
        together = int(np.count_nonzero(places < self.together[row]))
        return Related(self.rows[row][places].astype(np.int64), self.similarities[row][places], together)

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        """Its numbers, to be kept in an artefact."""
        return {f"related_{name}": getattr(self, name) for name in ("rows", "similarities", "together")}

    @classmethod
    def from_tables(cls, tables: Mapping[str, npt.NDArray[Any]]) -> RelatedItems | None:
        """What `tables` was made of; None in an artefact of before they were looked up."""
        if "related_rows" not in tables:
            return None
        return cls(*(tables[f"related_{name}"] for name in ("rows", "similarities", "together")))


def search_related(
    row: int, allowed: npt.NDArray[np.bool_], n: int, neighbours: Neighbours | None, item_vectors: Floats | None
) -> Related:
    """Search for at most `n` items similar to the one of that row: those liked with it, then those with near vectors.

    Args:
        allowed: (rows,) whether an item may be shown.
        item_vectors: (n_items, dim) of the item tower; None before the first model.
    """
    rows = np.zeros(0, np.int64)
    similarities = np.zeros(0, np.float32)
    if neighbours is not None:
        near, alike = neighbours.nearest(row)
        rows, similarities = near[allowed[near]][:n].astype(np.int64), alike[allowed[near]][:n]
    together = len(rows)
    if item_vectors is not None and together < n:
        unit = of_unit_length(item_vectors)
        cosines = unit @ unit[row]
        cosines[~allowed[: len(cosines)]] = -np.inf
        cosines[[row, *rows.tolist()]] = -np.inf
        order = np.argsort(-cosines, kind="stable")[: n - together]
        order = order[np.isfinite(cosines[order])]
        rows = np.concatenate([rows, order])
        similarities = np.concatenate([similarities, cosines[order].astype(np.float32)])
    return Related(rows, similarities, together)
