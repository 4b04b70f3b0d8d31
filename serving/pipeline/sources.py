"""Sources beside the model's own: new releases, trends of segments, choices made at the start, friends, what was begun.

Each reads a whole batch. Where only some users concern a source, the loop is over these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from models.data.labels import Action
from models.data.users import UserBatch
from models.retrieval.sources import SOURCES, Proposals, Source
from serving.pipeline.items import UNKNOWN_MS
from serving.pipeline.query import Asked, Query
from streams.settings.pipeline import PipelineSettings

#: The features of a profile that hold what was chosen at the start: histogram keys such as `genre=Drama`, and item ids.
ONBOARDING: Final = "onboarding"
ONBOARDING_ITEMS: Final = "onboarding_items"
_DAY_MS: Final = 86_400_000


class PipelineSource(Protocol):
    """Proposes items; made of the pipeline's settings."""

    @property
    def name(self) -> str: ...

    def propose(self, asked: Asked, quota: int) -> Proposals: ...


@dataclass
class FromModel:
    """One of the model's own sources."""

    source: Source

    @property
    def name(self) -> str:
        return self.source.name

    def propose(self, asked: Asked, quota: int) -> Proposals:
        return self.source.propose(asked.request, quota)


class NewReleases:
    """What was published last, within so many days, and what came after the model was trained, newest first."""

    name = "new_releases"

    def __init__(self, settings: PipelineSettings) -> None:
        self._within_ms = int(settings.freshness.new_days * _DAY_MS)

    def propose(self, asked: Asked, quota: int) -> Proposals:
        items, request = asked.query.items, asked.request
        now = int(asked.query.users.now.max(initial=0))
        trained = asked.query.model.trained_items
        # an item of which no record tells when it was published came when it got its row
        untold = trained + np.flatnonzero(items.published[trained : request.size] == UNKNOWN_MS)
        published = items.published_between(now - self._within_ms, now)
        return request.first_usable(np.concatenate([untold[::-1], published[published < request.size]]), quota)


class SegmentTrending:
    """What is trending among those who share the user's country, language or other segment."""

    name = "segment_trending"

    def __init__(self, settings: PipelineSettings) -> None:
        self._half_life = settings.segment_half_life

    def propose(self, asked: Asked, quota: int) -> Proposals:
        query, request = asked.query, asked.request
        members: dict[str, list[int]] = {}
        for place, segments in enumerate(query.segments):
            for segment in segments:
                members.setdefault(segment, []).append(place)
        parts = []
        for segment, places in members.items():
            trends = query.trends_of(segment)
            if trends is None:
                continue
            half_life = min(self._half_life, len(trends.config.half_lives_s) - 1)
            top = trends.top(half_life, quota + request.most_seen)
            top = top[top < request.size]
            of = np.repeat(np.array(places), len(top))
            items = np.tile(top, len(places))
            usable = request.usable(of, items)
            parts.append(first_of_each(Proposals(of[usable], items[usable]), len(query), quota))
        return together(parts)


class Onboarding:
    """What fits the genres, languages and titles that a user chose at the start, while little else is known."""

    name = "onboarding"

    def __init__(self, settings: PipelineSettings) -> None:
        self._until = settings.onboarding.actions

    def propose(self, asked: Asked, quota: int) -> Proposals:
        query, request = asked.query, asked.request
        parts = []
        shares: npt.NDArray[np.float32] | None = None
        for place in np.flatnonzero(query.actions < self._until).tolist():
            keys = chosen_keys(query, place)
            if not keys:
                continue
            rows, counts = np.unique(
                np.array([row for key in keys for row in query.items.rows_of.get(key, ())], np.int64),
                return_counts=True,
            )
            kept = (rows < request.size) & request.usable(np.full(len(rows), place), np.minimum(rows, request.size - 1))
            rows, counts = rows[kept], counts[kept]
            shares = query.popularity.shares().mean(axis=1) if shares is None else shares
            best = np.lexsort((rows, -shares[rows], -counts))[:quota]
            parts.append(Proposals(np.full(len(best), place), rows[best]))
        return together(parts)


class Friends:
    """What those whom the user follows liked last."""

    name = "friends"

    def __init__(self, _settings: PipelineSettings) -> None:
        return

    def propose(self, asked: Asked, quota: int) -> Proposals:
        parts = []
        for place, rows in enumerate(asked.query.friends):
            if len(rows):
                newest = np.asarray(rows[::-1], np.int64)
                _, first = np.unique(newest, return_index=True)
                newest = newest[np.sort(first)]
                usable = asked.request.usable(np.full(len(newest), place), newest)
                kept = newest[usable][:quota]
                parts.append(Proposals(np.full(len(kept), place), kept))
        return together(parts)


class ContinueWatching:
    """What the user began within some days and did not finish, newest first."""

    name = "continue_watching"

    def __init__(self, settings: PipelineSettings) -> None:
        self._settings = settings.continue_watching

    def propose(self, asked: Asked, quota: int) -> Proposals:
        users = asked.query.users
        begun = self.begun(users)
        of, places = np.nonzero(begun[:, ::-1])  # newest first
        items = users.items[:, ::-1][of, places].astype(np.int64)
        usable = asked.request.usable(of, items)
        return first_of_each(Proposals(of[usable], items[usable]), len(users), quota)

    def begun(self, users: UserBatch) -> npt.NDArray[np.bool_]:
        """Which actions (B, L) are the last on an item, and left it begun."""
        rules = self._settings
        recent = users.ts > users.now[:, None] - int(rules.within_days * _DAY_MS)
        part = (users.strengths >= rules.least) & (users.strengths < rules.most)
        begun: npt.NDArray[np.bool_] = (users.items >= 0) & (users.actions == Action.WATCH) & part & recent
        for place, action in np.argwhere(begun).tolist():
            begun[place, action] = users.items[place, action] not in users.items[place, action + 1 :]
        return begun


def chosen_keys(query: Query, place: int) -> list[str]:
    """The histogram keys that a user chose at the start, those of chosen titles among them."""
    profile = query.profiles[place]
    if profile is None:
        return []
    keys = list(profile.categorical.get(ONBOARDING, ()))
    for item_id in profile.categorical.get(ONBOARDING_ITEMS, ()):
        row = query.model.row_of(item_id)
        if row is not None:
            keys += query.items.keys(row)
    return keys


def first_of_each(proposed: Proposals, users: int, quota: int) -> Proposals:
    """Of each user's proposals, in their order, the first `quota`."""
    order = np.argsort(proposed.users, kind="stable")
    of, items = proposed.users[order], proposed.items[order]
    starts = np.searchsorted(of, np.arange(users))
    kept = np.arange(len(of)) - starts[of] < quota
    return Proposals(of[kept], items[kept])


def together(parts: Iterable[Proposals]) -> Proposals:
    """Several proposals as one."""
    columns = list(zip(Proposals.none(), *parts, strict=True))
    return Proposals(*(np.concatenate(column) for column in columns))


MODEL_SOURCES: Final = {source.name: source for source in SOURCES}
OWN_SOURCES: Final = {
    source.name: source for source in (NewReleases, SegmentTrending, Onboarding, Friends, ContinueWatching)
}
