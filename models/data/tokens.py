"""Features: the open-ended description of items and users as tokens, hashed into a fixed number of buckets.

Hashing (Weinberger et al., 2009) needs no vocabulary, so a value never met before has an embedding at once, and one
that is like nothing else shares its bucket with a few others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Final, Protocol
from zlib import crc32

import numpy as np
import numpy.typing as npt

#: The bucket of no token, for padding.
PADDING: Final = 0
_WORD: Final = re.compile(r"[^\W_]{3,}")
_MAX_WORDS: Final = 48
_MAX_QUERY_WORDS: Final = 16
_LONGEST_WORD: Final = 64
_MAX_TOKENS: Final = 128
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ItemContent(Protocol):
    """What the models read of an item; `streams.contract.events.ItemRecord` is one."""

    @property
    def item_id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def available(self) -> bool: ...
    @property
    def published_at(self) -> int | None: ...
    @property
    def duration_s(self) -> float | None: ...
    @property
    def categorical(self) -> Mapping[str, Sequence[str]]: ...
    @property
    def numeric(self) -> Mapping[str, float]: ...
    @property
    def text(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class BareItem:
    """An item known by its id alone."""

    item_id: str
    title: str = ""
    available: bool = True
    published_at: int | None = None
    duration_s: float | None = None
    categorical: Mapping[str, Sequence[str]] = field(default_factory=dict)
    numeric: Mapping[str, float] = field(default_factory=dict)
    text: Mapping[str, str] = field(default_factory=dict)


def item_tokens(item: ItemContent) -> list[str]:
    """An item's content as distinct tokens, at most 128, the most telling first.

    Categorical values as they are; numbers by their two leading digits; the duration in half octaves; the month of
    publication; then the words of title and texts.
    """
    tokens = histogram_keys(item) + _numeric_tokens(item.numeric)
    if item.duration_s is not None and item.duration_s > 0:
        tokens.append(f"duration~{round(2 * math.log2(item.duration_s))}")
    if item.published_at is not None:
        tokens.append(f"published={_EPOCH + timedelta(milliseconds=item.published_at):%Y-%m}")
    words = _WORD.findall(" ".join([item.title, *item.text.values()]).lower())
    tokens += [f"word={word}" for word in words[:_MAX_WORDS]]
    return list(dict.fromkeys(tokens))[:_MAX_TOKENS]


def histogram_keys(item: ItemContent) -> list[str]:
    """The keys under which acting on the item counts in the user's histogram: `genre=Drama`."""
    return _categorical_tokens(item.categorical)


def profile_tokens(categorical: Mapping[str, Sequence[str]], numeric: Mapping[str, float]) -> list[str]:
    """A user's profile as distinct tokens."""
    return list(dict.fromkeys(_categorical_tokens(categorical) + _numeric_tokens(numeric)))


def query_tokens(query: str) -> list[str]:
    """The words of a search as distinct tokens, like those of items' words; at most 16, of at most 64 letters."""
    return _words_to_find_by([query])[:_MAX_QUERY_WORDS]


def findable_tokens(item: ItemContent) -> list[str]:
    """The words that an item may be searched for by, as distinct tokens: of its title, then of categorical values."""
    return _words_to_find_by([item.title, *(value for values in item.categorical.values() for value in values)])


def hash_users(user_ids: Sequence[str], buckets: int) -> npt.NDArray[np.int32]:
    """The bucket of each user's id, in 1 … buckets - 1: int32 (len(user_ids),)."""
    return hash_tokens([f"user={user_id}" for user_id in user_ids], buckets)


def hash_tokens(tokens: Sequence[str], buckets: int) -> npt.NDArray[np.int32]:
    """The bucket of each token, in 1 … buckets - 1: int32 (len(tokens),)."""
    return np.array(buckets_of(tokens, buckets), dtype=np.int32)


def buckets_of(tokens: Iterable[str], buckets: int) -> list[int]:
    """As `hash_tokens`, as a list: of few tokens an array costs more than they do."""
    return [crc32(token.encode()) % (buckets - 1) + 1 for token in tokens]


@dataclass(frozen=True)
class TokenTable:
    """The hashed tokens of many items, one after the other: those of row i are `tokens[starts[i]:starts[i + 1]]`.

    Attributes:
        tokens: int32 (t,).
        starts: int64 (n + 1,).
    """

    tokens: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, items: Sequence[ItemContent], buckets: int) -> TokenTable:
        """The table of these items, in their order."""
        rows = [buckets_of(item_tokens(item), buckets) for item in items]
        starts = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=starts[1:])
        return cls(np.fromiter(chain.from_iterable(rows), np.int32, int(starts[-1])), starts)

    def take(self, rows: npt.NDArray[np.integer]) -> TokenTable:
        """The table of the chosen rows, in the order given."""
        lengths = np.diff(self.starts)[rows]
        starts = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        places = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths) + np.repeat(self.starts[rows], lengths)
        return TokenTable(self.tokens[places], starts)


def _categorical_tokens(categorical: Mapping[str, Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(f"{name}={value}" for name, values in categorical.items() for value in values))


def _words_to_find_by(texts: Sequence[str]) -> list[str]:
    words = _WORD.findall(" ".join(texts).lower())
    return list(dict.fromkeys(f"word={word}" for word in words if len(word) <= _LONGEST_WORD))


def _numeric_tokens(numeric: Mapping[str, float]) -> list[str]:
    return [f"{name}~{value:.1e}" for name, value in numeric.items() if math.isfinite(value)]
