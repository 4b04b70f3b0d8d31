"""The pipeline: sources → filters → scorer → adjusters → selection → exploration → late filters, for a batch of users.

`run` is the whole recommender. What a stage does to one user's list can be watched by a `Trace`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.ranking.ordering import Layout, best_first
from models.ranking.ranker import Scored
from models.retrieval.candidates import Candidates
from models.retrieval.sources import Proposals
from serving.pipeline.adjusting import ADJUSTERS, Adjuster
from serving.pipeline.exploration import Exploration
from serving.pipeline.exposure import Exposure
from serving.pipeline.filters import FILTERS, Filter, ListFilter, Withdrawn
from serving.pipeline.plugins import component
from serving.pipeline.query import Asked, Query, Rows
from serving.pipeline.rules import PINNED, Pinned, RuledOut, Rules
from serving.pipeline.selection import Slates, selector_of
from serving.pipeline.sources import MODEL_SOURCES, OWN_SOURCES, FromModel, PipelineSource
from serving.pipeline.stages import Stages
from streams.settings.pipeline import PipelineSettings

_SOURCES: Final[dict[str, Any]] = OWN_SOURCES | {Pinned.name: Pinned}
_FILTERS: Final[dict[str, Any]] = FILTERS | {RuledOut.name: RuledOut}
_ADJUSTERS: Final[dict[str, Any]] = ADJUSTERS | {Rules.name: Rules}
EXPLORATION: Final = "exploration"


@dataclass
class Trace:
    """What became of the candidates of a batch, stage by stage, for who asks.

    Attributes:
        proposed: per source the pairs that it proposed.
        candidates: what was scored, filters passed.
        removed: per filter of pairs the pairs that it dropped.
        barred: per filter of lists each user's rows.
        scores: (p,) of the candidates, by the scorer alone.
        added: per adjuster what it added, (p,).
    """

    proposed: dict[str, Proposals] = field(default_factory=dict)
    candidates: Candidates | None = None
    removed: dict[str, Proposals] = field(default_factory=dict)
    barred: dict[str, Sequence[Rows]] = field(default_factory=dict)
    scores: npt.NDArray[np.float32] | None = None
    added: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class Lists:
    """The lists of B users, best first.

    Attributes:
        items: int64 (B, n) rows, -1 where a list is shorter.
        scores: float32 (B, n).
        sources: uint32 (B, n) bits over `Pipeline.source_names`.
        propensity: float32 (B, n), of the place that explores; 1 elsewhere.
        probabilities, minutes: float32 (B, n), see `models.ranking.ranker.Scored`; nan where not known.
    """

    items: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    sources: npt.NDArray[np.uint32]
    propensity: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]
    minutes: npt.NDArray[np.float32]


class Pipeline:
    """The components that one configuration names.

    Attributes:
        source_names: by bit.
        stages: what each component has done so far.
        exposure: how the places of its lists were shared among providers.

    Raises:
        SettingsError: a component is not known.
    """

    def __init__(self, settings: PipelineSettings, *, seed: int) -> None:
        self.settings = settings
        self.stages = Stages()
        self.exposure = Exposure()
        quotas = dict(settings.sources)
        if any(rule.action == "pin" for rule in settings.rules):
            quotas[Pinned.name] = settings.reserve
        self._sources: list[tuple[PipelineSource, int]] = [
            (self._source(name), quota) for name, quota in quotas.items() if quota
        ]
        # the model's own have the same bits as where it learns
        others = [source.name for source, _ in self._sources if source.name not in MODEL_SOURCES]
        self.source_names = [*MODEL_SOURCES, *others, EXPLORATION]
        filters = [component(name, _FILTERS, "filter")(settings) for name in settings.filters]
        if any(rule.action == "remove" for rule in settings.rules):
            filters.append(RuledOut(settings))
        self.filters: list[Filter] = filters
        self._of_lists = [each for each in filters if isinstance(each, ListFilter)]
        self._of_pairs = [each for each in filters if not isinstance(each, ListFilter)]
        self._late: list[Filter] = [component(name, _FILTERS, "filter")(settings) for name in settings.late_filters]
        self._adjusters: list[Adjuster] = [
            component(name, _ADJUSTERS, "adjuster")(settings) for name in settings.adjusters
        ]
        if settings.rules:
            self._adjusters.append(Rules(settings))
        self._selector = selector_of(settings)
        self._exploration = (
            Exploration(settings, np.random.default_rng(seed)) if settings.exploration.rate > 0 else None
        )

    @property
    def hides_withdrawn(self) -> bool:
        """Whether its lists hold no withdrawn item."""
        return any(isinstance(each, Withdrawn) for each in (*self.filters, *self._late))

    def _source(self, name: str) -> PipelineSource:
        if name in MODEL_SOURCES:
            return FromModel(MODEL_SOURCES[name])
        made: PipelineSource = component(name, MODEL_SOURCES | _SOURCES, "source")(self.settings)
        return made

    def run(self, query: Query, trace: Trace | None = None) -> Lists:
        """The lists of all users of the query."""
        asked = self._ask(query, trace)
        candidates = self._filtered(query, self._candidates(asked, trace), trace)
        slates = self._reserve(query, self._scored(query, candidates, trace))
        slates = self._selected(query, slates)
        slates, propensity = self._explored(asked, slates)
        slates, propensity = self._filtered_late(query, slates, propensity)
        items = slates.items[:, : query.size]
        self.exposure.count(query.items.groups[self.settings.provider], items)
        scores = slates.scores[:, : query.size]
        scores = np.where(items >= 0, np.where(scores >= PINNED / 2, scores - PINNED, scores), 0).astype(np.float32)
        slates = slates.first(query.size)
        return Lists(items, scores, slates.sources, propensity[:, : query.size], slates.probabilities, slates.minutes)

    # -- the stages

    def _ask(self, query: Query, trace: Trace | None) -> Asked:
        """What sources are asked: what filters bar as a whole they need not propose."""
        allowed = query.available
        if not any(isinstance(each, Withdrawn) for each in self.filters):
            allowed = np.ones_like(allowed)
        barred: list[Sequence[Rows]] = [[np.zeros(0, np.int64)] * len(query)]
        for each in self._of_lists:
            with self.stages.timed(f"filters/{each.name}"):
                barred.append(each.bars(query))
            if trace is not None:
                trace.barred[each.name] = barred[-1]
        seen = [np.concatenate(rows) for rows in zip(*barred, strict=True)]
        with self.stages.timed("query/model"):
            request = query.model.request(query.users, query.popularity, allowed, seen)
        return Asked(query, request)

    def _candidates(self, asked: Asked, trace: Trace | None) -> Candidates:
        proposals: list[tuple[int, Proposals]] = []
        for source, quota in self._sources:
            with self.stages.spared(f"sources/{source.name}") as counts:
                proposed = source.propose(asked, quota)
                counts.left += len(proposed.items)
                proposals.append((1 << self.source_names.index(source.name), proposed))
                if trace is not None:
                    trace.proposed[source.name] = proposed
        with self.stages.timed("features", sum(len(proposed.items) for _, proposed in proposals)) as counts:
            candidates = asked.query.model.among(asked.request, proposals)
            counts.left += len(candidates.items)
        return candidates

    def _filtered(self, query: Query, candidates: Candidates, trace: Trace | None) -> Candidates:
        for each in self._of_pairs:
            with self.stages.timed(f"filters/{each.name}", len(candidates.items)) as counts:
                removed = each.removes(query, candidates.users, candidates.items)
                if trace is not None:
                    trace.removed[each.name] = Proposals(candidates.users[removed], candidates.items[removed])
                if removed.any():
                    candidates = candidates.take(~removed)
                counts.left += len(candidates.items)
        return candidates

    def _scored(self, query: Query, candidates: Candidates, trace: Trace | None) -> tuple[Candidates, Scored]:
        with self.stages.timed("scorer", len(candidates.items)) as counts:
            scored = query.model.score(query.users, query.popularity, candidates)
            scores = scored.scores
            if self.settings.minutes_weight:
                minutes = np.log1p(np.nan_to_num(scored.minutes)).astype(np.float32)
                scores = scores + np.float32(self.settings.minutes_weight) * minutes
            counts.left += len(candidates.items)
        if trace is not None:
            trace.candidates, trace.scores = candidates, query.model.blend.score(candidates.features)
            if query.model.ranker is not None:
                trace.added["ranker"] = scores - trace.scores
        for each in self._adjusters:
            with self.stages.timed(f"adjusters/{each.name}", len(candidates.items)) as counts:
                added = each.adds(query, candidates)
                scores = scores + added
                counts.left += len(candidates.items)
                if trace is not None:
                    trace.added[each.name] = added
        return candidates, replace(scored, scores=scores.astype(np.float32))

    def _reserve(self, query: Query, scored: tuple[Candidates, Scored]) -> Slates:
        """Of each user the best by score: what a list is chosen from, and refilled from."""
        candidates, said = scored
        size = max(self.settings.reserve, query.size + self.settings.reserve // 2)  # selection's time grows with it
        with self.stages.timed("reserve", len(candidates.items)) as counts:
            slates = _best(candidates, said, len(query), size)
            counts.left += int(np.count_nonzero(slates.items >= 0))
        return slates

    def _selected(self, query: Query, slates: Slates) -> Slates:
        if self._selector is None:
            return slates
        with self.stages.timed("selection", int(np.count_nonzero(slates.items >= 0))) as counts:
            order = self._selector.order(query, slates, query.size)
            counts.left += int(np.count_nonzero(order >= 0))
            # what was not chosen stays behind it, in the order of scores, for what late filters take away
            chosen = np.zeros(slates.items.shape, bool)
            users, places = np.nonzero(order >= 0)
            chosen[users, order[users, places]] = True
            width = slates.items.shape[1]
            rank = np.where(chosen, 0, query.size + np.arange(width))
            rank[users, order[users, places]] = places
            pinned = slates.scores >= PINNED / 2
            rank = np.where(pinned, np.arange(width) - width, rank)
            return slates.ordered(np.argsort(rank, axis=1, kind="stable"))

    def _explored(self, asked: Asked, slates: Slates) -> tuple[Slates, npt.NDArray[np.float32]]:
        propensity = np.ones(slates.items.shape, np.float32)
        if self._exploration is None:
            return slates, propensity
        with self.stages.spared(EXPLORATION) as counts:
            drawn, probability = self._exploration.draw(asked, partial(self._may_show, asked.query))
            place = min(self.settings.exploration.place, asked.query.size) - 1
            if place >= slates.items.shape[1]:
                return slates, propensity
            listed = (slates.items[:, : asked.query.size] == drawn[:, None]).any(axis=1)
            users = np.flatnonzero((drawn >= 0) & ~listed & (slates.items[:, place] >= 0))
            source = np.full(len(drawn), 1 << self.source_names.index(EXPLORATION), dtype=np.uint32)
            _insert(slates.items, users, place, drawn)
            _insert(slates.scores, users, place, slates.scores[:, place].copy())
            _insert(slates.sources, users, place, source)
            _insert(propensity, users, place, probability)
            for told in (slates.probabilities, slates.minutes):
                _insert(told, users, place, np.full(len(drawn), np.nan, dtype=np.float32))
            counts.left += len(users)
        return slates, propensity

    def _may_show(
        self, query: Query, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        shown = np.ones(len(users), bool)
        for each in self._of_pairs:
            shown &= ~each.removes(query, users, items)
        return shown

    def _filtered_late(
        self, query: Query, slates: Slates, propensity: npt.NDArray[np.float32]
    ) -> tuple[Slates, npt.NDArray[np.float32]]:
        """Drop what late filters remove; what stands behind moves up."""
        for each in self._late:
            users, places = np.nonzero(slates.items >= 0)
            with self.stages.timed(f"late filters/{each.name}", len(users)) as counts:
                removed = each.removes(query, users, slates.items[users, places])
                counts.left += len(users) - int(np.count_nonzero(removed))
                gone = np.zeros(slates.items.shape, bool)
                gone[users[removed], places[removed]] = True
                order = np.argsort(gone, axis=1, kind="stable")
                slates.items[gone] = -1
                slates, propensity = slates.ordered(order), np.take_along_axis(propensity, order, axis=1)
        return slates, propensity

    def describe(self) -> list[tuple[str, list[str]]]:
        """The stages in their order, each with the names of its components."""
        selection = [] if self._selector is None else [type(self._selector).__name__.lower()]
        return [
            ("sources", [f"{source.name} ({quota})" for source, quota in self._sources]),
            ("filters", [each.name for each in self.filters]),
            ("scorer", ["blend, then the model's ranker"]),
            ("adjusters", [each.name for each in self._adjusters]),
            ("selection", selection),
            ("exploration", [EXPLORATION] if self._exploration else []),
            ("late filters", [each.name for each in self._late]),
        ]


def _best(candidates: Candidates, said: Scored, users: int, size: int) -> Slates:
    """Of each user the `size` best, best first, equal ones in the order of their rows."""
    layout = Layout.over(candidates.users, users)
    order = best_first(layout.table(said.scores, -np.inf))[:, :size]
    real = order < layout.counts[:, None]
    places = np.where(real, layout.starts[:, None] + order, 0)

    def picked(values: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        return np.where(real, values[places] if len(values) else fill, values.dtype.type(fill))

    return Slates(
        picked(candidates.items, -1),
        picked(said.scores, -np.inf),
        picked(candidates.sources, 0),
        picked(said.probabilities, np.nan),
        picked(said.minutes, np.nan),
    )


def _insert(table: npt.NDArray[Any], users: npt.NDArray[np.int64], place: int, values: npt.NDArray[Any]) -> None:
    """Put a value (B,) at a place of some users' rows; what stood there and behind moves down."""
    table[users, place + 1 :] = table[users, place:-1]
    table[users, place] = values[users]
