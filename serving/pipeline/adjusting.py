"""Adjusters: what is added to a candidate's score for reasons that no model learns."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from models.retrieval.candidates import Candidates
from serving.pipeline.items import UNKNOWN_MS
from serving.pipeline.query import Query
from serving.pipeline.sources import chosen_keys
from streams.settings.pipeline import PipelineSettings

Floats = npt.NDArray[np.float32]
_DAY_MS: Final = 86_400_000.0


class Adjuster(Protocol):
    """Adds to scores; made of the pipeline's settings."""

    name: str

    def adds(self, query: Query, candidates: Candidates) -> Floats:
        """What to add to the score of each candidate, (p,)."""
        ...


class Freshness:
    """A boost for what was published lately, that halves with its age."""

    name = "freshness"

    def __init__(self, settings: PipelineSettings) -> None:
        self._settings = settings.freshness

    def adds(self, query: Query, candidates: Candidates) -> Floats:
        rules, published = self._settings, query.items.published[candidates.items]
        age_days = (query.users.now[candidates.users] - published.astype(np.float64)) / _DAY_MS
        known = (published != UNKNOWN_MS) & (age_days >= 0)
        boost = np.where(known, rules.boost * np.exp2(-np.maximum(age_days, 0) / rules.half_life_days), 0.0)
        return boost.astype(np.float32)


class Onboarded:
    """A boost for what fits the choices made at the start, less with each thing that the user has done since."""

    name = "onboarding"

    def __init__(self, settings: PipelineSettings) -> None:
        self._settings = settings.onboarding

    def adds(self, query: Query, candidates: Candidates) -> Floats:
        added = np.zeros(len(candidates.items), np.float32)
        for place in np.flatnonzero(query.actions < self._settings.actions).tolist():
            keys = set(chosen_keys(query, place))
            if not keys:
                continue
            start, stop = np.searchsorted(candidates.users, [place, place + 1])
            fits = [len(keys.intersection(query.items.keys(row))) for row in candidates.items[start:stop].tolist()]
            share = np.array(fits, np.float32) / len(keys)
            added[start:stop] = self._settings.boost * share / (1.0 + query.actions[place])
        return added


ADJUSTERS: Final = {each.name: each for each in (Freshness, Onboarded)}
