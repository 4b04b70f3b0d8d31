"""Calibration: from a score's log-odds to a probability that comes true as often as it says (Platt, 1999)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_STEPS = 30
_RIDGE = 1e-3
_LIMIT = 30.0


@dataclass(frozen=True)
class Platt:
    """`probability = sigmoid(slope * log-odds + offset)`."""

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


def log_odds_of(log_probability: npt.NDArray[np.floating]) -> Floats:
    """The log-odds (k,) of probabilities given as logarithms (k,)."""
    logs = np.minimum(log_probability.astype(np.float64), -1e-9)
    odds: Floats = np.clip(logs - np.log(-np.expm1(logs)), -_LIMIT, _LIMIT)
    return odds


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -_LIMIT, _LIMIT)))
