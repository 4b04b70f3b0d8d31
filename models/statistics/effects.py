"""Effects with their uncertainty: means, ratios, differences, and variance reduction by a pre-period.

All is asymptotic: the estimate is taken for normal, which holds for some hundred users and more. Arrays may have
leading axes, one experiment each; the last one is the users'.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_erfc = np.vectorize(math.erfc, otypes=[float])


class Estimate(NamedTuple):
    """A number that was estimated, and the variance of the estimate (not of the population); of equal shapes (...)."""

    value: Floats
    variance: Floats

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """The bounds that hold the truth in that share of cases, looked at once."""
        half = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(self.variance)
        return self.value - half, self.value + half

    def p_value(self) -> Floats:
        """How often a number that is truly 0 would be estimated at least so far from it: two-sided, looked at once."""
        deviation = np.sqrt(self.variance)
        z = np.divide(self.value, deviation, out=np.zeros_like(self.value), where=deviation > 0)
        return np.asarray(_erfc(np.abs(z) / math.sqrt(2.0)), np.float64)


def mean_of(values: npt.ArrayLike) -> Estimate:
    """The mean of (..., n) values; with less than two of them its variance is infinite."""
    array = np.asarray(values, np.float64)
    n = array.shape[-1]
    if n < 2:
        value = array[..., 0] if n else np.zeros(array.shape[:-1])
        return Estimate(np.asarray(value), np.full(array.shape[:-1], np.inf))
    return Estimate(np.asarray(array.mean(-1)), np.asarray(array.var(-1, ddof=1) / n))


def difference(treated: Estimate, control: Estimate) -> Estimate:
    """By how much the one is more than the other; the two were estimated from different users."""
    return Estimate(treated.value - control.value, treated.variance + control.variance)


def relative(treated: Estimate, control: Estimate) -> Estimate:
    """The difference as a share of control, `t / c - 1`, by the delta method; nan where control is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = treated.value / control.value - 1.0
        variance = treated.variance / control.value**2 + treated.value**2 * control.variance / control.value**4
    return Estimate(value, variance)


def linearised(numerators: npt.ArrayLike, denominators: npt.ArrayLike) -> Floats:
    """A value for each user whose mean is the ratio of sums, and whose variance is that of the delta method.

    Users are drawn, not their sessions, so a rate over sessions cannot be treated as a mean of independent ones. With
    R = sum(y) / sum(x) the values are `R + (y - R x) / mean(x)` (Deng, Knoblich and Lu, "Applying the Delta Method in
    Metric Analytics", 2018; Budylin et al., "Consistent Transformation of Ratio Metrics", 2018). They may be used
    wherever values of users may: in `mean_of` and in `without_past`. All are 0 where the denominators are.
    """
    y, x = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    total = x.sum(-1, keepdims=True)
    ratio = np.divide(y.sum(-1, keepdims=True), total, out=np.zeros_like(total), where=total != 0)
    scale = total / max(x.shape[-1], 1)
    residual = np.divide(y - ratio * x, scale, out=np.zeros(y.shape), where=scale != 0)
    return np.asarray(ratio + residual, np.float64)


def without_past(
    treated: Floats, control: Floats, treated_before: Floats, control_before: Floats
) -> tuple[Floats, Floats]:
    """The values with what the same users' past foretells taken out: the same effect, less noise.

    CUPED (Deng, Xu, Kohavi and Walker, 2013): `y - theta (x - mean(x))` with the theta of least variance,
    cov(y, x) / var(x), over both groups together. The past must lie before the users were assigned.

    Args:
        treated, control: (..., n) and (..., m), a value of each user during the experiment.
        treated_before, control_before: the same users' values before it, of the same shapes.
    """
    y = np.concatenate([treated - treated.mean(-1, keepdims=True), control - control.mean(-1, keepdims=True)], -1)
    before = np.concatenate([treated_before, control_before], -1)
    x = before - before.mean(-1, keepdims=True)
    spread = (x * x).sum(-1, keepdims=True)
    theta = np.divide((x * y).sum(-1, keepdims=True), spread, out=np.zeros_like(spread), where=spread > 0)
    n = treated.shape[-1]
    return treated - theta * x[..., :n], control - theta * x[..., n:]
