"""Items like an item: known together first, then alike by their features, never one that may not be shown."""

import numpy as np
import pytest

from models.config import IndexConfig, NeighboursConfig, TrainingConfig
from models.data.popularity import PopularityConfig
from models.networks.sequence import SequenceModel
from models.networks.towers import TwoTowers
from models.recommender import Networks, Recommender, with_prior
from models.retrieval.index import VectorIndex
from models.retrieval.neighbours import Neighbours
from models.retrieval.related import RelatedItems

SIZE = 6


@pytest.fixture
def model() -> Recommender:
    """Items 0, 1 and 2 are liked by the same users; by its vector 0 is like 5, then 4, then 3."""
    config = TrainingConfig(token_buckets=64, neighbours=NeighboursConfig(size=4))
    vectors = np.zeros((SIZE, config.towers.dim), np.float32)
    vectors[:, 0] = (1.0, -1.0, -1.0, 0.2, 0.6, 0.9)
    vectors[:, 1] = (0.0, 0.1, 0.2, 1.0, 0.8, 0.4)
    prior = np.arange(SIZE, dtype=np.float32)[::-1] * 10  # what is popular is not for that reason alike
    index = VectorIndex.build(with_prior(vectors, prior), with_prior(vectors, 1.0), IndexConfig(), seed=1)
    sizes = SIZE, config.token_buckets, len(PopularityConfig().half_lives_s)
    networks = Networks(SequenceModel(*sizes, config.sequence), TwoTowers(*sizes, config.towers), index, index)
    users, items = np.repeat(np.arange(9), 2), np.array([0, 1] * 5 + [0, 2] * 2 + [1, 2] * 2)
    neighbours = Neighbours.fitted(users, items, SIZE, config.neighbours)
    return Recommender("v1", config, PopularityConfig(), [f"i{n}" for n in range(SIZE)], networks, neighbours)


def test_what_is_liked_together_comes_first_then_what_is_alike(model: Recommender) -> None:
    found = model.related_to(0, np.ones(SIZE, bool), 10)
    assert found.rows.tolist() == [1, 2, 5, 4, 3]
    assert found.together == 2
    assert found.similarities[2] == pytest.approx(0.9 / np.hypot(0.9, 0.4), abs=1e-5)


def test_there_are_no_more_than_asked_for_and_none_that_may_not_be_shown(model: Recommender) -> None:
    allowed = np.ones(SIZE, bool)
    allowed[[1, 5]] = False
    assert model.related_to(0, allowed, 10).rows.tolist() == [2, 4, 3]
    assert model.related_to(0, allowed, 2).rows.tolist() == [2, 4]
    assert model.related_to(0, allowed, 1).rows.tolist() == [2]


def test_what_was_looked_up_at_the_build_is_what_a_search_finds(model: Recommender) -> None:
    assert model.networks is not None
    assert model.neighbours is not None
    vectors, everything = model.networks.towers_index.vectors[:, :-1], np.ones(SIZE, bool)
    searched = [model.related_to(row, everything, SIZE) for row in range(SIZE)]
    model.related = RelatedItems.over(model.neighbours, vectors, IndexConfig())
    model.related = RelatedItems.from_tables(model.related.tables())
    for row, found in enumerate(searched):
        looked_up = model.related_to(row, everything, SIZE)
        assert looked_up.rows.tolist() == found.rows.tolist()
        assert looked_up.together == found.together
        np.testing.assert_allclose(looked_up.similarities, found.similarities, atol=1e-6)
    assert model.related_to(0, everything & (np.arange(SIZE) != 2), 2).rows.tolist() == [1, 5]


def test_an_item_that_came_since_the_build_is_searched_for(model: Recommender) -> None:
    assert model.networks is not None
    assert model.neighbours is not None
    index = model.networks.towers_index
    model.related = RelatedItems.over(model.neighbours, index.vectors[:, :-1], IndexConfig())
    index.add(with_prior(np.eye(1, index.vectors.shape[1] - 1, dtype=np.float32), 0.0))
    found = model.related_to(SIZE, np.ones(SIZE + 1, bool), 2)
    assert found.rows.tolist() == [0, 5]
    assert found.together == 0


def test_before_there_is_a_model_nothing_is_known_to_be_alike() -> None:
    model = Recommender.trending_only(PopularityConfig())
    assert len(model.related_to(0, np.ones(1, bool), 5).rows) == 0
