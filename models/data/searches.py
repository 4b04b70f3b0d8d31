"""Searches: the words that users searched for last, each fading with event time since it was searched for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from models.data.tokens import hash_tokens, query_tokens

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Searches:
    """Which words were searched for by whom: columns of equal length (m,), in order of `ts` and then of `word`.

    Attributes:
        user: int32, over the codes of the interactions.
        word: int32, index into `words`.
        ts: int64, event time in ms.
        words: tokens in alphabetical order, see `models.data.tokens.query_tokens`.
    """

    user: npt.NDArray[np.int32]
    word: npt.NDArray[np.int32]
    ts: npt.NDArray[np.int64]
    words: Sequence[str]

    @classmethod
    def none(cls) -> Searches:
        """Of a log in which nobody searched."""
        return cls(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64), ())

    @classmethod
    def of(cls, searches: Sequence[tuple[int, int, str]]) -> Searches:
        """Of searches as (user, event time in ms, query), in any order."""
        searched = [(user, ts, word) for user, ts, query in searches for word in query_tokens(query)]
        words = sorted({word for *_, word in searched})
        codes = {word: code for code, word in enumerate(words)}
        user = np.array([user for user, *_ in searched], np.int32)
        word = np.array([codes[word] for *_, word in searched], np.int32)
        ts = np.array([ts for _, ts, _ in searched], np.int64)
        order = np.lexsort((word, ts))
        return cls(user[order], word[order], ts[order], words)


class LastSearched:
    """The words that each user of a log had searched for last, to be looked up as of any moment.

    Args:
        size: so many words of a user are looked at.
        half_life_s: event time after which a word counts half.
    """

    def __init__(self, searches: Searches, size: int, half_life_s: float, buckets: int) -> None:
        self._tokens = hash_tokens(searches.words, buckets)
        by_user = np.argsort(searches.user, kind="stable")
        self._user, self._word, self._ts = (column[by_user] for column in (searches.user, searches.word, searches.ts))
        self._size = size
        self._half_life_s = half_life_s

    def before(
        self, users: npt.NDArray[np.integer], moments: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int32], Floats]:
        """The hashed words of users (B,) before moments (B,) in ms, newest first, and their weights: (B, size) each."""
        words = np.full((len(users), self._size), -1, np.int32)
        since = np.zeros((len(users), self._size), np.int64)
        starts = np.searchsorted(self._user, users)
        searched = np.flatnonzero(starts < np.searchsorted(self._user, users, side="right"))
        current, at = -1, 0
        last: dict[int, int] = {}
        for place in searched[np.lexsort((moments[searched], users[searched]))].tolist():
            if users[place] != current:
                current, at, last = int(users[place]), int(starts[place]), {}
            while at < len(self._ts) and self._user[at] == current and self._ts[at] < moments[place]:
                word = int(self._word[at])
                last.pop(word, None)  # so that it stands at the end
                last[word] = int(self._ts[at])
                at += 1
            newest = list(islice(reversed(last.items()), self._size))
            words[place, : len(newest)] = [word for word, _ in newest]
            since[place, : len(newest)] = [ts for _, ts in newest]
        known = words >= 0
        tokens = np.zeros(words.shape, np.int32)
        tokens[known] = self._tokens[words[known]]
        return tokens, faded(known, since, moments, self._half_life_s)


def faded(
    known: npt.NDArray[np.bool_], since: npt.NDArray[np.int64], now: npt.NDArray[np.int64], half_life_s: float
) -> Floats:
    """The weights (B, S) of words searched for at `since` (B, S), at moments `now` (B,), in ms: at most 1 in all.

    Fresh words are averaged; words of long ago weigh nothing, however few they are.
    """
    halvings = np.maximum(now[:, None] - since, 0) / (1000.0 * half_life_s)
    weights = np.where(known, 2.0**-halvings, 0.0)
    shares: Floats = (weights / np.maximum(weights.sum(axis=1, keepdims=True), 1.0)).astype(np.float32)
    return shares
