"""Similarities: what the items that a user dealt with last say of all others, summed up for a batch of users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

#: Cells of a users-by-items table up to which it is filled; beyond, what is said is sorted.
_MAX_TABLE: Final = 4_000_000


@dataclass(frozen=True)
class Similarities:
    """What the last actions of each user of a batch say of items, together; 0 where not told.

    Attributes:
        size: item rows.
        keys: int64 (m,), ascending: `user * size + item`.
        values: float32 (m,).
        table: float32 (B * size,) of all pairs, where these are few enough.
    """

    size: int
    keys: npt.NDArray[np.int64]
    values: Floats
    table: Floats | None = None

    @classmethod
    def summed(
        cls, users: npt.NDArray[np.integer], near: npt.NDArray[np.integer], values: Floats, n_users: int, size: int
    ) -> Similarities:
        """What is said of items, added up for each user.

        Args:
            users: (m,) whose each row is.
            near: (m, k) item rows, padded with -1.
            values: (m, k) what is said of each.
        """
        held = near >= 0
        cells = (users[:, None] * size + near)[held]
        values = values[held]
        if n_users * size <= _MAX_TABLE:
            table = np.bincount(cells, values, minlength=n_users * size).astype(np.float32)
            keys = np.flatnonzero(table != 0)  # of floats as they are it takes several times as long
            return cls(size, keys, table.take(keys), table)
        # cell and place make one integer, as that is quicker to sort than to order by
        shift = len(cells).bit_length()
        cells = np.sort((cells << shift) | np.arange(len(cells)))
        values = values[cells & ((1 << shift) - 1)]
        cells >>= shift
        starts = np.flatnonzero(np.r_[True, cells[1:] != cells[:-1]]) if len(cells) else cells
        totals = np.add.reduceat(values, starts, dtype=np.float64) if len(cells) else values
        return cls(size, cells[starts], totals.astype(np.float32))

    def pairs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
        """Users (m,), ascending, items (m,) and what is said of these (m,)."""
        users, items = np.divmod(self.keys, max(self.size, 1))
        return users, items, self.values

    def logarithms(self, users: npt.NDArray[np.integer], items: npt.NDArray[np.integer], floor: np.float32) -> Floats:
        """Those of the pairs (p,) as the blend reads them: what is below 0 counts as 0, and `floor` is added to all."""
        wanted = users * self.size + items
        values = np.zeros(len(users), np.float32)
        if self.table is not None:
            values = self.table.take(wanted)
        elif len(self.keys):
            at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            told = self.keys[at] == wanted
            values[told] = self.values[at[told]]
        logs: Floats = np.log(np.maximum(values, np.float32(0.0)) + floor)
        return logs
