"""Whether what a model reads in service is spread as what it learnt from: features by the deciles of the training's.

The edges of ten bins are the deciles of each feature among the training's examples; an eleventh bin is for what is not
known. Counts in these bins are held against the training's by the population stability index.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from models.statistics.drift import stability_index

Floats = npt.NDArray[np.float64]

_FILE: Final = "features.json"
_BINS: Final = 10


@dataclass(frozen=True)
class Spread:
    """How F features were spread.

    Attributes:
        names: of the features.
        edges: (F, 9) the deciles; nan where a feature was never known.
        counts: (F, 11) in each bin, at last where not known.
    """

    names: tuple[str, ...]
    edges: Floats
    counts: Floats

    @classmethod
    def of(cls, names: Sequence[str], values: npt.NDArray[np.floating], weights: npt.NDArray[np.floating]) -> Spread:
        """The spread of values (k, F), nan where not known, each row counting as much as its weight (k,)."""
        values = values.reshape(-1, len(names))  # of no rows a caller may not know how wide they would be
        edges = np.full((len(names), _BINS - 1), np.nan)
        for column, row in zip(values.T, edges, strict=True):
            order = np.argsort(column)[: np.count_nonzero(~np.isnan(column))]  # nan is sorted to the end
            if len(order):
                passed = np.cumsum(weights[order])
                at = np.searchsorted(passed, passed[-1] * np.arange(1, _BINS) / _BINS)
                row[:] = column[order[np.minimum(at, len(order) - 1)]]
        return cls(tuple(names), edges, _counted(values, edges, weights))

    def count(self, values: npt.NDArray[np.floating], weights: npt.NDArray[np.floating]) -> Floats:
        """What values (k, F) count in each bin: (F, 11)."""
        return _counted(values, self.edges, weights)

    def stability(self, counts: Floats) -> dict[str, float]:
        """The population stability index of each feature, of counts (F, 11) against these."""
        return {
            name: stability_index(dict(enumerate(before)), dict(enumerate(now)))
            for name, before, now in zip(self.names, self.counts.tolist(), counts.tolist(), strict=True)
        }

    # -- persistence

    def save(self, folder: Path) -> None:
        """Write it into an artefact's folder: JSON, some ten kilobytes."""
        content = {
            name: {"edges": [] if np.isnan(edges).any() else edges.tolist(), "counts": counts.round(4).tolist()}
            for name, edges, counts in zip(self.names, self.edges, self.counts, strict=True)
        }
        (folder / _FILE).write_text(json.dumps(content) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Spread | None:
        """What `save` wrote; None for an artefact of before it was written."""
        try:
            content = json.loads((folder / _FILE).read_bytes())
        except FileNotFoundError:
            return None
        nowhere = [np.nan] * (_BINS - 1)
        return cls(
            tuple(content),
            np.array([each["edges"] or nowhere for each in content.values()]).reshape(-1, _BINS - 1),
            np.array([each["counts"] for each in content.values()]).reshape(-1, _BINS + 1),
        )


def _counted(values: npt.NDArray[np.floating], edges: Floats, weights: npt.NDArray[np.floating]) -> Floats:
    counts = np.zeros((len(edges), _BINS + 1))
    for column, row, out in zip(values.T, edges, counts, strict=True):
        bins = np.where(np.isnan(column), _BINS, np.searchsorted(row, column))
        out += np.bincount(bins, weights, minlength=_BINS + 1)
    return counts
