"""What the ranking networks read of a candidate: numbers of like scale, and tokens of user and item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.data.item_facts import ItemFacts
from models.data.users import UserBatch

Floats = npt.NDArray[np.float32]

_WIDEST = 4.0
_LEAST_SPREAD = 1e-3
_SELDOM = 1e-3
#: So many of the items that a user dealt with last are tokens of the user.
_WATCHED = 20
#: Knuth's multiplier: rows beside each other get buckets far apart.
_SPREADS_ROWS = 2_654_435_761


@dataclass(frozen=True)
class Scaling:
    """Features on one scale: less their mean, by their spread, cut off; 0 and a mark beside where not known.

    Attributes:
        mean, spread: float32 (F,).
        marked: bool (F,) the features that were now and then not known.
    """

    mean: Floats
    spread: Floats
    marked: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, features: Floats) -> Scaling:
        """The scaling of features (k, F)."""
        known = ~np.isnan(features)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, features, 0.0).sum(axis=0, dtype=np.float64) / count
        squares = (np.where(known, features - mean, 0.0) ** 2).sum(axis=0, dtype=np.float64) / count
        spread = np.sqrt(squares)
        return cls(
            mean.astype(np.float32),
            np.where(spread < _LEAST_SPREAD, 1.0, spread).astype(np.float32),
            (~known).mean(axis=0) > _SELDOM if len(features) else np.zeros(features.shape[1], bool),
        )

    @property
    def width(self) -> int:
        """How many numbers it makes of a candidate's features."""
        return len(self.mean) + int(self.marked.sum())

    def __call__(self, features: Floats) -> Floats:
        """Features (k, F) as the networks read them: float32 (k, width), a feature's values beside each other."""
        out = np.empty((self.width, len(features)), dtype=np.float32)
        scaled = np.subtract(features.T, self.mean[:, None], out=out[: len(self.mean)])
        scaled /= self.spread[:, None]
        np.clip(scaled, -_WIDEST, _WIDEST, out=scaled)
        unknown = np.isnan(scaled)
        np.copyto(scaled, 0.0, where=unknown)
        out[len(self.mean) :] = unknown[self.marked]
        return out.T

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        """Its numbers, to be kept."""
        return {"scaling_mean": self.mean, "scaling_spread": self.spread, "scaling_marked": self.marked}

    @classmethod
    def from_tables(cls, tables: Mapping[str, npt.NDArray[Any]]) -> Scaling:
        """What `tables` was made of."""
        return cls(*(tables[f"scaling_{name}"] for name in ("mean", "spread", "marked")))


@dataclass(frozen=True)
class Tokens:
    """The hashed tokens of candidates and of their users.

    Attributes:
        item: int32 (k, m) of each candidate, padded with 0.
        user: int32 (U, n) of each user, padded with 0, and `weights` float32 (U, n) of them.
    """

    item: npt.NDArray[np.int32]
    user: npt.NDArray[np.int32]
    weights: Floats

    @classmethod
    def of(cls, users: UserBatch, items: npt.NDArray[np.int64], facts: ItemFacts, buckets: int) -> Tokens:
        """An item's histogram keys and a token of its own; a user's profile, histogram and the items liked last, each
        weighing 1 in all, and the words searched for last, as they fade."""
        recent = users.items[:, -_WATCHED:].astype(np.int64)
        liked = np.where(recent >= 0, users.strengths[:, -_WATCHED:], 0.0)
        watched = np.where(liked > 0, _own_tokens(recent, buckets), 0)
        named = users.profile > 0
        profile, liking = (each / np.maximum(each.sum(axis=1, keepdims=True), 1e-9) for each in (named, liked))
        weights = [profile, users.histogram_weights, liking, users.searched_weights]
        return cls(
            np.concatenate([facts.keys[items], _own_tokens(items, buckets)[:, None]], axis=1),
            np.concatenate([users.profile, users.histogram, watched, users.searched], axis=1, dtype=np.int32),
            np.concatenate(weights, axis=1, dtype=np.float32),
        )


def _own_tokens(items: npt.NDArray[np.int64], buckets: int) -> npt.NDArray[np.int32]:
    """The tokens of rows (…), each item's own."""
    return (items * _SPREADS_ROWS % (buckets - 1) + 1).astype(np.int32)
