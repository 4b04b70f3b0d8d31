"""Metrics of lists with any number of relevant items, of probabilities, and of what lists are made of.

Each takes hits bool (B, n), whether place j of list b is relevant, and `relevant` int (B,), how many items were; and
gives one value for each list, so that users can be drawn for intervals. A list without relevant items is not asked for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Hits = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]


def precision(hits: Hits, k: int) -> Floats:
    """The share of the first `k` places that are relevant."""
    return np.asarray(hits[:, :k].sum(axis=1) / k, dtype=np.float64)


def recall(hits: Hits, relevant: Counts, k: int) -> Floats:
    """The share of the relevant items within the first `k`; its mean over lists is mAR@k."""
    return np.asarray(hits[:, :k].sum(axis=1) / relevant, dtype=np.float64)


def hit_rate(hits: Hits, k: int) -> Floats:
    """1.0 where any of the first `k` is relevant."""
    return np.asarray(hits[:, :k].any(axis=1), dtype=np.float64)


def f1(hits: Hits, relevant: Counts, k: int) -> Floats:
    """The harmonic mean of precision and recall at `k`."""
    return np.asarray(2.0 * hits[:, :k].sum(axis=1) / (k + relevant), dtype=np.float64)


def average_precision(hits: Hits, relevant: Counts, k: int) -> Floats:
    """The precision at each relevant place of the first `k`, summed, by `min(relevant, k)`; its mean is mAP@k."""
    inside = hits[:, :k]
    precisions = np.cumsum(inside, axis=1) / np.arange(1, inside.shape[1] + 1)
    return np.asarray((precisions * inside).sum(axis=1) / np.minimum(relevant, k), dtype=np.float64)


def ndcg(hits: Hits, relevant: Counts, k: int) -> Floats:
    """The discounted gain of the first `k` by that of the best list (Järvelin and Kekäläinen, 2002)."""
    discounts = 1.0 / np.log2(np.arange(k) + 2.0)
    inside = hits[:, :k]
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(relevant, k)]
    return np.asarray(inside @ discounts[: inside.shape[1]] / ideal, dtype=np.float64)


def reciprocal_rank(hits: Hits) -> Floats:
    """1 by the place of the first relevant item, 0 without one."""
    return np.where(hits.any(axis=1), 1.0 / (hits.argmax(axis=1) + 1.0), 0.0)


def auc(hits: Hits, relevant: Counts, catalogue: Counts, listed: Hits) -> Floats:
    """The chance that a relevant item stands before one that is not, in the whole catalogue.

    What a list leaves out comes after it in no order: the relevant ones among it stand in the middle.

    Args:
        catalogue: (B,) how many items each list could have been made of.
        listed: bool (B, n), which places of the lists hold an item: a list is padded where fewer items than n are left.
    """
    above = np.cumsum(listed & ~hits, axis=1)
    listed_others = above[:, -1] if hits.shape[1] else np.zeros(len(hits), dtype=np.int64)
    # relevant items may be withdrawn, so that the catalogue lacks them
    others = np.maximum(np.maximum(catalogue - relevant, listed_others), 1)
    beaten = ((others[:, None] - above) * hits).sum(axis=1)
    absent = relevant - hits.sum(axis=1)
    return np.asarray((beaten + absent * (others - listed_others) / 2.0) / (relevant * others), dtype=np.float64)


def grouped_auc(values: Floats, relevant: Counts, users: Counts) -> float:
    """The mean of each user's AUC, each user counting by the relevant items (Zhou et al., 2018)."""
    _, of = np.unique(users, return_inverse=True)
    weights = np.bincount(of, relevant)
    means = np.bincount(of, values * relevant) / weights
    return float(np.average(means, weights=weights)) if len(means) else 0.0


def log_loss(probabilities: Floats, came_true: npt.NDArray[np.bool_]) -> float:
    """The mean surprise, in nats, of what came true (k,) under probabilities (k,)."""
    p = np.clip(probabilities.astype(np.float64), 1e-12, 1.0 - 1e-12)
    return float(-np.where(came_true, np.log(p), np.log1p(-p)).mean()) if len(p) else 0.0


def calibration_curve(probabilities: Floats, came_true: npt.NDArray[np.bool_], bins: int = 10) -> Floats:
    """What was told and what came true, on average in each of at most `bins` bins of equally many: (bins, 2)."""
    parts = np.array_split(np.argsort(probabilities, kind="stable"), bins)
    means = [(probabilities[part].mean(), came_true[part].mean()) for part in parts if len(part)]
    return np.array(means, dtype=np.float64).reshape(-1, 2)


def calibration_error(probabilities: Floats, came_true: npt.NDArray[np.bool_], bins: int = 10) -> float:
    """How far probabilities are from what came true, over bins of equally many (ECE; Naeini et al., 2015)."""
    told, came = calibration_curve(probabilities, came_true, bins).T
    sizes = [len(part) for part in np.array_split(probabilities, bins) if len(part)]
    return float(np.abs(told - came) @ sizes / max(sum(sizes), 1))


def coverage(lists: npt.NDArray[np.integer], catalogue: int) -> float:
    """The share of the catalogue that stands on any list (B, n); -1 is no item."""
    return len(np.unique(lists[lists >= 0])) / max(catalogue, 1)


def novelty(lists: npt.NDArray[np.integer], shares: npt.NDArray[np.floating]) -> float:
    """The mean self-information, in bits, of the items listed, by their shares (rows,) of all positives."""
    listed = shares[lists[lists >= 0]]
    return float(-np.log2(np.maximum(listed, 1e-9)).mean()) if len(listed) else 0.0


def diversity(lists: npt.NDArray[np.integer], keys: npt.NDArray[np.integer]) -> float:
    """The mean over lists (B, n) of how little two of their items share: 1 less the Jaccard index of their keys.

    Args:
        keys: (rows, m) of each item, padded with 0.
    """
    values = []
    for row in lists:
        items = keys[row[row >= 0]]
        if len(items) < 2:
            continue
        known = np.unique(items[items > 0])
        has = np.zeros((len(items), len(known) + 1), dtype=np.float64)
        where = np.searchsorted(known, items)
        np.put_along_axis(has, np.where(items > 0, where, len(known)), 1.0, axis=1)
        has = has[:, :-1]
        both, sizes = has @ has.T, has.sum(axis=1)
        likeness = both / np.maximum(sizes[:, None] + sizes[None, :] - both, 1.0)
        upper = np.triu_indices(len(items), 1)
        values.append(1.0 - likeness[upper].mean())
    return float(np.mean(values)) if values else 0.0
