"""Users as the models see them: what was known of each at one moment, as padded arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from models.config import TrainingConfig
from models.data.histograms import Histogram, histogram_weight
from models.data.interactions import NO_ITEM, Impressions, Interactions
from models.data.labels import CONSUMING
from models.data.searches import LastSearched
from models.data.tokens import hash_tokens, hash_users

#: Before all times of events, in ms.
_LONG_AGO: Final = -(1 << 62)
#: So many of the newest impressions of a user are looked at.
SHOWN: Final = 64
#: So many batches are kept, of so many users.
_KEPT: Final = 256
_SMALL: Final = 64
_CONSUMING = np.array(sorted(CONSUMING), dtype=np.uint8)


@dataclass(frozen=True)
class UserBatch:
    """B users, each at a moment `now`.

    Attributes:
        user: int32 (B,) their hashed ids.
        items: int32 (B, L) rows of the items acted on, oldest first, padded with -1 on the left.
        actions: uint8 (B, L), `models.data.labels.Action`.
        strengths: float32 (B, L) in [0, 1].
        ts: int64 (B, L) ms.
        now: int64 (B,) ms.
        profile: int32 (B, P) hashed profile tokens, padded with 0.
        histogram: int32 (B, M) hashed histogram keys, padded with 0.
        histogram_weights: float32 (B, M) their shares, padded with 0.
        searched: int32 (B, W) hashed words that the user searched for last, newest first, padded with 0.
        searched_weights: float32 (B, W) what each of them counts, at most 1 in all; see `models.data.searches.faded`.
        shown: int32 (B, S) rows of what was shown last, an item as often as it was shown, padded with -1.
        device: uint8 (B,) of the newest event, see `models.data.interactions.device_code`.
    """

    user: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    actions: npt.NDArray[np.uint8]
    strengths: npt.NDArray[np.float32]
    ts: npt.NDArray[np.int64]
    now: npt.NDArray[np.int64]
    profile: npt.NDArray[np.int32]
    histogram: npt.NDArray[np.int32]
    histogram_weights: npt.NDArray[np.float32]
    searched: npt.NDArray[np.int32]
    searched_weights: npt.NDArray[np.float32]
    shown: npt.NDArray[np.int32]
    device: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.now)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Who has done or searched for anything, (B,): until then models, whatever they make of a profile, mislead."""
        known: npt.NDArray[np.bool_] = (self.items >= 0).any(axis=1) | (self.searched != 0).any(axis=1)
        return known

    def take(self, users: slice | npt.NDArray[np.integer]) -> UserBatch:
        """The chosen users."""
        return UserBatch(*(getattr(self, each.name)[users] for each in fields(self)))


class Histories:
    """Every user's past in a log, to be looked up as of any of its rows.

    Args:
        log: interactions whose item codes are rows of the models.
        keys: for each row the hashed histogram keys of its item.
        profiles: profile tokens by user id.

    Attributes:
        users: int32 (users of the log,) hashed ids.
        profiles: int32 (users of the log, P) hashed tokens, padded with 0.
    """

    def __init__(
        self,
        log: Interactions,
        keys: Sequence[Sequence[int]],
        profiles: Mapping[str, Sequence[str]],
        config: TrainingConfig,
    ) -> None:
        self.log = log
        self._keys = keys
        self._config = config
        consumed = (log.item != NO_ITEM) & np.isin(log.action, _CONSUMING)
        by_user = np.argsort(log.user, kind="stable")
        counts = np.cumsum(consumed[by_user])
        # of a user's consumed events in `_order`, those before log row r are [_first[user], _end[r])
        self._order: npt.NDArray[np.intp] = by_user[consumed[by_user]]
        self._end = np.empty(len(log), dtype=np.int64)
        self._end[by_user] = counts - consumed[by_user]
        users = log.user[by_user]
        same = users[1:] == users[:-1]
        self._previous = np.full(len(log), -1, dtype=np.int64)
        self._previous[by_user[1:][same]] = by_user[:-1][same]
        by_whom = np.lexsort((log.shown.ts, log.shown.user))
        self._shown = Impressions(log.shown.user[by_whom], log.shown.item[by_whom], log.shown.ts[by_whom])
        starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]]) if len(users) else np.zeros(0, np.intp)
        self._first = np.zeros(len(log.user_ids), dtype=np.int64)
        self._first[users[starts]] = (counts - consumed[by_user])[starts]
        self._searched = LastSearched(log.searches, config.search_size, config.search_half_life_s, config.token_buckets)
        self._met: dict[bytes, UserBatch] = {}
        self.users = hash_users(log.user_ids, config.token_buckets)
        self.profiles = np.zeros((len(log.user_ids), config.profile_size), dtype=np.int32)
        for code, user_id in enumerate(log.user_ids):
            tokens = hash_tokens(profiles.get(user_id, ())[: config.profile_size], config.token_buckets)
            self.profiles[code, : len(tokens)] = tokens

    def consumed(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
        """All consumed events as log rows (m,), by user and then time, and where each user's begin: (users + 1,)."""
        users = self.log.user[self._order]
        return self._order, np.searchsorted(users, np.arange(len(self.log.user_ids) + 1)).astype(np.int64)

    def before(self, rows: npt.NDArray[np.integer]) -> UserBatch:
        """The users of log rows (B,), each as they were before that row, at its time.

        Of small batches the last ones are kept: a training meets its newest slice several times, stride by stride.
        """
        if len(rows) > _SMALL:
            return self._before(rows)
        asked = rows.tobytes()
        batch = self._met.pop(asked) if asked in self._met else self._before(rows)
        self._met[asked] = batch  # at the end, as the newest
        if len(self._met) > _KEPT:
            del self._met[next(iter(self._met))]
        return batch

    def _before(self, rows: npt.NDArray[np.integer]) -> UserBatch:
        length = self._config.sequence.length
        users = self.log.user[rows]
        places = self._end[rows][:, None] - np.arange(length, 0, -1)
        real = places >= self._first[users][:, None]
        events = self._order[np.where(real, places, 0)] if len(self._order) else np.zeros(places.shape, np.intp)
        histogram, weights = self._histograms(rows)
        searched, searched_weights = self._searched.before(users, self.log.ts[rows])
        return UserBatch(
            user=self.users[users],
            items=np.where(real, self.log.item[events], NO_ITEM).astype(np.int32),
            actions=np.where(real, self.log.action[events], 0).astype(np.uint8),
            strengths=np.where(real, self.log.strength[events], 0).astype(np.float32),
            ts=np.where(real, self.log.ts[events], 0).astype(np.int64),
            now=self.log.ts[rows],
            profile=self.profiles[users],
            histogram=histogram,
            histogram_weights=weights,
            searched=searched,
            searched_weights=searched_weights,
            shown=self._shown_before(rows),
            device=np.where(self._previous[rows] >= 0, self.log.device[self._previous[rows]], 0).astype(np.uint8),
        )

    def _shown_before(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """The newest impressions of each log row's user before its list was made, (B, S), padded with -1 on the left.

        A list is made when its user has done something. What was shown from then on was shown out of that very list,
        and whatever was taken from it would stand out by having been shown.
        """
        return self._shown_between(rows, np.full(len(rows), _LONG_AGO), self._list_made(rows))

    def shown_since(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """What each log row's user was shown out of the list of then, before the row; as the batch has `shown`."""
        return self._shown_between(rows, self._list_made(rows), self.log.ts[rows])

    def _list_made(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """When each log row's user had last done something before it, in ms."""
        previous = self._previous[rows]
        return np.where(previous >= 0, self.log.ts[previous], _LONG_AGO)

    def _shown_between(
        self, rows: npt.NDArray[np.integer], since: npt.NDArray[np.int64], until: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int32]:
        shown, users = self._shown, self.log.user[rows]
        if not len(shown.user):
            return np.zeros((len(rows), 0), dtype=np.int32)
        first = np.searchsorted(shown.user, users)
        stop = np.searchsorted(shown.user, users, side="right")
        spans = zip(first.tolist(), stop.tolist(), since.tolist(), until.tolist(), strict=True)
        ends = np.array([a + np.searchsorted(shown.ts[a:b], times) for a, b, *times in spans], dtype=np.int64)
        start, end = ends.reshape(-1, 2).T
        places = end[:, None] - np.arange(min(SHOWN, int((end - start).max(initial=0))), 0, -1)
        return np.where(places >= start[:, None], shown.item[np.maximum(places, 0)], NO_ITEM).astype(np.int32)

    def seen_before(self, rows: npt.NDArray[np.integer]) -> list[npt.NDArray[np.int32]]:
        """For each log row (B,) the items that its user had dealt with before it; an item may come twice."""
        first, end = self._first[self.log.user[rows]], self._end[rows]
        return [self.log.item[self._order[a:b]] for a, b in zip(first, end, strict=True)]

    def is_new(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Whether each row (B,) is about an item that its user had not dealt with before it."""
        pairs = self.log.user.astype(np.int64) * (int(self.log.item.max(initial=0)) + 2) + self.log.item
        first = np.full(len(self.log), len(self.log), dtype=np.int64)
        unique, of = np.unique(pairs, return_inverse=True)
        earliest = np.full(len(unique), len(self.log), dtype=np.int64)
        np.minimum.at(earliest, of[self._order], self._order)
        first = earliest[of]
        return np.asarray(first[rows] >= rows)

    def _histograms(self, rows: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        size = self._config.histogram_size
        keys = np.zeros((len(rows), size), dtype=np.int32)
        weights = np.zeros((len(rows), size), dtype=np.float32)
        log = self.log
        users = log.user[rows]
        current, at, histogram = -1, 0, Histogram[int](self._config.histogram_half_life_s)
        for place in np.lexsort((rows, users)):
            row, user = int(rows[place]), int(users[place])
            if user != current:
                current, at = user, int(self._first[user])
                histogram = Histogram(self._config.histogram_half_life_s)
            end = int(self._end[row])
            for event in self._order[at:end]:
                item_keys = self._keys[log.item[event]]
                if item_keys:
                    weight = histogram_weight(log.action[event], float(log.strength[event]), log.label[event])
                    histogram.add(item_keys, int(log.ts[event]), weight)
            at = end
            best = histogram.top(size)
            if best:
                keys[place, : len(best)] = [key for key, _ in best]
                weights[place, : len(best)] = [share for _, share in best]
        return keys, weights
