"""Reasons: what a user liked that a recommended item is like."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.data.users import UserBatch
from models.retrieval.neighbours import Neighbours

Floats = npt.NDArray[np.float32]

#: An action of at least this strength counts as liking where a reason is looked for, among so many of the last.
_LIKED: Final = 0.5
_RECENT: Final = 20


def because(
    users: UserBatch,
    ranked: npt.NDArray[np.integer],
    item_vectors: Floats | None,
    neighbours: Neighbours | None,
) -> npt.NDArray[np.int32]:
    """For each ranked item (B, n), -1 padded, the row of the recently liked item most similar to it, or -1: (B, n).

    Args:
        item_vectors: (n_items, dim) of the item tower, which says what is similar; None before the first model.
        neighbours: say it until then.
    """
    none = np.full(ranked.shape, -1, dtype=np.int32)
    recent = users.items[:, -_RECENT:]
    liked: npt.NDArray[np.bool_] = (recent >= 0) & (users.strengths[:, -_RECENT:] >= _LIKED)
    if not liked.any():
        return none
    if item_vectors is not None:
        of_ranked, of_recent = (item_vectors[np.maximum(rows, 0)] for rows in (ranked, recent))
        near = of_ranked @ of_recent.transpose(0, 2, 1)
    elif neighbours is not None:
        near = _together(neighbours, ranked, np.where(liked, recent, -1))
    else:
        return none
    near = np.where(liked[:, None, :], near, -np.inf)
    nearest = np.take_along_axis(recent, near.argmax(axis=2), axis=1)
    return np.where(np.isfinite(near.max(axis=2)) & (ranked >= 0), nearest, none).astype(np.int32)


def _together(neighbours: Neighbours, ranked: npt.NDArray[np.integer], recent: npt.NDArray[np.integer]) -> Floats:
    """How like each ranked item is to each recent one by who liked both: (B, n, R), -inf where nobody did."""
    near = np.full((*ranked.shape, recent.shape[1]), -np.inf, dtype=np.float32)
    for place, rows in enumerate(recent.T):
        known = np.flatnonzero((rows >= 0) & (rows < len(neighbours.items)))
        others, alike = neighbours.items[rows[known]], neighbours.similarities(rows[known])
        met = ranked[known][:, :, None] == others[:, None, :]
        found = np.where(met, alike[:, None, :], 0).max(axis=2, initial=0)
        near[known, :, place] = np.where(found > 0, found, -np.inf)
    return near
