"""Rules in the settings: what is boosted, demoted, pinned to the top or left out, by the features of items."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.retrieval.candidates import Candidates
from models.retrieval.sources import Proposals
from serving.pipeline.filters import Filter
from serving.pipeline.query import Asked, Query
from streams.settings.pipeline import PipelineSettings, RuleSettings

Floats = npt.NDArray[np.float32]
#: Above all that a model and other rules together can make of an item.
PINNED: Final = 1e6
_ITEM: Final = "item="


def matching(rule: RuleSettings, query: Query) -> npt.NDArray[np.int64]:
    """The rows that a rule is about: of one item (`item=ID`), or of all with a feature's value (`genre=Drama`)."""
    if rule.match.startswith(_ITEM):
        row = query.model.row_of(rule.match.removeprefix(_ITEM))
        return np.array([] if row is None else [row], np.int64)
    return np.fromiter(query.items.rows_of.get(rule.match, ()), np.int64)


class Rules:
    """An adjuster: boosts, demotions and pins."""

    name = "rules"

    def __init__(self, settings: PipelineSettings) -> None:
        self._rules = [rule for rule in settings.rules if rule.action != "remove"]

    def adds(self, query: Query, candidates: Candidates) -> Floats:
        added = np.zeros(len(candidates.items), np.float32)
        for rule in self._rules:
            matched = np.isin(candidates.items, matching(rule, query))
            added[matched] += {"boost": rule.by, "demote": -rule.by, "pin": PINNED}[rule.action]
        return added


class RuledOut(Filter):
    """A rule leaves the item out."""

    name = "ruled_out"

    def removes(
        self, query: Query, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        removed = np.zeros(len(items), bool)
        for rule in self.settings.rules:
            if rule.action == "remove":
                removed |= np.isin(items, matching(rule, query))
        return removed


class Pinned:
    """A source: what rules pin, for no model might propose it."""

    name = "pinned"

    def __init__(self, settings: PipelineSettings) -> None:
        self._rules = [rule for rule in settings.rules if rule.action == "pin"]

    def propose(self, asked: Asked, quota: int) -> Proposals:
        rows = [matching(rule, asked.query) for rule in self._rules]
        pinned = np.unique(np.concatenate([np.zeros(0, np.int64), *rows]))
        return asked.request.first_usable(pinned[pinned < asked.request.size], quota)
