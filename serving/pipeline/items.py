"""The items as filters and re-ranking read them: columns by model row, filled from the catalogue's records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from models.data.tokens import ItemContent, histogram_keys
from streams.settings.pipeline import PipelineSettings

T = TypeVar("T", bound=np.generic)

#: No value is known.
ABSENT: Final = -1
UNKNOWN_MS: Final = np.iinfo(np.int64).min


class Column:
    """One categorical feature's first value of each row, as codes that are numbered as they come."""

    def __init__(self) -> None:
        self.codes: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self.values: list[str] = []
        self._code_of: dict[str, int] = {}

    def grow(self, size: int) -> None:
        self.codes = grown(self.codes, size, ABSENT)

    def put(self, row: int, values: Sequence[str]) -> None:
        self.codes[row] = self._code(values[0]) if values else ABSENT

    def _code(self, value: str) -> int:
        if value not in self._code_of:
            self._code_of[value] = len(self.values)
            self.values.append(value)
        return self._code_of[value]


class ItemTable:
    """The columns that the pipelines need.

    Attributes:
        published: int64 (rows,) ms, `UNKNOWN_MS` where no record says.
        least_age: float32 (rows,) years, 0 where an item is for all.
        territory: int32 (rows,) which of `territories` the item may be shown in.
        territories: pairs of the countries it is limited to (all, when empty) and those that it is barred from.
        groups: the features that caps, calibration and fairness count by.
        rows_of: per histogram key such as `genre=Drama` the rows that have it.
    """

    def __init__(self, pipelines: Sequence[PipelineSettings]) -> None:
        """Of several pipelines the first says where maturity and countries are told."""
        self._settings = pipelines[0]
        self.published: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.least_age: npt.NDArray[np.float32] = np.zeros(0, np.float32)
        self.territory: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self.territories: list[tuple[frozenset[str], frozenset[str]]] = [(frozenset(), frozenset())]
        named = {name for each in pipelines for name in (*each.caps, each.calibration.feature, each.provider)}
        self.groups: Mapping[str, Column] = {feature: Column() for feature in sorted(named)}
        self.rows_of: defaultdict[str, set[int]] = defaultdict(set)
        self._keys: dict[int, list[str]] = {}
        self._by_time: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.published)

    def put(self, rows: Iterable[int], items: Iterable[ItemContent]) -> None:
        """Take in new or changed items at their rows."""
        taken = list(zip(rows, items, strict=True))
        if not taken:
            return
        self._by_time = None
        size = max(len(self), max(row for row, _ in taken) + 1)
        self.published = grown(self.published, size, UNKNOWN_MS)
        self.least_age = grown(self.least_age, size, 0)
        self.territory = grown(self.territory, size, 0)
        for column in self.groups.values():
            column.grow(size)
        for row, item in taken:
            self.published[row] = UNKNOWN_MS if item.published_at is None else item.published_at
            self.least_age[row] = self._least_age(item)
            self.territory[row] = self._territory(item)
            for feature, column in self.groups.items():
                column.put(row, item.categorical.get(feature, ()))
            self._index(row, histogram_keys(item))

    def keys(self, row: int) -> Sequence[str]:
        """The histogram keys of a row."""
        return self._keys.get(row, ())

    def published_between(self, after: int, until: int) -> npt.NDArray[np.int64]:
        """The rows published later than `after` and up to `until`, both in ms, the last first."""
        if self._by_time is None:
            self._by_time = np.argsort(self.published, kind="stable")
        first, end = np.searchsorted(self.published, (after, until), "right", sorter=self._by_time)
        return self._by_time[first:end][::-1]

    def _index(self, row: int, keys: list[str]) -> None:
        for key in self._keys.pop(row, ()):
            self.rows_of[key].discard(row)
        for key in keys:
            self.rows_of[key].add(row)
        if keys:
            self._keys[row] = keys

    def _least_age(self, item: ItemContent) -> float:
        maturity = self._settings.maturity
        told = [maturity.certificates.get(value, 0.0) for value in item.categorical.get(maturity.certificate, ())]
        return max([item.numeric.get(maturity.least_age, 0.0), *told])

    def _territory(self, item: ItemContent) -> int:
        countries = self._settings.countries
        limits = (
            frozenset(item.categorical.get(countries.only_in, ())),
            frozenset(item.categorical.get(countries.not_in, ())),
        )
        if limits not in self.territories:
            self.territories.append(limits)
        return self.territories.index(limits)


def grown(array: npt.NDArray[T], size: int, fill: int | bool) -> npt.NDArray[T]:
    """The array with room for `size` rows, new ones filled."""
    if size <= len(array):
        return array
    longer = np.full(size, fill, array.dtype)
    longer[: len(array)] = array
    return longer
