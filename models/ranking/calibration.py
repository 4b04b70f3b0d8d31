"""Calibration: from a score's log-odds to a probability that comes true as often as it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_STEPS = 30
_RIDGE = 1e-3
_LIMIT = 30.0


@dataclass(frozen=True)
class Platt:
    """`probability = sigmoid(slope * log-odds + offset)` (Platt, 1999)."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, log_odds: npt.NDArray[np.floating]) -> Floats:
        """The probabilities (k,) that log-odds (k,) stand for."""
        return _sigmoid(self.slope * log_odds.astype(np.float64) + self.offset)

    @classmethod
    def fitted(cls, log_odds: npt.NDArray[np.floating], came_true: npt.NDArray[np.bool_], weights: Floats) -> Platt:
        """The map under which what came true (k,), weighted, is likeliest; drawn a little towards changing nothing.

        By Newton's method; before both outcomes have been met nothing is changed.
        """
        if not came_true.any() or came_true.all():
            return cls()
        x = np.stack([log_odds.astype(np.float64), np.ones(len(log_odds))], axis=1)
        start = np.array([1.0, 0.0])
        theta = start.copy()
        for _ in range(_STEPS):
            p = _sigmoid(x @ theta)
            gradient = x.T @ (weights * (p - came_true)) + _RIDGE * (theta - start)
            curvature = (x * (weights * p * (1.0 - p))[:, None]).T @ x + _RIDGE * np.eye(2)
            step = np.linalg.solve(curvature, gradient)
            theta = theta - np.clip(step, -1.0, 1.0)
            if float(np.abs(step).max()) < 1e-6:
                break
        # a negative slope would turn the order round: the scores then say nothing
        return cls(float(theta[0]), float(theta[1])) if np.isfinite(theta).all() and theta[0] > 0 else cls()

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        """Its numbers, to be kept."""
        return {"calibration": np.array([self.slope, self.offset])}

    @classmethod
    def from_tables(cls, tables: Mapping[str, npt.NDArray[Any]]) -> Platt:
        """What `tables` was made of."""
        slope, offset = tables["calibration"].tolist()
        return cls(slope, offset)


@dataclass(frozen=True)
class Isotonic:
    """Straight lines between knots, the likeliest of all curves that do not fall (Zadrozny and Elkan, 2002).

    Attributes:
        log_odds, probabilities: float64 (n,), ascending; outside of them the nearest one counts.
    """

    log_odds: Floats
    probabilities: Floats

    TABLES: ClassVar = {"calibration_log_odds", "calibration_probabilities"}

    def __call__(self, log_odds: npt.NDArray[np.floating]) -> Floats:
        """The probabilities (k,) that log-odds (k,) stand for."""
        return np.interp(log_odds.astype(np.float64), self.log_odds, self.probabilities)

    @classmethod
    def fitted(
        cls, log_odds: npt.NDArray[np.floating], came_true: npt.NDArray[np.bool_], weights: Floats
    ) -> Isotonic | Platt:
        """The curve under which what came true (k,), weighted, is likeliest, by pool-adjacent-violators.

        Before both outcomes have been met nothing is changed. What never came true may do so next time: no
        probability is 0 or 1.
        """
        if not came_true.any() or came_true.all():
            return Platt()
        from scipy.optimize import isotonic_regression

        x, of = np.unique(log_odds.astype(np.float64), return_inverse=True)
        counts = np.bincount(of, weights)
        pooled = isotonic_regression(np.bincount(of, weights * came_true) / counts, weights=counts)
        starts = pooled.blocks[:-1]
        ends = pooled.blocks[1:] - 1
        knots = np.unique(np.concatenate([starts, ends]))
        least = 0.5 / counts.sum()
        return cls(x[knots], np.clip(pooled.x[knots], least, 1.0 - least))

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        """Its numbers, to be kept."""
        return {"calibration_log_odds": self.log_odds, "calibration_probabilities": self.probabilities}

    @classmethod
    def from_tables(cls, tables: Mapping[str, npt.NDArray[Any]]) -> Isotonic:
        """What `tables` was made of."""
        return cls(tables["calibration_log_odds"], tables["calibration_probabilities"])


Calibration = Platt | Isotonic


def log_odds_of(log_probability: npt.NDArray[np.floating]) -> Floats:
    """The log-odds (k,) of probabilities given as logarithms (k,)."""
    logs = np.minimum(log_probability.astype(np.float64), -1e-9)
    odds: Floats = np.clip(logs - np.log(-np.expm1(logs)), -_LIMIT, _LIMIT)
    return odds


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -_LIMIT, _LIMIT)))
