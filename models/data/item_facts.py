"""Facts about items, by row, as ranking reads them: a table that grows with the catalogue, kept in the artefact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.data.tokens import ItemContent, buckets_of, findable_tokens, histogram_keys

Floats = npt.NDArray[np.float64]

#: How many histogram keys of an item are compared with what the user turned to; more would say little.
KEYS: Final = 16
_CREATORS: Final = 4
#: So many words of an item are compared with what the user searched for.
_WORDS: Final = 16
#: At most so many numeric features are read, those that the most items have.
_NUMBERS: Final = 8
#: What is larger would not fit the features' own numbers.
_LARGEST: Final = 1e15
#: The categorical features that name who made an item.
CREATORS: Final = ("author", "creator", "director", "artist", "channel", "actor")
_LANGUAGE: Final = ("language",)


class ItemFacts:
    """What is known of n items; the columns may be longer, as there is room for more.

    Attributes:
        keys: int32 (n, KEYS) hashed histogram keys, padded with 0.
        words: int32 (n, 16) hashed words that it may be searched for by, padded with 0.
        creators: int32 (n, 4) those of them that name a creator.
        language: int32 (n,) the one that names the language, or 0.
        times: float64 (n, 2) in ms: published, first met in the stream; nan where not known.
        duration: float64 (n,) in s, or nan.
        numbers: float64 (n, N) the numeric features of `number_names`; nan where not known.
    """

    def __init__(self, buckets: int, number_names: Sequence[str] = ()) -> None:
        self._buckets = buckets
        self.number_names = tuple(number_names)
        self._size = 0
        self.keys: npt.NDArray[np.int32] = np.zeros((0, KEYS), np.int32)
        self.words: npt.NDArray[np.int32] = np.zeros((0, _WORDS), np.int32)
        self.creators: npt.NDArray[np.int32] = np.zeros((0, _CREATORS), np.int32)
        self.language: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self.times: Floats = np.zeros((0, 2))
        self.duration: Floats = np.zeros(0)
        self.numbers: Floats = np.zeros((0, len(self.number_names)))

    _COLUMNS = ("keys", "words", "creators", "language", "times", "duration", "numbers")

    def __len__(self) -> int:
        return self._size

    @classmethod
    def of(cls, items: Sequence[ItemContent], buckets: int) -> ItemFacts:
        """The facts of these items, in their order."""
        had = Counter(name for item in items for name in item.numeric)
        facts = cls(buckets, sorted(sorted(had), key=lambda name: -had[name])[:_NUMBERS])
        facts.put(np.arange(len(items)), items)
        return facts

    def put(self, rows: npt.NDArray[np.integer], items: Sequence[ItemContent]) -> None:
        """Set the facts of rows (k,); rows beyond the table's end make it longer."""
        self._grow(int(rows.max(initial=-1)) + 1)
        if not len(rows):
            return
        self.keys[rows] = _hashed([histogram_keys(item) for item in items], KEYS, self._buckets)
        self.words[rows] = _hashed([findable_tokens(item) for item in items], _WORDS, self._buckets)
        self.creators[rows] = _hashed([_named(item, CREATORS) for item in items], _CREATORS, self._buckets)
        self.language[rows] = _hashed([_named(item, _LANGUAGE) for item in items], 1, self._buckets)[:, 0]
        self.times[rows, 0] = [np.nan if item.published_at is None else item.published_at for item in items]
        self.duration[rows] = [item.duration_s or np.nan for item in items]
        numbers = [[item.numeric.get(name, np.nan) for name in self.number_names] for item in items]
        self.numbers[rows] = np.clip(np.array(numbers, dtype=np.float64), -_LARGEST, _LARGEST)

    def met(self, items: npt.NDArray[np.integer], ts: npt.NDArray[np.integer]) -> ItemFacts:
        """A copy that knows since when (ms) each item is met in these events (m,); -1 is no item."""
        other = ItemFacts(self._buckets, self.number_names)
        for name in self._COLUMNS:
            setattr(other, name, getattr(self, name)[: len(self)].copy())
        other._size = len(self)
        first = np.full(len(self), np.inf)
        np.minimum.at(first, items[items >= 0], ts[items >= 0].astype(np.float64))
        other.times[:, 1] = np.where(np.isfinite(first), first, np.nan)
        return other

    @property
    def is_met(self) -> npt.NDArray[np.bool_]:
        """Which items were met in the events that the facts are as of, (n,)."""
        return np.isfinite(self.times[: len(self), 1])

    def tables(self) -> dict[str, npt.NDArray[Any]]:
        """The columns, to be kept in an artefact."""
        return {f"facts_{name}": getattr(self, name)[: len(self)] for name in self._COLUMNS}

    @classmethod
    def from_tables(
        cls, tables: Mapping[str, npt.NDArray[Any]], buckets: int, number_names: Sequence[str]
    ) -> ItemFacts:
        """What `tables` was made of."""
        facts = cls(buckets, number_names)
        for name in cls._COLUMNS:
            setattr(facts, name, tables[f"facts_{name}"].copy())
        facts._size = len(facts.language)
        return facts

    def _grow(self, size: int) -> None:
        self._size = max(self._size, size)
        more = size - len(self.language)
        if more > 0:
            more = max(more, len(self.language) // 8)  # room for the next ones, as they may come one by one
            self.keys = np.vstack([self.keys, np.zeros((more, KEYS), np.int32)])
            self.words = np.vstack([self.words, np.zeros((more, _WORDS), np.int32)])
            self.creators = np.vstack([self.creators, np.zeros((more, _CREATORS), np.int32)])
            self.language = np.concatenate([self.language, np.zeros(more, np.int32)])
            self.times = np.vstack([self.times, np.full((more, 2), np.nan)])
            self.duration = np.concatenate([self.duration, np.full(more, np.nan)])
            self.numbers = np.vstack([self.numbers, np.full((more, len(self.number_names)), np.nan)])


def _named(item: ItemContent, names: Sequence[str]) -> list[str]:
    return [f"{name}={value}" for name in names for value in item.categorical.get(name, ())]


def _hashed(told: Sequence[Sequence[str]], size: int, buckets: int) -> npt.NDArray[np.int32]:
    """The buckets of the first tokens of each of k items, (k, size), padded with 0."""
    found = [buckets_of(tokens[:size], buckets) for tokens in told]
    return np.array([each + [0] * (size - len(each)) for each in found], dtype=np.int32)
