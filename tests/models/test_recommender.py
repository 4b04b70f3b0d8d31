"""The recommender: what it shows, to whom, and that it is the same wherever it runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artefact import ArtefactError
from models.data.popularity import Popularity, PopularityConfig
from models.data.tokens import BareItem
from models.data.users import UserBatch
from models.recommender import TRENDING_VERSION, Recommender
from models.retrieval.sources import SOURCES
from models.training.context import Course
from models.training.prequential_walk import popularity_before
from models.training.train import Outcome
from tests.models import world

NOTHING = np.zeros(0, dtype=np.int32)


@pytest.fixture
def recommender(trained: tuple[Path, Outcome]) -> Recommender:
    return Recommender.load(trained[0])


@pytest.fixture(scope="module")
def course() -> Course:
    return Course.over(world.data(world.interactions()), world.SMALL, PopularityConfig(), [])


@pytest.fixture(scope="module")
def popularity(course: Course) -> Popularity:
    return popularity_before(course.histories.log, 3000, PopularityConfig(), len(course.items))


@pytest.fixture(scope="module")
def users(course: Course) -> UserBatch:
    return course.histories.before(np.arange(2900, 2960))


def test_an_artefact_of_before_its_parts_could_be_chosen_still_ranks(
    trained: tuple[Path, Outcome], tmp_path: Path, users: UserBatch
) -> None:
    folder = shutil.copytree(trained[0], tmp_path / "former")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    sequence = manifest["config"]["sequence"]
    for since in ("layers", "loss", "similarity", "reads", "stretch", "temperature", "calibration", "warmup"):
        del sequence[since]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    former, networks = Recommender.load(folder).networks, Recommender.load(trained[0]).networks
    assert former is not None and networks is not None
    vectors = networks.sequence_index.vectors[:, :-1]
    np.testing.assert_array_equal(former.sequence.queries(users, vectors), networks.sequence.queries(users, vectors))


def test_neither_seen_nor_withdrawn_items_are_shown(
    recommender: Recommender, users: UserBatch, popularity: Popularity
) -> None:
    allowed = np.arange(90) % 7 != 0
    seen = [np.arange(n % 30, dtype=np.int32) for n in range(len(users))]
    ranking = recommender.rank(users, popularity, allowed=allowed, seen=seen, n=20)
    for items, hidden in zip(ranking.items, seen, strict=True):
        shown = items[items >= 0]
        assert len(shown) == 20
        assert len(set(shown.tolist())) == 20
        assert not set(shown.tolist()) & set(hidden.tolist())
        assert allowed[shown].all()


def test_each_user_gets_the_same_list_alone_and_among_others(
    recommender: Recommender, users: UserBatch, popularity: Popularity
) -> None:
    allowed = np.ones(90, dtype=bool)
    together = recommender.rank(users, popularity, allowed=allowed, seen=[NOTHING] * len(users), n=10)
    for place in (0, 17, 59):
        alone = recommender.rank(users.take(slice(place, place + 1)), popularity, allowed=allowed, seen=[NOTHING], n=10)
        np.testing.assert_allclose(alone.scores[0], together.scores[place], rtol=1e-3, atol=1e-3)


def test_lists_are_ordered_and_say_who_proposed_each_item(
    recommender: Recommender, users: UserBatch, popularity: Popularity
) -> None:
    ranking = recommender.rank(users, popularity, allowed=np.ones(90, bool), seen=[NOTHING] * len(users), n=10)
    assert (np.diff(ranking.scores, axis=1) <= 0).all()
    assert (ranking.sources > 0).all()
    assert int(ranking.sources.max()) < 1 << len(SOURCES)


def test_the_reason_is_an_item_the_user_liked_lately(
    recommender: Recommender, users: UserBatch, popularity: Popularity
) -> None:
    ranking = recommender.rank(users, popularity, allowed=np.ones(90, bool), seen=[NOTHING] * len(users), n=5)
    for place, because in enumerate(ranking.because):
        liked = users.items[place][(users.strengths[place] >= 0.5) & (users.items[place] >= 0)]
        assert set(because.tolist()) <= (set(liked.tolist()) or {-1})


def test_lists_follow_the_taste_of_the_user(recommender: Recommender, course: Course, popularity: Popularity) -> None:
    rows = np.arange(2900, 2960)
    ranking = recommender.rank(
        course.histories.before(rows), popularity, allowed=np.ones(90, bool), seen=[NOTHING] * 60, n=10
    )
    taste = course.histories.log.user[rows] % 3
    assert (ranking.items % 3 == taste[:, None]).mean() > 0.6


def test_for_who_has_done_nothing_yet_popularity_alone_decides(
    recommender: Recommender, users: UserBatch, popularity: Popularity
) -> None:
    nothing = {name: np.zeros_like(getattr(users, name)) for name in ("searched", "histogram", "strengths")}
    strangers = replace(users, items=np.full_like(users.items, -1), **nothing)
    assert not strangers.known.any()
    both = (strangers, users.take(slice(0, 1)))
    mixed = UserBatch(*(np.concatenate([getattr(each, f.name) for each in both]) for f in fields(UserBatch)))
    asked: dict[str, Any] = {"popularity": popularity, "allowed": np.ones(90, bool), "n": 10}
    ranking = recommender.rank(mixed, **asked, seen=[NOTHING] * len(mixed))
    shares = Recommender("", world.SMALL, PopularityConfig(), recommender.item_ids, None, None, recommender.blend)
    trending = shares.rank(strangers, **asked, seen=[NOTHING] * len(strangers))
    np.testing.assert_array_equal(ranking.items[:-1], trending.items)
    assert np.isnan(ranking.probabilities[:-1]).all()
    assert not np.isnan(ranking.probabilities[-1]).any(), "the ranker orders the list of the one who has"


def test_an_unknown_item_is_admitted_once_and_can_be_found(
    recommender: Recommender, users: UserBatch, popularity: Popularity
) -> None:
    known = recommender.admit([world.item(5)])
    new = [world.item(number) for number in range(90, 120)]
    rows = recommender.admit(new)
    assert known.tolist() == [5]
    assert rows.tolist() == list(range(90, 120))
    assert recommender.admit(new).tolist() == rows.tolist()
    assert len(recommender.item_ids) == 120
    grown = Popularity(PopularityConfig(), 120)
    grown.put(np.arange(90), popularity.records)
    allowed = np.arange(120) >= 90
    ranking = recommender.rank(users, grown, allowed=allowed, seen=[NOTHING] * len(users), n=10)
    assert (ranking.items >= 90).all(), "found by content alone"


def test_changed_content_moves_an_item_that_was_not_trained_on(recommender: Recommender) -> None:
    recommender.admit([BareItem("fresh", categorical={"genre": ["drama"]})])
    assert recommender.networks is not None
    before = recommender.networks.towers_index.vectors[-1].copy()
    recommender.admit([BareItem("fresh", categorical={"genre": ["news"]})])
    assert not np.allclose(before, recommender.networks.towers_index.vectors[-1])


def test_before_the_first_model_the_list_is_what_trends() -> None:
    recommender = Recommender.trending_only(PopularityConfig(), world.SMALL)
    recommender.admit([world.item(number) for number in range(10)])
    popularity = Popularity(PopularityConfig(), 10)
    popularity.add([3, 3, 3, 1, 1, 7], [world.START] * 6, [True] * 6)
    ranking = recommender.rank(
        world.nobody(2), popularity, allowed=np.ones(10, bool), seen=[NOTHING, np.array([3])], n=3
    )
    assert recommender.version == TRENDING_VERSION
    assert ranking.items.tolist() == [[3, 1, 7], [1, 7, -1]]
    assert (ranking.because == -1).all()


def test_nobody_to_rank_is_no_trouble(recommender: Recommender, popularity: Popularity) -> None:
    ranking = recommender.rank(world.nobody(0), popularity, allowed=np.ones(90, bool), seen=[], n=5)
    assert ranking.items.shape == (0, 5)


def test_a_damaged_artefact_is_refused(trained: tuple[Path, Outcome], tmp_path: Path) -> None:
    for path in trained[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tables.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ArtefactError, match=r"tables\.safetensors.*damaged"):
        Recommender.load(tmp_path)
    with pytest.raises(ArtefactError, match="not an artefact that this version can read"):
        Recommender.load(tmp_path, verify=False)
