"""The query: a batch of users for whom lists are wanted, and all that the pipeline's components read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from models.data.popularity import Popularity
from models.data.users import UserBatch
from models.recommender import Recommender
from models.retrieval.sources import Request
from serving.pipeline.items import ItemTable
from streams.contract.events import UserRecord

Rows = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Query:
    """B users at a moment each, and the items as they are now.

    Attributes:
        users: what the models read of them.
        profiles: their records, where they have one.
        seen: per user the rows dealt with, in no order; a row may come twice.
        shown: per user the rows of the newest impressions; a row comes as often as it was shown.
        friends: per user what those whom they follow liked last.
        popularity: the item statistics that the users get.
        segments: per user the segments that they count towards, as `feature=value`.
        trends_of: the statistics of a segment, None where it has none.
        available: bool (rows,) whether an item may be recommended at all.
        size: places wanted in a list.
    """

    model: Recommender
    items: ItemTable
    users: UserBatch
    profiles: Sequence[UserRecord | None]
    seen: Sequence[Rows]
    shown: Sequence[Rows]
    friends: Sequence[Rows]
    popularity: Popularity
    available: npt.NDArray[np.bool_]
    size: int
    segments: Sequence[Sequence[str]] = ()
    trends_of: Callable[[str], Popularity | None] = field(default=lambda _: None)

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def actions(self) -> npt.NDArray[np.int64]:
        """How many actions of each user the models read, (B,)."""
        counted: npt.NDArray[np.int64] = np.count_nonzero(self.users.items >= 0, axis=1).astype(np.int64)
        return counted


@dataclass(frozen=True)
class Asked:
    """What a source of the pipeline is asked: the query, and what the model's own sources are asked."""

    query: Query
    request: Request
