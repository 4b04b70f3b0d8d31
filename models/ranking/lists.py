"""What ranking gives: each user's best items, best first, with what is known of each place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ranking:
    """The best items of each of B users, best first.

    Attributes:
        items: int32 (B, n) rows, padded with -1.
        scores: float32 (B, n), 0 where padded.
        sources: uint32 (B, n) bit mask: who proposed the item; the first bits are those of `retrieval.SOURCES`.
        because: int32 (B, n) row of the recently liked item nearest to the item, or -1.
        probabilities: float32 (B, n) that the item is the next new one that the user will like; nan where not known.
        minutes: float32 (B, n) that the user will watch it, should that be so; nan where not known.
    """

    items: npt.NDArray[np.int32]
    scores: Floats
    sources: npt.NDArray[np.uint32]
    because: npt.NDArray[np.int32]
    probabilities: Floats
    minutes: Floats

    @classmethod
    def empty(cls, users: int, n: int) -> Ranking:
        """Nothing yet."""
        shape, unknown = (users, n), np.float32(np.nan)
        absent, nothing = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
        sources = np.zeros(shape, np.uint32)
        return cls(absent, nothing, sources, absent.copy(), np.full(shape, unknown), np.full(shape, unknown))
