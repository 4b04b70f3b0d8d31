"""Interactions: what users did, as columns, in the order of event time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from models.data.searches import Searches

NO_ITEM: Final = -1
#: Devices that the models tell apart; an event's device is one more than its place here, 0 where it is not told.
DEVICES: Final = ("phone", "tablet", "desktop", "tv")


def device_code(name: object) -> int:
    """The number of a device as an event's context names it; 0 for none of `DEVICES`."""
    return DEVICES.index(name) + 1 if isinstance(name, str) and name in DEVICES else 0


@dataclass(frozen=True)
class Impressions:
    """What was shown to whom: columns of equal length (m,), sorted by `ts`, over the codes of the interactions.

    Attributes:
        user, item: int32.
        ts: int64, event time in ms.
    """

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    ts: npt.NDArray[np.int64]

    @classmethod
    def none(cls) -> Impressions:
        """Of a log that does not tell what was shown."""
        return cls(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Interactions:
    """Columns of equal length (n,), sorted by `ts` (stable), over dense user and item codes.

    Attributes:
        user: int32, index into `user_ids`.
        item: int32, index into `item_ids`; `NO_ITEM` for a search, a follow or a visit.
        ts: int64, event time in ms.
        action: uint8, a `models.data.labels.Action`.
        strength: float32 in [0, 1].
        label: int8 in {-1, 0, 1}.
        weight: float32 above 0, the example's weight.
        device: uint8, see `device_code`.
        user_ids, item_ids: the names behind the codes.
        shown: the impressions, which are no rows: there are so many that they would make up most of them.
        searches: the words of the rows that are searches.
    """

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    ts: npt.NDArray[np.int64]
    action: npt.NDArray[np.uint8]
    strength: npt.NDArray[np.float32]
    label: npt.NDArray[np.int8]
    weight: npt.NDArray[np.float32]
    device: npt.NDArray[np.uint8]
    user_ids: Sequence[str]
    item_ids: Sequence[str]
    shown: Impressions = field(default_factory=Impressions.none)
    searches: Searches = field(default_factory=Searches.none)

    COLUMNS = ("user", "item", "ts", "action", "strength", "label", "weight", "device")

    def __post_init__(self) -> None:
        sizes = {name: len(getattr(self, name)) for name in self.COLUMNS}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"interactions: columns differ in length: {sizes}")
        if len(self.ts) > 1 and bool((np.diff(self.ts) < 0).any()):
            raise ValueError("interactions: rows must be sorted by ts")

    def __len__(self) -> int:
        return len(self.ts)

    def rows(self, where: slice | npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Interactions:
        """The chosen rows, over the same user and item codes."""
        columns = {name: getattr(self, name)[where] for name in self.COLUMNS}
        return replace(self, **columns)

    def shown_between(self, start: int, stop: int) -> Impressions:
        """The impressions after the row before `start` and up to the row before `stop`, both by their times.

        An impression of the same time as a row comes after it.
        """
        ends = []
        for row in (start, stop):
            at_end = row >= len(self)
            ts = self.ts[-1] if at_end and len(self) else self.ts[row] if not at_end else 0
            ends.append(int(np.searchsorted(self.shown.ts, ts, side="right" if at_end else "left")) if row else 0)
        kept = slice(*ends)
        return Impressions(self.shown.user[kept], self.shown.item[kept], self.shown.ts[kept])

    def split_at(self, row: int) -> tuple[Interactions, Interactions]:
        """The rows before `row` and those from it on: a split by time."""
        return self.rows(slice(None, row)), self.rows(slice(row, None))
