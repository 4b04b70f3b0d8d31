"""Retrieval: sources that each propose some items to each user of a batch, and the union of what they propose.

A source is asked for its quota, and proposes neither what may not be shown nor what the user is not to be shown again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from models.data.popularity import Popularity
from models.data.users import UserBatch
from models.retrieval.index import VectorIndex
from models.retrieval.similarities import Similarities

Floats = npt.NDArray[np.float32]
_NOBODY: Final = np.zeros(0, np.int64)
#: As many sources can be told apart.
_BITS: Final = 32
Rows = npt.NDArray[np.int64]


class Proposals(NamedTuple):
    """Items proposed to the users of a batch, in no order.

    Attributes:
        users: int64 (p,) place in the batch.
        items: int64 (p,) rows; an item may come twice.
    """

    users: Rows
    items: Rows

    @classmethod
    def none(cls) -> Proposals:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Request:
    """A batch of users for whom candidates are wanted.

    Attributes:
        popularity: the item statistics by row, of at least `size` rows.
        size: item rows.
        allowed: bool (size,) whether an item may be shown.
        seen: bool (B, size) whether the user is not to be shown it again.
        most_seen: of so many items at most that holds for one user.
        queries: float32 (B, d + 1) each for `sequence` and `two_tower`, as their indexes are asked; empty without.
        indexes: what is asked.
        near: the likeness of items to what each user liked last; None without neighbours.
        chances: how likely items come next by SLIST; None before there is a model.
    """

    users: UserBatch
    popularity: Popularity
    size: int
    allowed: npt.NDArray[np.bool_]
    seen: npt.NDArray[np.bool_]
    most_seen: int
    queries: Sequence[Floats] = ()
    indexes: Sequence[VectorIndex] = ()
    near: Similarities | None = None
    chances: Similarities | None = None

    def usable(self, users: Rows, items: Rows) -> npt.NDArray[np.bool_]:
        """Whether each pair may be a candidate, (p,)."""
        usable: npt.NDArray[np.bool_] = self.seen.reshape(-1).take(users * self.size + items)
        np.logical_not(usable, out=usable)
        usable &= self.allowed.take(items)
        return usable

    def first_usable(self, ranked: Rows, quota: int) -> Proposals:
        """For each user the first `quota` of items ranked alike for all, (k,), that may be candidates."""
        ranked = ranked[self.allowed[ranked]][: quota + self.most_seen]
        usable = ~self.seen[:, ranked[: 2 * quota]]  # most users have not seen more of them
        short = np.flatnonzero(np.count_nonzero(usable, axis=1) < quota) if len(ranked) > 2 * quota else _NOBODY
        usable[short] = False
        parts = [_first(usable, quota)]
        if len(short):
            users, places = _first(~self.seen[np.ix_(short, ranked)], quota)
            parts.append((short[users], places))
        users, places = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Proposals(users, ranked[places])


def _first(usable: npt.NDArray[np.bool_], quota: int) -> tuple[Rows, Rows]:
    """Rows and columns of the first cells of each row of a table that are usable."""
    rows, columns = np.nonzero(usable & (np.cumsum(usable, axis=1, dtype=np.int32) <= quota))
    return rows, columns


class Source(Protocol):
    """Proposes items; `name` is what lists call it."""

    @property
    def name(self) -> str: ...

    def propose(self, request: Request, quota: int) -> Proposals: ...


@dataclass(frozen=True)
class Nearest:
    """The items whose vectors, prior of popularity included, are nearest to the user's by one of the networks."""

    name: str
    place: int

    def propose(self, request: Request, quota: int) -> Proposals:
        if not request.queries:
            return Proposals.none()
        count = min(quota + min(request.most_seen, quota), request.size)
        found = request.indexes[self.place].search(request.queries[self.place], count, request.allowed)
        users = np.repeat(np.arange(len(found)), found.shape[1])
        items = found.ravel()
        real = items >= 0
        return Proposals(users[real], items[real])


@dataclass(frozen=True)
class Trending:
    """The most popular items at each half-life."""

    name: str = "trending"

    def propose(self, request: Request, quota: int) -> Proposals:
        hidden = request.size - int(np.count_nonzero(request.allowed))
        # long enough that the quota is left even for the user who has seen the most of it
        count = quota + request.most_seen + hidden
        parts = []
        for half_life in range(len(request.popularity.config.half_lives_s)):
            top = request.popularity.top(half_life, count + len(request.popularity) - request.size)
            parts.append(request.first_usable(top[top < request.size], quota))
        return Proposals(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@dataclass(frozen=True)
class ItemToItem:
    """The items that follow most from those that the user dealt with last."""

    name: str
    said: Callable[[Request], Similarities | None]

    def propose(self, request: Request, quota: int) -> Proposals:
        said = self.said(request)
        if said is None:
            return Proposals.none()
        users, items, similarities = said.pairs()
        usable = request.usable(users, items)
        users, items = users[usable], items[usable]
        starts = np.searchsorted(users, np.arange(len(request.users)))
        places = np.arange(len(users)) - starts[users]
        table = np.full((len(request.users), int(places.max(initial=-1)) + 1), np.inf)
        # of equal ones the first rows, whoever else is in the batch
        table[users, places] = items * 1e-12 - similarities[usable]
        if table.shape[1] > quota:
            best = np.argpartition(table, quota - 1, axis=1)[:, :quota]
        else:
            best = np.broadcast_to(np.arange(table.shape[1]), table.shape)
        of, ranks = np.nonzero(np.isfinite(np.take_along_axis(table, best, axis=1)))
        return Proposals(of, items[starts[of] + best[of, ranks]])


#: The sources of every model, in the order of their bits.
SOURCES: Final[tuple[Source, ...]] = (
    Nearest("sequence", 0),
    Nearest("two_tower", 1),
    Trending(),
    ItemToItem("neighbours", lambda request: request.near),
    ItemToItem("slist", lambda request: request.chances),
)


def union(request: Request, proposals: Sequence[tuple[int, Proposals]]) -> tuple[Rows, Rows, npt.NDArray[np.uint32]]:
    """What may be shown of all proposals, each pair once.

    Args:
        proposals: each with the bit of its source.

    Returns:
        Users (p,), ascending; items (p,), ascending for each user; the sources' bits (p,).
    """
    # pair and source make one integer, as that is quicker to sort than to order by
    keys = [
        (proposed.users * request.size + proposed.items) * _BITS + (bit.bit_length() - 1) for bit, proposed in proposals
    ]
    every = np.sort(np.concatenate([np.zeros(0, np.int64), *keys]))
    bits = np.left_shift(np.uint32(1), (every % _BITS).astype(np.uint32))
    every //= _BITS
    starts = np.flatnonzero(np.r_[True, every[1:] != every[:-1]]) if len(every) else np.zeros(0, np.int64)
    users, items = np.divmod(every[starts], max(request.size, 1))
    sources = np.bitwise_or.reduceat(bits, starts) if len(starts) else np.zeros(0, np.uint32)
    usable = request.usable(users, items)
    return users[usable], items[usable], sources[usable]
