"""The prequential walk: each event is met with what was known before it, then learnt from (Dawid, 1984).

Models meet it in small strides, not after every event, as a served list is a little older than the event as well; what
is to be compared with them at its best is met one by one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from models.data.interactions import NO_ITEM, Interactions
from models.data.labels import POSITIVE, minutes_of
from models.data.popularity import Popularity, PopularityConfig
from models.data.users import Histories
from models.metrics.retrieval_metrics import ranks_of
from models.ranking.blend import Choices
from models.ranking.examples import Examples, shortlist
from models.ranking.features import times_shown
from models.ranking.inputs import Tokens
from models.recommender import Recommender

STRIDE = 32

Rows = npt.NDArray[np.int64]


def targets_of(histories: Histories) -> npt.NDArray[np.bool_]:
    """Which rows of the log are to be foretold: positives on an item that was new to their user, (len(log),)."""
    log = histories.log
    wanted: npt.NDArray[np.bool_] = (log.label == POSITIVE) & (log.item != NO_ITEM)
    return wanted & histories.is_new(np.arange(len(log)))


def popularity_before(log: Interactions, row: int, config: PopularityConfig, n_items: int) -> Popularity:
    """The item statistics (n_items rows) as of just before a row of the log."""
    popularity = Popularity(config, n_items)
    _count(popularity, log, 0, row)
    return popularity


def strides(
    log: Interactions, wanted: npt.NDArray[np.bool_], start: int, stop: int, popularity: Popularity, *, every: int = 1
) -> Iterator[Rows]:
    """Walk the rows from `start` to `stop`, giving the wanted ones of each stride before `popularity` counts them.

    Args:
        every: give those of one stride in so many.
    """
    for left in range(start, stop, STRIDE * every):
        rows = left + np.flatnonzero(wanted[left : min(left + STRIDE, stop)])
        if len(rows):
            yield rows
        _count(popularity, log, left, min(left + STRIDE * every, stop))


def one_by_one(log: Interactions, rows: Rows, start: int, popularity: Popularity) -> Iterator[Rows]:
    """Give each of `rows`, ascending, once `popularity`, which is as of row `start`, has counted all before it."""
    for row in rows.tolist():
        _count(popularity, log, start, row)
        start = row
        yield np.array([row])


def ranks_in_lists(
    recommender: Recommender,
    histories: Histories,
    rows: Rows,
    popularity: Popularity,
    allowed: npt.NDArray[np.bool_],
    *,
    n: int,
) -> npt.NDArray[np.intp]:
    """The rank of each row's item in the list of `n` its user would have been shown just before."""
    ranking = recommender.rank(
        histories.before(rows), popularity, allowed=allowed, seen=histories.seen_before(rows), n=n
    )
    return ranks_of(ranking.items, histories.log.item[rows])


def examples_among_candidates(
    recommender: Recommender,
    histories: Histories,
    rows: Rows,
    popularity: Popularity,
    allowed: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> Examples:
    """What the rows' users chose among the candidates they would have had; choices of something else are missed."""
    log, config = histories.log, recommender.config.ranker
    users = histories.before(rows)
    candidates = recommender.candidates(users, popularity, allowed, histories.seen_before(rows))
    hit = candidates.items == log.item[rows][candidates.users]
    lucky = np.unique(candidates.users[hit])
    near = shortlist(recommender.blend.score(candidates.features), candidates.users, len(rows), config.depth)
    sizes = np.bincount(candidates.users[near], minlength=len(rows))
    rates = np.ones(len(hit), dtype=np.float32)
    rates[near] = np.minimum(config.negatives / np.maximum(sizes, 1), 1.0)[candidates.users[near]]
    shown = np.concatenate([users.shown, histories.shown_since(rows)], axis=1)
    passed_over = times_shown(shown, candidates.users[near], candidates.items[near]) > 0
    rates[near[passed_over]] = 1.0
    rates[hit] = 1.0
    described = hit.copy()
    described[near] |= rng.random(len(near)) < rates[near]
    kept = np.isin(candidates.users, lucky)
    at = np.flatnonzero(described & kept)
    features, tokens = recommender.describe(users, popularity, candidates, at)
    return Examples(
        Choices(candidates.features[kept], np.searchsorted(lucky, candidates.users[kept]), np.flatnonzero(hit[kept])),
        np.flatnonzero(described[kept]),
        np.ascontiguousarray(features),  # what is learnt from is drawn by candidates
        Tokens(tokens.item, tokens.user[lucky], tokens.weights[lucky]),
        rates[at],
        log.weight[rows[lucky]],
        minutes_of(log.weight[rows[lucky]]),
        users.known[lucky],
        int(np.count_nonzero(users.known)) - int(np.count_nonzero(users.known[lucky])),
    )


def _count(popularity: Popularity, log: Interactions, start: int, stop: int) -> None:
    items = log.item[start:stop]
    on_item = items != NO_ITEM
    popularity.add(items[on_item], log.ts[start:stop][on_item], log.label[start:stop][on_item] == POSITIVE)
    shown = log.shown_between(start, stop)
    popularity.add(shown.item, shown.ts, np.zeros(len(shown.ts), dtype=bool))
