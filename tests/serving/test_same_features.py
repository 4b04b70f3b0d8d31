"""Serving and training compute the same features: one stream of events, through Redis and through the sample log."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from models.config import SequenceConfig, SlistConfig, TowerReading, TowersConfig, TrainingConfig
from models.data.interactions import DEVICES
from models.data.item_facts import ItemFacts
from models.data.popularity import Popularity
from models.data.tokens import profile_tokens
from models.data.users import UserBatch
from models.ranking.blend import feature_names
from models.ranking.features import State, describe, names
from models.recommender import Recommender
from models.retrieval.candidates import Candidates
from models.retrieval.neighbours import Neighbours
from models.training.context import Course, TrainingData
from models.training.prequential_walk import popularity_before
from serving.lists.live_model import Ranker
from streams.contract.events import decode_event, decode_item
from streams.ingest import Lane, ingest, read_batch
from streams.state.item_catalogue import Catalogue, decode_profile, keep_items, keep_users
from streams.state.store import Store
from streams.state.trends import Trends
from streams.training.sample_log import SampleLog, read_interactions
from tests.conftest import MakeSettings
from tests.streams.records import batch, record

NOW = 1_703_400_000_000  # a day before a holiday
MINUTE = 60_000
USERS, ITEMS = 6, 12


def catalogue() -> list[bytes]:
    def item(n: int) -> dict[str, object]:
        about = {"genre": ["Drama", "News"][n % 2 : n % 2 + 1], "director": [f"d{n % 3}"], "language": ["ko"]}
        numeric = {"year": 1990.0 + n} if n % 4 else {}
        return {
            "item_id": f"i{n}",
            "title": f"{['Quiet', 'Golden'][n % 2]} River {100 + n}",
            "categorical": about,
            "numeric": numeric,
            "duration_s": 60.0 * n or None,
            "published_at": NOW - n * 86_400_000,
        }

    return [
        json.dumps({name: each for name, each in item(n).items() if each is not None}).encode() for n in range(ITEMS)
    ]


def stream() -> list[bytes]:
    """What users do in half a day; each ends with a visit, which a list answers, and a like out of that list."""
    rng = np.random.default_rng(3)
    events: list[dict[str, object]] = []
    for n in range(150):
        user, item, device = f"u{rng.integers(USERS)}", f"i{rng.integers(ITEMS)}", rng.choice([*DEVICES, "fridge"])
        kind = rng.choice(["impression", "watch", "watch", "like", "visit", "search"])
        event = {"type": kind, "user_id": user, "ts": NOW + n * 5 * MINUTE, "context": {"device": device, "row": n}}
        if kind == "search":
            event["query"] = rng.choice(["the quiet RIVER", "drama", f"golden {rng.integers(100, 112)}", "?"])
        elif kind != "visit":
            event["item_id"] = item
        if kind == "watch":
            event |= {"watch_s": float(rng.integers(1, 60)), "duration_s": 60.0}
        events.append(event)
    events += [
        {"type": "visit", "user_id": f"u{n}", "ts": NOW + (151 + n) * 5 * MINUTE, "context": {"device": DEVICES[n % 4]}}
        for n in range(USERS)
    ]
    events += [
        {"type": "like", "user_id": f"u{n}", "item_id": f"i{n}", "ts": NOW + (160 + n) * 5 * MINUTE}
        for n in range(USERS)
    ]
    return [json.dumps(event).encode() for event in events]


def test_the_same_events_make_the_same_features_in_service_and_in_training(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings()
    raws, items = stream(), catalogue()
    profile = b'{"user_id":"u1","categorical":{"country":["KR"]}}'
    sequence = SequenceConfig(reads=("content", "actions", "gaps", "moment", "user"))
    towers = TowersConfig(reads=get_args(TowerReading))
    slist = SlistConfig(least=1, sitting_s=3600.0, damping=1.0)
    half_life_s = settings.ingest.histogram_half_life_s
    config = TrainingConfig(sequence, towers, slist=slist, histogram_half_life_s=half_life_s)

    log = SampleLog(tmp_path)
    log.append("log", 0, len(raws), [(decode_event(raw), raw, NOW) for raw in raws])
    log.flush()
    interactions = read_interactions(log.newest_segments(10**9), settings.labels)
    asked = len(interactions) - USERS + np.arange(USERS)
    assert (interactions.ts[asked] >= NOW + 160 * 5 * MINUTE).all() and len(interactions.shown.ts) > 15

    def nobody() -> Neighbours:
        """Neighbours that have everything to follow, of users whose every action counts."""
        return Neighbours.none(replace(config.neighbours, liked=0.0))

    def recommender() -> Recommender:
        """What is compared, as of just before the visits that are asked about."""
        until = int(asked[0])
        known = np.arange(len(interactions)) < until
        item_ids, facts, slist = course.histories.log.item_ids, course.facts_before(until), course.slist(known)
        return Recommender("", config, settings.popularity, item_ids, None, nobody(), facts=facts, slist=slist)

    async def served() -> tuple[UserBatch, np.ndarray, Candidates]:
        """The users after their visit, the features of all items for each, and which candidates these are."""
        store = Store(settings)
        try:
            known = Catalogue(store)
            records = [record(n, each, key=f"i{n}".encode(), topic="items") for n, each in enumerate(items)]
            await keep_items(batch(records), "log", store, settings)
            await keep_users(batch([record(0, profile, key=b"u1", topic="users")]), "log", store, settings)
            reads = await read_batch(batch([record(n, raw) for n, raw in enumerate(raws[:-USERS])]), known, settings)
            await ingest(reads, "log", store, Lane())
            trends = Trends(store, settings)
            await trends.sync()
            await known.sync()
            model = recommender()
            ranker = Ranker(model, known, trends, settings)
            users = [interactions.user_ids[code] for code in interactions.user[asked]]
            states = await store.read_users(users, length=50, histogram=config.histogram_size)
            profiles = [decode_profile(state.profile) for state in states]
            query = ranker._query(states, profiles, interactions.ts[asked].tolist(), "", 10)
            return query.users, *described(model, query.users, query.popularity, model.facts)
        finally:
            await store.close()

    def described(
        model: Recommender, users: UserBatch, popularity: Popularity, facts: ItemFacts
    ) -> tuple[np.ndarray, Candidates]:
        candidates = model.candidates(users, popularity, np.ones(ITEMS, bool), [np.zeros(0, np.int32)] * USERS)
        state = State(popularity, facts, None, config.holidays)
        return describe(users, candidates, np.arange(len(candidates.items)), state), candidates

    known_profile = decode_profile(profile)
    assert known_profile is not None
    data = TrainingData(
        interactions,
        [decode_item(each) for each in items],
        {"u1": profile_tokens(known_profile.categorical, known_profile.numeric)},
    )
    course = Course.over(data, config, settings.popularity, [])
    met, mine, candidates = asyncio.run(served())
    popularity = popularity_before(course.histories.log, int(asked[0]), settings.popularity, ITEMS)
    model = recommender()
    facts = model.facts
    assert model.neighbours is not None
    course.likes.follow(model.neighbours, 0, int(asked[0]))
    learnt = course.histories.before(asked)
    theirs, others = described(model, learnt, popularity, facts)
    np.testing.assert_array_equal(candidates.items, others.items)
    np.testing.assert_allclose(candidates.features, others.features, rtol=1e-4, atol=1e-4)
    lifts = candidates.features[:, feature_names(settings.popularity).index("slist")]
    assert len(np.unique(lifts)) > 10, "slist tells nothing apart"
    for column, name in enumerate(names(settings.popularity, facts.number_names)):
        np.testing.assert_allclose(mine[:, column], theirs[:, column], rtol=1e-4, atol=1e-4, err_msg=name)
    told = {name: mine[:, index] for index, name in enumerate(names(settings.popularity, facts.number_names))}
    told_apart = (
        "neighbours",
        "searched",
        "number_year",
        "number_gap_year",
        "shown",
        "device_tv",
        "taste",
        "same_creator",
    )
    for name in told_apart:
        assert len(np.unique(told[name][~np.isnan(told[name])])) > 1, f"{name} tells nothing apart"
    assert (told["holiday_ahead"] == 1.0).all()
    assert len(set(met.user.tolist())) == USERS
    assert (met.searched > 0).any(axis=1).sum() > 3 and (met.searched_weights.sum(axis=1) <= 1.0 + 1e-6).all()
    for name in ("user", "device", "now", "profile", "searched", "searched_weights"):
        np.testing.assert_allclose(getattr(met, name), getattr(learnt, name), rtol=1e-6, err_msg=name)
    for network in course.networks(None):
        for parameter in network.parameters():  # ids that nothing is learnt of are 0, which would hide a difference
            torch.nn.init.normal_(parameter)
        vectors = np.random.default_rng(4).normal(size=(ITEMS, 64)).astype(np.float32)
        np.testing.assert_allclose(network.queries(met, vectors), network.queries(learnt, vectors), rtol=1e-3)
