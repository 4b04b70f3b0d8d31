"""What another policy would have earned, out of what the one in service logged: inverse propensity scores.

IPS is unbiased where every choice of the new policy had some chance under the old one; SNIPS divides by the sum of the
weights in place of their number, which is a little biased and much steadier (Horvitz and Thompson, 1952; Bottou et al.,
"Counterfactual Reasoning and Learning Systems", 2013; Swaminathan and Joachims, "The Self-Normalized Estimator for
Counterfactual Learning", 2015).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.statistics.effects import Estimate, linearised, mean_of


class OffPolicy(NamedTuple):
    """Both estimates of the new policy's mean reward, and how many rows the weights are worth (Kish, 1965)."""

    ips: Estimate
    snips: Estimate
    effective_rows: float


def off_policy(rewards: npt.ArrayLike, logged: npt.ArrayLike, new: npt.ArrayLike, *, cap: float = np.inf) -> OffPolicy:
    """Estimate the mean reward of a policy that has not served.

    Args:
        rewards: (n,) what each logged choice earned.
        logged: (n,) the chance of that choice under the policy that made it, in (0, 1].
        new: (n,) its chance under the new policy, in [0, 1].
        cap: weights above it are cut to it, which trades variance for bias.

    Raises:
        ValueError: a chance is none, or the lengths differ.
    """
    reward, old, wanted = (np.asarray(column, np.float64) for column in (rewards, logged, new))
    if not reward.shape == old.shape == wanted.shape or reward.ndim != 1:
        raise ValueError(f"need three columns of one length, not {reward.shape}, {old.shape} and {wanted.shape}")
    if not (np.all(old > 0) and np.all(old <= 1)):
        raise ValueError("a logged propensity is a chance above 0 and at most 1: what was chosen could be chosen")
    if not (np.all(wanted >= 0) and np.all(wanted <= 1)):
        raise ValueError("the new policy's propensity is a chance from 0 to 1")
    weights = np.minimum(wanted / old, cap)
    squares = float((weights**2).sum())
    return OffPolicy(
        ips=mean_of(weights * reward),
        snips=mean_of(linearised(weights * reward, weights)),
        effective_rows=float(weights.sum()) ** 2 / squares if squares else 0.0,
    )
