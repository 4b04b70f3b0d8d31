"""A small catalogue and users for the pipeline's components, without Redis or a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.config import TrainingConfig
from models.data.labels import Action
from models.data.popularity import Popularity, PopularityConfig
from models.data.users import UserBatch
from models.recommender import Recommender
from serving.pipeline.items import ItemTable
from serving.pipeline.pipeline import Lists, Pipeline
from serving.pipeline.query import Query
from streams.contract.events import ItemRecord, UserRecord
from streams.settings.pipeline import PipelineSettings
from tests.models import world

NOW = world.START
DAY_MS = 86_400_000
CONFIG = TrainingConfig()


def pipeline(**given: Any) -> Pipeline:
    return Pipeline(PipelineSettings.model_validate({"sources": {"trending": 100}} | given), seed=1)


class Bench:
    """Items with so many likes each; users are asked for by what is known of them."""

    def __init__(self, likes: Mapping[str, int], records: Sequence[ItemRecord] = ()) -> None:
        described = {record.item_id: record for record in records}
        self.ids = list(likes)
        self.records = [described.get(item_id) or ItemRecord(item_id=item_id) for item_id in self.ids]
        self.popularity = counted(list(likes.values()))

    def row(self, item_id: str) -> int:
        return self.ids.index(item_id)

    def query(
        self,
        made_by: Pipeline,
        n_users: int = 1,
        *,
        size: int = 10,
        trained: int | None = None,
        acts: Sequence[tuple[str, Action, float, int]] = (),
        profile: UserRecord | None = None,
        seen: Sequence[str] = (),
        shown: Sequence[str] = (),
        friends: Sequence[str] = (),
        segments: Mapping[str, Sequence[int]] | None = None,
    ) -> Query:
        """Users alike; `acts` are items with action, strength and days ago, oldest first."""
        users: UserBatch = world.nobody(n_users, CONFIG)
        for place, (item_id, action, strength, days) in enumerate(reversed(acts), 1):
            users.items[:, -place] = self.row(item_id)
            users.actions[:, -place] = action
            users.strengths[:, -place] = strength
            users.ts[:, -place] = NOW - days * DAY_MS
        model = Recommender("v1", CONFIG, PopularityConfig(), self.ids[:trained], None)
        model.admit(self.records)
        items = ItemTable([made_by.settings])
        items.put(range(len(self.ids)), self.records)
        trends = {segment: counted(likes) for segment, likes in (segments or {}).items()}

        def rows(names: Sequence[str]) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
            return [np.array([self.row(name) for name in names], np.int64)] * n_users

        return Query(
            model=model,
            items=items,
            users=users,
            profiles=[profile] * n_users,
            seen=rows(seen),
            shown=rows(shown),
            friends=rows(friends),
            popularity=self.popularity,
            available=np.array([record.available for record in self.records], bool),
            size=size,
            segments=[list(trends)] * n_users,
            trends_of=trends.get,
        )

    def listed(self, made_by: Pipeline, **given: Any) -> list[str]:
        """The list of one user."""
        return self.names(made_by.run(self.query(made_by, **given)))[0]

    def names(self, lists: Lists) -> list[list[str]]:
        return [[self.ids[row] for row in places if row >= 0] for places in lists.items.tolist()]


def counted(likes: Sequence[int]) -> Popularity:
    popularity = Popularity(PopularityConfig(), len(likes))
    rows = np.repeat(np.arange(len(likes)), likes)
    popularity.add(rows, np.full(len(rows), NOW), np.ones(len(rows), bool))
    return popularity
