"""Ranking metrics for one relevant item per list, from its 0-based rank; `ABSENT` where the list lacks it.

With one relevant item the ideal gain is 1, so recall@k is the hit rate and NDCG@k is `1 / log2(rank + 2)` inside the
first k (Järvelin and Kekäläinen, 2002).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Ranks = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]

ABSENT: Final = -1


def ranks_of(lists: npt.NDArray[np.integer], targets: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
    """The rank of each target (B,) in its list (B, n): the first place it stands, or `ABSENT`."""
    if not lists.shape[1]:
        return np.full(len(targets), ABSENT, dtype=np.intp)
    found = lists == targets[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), ABSENT)


def hits(ranks: Ranks, k: int) -> Floats:
    """1.0 for each rank within the first `k`, else 0.0."""
    return ((ranks >= 0) & (ranks < k)).astype(np.float64)


def gains(ranks: Ranks, k: int) -> Floats:
    """The discounted gain of each rank: `1 / log2(rank + 2)` within the first `k`, else 0."""
    return hits(ranks, k) / np.log2(np.maximum(ranks, 0) + 2.0)


def reciprocals(ranks: Ranks) -> Floats:
    """`1 / (rank + 1)` for each rank, 0 for those absent."""
    return (ranks >= 0) / (np.maximum(ranks, 0) + 1.0)


def recall_at(ranks: Ranks, k: int) -> float:
    """The share of lists that have their relevant item within the first `k`; 0 for no lists."""
    return _mean(hits(ranks, k))


def ndcg_at(ranks: Ranks, k: int) -> float:
    """The mean discounted gain within the first `k`; 0 for no lists."""
    return _mean(gains(ranks, k))


def mrr(ranks: Ranks) -> float:
    """The mean reciprocal rank over the whole list; 0 for no lists."""
    return _mean(reciprocals(ranks))


def bootstrap_interval(
    values: Floats,
    groups: npt.NDArray[np.integer],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """A percentile bootstrap interval of the mean of `values` (n,), drawing whole groups.

    One user's events are not independent of each other, so users are drawn with replacement, not events (the
    cluster bootstrap; Field and Welsh, 2007). The interval is as wide as the number of users makes it.

    Args:
        groups: int (n,), whose value each is.
        level: the interval's coverage, in (0, 1).
    """
    if not len(values):
        return 0.0, 0.0
    _, of = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(of, values), np.bincount(of)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for index in range(resamples):
        drawn = rng.integers(0, len(sums), len(sums))
        means[index] = sums[drawn].sum() / sizes[drawn].sum()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0
