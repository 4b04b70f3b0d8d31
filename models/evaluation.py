"""Evaluation offline: train on the past, then rank each later positive as of the moment before it, against classics.

It is the prequential test without a broker: histories and popularity move on, the model does not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from models.classics import Baseline, DecayedTrending, ItemItem
from models.config import TrainingConfig
from models.interactions import NO_ITEM
from models.labels import CONSUMING, POSITIVE
from models.metrics import ABSENT, bootstrap_interval, hits, mrr, ndcg_at, recall_at
from models.popularity import PopularityConfig
from models.prequential import popularity_before, ranks_in_lists, strides
from models.recommender import Recommender
from models.training import Course, TrainingData, train

#: Half-lives tried for the trending baseline, in days; the best on the first tenth is the baseline.
TRENDING_DAYS: Final = (0.25, 1.0, 3.0, 7.0, 30.0, 90.0, 365.0)
LIST: Final = 10
_CONSUMING = frozenset(int(action) for action in CONSUMING)

Ranks = npt.NDArray[np.intp]


def evaluate_temporal(
    data: TrainingData,
    config: TrainingConfig,
    *,
    popularity: PopularityConfig,
    share: float = 0.1,
    progress: Callable[[str, float], None],
) -> dict[str, float]:
    """Metrics of the full stack and of the baselines on the newest `share` of the interactions.

    Every positive there that is new to its user is looked for in a list of ten, made of what was known before it.

    Returns:
        `events`, and under the prefixes `""`, `trending_` and `item_item_` the metrics `recall_at_10`, `ndcg_at_10`
        and `mrr`; `recall_at_10_low` and `…_high` bound the system's by 95 %, users drawn; `trending_half_life_s`.
    """
    log = data.interactions
    start = int(len(log) * (1.0 - share))
    with tempfile.TemporaryDirectory() as folder:
        train(
            TrainingData(log.rows(slice(0, start)), data.items, data.profiles),
            config,
            kind="retrain",
            incumbent=None,
            out=Path(folder),
            version="evaluated",
            offsets={},
            popularity=popularity,
            progress=lambda stage, done: progress(stage, 0.6 * done),
        )
        recommender = Recommender.load(Path(folder))
    course = Course.over(data, config, popularity, recommender.item_ids)
    progress("ranking", 0.6)
    rows, system = _system_ranks(recommender, course, start, popularity)
    progress("baselines", 0.8)
    half_life = _best_half_life(course)
    users = course.histories.log.user[rows]
    low, high = bootstrap_interval(hits(system, LIST), users)
    metrics = {
        "events": float(len(rows)),
        "recall_at_10_low": low,
        "recall_at_10_high": high,
        "trending_half_life_s": half_life,
    }
    size = len(log)
    baselines: dict[str, Baseline] = {"trending_": DecayedTrending(half_life), "item_item_": ItemItem()}
    found = {"": system} | {name: _baseline_ranks(each, course, start, size) for name, each in baselines.items()}
    for prefix, ranks in found.items():
        metrics[f"{prefix}recall_at_10"] = recall_at(ranks, LIST)
        metrics[f"{prefix}ndcg_at_10"] = ndcg_at(ranks, LIST)
        metrics[f"{prefix}mrr"] = mrr(ranks)
    progress("done", 1.0)
    return metrics


def _system_ranks(
    recommender: Recommender, course: Course, start: int, config: PopularityConfig
) -> tuple[npt.NDArray[np.int64], Ranks]:
    log = course.histories.log
    recommender.admit(course.items)
    popularity = popularity_before(log, start, config, len(course.items))
    rows, ranks = [np.zeros(0, np.int64)], [np.zeros(0, np.intp)]
    for some in strides(log, course.targets, start, len(log), popularity):
        rows.append(some)
        ranks.append(ranks_in_lists(recommender, course.histories, some, popularity, course.allowed, n=LIST))
    return np.concatenate(rows), np.concatenate(ranks)


def _best_half_life(course: Course) -> float:
    tenth = len(course.histories.log) // 10
    tried = [day * 86_400.0 for day in TRENDING_DAYS]
    found = [recall_at(_baseline_ranks(DecayedTrending(each), course, 0, tenth), LIST) for each in tried]
    return tried[int(np.argmax(found))]


def _baseline_ranks(baseline: Baseline, course: Course, start: int, stop: int) -> Ranks:
    """The rank of each target from row `start` on in the baseline's list; it learns every row before `stop`."""
    log = course.histories.log
    seen: dict[int, set[int]] = {}
    ranks = []
    for row in range(stop):
        user, item, label = int(log.user[row]), int(log.item[row]), int(log.label[row])
        if item == NO_ITEM:
            continue
        known = seen.setdefault(user, set())
        if row >= start and course.targets[row]:
            best = baseline.top(user, LIST, known)
            ranks.append(best.index(item) if item in best else ABSENT)
        baseline.learn(user, item, int(log.ts[row]), label == POSITIVE)
        if int(log.action[row]) in _CONSUMING:
            known.add(item)
    return np.array(ranks, dtype=np.intp)
