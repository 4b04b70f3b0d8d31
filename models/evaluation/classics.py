"""The classics that a learned model has to beat: decayed popularity and item-item similarity, learnt event by event.

Users and items are dense numbers. Both give the lists of the state before the event that is asked about, so calling
`top` and then `learn` on each event in turn is the prequential test.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import chain, islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Tables = Mapping[str, npt.NDArray[Any]]


class Baseline(Protocol):
    """A recommender that learns one event at a time."""

    def learn(self, user: int, item: int, ts: int, positive: bool, /) -> None:
        """Take in one event; `ts` in ms."""

    def top(self, user: int, k: int, seen: Set[int], /) -> list[int]:
        """At most `k` items for the user, best first, none of them in `seen`."""


class DecayedTrending:
    """The items with the most positives, each counted less by half for every half-life since, the same for everybody.

    Weights are held as log2 of the value carried to time 0, which orders items as of any time, and the order is kept
    sorted: one event moves one item, so a list costs only its own length.
    """

    def __init__(self, half_life_s: float) -> None:
        self.half_life_s = half_life_s
        self._per_ms = 1.0 / (half_life_s * 1000.0)
        self._logs: dict[int, float] = {}
        self._order: list[tuple[float, int]] = []

    def learn(self, _user: int, item: int, ts: int, positive: bool, /) -> None:
        """Count a positive event; others say nothing here."""
        if not positive:
            return
        weight = ts * self._per_ms
        old = self._logs.get(item)
        if old is not None:
            del self._order[bisect_left(self._order, (-old, item))]
            weight = max(old, weight) + math.log2(1.0 + 2.0 ** -abs(old - weight))
        self._logs[item] = weight
        insort(self._order, (-weight, item))

    def top(self, _user: int, k: int, seen: Set[int], /) -> list[int]:
        """The `k` trending items not in `seen`, best first."""
        return list(islice((item for _, item in self._order if item not in seen), k))

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        """Its numbers, to be kept."""
        return {
            "trending_half_life_s": np.array([self.half_life_s]),
            "trending_items": np.array(list(self._logs), np.int64),
            "trending_logs": np.array(list(self._logs.values()), np.float64),
        }

    @classmethod
    def from_tables(cls, tables: Tables) -> DecayedTrending:
        """What `tables` was made of."""
        made = cls(float(tables["trending_half_life_s"][0]))
        made._logs = dict(zip(tables["trending_items"].tolist(), tables["trending_logs"].tolist(), strict=True))
        made._order = sorted((-log, item) for item, log in made._logs.items())
        return made


class ItemItem:
    """Items that the same users liked: cosine over co-occurrence, summed over what the user liked last.

    Two items co-occur when a user's positive on one comes while the other is among that user's last `window`
    positives. The score of j is `sum over i of c_ij / sqrt(n_i * (n_j + damping))`, i over the user's last `recent`
    positives: the cosine of Sarwar et al. (2001), made incremental and damped, because two items that one user alone
    ever liked have a cosine of 1, and on a young stream such pairs crowd out everything else.

    An item's neighbours are a sorted count plus a buffer of what came since, merged when the buffer outgrows the
    count: adding is an append, and memory is 12 bytes for each pair that ever co-occurred.
    """

    def __init__(self, window: int = 50, recent: int = 20, damping: float = 20.0) -> None:
        self.window = window
        self.recent = recent
        self.damping = damping
        self._liked: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=window))
        self._neighbours: dict[int, _Neighbours] = {}
        self._degrees = np.zeros(1024, dtype=np.float64)

    def learn(self, user: int, item: int, _ts: int, positive: bool, /) -> None:
        """Count a positive event with the user's other recent ones; a repeat only makes the item recent again."""
        if not positive:
            return
        liked = self._liked[user]
        if item in liked:
            liked.remove(item)
            liked.append(item)
            return
        while item >= len(self._degrees):
            self._degrees = np.concatenate([self._degrees, np.zeros_like(self._degrees)])
        self._degrees[item] += 1
        self._neighbours.setdefault(item, _Neighbours()).add(array("i", liked))
        for other in liked:
            self._neighbours[other].add(array("i", [item]))
        liked.append(item)

    def top(self, user: int, k: int, seen: Set[int], /) -> list[int]:
        """The `k` items nearest to the user's recent positives and not in `seen`, best first."""
        liked = self._liked.get(user)
        if not liked or k < 1:
            return []
        recent = list(liked)[-self.recent :]
        norms = self._degrees[recent] ** -0.5
        near = [self._neighbours[item] for item in recent]
        pending = array("i")
        for neighbours in near:
            pending.extend(neighbours.pending)
        summed = np.bincount(
            np.concatenate([*(neighbours.items for neighbours in near), np.frombuffer(pending, dtype=np.int32)]),
            weights=np.concatenate(
                [
                    *(neighbours.counts * norm for neighbours, norm in zip(near, norms, strict=True)),
                    np.repeat(norms, [len(neighbours.pending) for neighbours in near]),
                ]
            ),
            minlength=len(self._degrees),
        )
        hidden = np.fromiter(seen, np.intp, len(seen))
        summed[hidden[hidden < len(summed)]] = 0.0
        rows = np.flatnonzero(summed)
        scores = summed[rows] / np.sqrt(self._degrees[rows] + self.damping)
        if len(rows) > k:
            kept = scores >= np.partition(scores, len(rows) - k)[len(rows) - k]
            rows, scores = rows[kept], scores[kept]
        best: list[int] = rows[np.argsort(-scores, kind="stable")][:k].tolist()
        return best

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        """Its numbers, to be kept: each user's last likes, and each item's neighbours, one after the other."""
        near = list(self._neighbours.values())
        return {
            "item_item_shape": np.array([self.window, self.recent, self.damping], np.float64),
            "item_item_degrees": self._degrees,
            "item_item_users": np.array(list(self._liked), np.int64),
            "item_item_liked_sizes": np.array([len(liked) for liked in self._liked.values()], np.int64),
            "item_item_liked": np.fromiter(chain.from_iterable(self._liked.values()), np.int64),
            "item_item_rows": np.array(list(self._neighbours), np.int64),
            "item_item_sizes": np.array([len(each.items) for each in near], np.int64),
            "item_item_items": np.concatenate([np.zeros(0, np.int32), *(each.items for each in near)]),
            "item_item_counts": np.concatenate([np.zeros(0), *(each.counts for each in near)]),
            "item_item_pending_sizes": np.array([len(each.pending) for each in near], np.int64),
            "item_item_pending": np.fromiter(chain.from_iterable(each.pending for each in near), np.int32),
        }

    @classmethod
    def from_tables(cls, tables: Tables) -> ItemItem:
        """What `tables` was made of."""
        told = {name.removeprefix("item_item_"): table for name, table in tables.items()}
        window, recent, damping = told["shape"].tolist()
        made = cls(int(window), int(recent), damping)
        made._degrees = told["degrees"].copy()
        for user, liked in zip(told["users"].tolist(), _cut(told["liked"], told["liked_sizes"]), strict=True):
            made._liked[user].extend(liked.tolist())
        columns = _cut(told["items"], told["sizes"]), _cut(told["counts"], told["sizes"])
        pending = _cut(told["pending"], told["pending_sizes"])
        for row, *column in zip(told["rows"].tolist(), *columns, pending, strict=True):
            made._neighbours[row] = _Neighbours(*column)
        return made


def filled(items: Sequence[int], others: Iterable[int], k: int) -> list[int]:
    """`items` and then those of `others` that are not among them, `k` in all: how a list too short is made up."""
    have = set(items)
    return [*items, *(item for item in others if item not in have)][:k]


def _cut(column: npt.NDArray[Any], sizes: npt.NDArray[np.int64]) -> list[npt.NDArray[Any]]:
    """The parts of a column, of these sizes one after the other."""
    return [column[end - size : end] for size, end in zip(sizes.tolist(), np.cumsum(sizes).tolist(), strict=True)]


class _Neighbours:
    """The items that co-occurred with one item, and how often."""

    __slots__ = ("counts", "items", "pending")

    def __init__(
        self,
        items: npt.NDArray[np.int32] = np.zeros(0, dtype=np.int32),  # noqa: B008 - never written to
        counts: npt.NDArray[np.float64] = np.zeros(0),  # noqa: B008
        pending: Iterable[int] = (),
    ) -> None:
        self.items = items
        self.counts = counts
        self.pending = array("i", pending)

    def add(self, others: array[int]) -> None:
        self.pending.extend(others)
        if len(self.pending) > 64 + len(self.items):
            self._merge()

    def _merge(self) -> None:
        pending = np.frombuffer(self.pending, dtype=np.int32)
        merged, of = np.unique(np.concatenate([self.items, pending]), return_inverse=True)
        weights = np.concatenate([self.counts, np.ones(len(pending), dtype=np.float64)])
        self.items = merged.astype(np.int32, copy=False)
        self.counts = np.bincount(of, weights=weights).astype(np.float64, copy=False)
        self.pending = array("i")
