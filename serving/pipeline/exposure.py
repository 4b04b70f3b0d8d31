"""Exposure: how the places of lists are shared among providers, such as creators, so that fairness can be watched.

A place counts `1 / log2(place + 1)`, as attention falls with rank (Singh and Joachims, 2018).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from serving.pipeline.items import Column, grown


class Exposure:
    """What each value of a feature has been given so far."""

    def __init__(self) -> None:
        self._given: npt.NDArray[np.float64] = np.zeros(0)
        self._values: list[str] = []

    def count(self, column: Column, items: npt.NDArray[np.int64]) -> None:
        """Count the lists (B, n) of rows, -1 padded."""
        self._values = column.values
        self._given = grown(self._given, len(column.values), 0)
        users, places = np.nonzero(items >= 0)
        codes = column.codes[items[users, places]]
        known = codes >= 0
        self._given += np.bincount(codes[known], 1.0 / np.log2(places[known] + 2.0), len(self._given))

    @property
    def gini(self) -> float:
        """The Gini coefficient over providers that were exposed at all."""
        given = np.sort(self._given[self._given > 0])
        if not len(given):
            return 0.0
        ranks = np.arange(1, len(given) + 1)
        return float((2 * ranks - len(given) - 1) @ given / (len(given) * given.sum()))

    def largest(self, count: int) -> dict[str, float]:
        """The providers with the most exposure, and their shares of it."""
        total = self._given.sum()
        best = np.argsort(-self._given, kind="stable")[:count]
        return {
            self._values[code]: round(float(self._given[code] / total), 6) for code in best if self._given[code] > 0
        }
