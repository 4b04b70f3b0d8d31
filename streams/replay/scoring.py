"""The prequential score of a replay: each positive is looked up in the list that was out before it, then learnt from.

The same events score two classics beside the system. `trending` is decayed popularity, its half-life tuned on the
first tenth of the events. `item_item` is damped item-item cosine, made up with trending where a user's neighbours do
not fill the list. Both are asked with the state before the event, in the same process, so they never lag; the system
is asked with what it had published. That favours the classics, as does scoring the first tenth with the half-life that
turned out best on it.
"""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.evaluation.classics import DecayedTrending, ItemItem, filled
from models.metrics import retrieval_metrics as metrics

_HOUR_S: Final = 3_600.0
#: From an hour to a year.
HALF_LIVES_S: Final = tuple(_HOUR_S * hours for hours in (1, 3, 6, 12, 24, 72, 168, 720, 2_160, 8_766))
SLICE_EVENTS: Final = 10_000
_CUT: Final = 10
_DAY_MS: Final = 86_400_000

Ranks = npt.NDArray[np.integer]


class PrequentialScore:
    """Scores events fed to it in the order of event time, one call each, over dense user and item numbers.

    Scored are the positives on items new to their user. An event whose id is among its user's last
    `recent_event_ids` is a copy: it neither scores nor teaches. Lists are looked at down to `list_size`.
    """

    def __init__(
        self,
        *,
        list_size: int = 20,
        recent_event_ids: int = 128,
        half_lives_s: Sequence[float] = HALF_LIVES_S,
    ) -> None:
        self._list_size = list_size
        self._half_lives_s = half_lives_s
        self._trending = [DecayedTrending(half_life) for half_life in half_lives_s]
        self._item_item = ItemItem()
        self._seen: defaultdict[int, set[int]] = defaultdict(set)
        self._ids: defaultdict[int, deque[str]] = defaultdict(lambda: deque(maxlen=recent_event_ids))
        self._events = 0
        self._copies = 0
        self._unlisted = 0
        # One entry for each scored event; of the classics, one for each half-life of each scored event.
        self._positions, self._users, self._times = array("q"), array("q"), array("q")
        self._system_ranks, self._trending_ranks, self._item_item_ranks = array("h"), array("h"), array("h")
        self._hits = 0
        self._trending_hits = [0] * len(half_lives_s)

    def add(
        self,
        *,
        event_id: str,
        user: int,
        item: int,
        ts: int,
        positive: bool,
        listed: Sequence[int] | None,
        scored: bool = True,
    ) -> None:
        """Take in one event on an item.

        Args:
            ts: event time in ms.
            positive: the event's label is positive.
            listed: the items of the list last published for the user, best first; None when there was none, which
                counts as a list without the item.
            scored: False for what is learnt from but proves nothing, as an item that the user took from the very
                list that it would be looked up in.
        """
        position = self._events
        self._events += 1
        if event_id in self._ids[user]:
            self._copies += 1
            return
        self._ids[user].append(event_id)
        seen = self._seen[user]
        if scored and positive and item not in seen:
            self._positions.append(position)
            self._users.append(user)
            self._times.append(ts)
            self._unlisted += listed is None
            rank = _rank(item, () if listed is None else listed[: self._list_size])
            self._system_ranks.append(rank)
            self._hits += 0 <= rank < _CUT
            near = self._item_item.top(user, self._list_size, seen)
            for index, baseline in enumerate(self._trending):
                top = baseline.top(user, self._list_size, seen)
                rank = _rank(item, top)
                self._trending_ranks.append(rank)
                self._trending_hits[index] += 0 <= rank < _CUT
                self._item_item_ranks.append(_rank(item, filled(near, top, self._list_size)))
        for baseline in self._trending:
            baseline.learn(user, item, ts, positive)
        self._item_item.learn(user, item, ts, positive)
        seen.add(item)

    def will_score(self, *, event_id: str, user: int, item: int, positive: bool) -> bool:
        """Whether `add` would look at the user's list for this event."""
        return positive and item not in self._seen[user] and event_id not in self._ids[user]

    def classics(self, user: int, size: int) -> dict[str, list[int]]:
        """The lists of `trending`, at the half-life that leads until now, and of `item_item` for the user as of now."""
        seen = self._seen[user]
        trending = self._trending[int(np.argmax(self._trending_hits))].top(user, size, seen)
        return {
            "trending": trending,
            "item_item": filled(self._item_item.top(user, size, seen), trending, size),
        }

    def so_far(self) -> tuple[float, float]:
        """Recall@10 until now of the system, and of trending at the half-life that leads until now."""
        scored = len(self._positions) or 1
        return self._hits / scored, max(self._trending_hits) / scored

    def report(self) -> dict[str, Any]:
        """The scores, ready for JSON.

        `recall_at_10`, `ndcg_at_10`, `mrr` (down to the list's size) of the system at the top level, the same of
        `trending` and `item_item` under their names, and of `trending_in_hindsight`, with the half-life that is best
        over all events, which nobody knew beforehand; `events_scored`, of them `events_scored_without_list`;
        `recall_gain`: the system's recall less trending's with a 95 % bootstrap interval over users; and the scores
        `by_day` of event time (UTC) and `by_events`, per 10,000 events.
        """
        positions, times = np.array(self._positions), np.array(self._times)
        shape = (len(positions), len(self._half_lives_s))
        trending = np.array(self._trending_ranks, dtype=np.int16).reshape(shape)
        item_item = np.array(self._item_item_ranks, dtype=np.int16).reshape(shape)
        best = self._tuned(trending[positions < self._events / 10])
        hindsight = self._tuned(trending)
        ranks = {
            "system": np.array(self._system_ranks, dtype=np.int16),
            "trending": trending[:, best],
            "item_item": item_item[:, best],
        }
        days = [
            {"day": datetime.fromtimestamp(day * _DAY_MS / 1000, UTC).date().isoformat(), **scores}
            for day, scores in _by(times // _DAY_MS, ranks)
        ]
        slices = [
            {"from": at * SLICE_EVENTS, "to": min((at + 1) * SLICE_EVENTS, self._events), **scores}
            for at, scores in _by(positions // SLICE_EVENTS, ranks)
        ]
        gains = metrics.hits(ranks["system"], _CUT) - metrics.hits(ranks["trending"], _CUT)
        low, high = metrics.bootstrap_interval(gains, np.array(self._users))
        return {
            **_scores(ranks["system"]),
            "trending": {"half_life_s": self._half_lives_s[best], **_scores(ranks["trending"])},
            "trending_in_hindsight": {"half_life_s": self._half_lives_s[hindsight], **_scores(trending[:, hindsight])},
            "item_item": _scores(ranks["item_item"]),
            "events_scored": len(positions),
            "events_scored_without_list": self._unlisted,
            "copies_not_scored": self._copies,
            "recall_gain": {
                "over": "trending",
                "mean": round(float(gains.mean()), 6) if len(gains) else 0.0,
                "low": round(low, 6),
                "high": round(high, 6),
                "level": 0.95,
            },
            "by_day": days,
            "by_events": slices,
        }

    def _tuned(self, trending: Ranks) -> int:
        """Which half-life ranks the tuning events (n, half-lives) best: by recall, then by NDCG, then the shorter."""
        scores = [(metrics.recall_at(column, _CUT), metrics.ndcg_at(column, _CUT)) for column in trending.T]
        return scores.index(max(scores))


def _rank(item: int, items: Sequence[int]) -> int:
    return items.index(item) if item in items else metrics.ABSENT


def _scores(ranks: Ranks) -> dict[str, float]:
    return {
        "recall_at_10": round(metrics.recall_at(ranks, _CUT), 6),
        "ndcg_at_10": round(metrics.ndcg_at(ranks, _CUT), 6),
        "mrr": round(metrics.mrr(ranks), 6),
    }


def _by(groups: npt.NDArray[np.integer], ranks: Mapping[str, Ranks]) -> list[tuple[int, dict[str, Any]]]:
    """The scores of each group of scored events, in the order of the groups."""
    return [
        (
            int(group),
            {
                "events_scored": int((groups == group).sum()),
                **{name: _scores(column[groups == group]) for name, column in ranks.items()},
            },
        )
        for group in np.unique(groups)
    ]
