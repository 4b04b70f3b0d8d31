"""The gate: a candidate goes into service only when its lists are no worse than those that are there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from models.metrics import gains, hits

Ranks = npt.NDArray[np.intp]

LIST = 10


def scores(ranks: Mapping[str, Ranks]) -> dict[str, float]:
    """`ndcg_at_10` and `recall_at_10` of each rival's ranks (k,) of the same events, the rival's prefix before them."""
    metrics: dict[str, float] = {}
    for prefix, found in ranks.items():
        metrics[f"{prefix}ndcg_at_10"] = float(gains(found, LIST).mean()) if len(found) else 0.0
        metrics[f"{prefix}recall_at_10"] = float(hits(found, LIST).mean()) if len(found) else 0.0
    return metrics


def verdict(mine: Ranks, theirs: Ranks, name: str, *, doubt: float = 0.0) -> tuple[bool, str]:
    """Whether the candidate is promoted, by its ranks (k,) and those of `name`, and why.

    Which of two is ahead on few events is partly chance, so the reason tells the difference's standard error as well.

    Args:
        doubt: the candidate may be behind by so many standard errors.
    """
    ours, others = gains(mine, LIST), gains(theirs, LIST)
    ours, others = (each if len(each) else np.zeros(1) for each in (ours, others))
    error = float((ours - others).std() / np.sqrt(len(ours)))
    gain = float((ours - others).mean())
    why = (
        f"ndcg@10 {ours.mean():.4f} against {others.mean():.4f} of {name}: {gain:+.4f} (give or take {error:.4f}) "
        f"on {len(mine)} events"
    )
    return gain >= -doubt * error, why
