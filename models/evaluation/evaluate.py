"""Evaluation offline: train on the past, then look up what users liked later in the lists made before it.

Four protocols. `prequential`: each later positive that is new to its user is an ask of its own, met as of the moment
before it; users and popularity move on, the models where they are trained several times. `temporal`: each user with
such positives asks once, at the split, for all of them. `rolling`: the same at several splits, each with a training of
its own. `loo`: each user's last interaction is left out of all training and asked for as of then. There every
interaction counts alike, as in the published tables, and the sequence model is taught all others and asked alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.config import TrainingConfig
from models.data.interactions import Interactions
from models.data.popularity import PopularityConfig
from models.evaluation.baselines import Asks, Contender
from models.evaluation.cache import KINDS, OF_HALF_LIFE, OF_STACK, Fits
from models.evaluation.splits import Fold, Protocol, folds
from models.evaluation.standalone_sequence import alike
from models.metrics import list_metrics as lm
from models.metrics.retrieval_metrics import bootstrap_interval
from models.training.context import Course, TrainingData
from models.training.positives import require_positives
from models.training.prequential_walk import one_by_one, popularity_before, strides

#: The models that can be evaluated, in the order of the table.
MODELS: Final = (*OF_STACK, *KINDS)
LIST: Final = 10
#: How far down lists are looked at for metrics of whole rankings.
DEPTH: Final = 100
#: Where asks follow each other in time, the metrics are told for so many parts of them; else for each split.
_PARTS: Final = 10
#: A training takes about so many times as long as asking a model, and fitting so much of what a model takes.
_LONG, _FITTING = 7, 0.9

Rows = npt.NDArray[np.int64]
Progress = Callable[[str, float], None]
#: Makes a contender out of a course, what a fold lets it know of that, and the half-life of trending in seconds.
Maker = Callable[[Course, Fold, float], Contender]


def evaluate(
    data: TrainingData,
    config: TrainingConfig,
    *,
    popularity: PopularityConfig,
    protocol: Protocol = "prequential",
    models: Sequence[str] = ("system", "trending", "item_item"),
    share: float = 0.1,
    trainings: int = 1,
    others: Mapping[str, Maker] = MappingProxyType({}),
    keep: Path | None = None,
    progress: Progress,
) -> dict[str, Any]:
    """The metrics of each model on the same asks, ready for JSON.

    Args:
        share, trainings: see `folds`.
        others: contenders that are no model of ours, by name, each made anew for every fold.
        keep: a folder in which fits are kept and looked for, see `models.evaluation.cache`.

    Returns:
        `protocol`, `share`, `trainings`, `asks`, `trending_half_life_s` (0 where no model takes it), `found` (the fits
        that were there already, of every fold), and under `models` for each model the metrics, means over asks; with an
        interval of 95 % (users drawn) for recall and NDCG, and both for parts of the asks: users with and without a
        history, items that were and were not liked before the split; and `over_time`, part after part. Under `gains`,
        by how much the first model is above each other one in recall and NDCG, with an interval of the difference on
        the same asks, which is narrower than the two intervals.

    Raises:
        ValueError: there is no such model, or the protocol takes but one training.
        NothingToLearn: no interaction is a positive, or none of those that a training learns from.
        ArtefactError: what is kept cannot be read.
    """
    unknown = sorted(set(models) - set(MODELS))
    if unknown:
        raise ValueError(f"there is no model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    if trainings > 1 and protocol != "prequential":
        raise ValueError(f"only prequential takes several trainings, not {protocol}")
    if protocol == "loo":
        data = replace(data, interactions=alike(data.interactions))
    # in the rows of the course, which are those of every model: the log's own item codes are others
    course = Course.over(data, config, popularity, [])
    require_positives(course.histories.log, course.targets, len(course.items))
    all_folds = folds(protocol, course.histories.log, course.targets, share, trainings)
    given: dict[str, list[Answers]] = {name: [] for name in (*models, *others)}
    trained = next((name for name in given if name in OF_STACK), None)
    ends = list(accumulate(_LONG if name == trained else 1 for name in given))
    half_lives: list[float] = []
    found: list[set[str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, fold in enumerate(all_folds):
            fits = Fits(data, course, fold, keep or Path(scratch), alone=protocol == "loo")
            of_fold = _part(progress, number / len(all_folds), (number + 1) / len(all_folds))
            for name, (first, last) in zip(given, pairwise([0, *ends]), strict=True):
                tell = _part(of_fold, first / ends[-1], last / ends[-1])
                if name in others:
                    asked = others[name](course, fold, fits.half_life_s)
                else:
                    asked = fits.contender(name, _part(tell, 0.0, _FITTING))
                tell(f"asking {name}", _FITTING)
                given[name].append(answers(asked, name, course, fold, popularity))
            half_lives.append(fits.half_life_s if others or OF_HALF_LIFE & set(models) else 0.0)
            found.append(fits.found)
    progress("done", 1.0)
    return {
        "protocol": protocol,
        "share": share,
        "trainings": len(all_folds),
        "asks": sum(len(fold.asks) for fold in all_folds),
        "trending_half_life_s": half_lives,
        "found": sorted(set.intersection(*found)),
        "models": {name: _metrics(parts) for name, parts in given.items()},
        "gains": {name: _gain(given[models[0]], parts) for name, parts in given.items() if name != models[0]},
    }


def _part(progress: Progress, start: float, end: float) -> Progress:
    """What tells of a part of all work, from one share of it to another."""
    return lambda stage, done: progress(stage, start + (end - start) * done)


@dataclass(frozen=True)
class Answers:
    """What one model answered to the asks of one fold."""

    lists: npt.NDArray[np.int32]
    hits: npt.NDArray[np.bool_]
    probabilities: npt.NDArray[np.float32] | None
    relevant: npt.NDArray[np.int64]
    users: npt.NDArray[np.int32]
    ts: npt.NDArray[np.int64]
    moving: bool
    catalogue: npt.NDArray[np.int64]
    warm_user: npt.NDArray[np.bool_]
    warm_item: npt.NDArray[np.bool_]
    shares: npt.NDArray[np.float32]
    keys: npt.NDArray[np.int32]


def _asked(
    course: Course, fold: Fold, config: PopularityConfig, *, event_by_event: bool
) -> Iterator[tuple[Rows, Asks]]:
    """The asks, some at a time, with what is known as of each; popularity is that of the split, or moves on.

    Args:
        event_by_event: where it moves on, it has counted all before each ask; else it does so in strides.
    """
    log, histories = course.histories.log, course.histories
    popularity = popularity_before(log, fold.begin, config, len(course.items))
    walk: Iterable[Rows]
    if not fold.moving:
        walk = np.array_split(fold.asks, max(1, len(fold.asks) // 64))
    elif event_by_event:
        walk = one_by_one(log, fold.asks, fold.begin, popularity)
    else:
        wanted = np.zeros(len(log), dtype=bool)
        wanted[fold.asks] = True
        walk = strides(log, wanted, fold.begin, fold.stop, popularity)
    known = np.arange(len(log)) if fold.moving else _first_rows(log, fold.start)[log.user]
    for rows in walk:
        if len(rows):
            users, seen = histories.before(known[rows]), histories.seen_before(known[rows])
            yield rows, Asks(log.user[rows], users, seen, popularity, course.allowed)


def _first_rows(log: Interactions, start: int) -> Rows:
    """Each user's first row from `start` on, (users,), as of which the user is as at `start`; without one, the last."""
    first = np.full(len(log.user_ids), len(log) - 1)
    np.minimum.at(first, log.user[start:], np.arange(start, len(log)))
    return first


def answers(asked: Contender, name: str, course: Course, fold: Fold, config: PopularityConfig) -> Answers:
    """What a contender, which knows what lies before `fold.begin`, answers to the asks of a fold."""
    log = course.histories.log
    relevant_of = dict(zip(fold.asks.tolist(), fold.relevant, strict=True))
    known = fold.begin
    lists, hits, probabilities, catalogue, warm = [], [], [], [], []
    for rows, asks in _asked(course, fold, config, event_by_event=asked.event_by_event):
        if fold.moving:
            asked.follow(log, fold.between(known, int(rows[0])))
            known = int(rows[0])
        listed, chances = asked.lists(asks, DEPTH)
        lists.append(listed)
        hits.append(np.stack([np.isin(row, relevant_of[ask]) for row, ask in zip(listed, rows.tolist(), strict=True)]))
        probabilities.append(chances)
        allowed = int(asks.allowed.sum())
        catalogue.append([allowed - len(np.unique(seen[asks.allowed[seen]])) for seen in asks.seen])
        warm.append((asks.users.items >= 0).any(axis=1))
    liked = np.bincount(log.item[course.targets & fold.training], minlength=len(course.items)) > 0
    told = all(chances is not None for chances in probabilities) and name == "system"
    return Answers(
        np.concatenate([np.zeros((0, DEPTH), np.int32), *lists]),
        np.concatenate([np.zeros((0, DEPTH), bool), *hits]),
        np.concatenate([np.zeros((0, DEPTH), np.float32), *(each for each in probabilities if each is not None)])
        if told
        else None,
        np.array([len(each) for each in fold.relevant], np.int64),
        log.user[fold.asks],
        log.ts[fold.asks],
        fold.moving,
        np.concatenate([np.zeros(0, np.int64), *catalogue]).astype(np.int64),
        np.concatenate([np.zeros(0, bool), *warm]),
        np.array([liked[each].any() for each in fold.relevant], bool),
        popularity_before(log, fold.start, config, len(course.items)).shares()[:, -1],
        course.facts.keys,
    )


def _together(parts: Sequence[Answers], *names: str) -> Iterator[npt.NDArray[Any]]:
    return (np.concatenate([getattr(part, name) for part in parts]) for name in names)


def _gain(ours: Sequence[Answers], theirs: Sequence[Answers]) -> dict[str, Any]:
    relevant, users = _together(ours, "relevant", "users")
    told: dict[str, Any] = {}
    for name, metric in (("recall_at_10", lm.recall), ("ndcg_at_10", lm.ndcg)):
        one, other = (metric(next(_together(parts, "hits")), relevant, LIST) for parts in (ours, theirs))
        told[name] = float((one - other).mean()) if len(one) else 0.0
        told[f"{name}_interval"] = bootstrap_interval(one - other, users)
    return told


def _metrics(parts: Sequence[Answers]) -> dict[str, Any]:
    hits, relevant, users, catalogue, lists, warm_user, warm_item = _together(
        parts, "hits", "relevant", "users", "catalogue", "lists", "warm_user", "warm_item"
    )
    if not len(hits):
        return {}
    recall, ndcg = lm.recall(hits, relevant, LIST), lm.ndcg(hits, relevant, LIST)
    aucs = lm.auc(hits, relevant, catalogue, lists >= 0)
    metrics: dict[str, Any] = {
        "recall_at_10": float(recall.mean()),
        "recall_at_10_interval": bootstrap_interval(recall, users),
        "ndcg_at_10": float(ndcg.mean()),
        "ndcg_at_10_interval": bootstrap_interval(ndcg, users),
        "map_at_10": float(lm.average_precision(hits, relevant, LIST).mean()),
        "precision_at_10": float(lm.precision(hits, LIST).mean()),
        "f1_at_10": float(lm.f1(hits, relevant, LIST).mean()),
        "hit_rate_at_10": float(lm.hit_rate(hits, LIST).mean()),
        "mrr": float(lm.reciprocal_rank(hits).mean()),
        "auc": float(aucs.mean()),
        "grouped_auc": lm.grouped_auc(aucs, relevant, users),
        "coverage": lm.coverage(lists[:, :LIST], len(parts[-1].shares)),
        "novelty_bits": float(np.mean([lm.novelty(part.lists[:, :LIST], part.shares) for part in parts])),
        "diversity": float(np.mean([lm.diversity(part.lists[:, :LIST], part.keys) for part in parts])),
    }
    if all(part.probabilities is not None for part in parts):
        chances = np.concatenate([part.probabilities for part in parts if part.probabilities is not None])
        told = np.isfinite(chances)
        metrics["log_loss"] = lm.log_loss(chances[told], hits[told])
        metrics["log_loss_of_the_mean"] = lm.log_loss(np.full(told.sum(), hits[told].mean()), hits[told])
        metrics["calibration_error"] = lm.calibration_error(chances[told], hits[told])
        metrics["calibration"] = lm.calibration_curve(chances[told], hits[told]).tolist()
    segments = {"warm_users": warm_user, "cold_users": ~warm_user, "warm_items": warm_item, "cold_items": ~warm_item}
    metrics["segments"] = {
        name: {
            "asks": int(of.sum()),
            "recall_at_10": float(recall[of].mean()),
            "ndcg_at_10": float(ndcg[of].mean()),
            "ndcg_at_10_interval": bootstrap_interval(ndcg[of], users[of]),
        }
        for name, of in segments.items()
        if of.any()
    }
    metrics["over_time"] = _over_time(parts, recall, ndcg)
    return metrics


def _over_time(
    folds: Sequence[Answers], recall: npt.NDArray[np.float64], ndcg: npt.NDArray[np.float64]
) -> list[dict[str, float]]:
    """The metrics of parts of the asks, in the order of time; `until` is the last one's time in ms."""
    ts = np.concatenate([fold.ts for fold in folds])
    edges = np.cumsum([len(fold.ts) for fold in folds])[:-1]
    places = np.array_split(np.arange(len(ts)), _PARTS if folds[0].moving else edges)
    return [
        {"until": int(ts[part[-1]]), "recall_at_10": float(recall[part].mean()), "ndcg_at_10": float(ndcg[part].mean())}
        for part in places
        if len(part)
    ]
