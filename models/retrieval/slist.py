"""SLIST, a linear model of sequences: what is liked next as a sum over what the user did last, learnt in one step.

After Choi et al. (2021) and EASE (Steck, 2019): each example has a row of the items that its user dealt with last,
the nearest with the most weight, and item-to-item weights foretell the item that was liked then. They are those of a
ridge regression, which has a closed form: no epochs, no sampling, no seed. Of each item the largest weights are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array

from models.config import SlistConfig
from models.data.users import Histories, UserBatch
from models.retrieval.similarities import Similarities

#: Added to chances before the logarithm: so little is as good as none.
_FLOOR: Final = np.float32(0.001)

#: So many examples are counted at once.
_AT_ONCE: Final = 20_000

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class Slist:
    """What each item says of what comes after it.

    Attributes:
        rows: int32 (m,) the items that are known, ascending.
        items: int32 (parts, m, k) rows of what comes after each.
        weights: float32 (parts, m, k) by how much more likely it makes them.
        shares: float32 (m,) how often each was chosen in what was learnt from, as a share.
    """

    def __init__(
        self,
        rows: npt.NDArray[np.int32],
        items: npt.NDArray[np.int32],
        weights: Floats,
        shares: Floats,
        config: SlistConfig,
    ) -> None:
        self.rows = rows
        self.items = items
        self.weights = weights
        self.shares = shares
        self.config = config
        self._places = np.full(int(rows.max(initial=-1)) + 2, -1, dtype=np.int64)  # the last one is of no item
        self._places[rows] = np.arange(len(rows))

    @classmethod
    def fitted(
        cls,
        histories: Histories,
        targets: npt.NDArray[np.bool_],
        known: npt.NDArray[np.bool_],
        config: SlistConfig,
    ) -> Slist:
        """Learn what was chosen in a log.

        Args:
            targets: (len(log),) which rows are examples of what was chosen.
            known: (len(log),) the rows to be learnt from.
        """
        log = histories.log
        order, _ = histories.consumed()
        order = order[known[order]]
        counts = np.bincount(log.item[order], minlength=1)
        often = np.argsort(-counts, kind="stable")[: config.items]
        rows = np.sort(often[counts[often] >= config.least]).astype(np.int32)
        size = len(rows)
        place = np.full(len(counts), -1, dtype=np.int64)
        place[rows] = np.arange(size)

        chosen = np.flatnonzero(targets[order] & (place[log.item[order]] >= 0))
        chosen = np.sort(chosen[np.argsort(-order[chosen], kind="stable")[: config.examples]])
        items = place[log.item[order]]
        gram, towards = _products(chosen, log.user[order], items, log.ts[order], size, config)
        gram[np.diag_indices(len(gram))] += config.damping
        factor = torch.linalg.cholesky(torch.from_numpy(gram))
        weights = torch.cholesky_solve(torch.from_numpy(towards), factor).numpy()
        columns, kept = _largest(weights.reshape(config.parts, size, size), config.size)
        shares = np.bincount(items[chosen], minlength=size) / max(len(chosen), 1)
        return cls(rows, rows[columns], kept, shares.astype(np.float32), config)

    def near(self, users: UserBatch, size: int) -> Similarities:
        """For each user and each of `size` rows the chance that it comes next."""
        recent = users.items[:, -self.config.recent :]
        places = self._place_of(recent)
        of, columns = np.nonzero(places >= 0)
        chosen = places[of, columns]
        back = recent.shape[1] - columns
        since = users.now[of] - users.ts[:, -self.config.recent :][of, columns]
        parts = [
            (self.items[part, chosen], self.weights[part, chosen] * weight[:, None])
            for part, weight in enumerate(_fading(back, since, self.config))
        ]
        items, weights = (np.concatenate(column, axis=1) for column in zip(*parts, strict=True))
        return Similarities.summed(of, items, weights, len(users), size)

    def lifts(self, chances: Similarities, users: npt.NDArray[np.integer], items: npt.NDArray[np.integer]) -> Floats:
        """The logarithms of how many times likelier pairs (p,) are than the items are at large, as of the training."""
        places = self._place_of(items)
        shares = np.append(self.shares, np.float32(0.0))[places]
        lifts: Floats = chances.logarithms(users, items, _FLOOR) - np.log(shares + _FLOOR)
        return lifts

    def logarithms(self, users: UserBatch, size: int) -> Floats:
        """The logarithms (B, size) of the chances."""
        every = np.divmod(np.arange(len(users) * size), size)
        return self.near(users, size).logarithms(*every, _FLOOR).reshape(len(users), size)

    def _place_of(self, items: npt.NDArray[np.integer]) -> Rows:
        """Where items (…), of which -1 is none, stand in `rows`; -1 for those that are not known."""
        return self._places.take(np.where(items < len(self._places), items, -1), mode="wrap")

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        """Its numbers, to be kept in an artefact."""
        columns = {"rows": self.rows, "items": self.items, "weights": self.weights, "shares": self.shares}
        return {f"slist_{name}": column for name, column in columns.items()}

    @classmethod
    def from_tables(cls, tables: Mapping[str, npt.NDArray[Any]], config: SlistConfig) -> Slist:
        """What `tables` was made of."""
        rows, items, weights, shares = (tables[f"slist_{name}"] for name in ("rows", "items", "weights", "shares"))
        return cls(rows, items, weights, shares, config)


def _products(
    chosen: npt.NDArray[np.integer],
    users: npt.NDArray[np.integer],
    items: npt.NDArray[np.integer],
    ts: npt.NDArray[np.int64],
    size: int,
    config: SlistConfig,
) -> tuple[Floats, Floats]:
    """Of what lies before each example with itself (parts * m, parts * m), and with what was chosen (parts * m, m).

    Args:
        chosen: the places of the examples.
        users, items, ts: of what was done, by user and then time; an item as its place among the `size` that are known.
    """
    width = config.parts * size
    gram, towards = np.zeros((width, width), dtype=np.float32), np.zeros((width, size), dtype=np.float32)
    for start in range(0, len(chosen), _AT_ONCE):
        some = chosen[start : start + _AT_ONCE]
        cells: list[tuple[Rows, Rows, Floats]] = []
        for back in range(1, config.recent + 1):
            of = np.flatnonzero(some >= back)
            at = some[of]
            own = (users[at - back] == users[at]) & (items[at - back] >= 0)
            of, at = of[own], at[own]
            for part, values in enumerate(_fading(np.full(len(at), back), ts[at] - ts[at - back], config)):
                cells.append((of, part * size + items[at - back], values))
        rows, columns, values = (np.concatenate(column) for column in zip(*cells, strict=True))
        before = csr_array((values, (rows, columns)), shape=(len(some), width))
        then = csr_array((np.ones(len(some), np.float32), (np.arange(len(some)), items[some])), (len(some), size))
        gram += (before.T @ before).toarray()
        towards += (before.T @ then).toarray()
    return gram, towards


def _fading(back: npt.NDArray[np.integer], since: npt.NDArray[np.int64], config: SlistConfig) -> list[Floats]:
    """What actions count, (m,) for each part: `back` is 1 for the last one, `since` is the time since then in ms."""
    by_order = back.astype(np.float32) ** np.float32(-config.fading)
    if not config.sitting_s:
        return [by_order]
    return [by_order, (by_order * np.exp(np.maximum(since, 0) / (-1000.0 * config.sitting_s))).astype(np.float32)]


def _largest(weights: Floats, count: int) -> tuple[Rows, Floats]:
    """The columns, ascending, of the `count` largest of each row of weights (parts, m, m), and these, (parts, m, k)."""
    count = min(count, weights.shape[2])
    columns = np.sort(np.argpartition(-np.abs(weights), max(count - 1, 0), axis=2)[:, :, :count], axis=2)
    return columns, np.take_along_axis(weights, columns, axis=2)
