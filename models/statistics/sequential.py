"""A test that may be looked at whenever one likes: the mixture sequential probability ratio test.

The likelihood ratio of "the effect is drawn from N(0, tau^2)" to "there is none" is a martingale where there is none,
so the chance that it ever reaches 1 / alpha is at most alpha (Robbins, 1970; Johari, Koomen, Pekelis and Walsh, "Always
Valid Inference: Continuous Monitoring of A/B Tests", Operations Research 70(3), 2022). For an estimate with variance V

    ratio = sqrt(V / (V + tau^2)) exp(tau^2 d^2 / (2 V (V + tau^2)))

It is right for large samples where the estimates' increments are independent, as those of means and ratios over ever
more users or sessions are (Waudby-Smith et al., "Time-uniform central limit theory", 2024). `tau` is the size of the
effects that one hopes for: it moves the power, never the error.
"""

from __future__ import annotations

import math

import numpy as np

from models.statistics.effects import Estimate, Floats


def always_valid_p(estimate: Estimate, tau: float) -> Floats:
    """The p-value as of now: at whatever moment one stops, it is below alpha in at most alpha of the null cases.

    Args:
        tau: above 0, in the unit of the estimate.
    """
    variance = np.asarray(estimate.variance)
    finite = np.isfinite(variance)
    v = np.where(finite, np.maximum(variance, 1e-300), 1.0)
    log_ratio = 0.5 * np.log(v / (v + tau**2)) + tau**2 * estimate.value**2 / (2.0 * v * (v + tau**2))
    return np.where(finite & (variance > 0), np.minimum(1.0, np.exp(-np.minimum(log_ratio, 700.0))), 1.0)


def always_valid_interval(estimate: Estimate, tau: float, level: float = 0.95) -> tuple[Floats, Floats]:
    """The effects that the test does not reject: all the intervals ever looked at hold the truth together."""
    v = np.asarray(estimate.variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = 2.0 * v * (v + tau**2) / tau**2 * (-math.log(1.0 - level) + 0.5 * np.log1p(tau**2 / v))
        half = np.where(np.isfinite(v), np.sqrt(np.where(v > 0, ends, 0.0)), np.inf)
    return estimate.value - half, estimate.value + half
