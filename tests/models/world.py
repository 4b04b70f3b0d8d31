"""A small made-up world: users with one of three tastes, items of three genres, and what is popular changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.config import BlendConfig, IndexConfig, RankerConfig, SequenceConfig, TowersConfig, TrainingConfig
from models.data.interactions import Interactions
from models.data.labels import Action
from models.data.tokens import BareItem, ItemContent
from models.data.users import UserBatch
from models.training.context import TrainingData

GENRES = ("drama", "comedy", "news")
START = 1_700_000_000_000
MINUTE = 60_000

SMALL = TrainingConfig(
    sequence=SequenceConfig(
        dim=16, length=12, epochs=4, batch_tokens=1024, learning_rate=5e-3, full_softmax_items=1000
    ),
    towers=TowersConfig(dim=16, hidden=32, epochs=4, batch=256, negatives=64, learning_rate=5e-3),
    blend=BlendConfig(past_choices=600),
    ranker=RankerConfig(epochs=1, depth=40),
    index=IndexConfig(),
    token_buckets=512,
    time_budget_s=600.0,
    # the same numbers on every machine
    device="cpu",
    precision="float32",
)


def item(number: int) -> ItemContent:
    return BareItem(f"i{number}", title=f"Item {number}", categorical={"genre": [GENRES[number % 3]]})


def interactions(events: int = 3000, *, users: int = 60, items: int = 90, seed: int = 0) -> Interactions:
    """A user watches to the end what is of the user's genre, and little of the rest."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, events).astype(np.int32)
    # a few items are hot, and others a day later
    heat = 1.0 + 4.0 * rng.random(items)
    chosen = rng.choice(items, events, p=heat / heat.sum()).astype(np.int32)
    fits = chosen % 3 == user % 3
    drawn_again = ~fits & (rng.random(events) < 0.6)
    chosen = np.where(drawn_again, (chosen // 3) * 3 + user % 3, chosen).astype(np.int32)
    liked = (chosen % 3 == user % 3) & (rng.random(events) < 0.9)
    return Interactions(
        user=user,
        item=chosen,
        ts=START + np.arange(events, dtype=np.int64) * MINUTE,
        action=np.full(events, Action.WATCH, dtype=np.uint8),
        strength=np.where(liked, 0.95, 0.05).astype(np.float32),
        label=np.where(liked, 1, -1).astype(np.int8),
        weight=np.ones(events, dtype=np.float32),
        device=np.zeros(events, dtype=np.uint8),
        user_ids=[f"u{n}" for n in range(users)],
        item_ids=[f"i{n}" for n in range(items)],
    )


def data(log: Interactions) -> TrainingData:
    profiles = {user_id: [f"taste={n % 3}"] for n, user_id in enumerate(log.user_ids)}
    return TrainingData(log, [item(int(item_id[1:])) for item_id in log.item_ids], profiles)


def first(log: Interactions, rows: int) -> Interactions:
    """The log as it was after so many rows: later users and items are not in it."""
    part = log.rows(slice(0, rows))
    return replace(
        part,
        user_ids=list(log.user_ids[: int(part.user.max()) + 1]),
        item_ids=list(log.item_ids[: int(part.item.max()) + 1]),
    )


def nobody(count: int, config: TrainingConfig = SMALL) -> UserBatch:
    """Users of whom nothing is known."""
    length = config.sequence.length
    return UserBatch(
        user=np.zeros(count, dtype=np.int32),
        items=np.full((count, length), -1, dtype=np.int32),
        actions=np.zeros((count, length), dtype=np.uint8),
        strengths=np.zeros((count, length), dtype=np.float32),
        ts=np.zeros((count, length), dtype=np.int64),
        now=np.full(count, START, dtype=np.int64),
        profile=np.zeros((count, config.profile_size), dtype=np.int32),
        histogram=np.zeros((count, config.histogram_size), dtype=np.int32),
        histogram_weights=np.zeros((count, config.histogram_size), dtype=np.float32),
        searched=np.zeros((count, config.search_size), dtype=np.int32),
        searched_weights=np.zeros((count, config.search_size), dtype=np.float32),
        shown=np.zeros((count, 0), dtype=np.int32),
        device=np.zeros(count, dtype=np.uint8),
    )
