"""Minutes: how long a user will watch an item, should the user take it up; a ridge regression on a logarithm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_RIDGE = 10.0
_LEAST = 50


@dataclass(frozen=True)
class Minutes:
    """Expected minutes watched of what is liked.

    Attributes:
        weights: float32 (width + 1,), the last one constant.
        smear: by how much the mean exceeds what the mean logarithm stands for (Duan, 1983).
        most: the longest that was met.
    """

    weights: Floats
    smear: float
    most: float

    @classmethod
    def fitted(cls, scaled: Floats, minutes: Floats) -> Minutes | None:
        """Learnt from what was chosen, with scaled features (k, width); None where too few minutes (k,) are known."""
        known = np.isfinite(minutes)
        if np.count_nonzero(known) < _LEAST:
            return None
        x = np.concatenate([scaled[known], np.ones((np.count_nonzero(known), 1))], axis=1, dtype=np.float64)
        y = np.log1p(minutes[known].astype(np.float64))
        ridge = _RIDGE * np.eye(x.shape[1])
        ridge[-1, -1] = 0.0
        weights = np.linalg.solve(x.T @ x + ridge, x.T @ y)
        smear = float(np.exp(y - x @ weights).mean())
        return cls(weights.astype(np.float32), smear, float(minutes[known].max()))

    def __call__(self, scaled: Floats) -> Floats:
        """The minutes (k,) expected of candidates with scaled features (k, width)."""
        logs = np.minimum(scaled @ self.weights[:-1] + self.weights[-1], np.log1p(self.most))
        minutes: Floats = np.clip(np.exp(logs) * self.smear - 1.0, 0.0, self.most).astype(np.float32)
        return minutes

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        """Its numbers, to be kept."""
        return {"minutes_weights": self.weights, "minutes_about": np.array([self.smear, self.most])}

    @classmethod
    def from_tables(cls, tables: Mapping[str, npt.NDArray[Any]]) -> Minutes | None:
        """What `tables` was made of, if they have it."""
        if "minutes_weights" not in tables:
            return None
        smear, most = tables["minutes_about"].tolist()
        return cls(tables["minutes_weights"], smear, most)
