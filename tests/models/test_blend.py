"""The blend: it finds the weights behind choices, and keeps to what it started from where these say nothing."""

from __future__ import annotations

import numpy as np

from models.data.popularity import PopularityConfig
from models.ranking.blend import Blend, Choices, feature_names

NAMES = ("a", "b", "c")


def choices(users: int, weights: list[float], seed: int = 0) -> Choices:
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(users * 20, 3)) * [1.0, 0.1, 10.0]).astype(np.float32)
    scores = (features @ np.array(weights) + rng.gumbel(size=len(features))).reshape(users, 20)
    return Choices(features, np.repeat(np.arange(users), 20), scores.argmax(axis=1) + 20 * np.arange(users))


def test_the_weights_behind_choices_are_found_whatever_their_scale() -> None:
    start = Blend(NAMES, np.zeros(3, dtype=np.float32))
    fitted = start.fitted(choices(4000, [1.0, -8.0, 0.05]), strength=1.0, steps=60)
    np.testing.assert_allclose(fitted.weights, [1.0, -8.0, 0.05], rtol=0.15)


def test_without_choices_the_weights_stay() -> None:
    start = Blend(NAMES, np.ones(3, dtype=np.float32))
    assert start.fitted(Choices.together([]), strength=1.0, steps=60) is start


def test_one_candidate_that_was_the_only_one_leaves_the_weights_as_they_are() -> None:
    start = Blend(NAMES, np.ones(3, dtype=np.float32))
    only = Choices(np.ones((1, 3), np.float32), np.zeros(1, np.int64), np.zeros(1, np.int64))
    assert start.fitted(only, strength=1.0, steps=60) is start


def test_few_choices_move_the_weights_less_than_many() -> None:
    start = Blend(NAMES, np.zeros(3, dtype=np.float32))
    few, many = (
        start.fitted(choices(users, [1.0, 0.0, 0.0]), strength=50.0, steps=60).weights[0] for users in (20, 2000)
    )
    assert 0 < few < 0.5 * many


def test_a_feature_that_hardly_ever_differs_gets_no_huge_weight() -> None:
    start = Blend(NAMES, np.zeros(3, dtype=np.float32))
    told = choices(100, [0.0, 0.0, 0.0])
    told.features[:, 1] = 0.0
    told.features[told.chosen[:3], 1] = 0.01
    assert 0 < start.fitted(told, strength=1.0, steps=60).weights[1] < 1.0


def test_sets_of_choices_join() -> None:
    one, other = choices(3, [1, 0, 0], seed=1), choices(2, [1, 0, 0], seed=2)
    both = Choices.together([one, Choices.together([]), other])
    assert both.of.tolist() == np.repeat(np.arange(5), 20).tolist()
    np.testing.assert_array_equal(both.features[both.chosen[3:]], other.features[other.chosen])


def test_before_anything_is_learnt_popularity_at_every_half_life_counts() -> None:
    config = PopularityConfig()
    prior = Blend.prior(config)
    assert prior.names == feature_names(config)
    counted = [weight for name, weight in zip(prior.names, prior.weights, strict=True) if weight and "share" in name]
    assert len(counted) == len(config.half_lives_s)
    assert counted == sorted(counted), "the half-lives ascend: the longer rest on more events"


def test_a_share_below_all_that_was_learnt_from_counts_as_the_least_of_them() -> None:
    names = ("share_1s_1e-06", "share_1s_0.0001", "fresh")
    rng = np.random.default_rng(3)
    shares = rng.uniform(0.001, 0.01, 4_000).astype(np.float32)
    features = np.stack([np.log(shares + 1e-6), np.log(shares + 1e-4), rng.normal(size=4_000)], axis=1)
    told = Choices(features.astype(np.float32), np.repeat(np.arange(200), 20), 20 * np.arange(200))
    start = Blend(names, np.array([-3.0, 4.0, 1.0], dtype=np.float32))
    fitted = start.fitted(told, strength=1e6, steps=60)  # the choices say nothing: the two floors stay at odds
    nobodys, least = np.log([[1e-6, 1e-4, 1.0]]), np.r_[features[:, :2].min(axis=0), np.log(1.0)][None]
    assert start.score(nobodys)[0] > start.score(features).max(), "what nobody liked would be ahead of everything"
    np.testing.assert_allclose(fitted.score(nobodys), fitted.score(least), rtol=1e-3)
    assert fitted.score(np.array([[-5.0, -5.0, -9.0]], dtype=np.float32))[0] < -8.0, "what is no share has no bound"
