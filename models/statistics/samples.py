"""How many users a test needs, what it would find with those it has, and whether it got the users it should."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

#: Below this the shares are taken for wrong: a mismatch is looked for all the time, so the bar is high
#: (Fabijan et al., "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments", 2019).
MISMATCH: float = 0.0005


def users_needed(
    effect: float, variance: float, *, alpha: float = 0.05, power: float = 0.8, treated_share: float = 0.5
) -> int:
    """Users in both groups together, so that a two-sided test at `alpha` finds a true effect with the chance `power`.

    `(z(1 - alpha/2) + z(power))^2 variance (1/s + 1/(1 - s)) / effect^2` (any text on clinical trials; Kohavi, Tang
    and Xu, "Trustworthy Online Controlled Experiments", 2020, chapter 17).

    Args:
        effect: the true difference of the means, not 0.
        variance: of one user's value.
        treated_share: of the users, in (0, 1).
    """
    z = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)
    return math.ceil(z**2 * variance * (1 / treated_share + 1 / (1 - treated_share)) / effect**2)


def power_with(users: int, effect: float, variance: float, *, alpha: float = 0.05, treated_share: float = 0.5) -> float:
    """The chance that a two-sided test at `alpha` finds the effect with so many users in both groups together."""
    deviation = math.sqrt(variance * (1 / treated_share + 1 / (1 - treated_share)) / users)
    z, shift = NormalDist().inv_cdf(1 - alpha / 2), effect / deviation
    return NormalDist().cdf(shift - z) + NormalDist().cdf(-shift - z)


def sample_ratio_p(users: Sequence[int], shares: Sequence[float]) -> float:
    """How often groups of these shares would differ from them at least as much as the users do: Pearson's chi-square.

    Args:
        users: in each group.
        shares: what each should have of them; they need not add up to 1.
    """
    observed = np.asarray(users, np.float64)
    expected = np.asarray(shares, np.float64)
    if observed.sum() == 0 or len(observed) < 2:
        return 1.0
    expected = expected / expected.sum() * observed.sum()
    return chi_square_above(float(((observed - expected) ** 2 / expected).sum()), len(observed) - 1)


def chi_square_above(x: float, degrees: int) -> float:
    """The chance that a chi-square variable is above `x`: a finite sum where the degrees of freedom are whole.

    Abramowitz and Stegun, 26.4.4 and 26.4.5.
    """
    half = x / 2.0
    total, term, first = (0.0, 1.0, 0) if degrees % 2 == 0 else (math.erfc(math.sqrt(half)), 0.0, 1)
    if degrees % 2:
        term = math.sqrt(half) / math.gamma(1.5)
    for step in range(first, degrees // 2 + first):
        total += term * math.exp(-half)
        term *= half / (step + 1 if degrees % 2 == 0 else step + 0.5)
    return min(total, 1.0)
