"""Candidates: what all sources propose to the users of a batch, in one table of pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Candidates:
    """What all sources together propose for a batch, seen and withdrawn items left out.

    Attributes:
        users: int64 (p,) place in the batch, ascending.
        items: int64 (p,) rows, ascending for each user.
        sources: uint32 (p,) bit mask, as in `Ranking`.
        features: float32 (p, F), as the blend reads them.
        liking: float32 (p,), log-odds that the user will like the item if it is met; nan where nobody can tell.
    """

    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    sources: npt.NDArray[np.uint32]
    features: npt.NDArray[np.float32]
    liking: npt.NDArray[np.float32]

    def part(self, start: int, stop: int, first_user: int) -> Candidates:
        """Those from place `start` to `stop`, the users counted from `first_user`."""
        part = self.take(slice(start, stop))
        return replace(part, users=part.users - first_user)

    def take(self, kept: slice | npt.NDArray[np.bool_]) -> Candidates:
        """Those of a slice, or of the mask (p,)."""
        return Candidates(
            self.users[kept], self.items[kept], self.sources[kept], self.features[kept], self.liking[kept]
        )
