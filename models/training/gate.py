"""The gate: a candidate goes into service only on evidence that its lists are no worse than those that are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from models.metrics.retrieval_metrics import gains, hits

Ranks = npt.NDArray[np.intp]

LIST = 10
#: With fewer comparable events the model in service stays: which of two is ahead on them is mostly chance.
MIN_EVENTS: Final = 200
#: A successor may be behind by this many standard errors: it was trained on more events than the incumbent, and is
#: trained on the slice that the two are compared on before it serves.
_DOUBT: Final = 1.0


def scores(ranks: Mapping[str, Ranks]) -> dict[str, float]:
    """`ndcg_at_10` and `recall_at_10` of each rival's ranks (k,) of the same events, the rival's prefix before them."""
    metrics: dict[str, float] = {}
    for prefix, found in ranks.items():
        metrics[f"{prefix}ndcg_at_10"] = float(gains(found, LIST).mean()) if len(found) else 0.0
        metrics[f"{prefix}recall_at_10"] = float(hits(found, LIST).mean()) if len(found) else 0.0
    return metrics


def verdict(
    mine: Ranks, theirs: Ranks, rival: str, *, in_service: str | None, min_events: int = MIN_EVENTS
) -> tuple[bool, str]:
    """Whether the candidate is promoted, by its ranks (k,) and those of `rival` of the same k events, and why.

    A model in service stays when there are fewer than `min_events`; else a successor may be behind by one standard
    error, which the reason names. The first model has to be no worse than its rival, trending items; on fewer than
    `min_events` it has to be better, so that a small system gets a model, but none without evidence.

    Args:
        in_service: the version that serves, None before the first.
    """
    events = f"{len(mine):,} comparable events"
    if not len(mine):
        compared = f"there are {events}: new likes in the newest slice that neither model was trained on"
        if in_service is None:
            return False, f"{compared}; the first model needs some to show that it is better than {rival}"
        return False, f"{compared}; at least {min_events:,} are needed, so {in_service} stays in service"
    ours, others = gains(mine, LIST), gains(theirs, LIST)
    error = float((ours - others).std() / np.sqrt(len(ours)))
    gain = float((ours - others).mean())
    why = (
        f"ndcg@10 {ours.mean():.4f} against {others.mean():.4f} of {rival}: {gain:+.4f} (± {error:.4f}) "
        f"on {len(mine):,} events"
    )
    few = len(mine) < min_events
    if in_service is None:
        if few:
            return gain > 0.0, f"{why}; on fewer than {min_events:,} the first model has to be better"
        return gain >= 0.0, why
    if few:
        return False, f"{events}, at least {min_events:,} are needed, so {in_service} stays in service; {why}"
    return gain >= -_DOUBT * error, why
