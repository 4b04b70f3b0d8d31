"""The rankers: what they read, that serving reads the same as training, and that each kind learns, keeps and tells."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from models.config import RankerConfig, TrainingConfig
from models.data.holidays import days_to_and_from
from models.data.interactions import Impressions
from models.data.item_facts import ItemFacts
from models.data.popularity import Popularity, PopularityConfig
from models.data.searches import Searches
from models.data.tokens import BareItem
from models.metrics.retrieval_metrics import ranks_of
from models.ranking.blend import Blend, Choices
from models.ranking.calibration import Isotonic, Platt, log_odds_of
from models.ranking.examples import Examples, log_softmax, shortlist
from models.ranking.features import names
from models.ranking.inputs import Scaling, Tokens
from models.ranking.learning import learn
from models.ranking.minutes import Minutes
from models.ranking.ranker import Ranker
from models.recommender import Recommender
from models.training.context import Course
from models.training.prequential_walk import examples_among_candidates, popularity_before, strides
from models.training.train import Outcome
from tests.models import world

KINDS = get_args(get_type_hints(RankerConfig)["kind"])
BUCKETS = 64
CONFIG = PopularityConfig()


def examples(users: int, *, seed: int = 0, many: int = 30, rate: float = 0.5) -> Examples:
    """Users who choose by the third feature, of which the blend knows nothing, and by whether tokens agree."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(users * many, 3)).astype(np.float32)
    taste = rng.integers(1, 4, users)
    token = rng.integers(1, 4, users * many)
    of = np.repeat(np.arange(users), many)
    liking = features[:, 0] + 1.5 * features[:, 2] + 1.5 * (token == taste[of]) + rng.gumbel(size=len(of))
    chosen = liking.reshape(users, many).argmax(axis=1) + many * np.arange(users)
    at = np.flatnonzero((rng.random(len(of)) < rate) | np.isin(np.arange(len(of)), chosen))
    weights = np.ones(users, dtype=np.float32)
    return Examples(
        Choices(features[:, :1], of, chosen),
        at,
        features[at],
        Tokens(token[at, None].astype(np.int32), taste[:, None].astype(np.int32), weights[:, None]),
        np.where(np.isin(at, chosen), 1.0, rate).astype(np.float32),
        weights,
        (5.0 + 2.0 * features[chosen, 1]).clip(0.1),
        np.ones(users, dtype=bool),
        missed=users // 4,
    )


BLEND = Blend(("known",), np.ones(1, dtype=np.float32))


def test_who_is_not_known_is_neither_learnt_from_nor_missed() -> None:
    config = RankerConfig(kind="linear", depth=30)
    past, one, other = (examples(users, seed=seed) for seed, users in enumerate((400, 200, 200)))
    strangers = replace(examples(300, seed=5), known=np.zeros(300, dtype=bool), missed=0)
    alone, beside = (
        learn(before, [one, other], [BLEND, BLEND], BLEND, 3, BUCKETS, config)[1]
        for before in (past, Examples.together([past, strangers]))
    )
    with_strangers = [Examples.together([each, strangers]) for each in (one, other)]
    _, judged = learn(past, with_strangers, [BLEND, BLEND], BLEND, 3, BUCKETS, config)
    test = examples(50, seed=9, rate=1.0)
    for ranker in (beside, judged):
        assert (ranker.share, ranker.coverage, ranker.calibration) == (alone.share, alone.coverage, alone.calibration)
        mine, theirs = (each.added(test.features, test.tokens, test.of) for each in (ranker, alone))
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize(("kind", "calibration"), [*((kind, "platt") for kind in KINDS), ("linear", "isotonic")])
def test_every_kind_learns_what_the_blend_lacks_tells_chances_that_come_true_and_survives_the_disk(
    kind: Any, calibration: Any, tmp_path: Path
) -> None:
    config = RankerConfig(kind=kind, calibration=calibration, depth=30, trees=40, hidden=(16,), learning_rate=1e-2)
    past, one, other = (examples(users, seed=seed) for seed, users in enumerate((400, 200, 200)))
    _, ranker = learn(past, [one, other], [BLEND, BLEND], BLEND, 3, BUCKETS, config)
    told = ranker.save(tmp_path)
    again = Ranker.load(tmp_path, told, BUCKETS, config)
    test = examples(400, seed=9, rate=1.0)
    base = BLEND.score(test.choices.features)[test.at]
    scored, same = (each.scored(base, test.features, test.tokens, test.of, len(test)) for each in (ranker, again))
    np.testing.assert_allclose(scored.scores, same.scores, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scored.probabilities, same.probabilities, rtol=1e-5)
    np.testing.assert_allclose(scored.minutes, same.minutes, rtol=1e-5)

    def likelihood(scores: np.ndarray[Any, Any]) -> float:
        return float(log_softmax(scores, test.of, len(test))[test.chosen].mean())

    gain = likelihood(scored.scores) - likelihood(base)
    assert gain == 0.0 if kind == "blend" else gain > 0.3
    expected = float(scored.probabilities.sum()) / len(test)
    assert expected == pytest.approx(ranker.coverage, abs=0.1)
    assert ranker.coverage == pytest.approx(0.8, abs=0.01)
    assert np.corrcoef(scored.minutes, test.features[:, 1])[0, 1] > 0.9


def test_what_was_learnt_of_chance_is_not_listened_to() -> None:
    config = RankerConfig(kind="deep", depth=30, hidden=(64, 64), learning_rate=2e-2, epochs=20, dropout=0.0)
    rng = np.random.default_rng(3)

    def noise(seed: int) -> Examples:
        made = examples(60, seed=seed)
        return replace(made, features=rng.normal(size=made.features.shape).astype(np.float32))

    _, ranker = learn(noise(0), [noise(1), noise(2)], [BLEND, BLEND], BLEND, 3, BUCKETS, config)
    assert ranker.share <= 0.25


def test_without_examples_the_blend_alone_ranks() -> None:
    none = Examples.none()
    judges, ranker = learn(none, [none, none], [BLEND, BLEND], BLEND, 1, BUCKETS, RankerConfig())
    assert (len(judges), ranker.share, ranker.model) == (2, 0.0, None)


# -- features


@pytest.fixture(scope="module")
def course() -> Course:
    return Course.over(world.data(world.interactions()), world.SMALL, CONFIG, [])


def test_serving_and_training_compute_the_same_values_from_the_same_state(
    trained: tuple[Path, Outcome], course: Course
) -> None:
    model = Recommender.load(trained[0])
    histories, log = course.histories, course.histories.log
    popularity = popularity_before(log, 2900, CONFIG, len(course.items))
    rows = next(strides(log, course.targets, 2900, 3000, popularity))
    popularity = popularity_before(log, 2900, CONFIG, len(course.items))
    made = examples_among_candidates(model, histories, rows, popularity, course.allowed, np.random.default_rng(0))
    assert len(made) > 5
    for place, row in enumerate(rows):  # one by one, as a server may be asked
        users = histories.before(np.array([row]))
        candidates = model.candidates(users, popularity, course.allowed, histories.seen_before(np.array([row])))
        features, tokens = model.describe(users, popularity, candidates, np.arange(len(candidates.items)))
        of = _place_of(made, candidates.features)
        if of is None:
            continue
        described = made.at[made.of == of] - np.searchsorted(made.choices.of, of)
        np.testing.assert_allclose(features[described], made.features[made.of == of], rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(tokens.user[0], made.tokens.user[of], err_msg=str(place))
        np.testing.assert_array_equal(tokens.item[described], made.tokens.item[made.of == of])


def _place_of(made: Examples, features: np.ndarray[Any, Any]) -> int | None:
    """Which of the examples' users has these candidates."""
    for user in range(len(made)):
        own = made.choices.features[made.choices.of == user]
        if own.shape == features.shape and np.allclose(own, features, atol=1e-4):
            return user
    return None


def test_features_say_what_their_names_say(course: Course) -> None:
    histories, log = course.histories, course.histories.log
    popularity = popularity_before(log, 2900, CONFIG, len(course.items))
    model = Recommender(
        "", world.SMALL, CONFIG, log.item_ids, None, course.neighbours(2900), facts=course.facts_before(2900)
    )
    rows = np.arange(2900, 2910)
    users = histories.before(rows)
    candidates = model.candidates(users, popularity, course.allowed, [np.zeros(0, np.int32)] * len(rows))
    every = np.arange(len(candidates.items))
    features, _ = model.describe(users, popularity, candidates, every)
    column = {name: features[:, index] for index, name in enumerate(names(CONFIG))}
    assert features.shape[1] == len(names(CONFIG))
    of, items = candidates.users, candidates.items
    first = np.array([log.ts[:2900][log.item[:2900] == item].min() for item in items])
    np.testing.assert_allclose(column["met"], np.log1p((log.ts[rows][of] - first) / 86_400_000.0), rtol=1e-3)
    assert np.isnan(column["age"]).all(), "nothing says when the items were published"
    assert np.isnan(column["rank_sequence"]).all() and np.isnan(column["near_last"]).all(), "there are no networks"
    genre = log.user[rows][of] % 3 == items % 3
    assert column["taste"][genre].mean() > 0.6 > 0.4 > column["taste"][~genre].mean()
    last = users.items[of, -1]
    np.testing.assert_array_equal(column["last_keys"], (last % 3 == items % 3).astype(np.float32))
    best = np.lexsort((-column["neighbours"], of))
    starts = np.searchsorted(of, np.arange(len(rows)))
    np.testing.assert_allclose(column["rank_neighbours"][best[starts]], 0.0, atol=0.7)
    assert (column["gap_neighbours"] >= 0).all()
    some = every[::7]
    again, _ = model.describe(users, popularity, candidates, some)
    np.testing.assert_array_equal(again, features[some], err_msg="what else is described changes nothing")


def test_what_was_searched_for_speaks_for_the_items_that_it_finds(course: Course) -> None:
    log = course.histories.log
    rows = np.array([2900, 2901])
    said = [(int(log.user[2900]), int(log.ts[2900]) - 1, "news!"), (int(log.user[2901]), int(log.ts[2901]), "too late")]
    seen = Course.over(world.data(replace(log, searches=Searches.of(said))), world.SMALL, CONFIG, [])
    model = Recommender("", world.SMALL, CONFIG, log.item_ids, None, facts=seen.facts_before(2900))
    users = seen.histories.before(rows)
    popularity = popularity_before(log, 2900, CONFIG, len(seen.items))
    candidates = model.candidates(users, popularity, seen.allowed, [np.zeros(0, np.int32)] * 2)
    features, tokens = model.describe(users, popularity, candidates, np.arange(len(candidates.items)))
    asked_for = (candidates.users == 0) & (candidates.items % 3 == world.GENRES.index("news"))
    np.testing.assert_allclose(features[:, names(CONFIG).index("searched")], asked_for, atol=1e-6)
    assert asked_for.any() and np.isin(users.searched[0, 0], tokens.user[0])


def test_a_users_tokens_are_those_of_what_the_user_liked_last_as_much_as_it_was_liked(course: Course) -> None:
    users, items = course.histories.before(np.arange(2900, 2920)), np.arange(90)
    tokens = Tokens.of(users, items, course.facts, 512)
    own = tokens.item[:, -1]
    assert len(np.unique(own)) > 80
    for user in range(20):
        liked = np.zeros(513)
        recent = slice(-20, None)
        np.add.at(
            liked, own[users.items[user, recent]], users.strengths[user, recent] * (users.items[user, recent] >= 0)
        )
        told = np.zeros(513)
        start = users.profile.shape[1] + users.histogram.shape[1]
        watched = slice(start, start + min(20, users.items.shape[1]))
        np.add.at(told, tokens.user[user, watched], tokens.weights[user, watched])
        np.testing.assert_allclose(told, liked / liked.sum(), atol=1e-6)


def test_facts_tell_creators_language_and_times_and_survive_the_disk() -> None:
    content = {"genre": ["drama"], "director": ["ann"], "language": ["ko"]}
    items = [
        BareItem(
            "a", published_at=1000, duration_s=60.0, categorical=content, numeric={"year": 1994.0, "budget": 1e300}
        ),
        BareItem("b", numeric={"year": 1999.0}),
    ]
    facts = ItemFacts.of(items, 512).met(np.array([0, -1, 0]), np.array([50, 10, 40]))
    assert facts.number_names == ("year", "budget")
    np.testing.assert_array_equal(facts.numbers, [[1994.0, 1e15], [1999.0, np.nan]])
    assert facts.times[0].tolist() == [1000.0, 40.0]
    assert np.isnan(facts.times[1]).all() and np.isnan(facts.duration[1])
    assert np.count_nonzero(facts.keys[0]) == 3
    assert facts.creators[0, 0] in facts.keys[0] and facts.language[0] in facts.keys[0]
    facts.put(np.array([3]), items[:1])
    again = ItemFacts.from_tables(facts.tables(), 512, facts.number_names)
    assert len(again) == 4
    np.testing.assert_array_equal(again.numbers, facts.numbers[:4])
    np.testing.assert_array_equal(again.keys[3], facts.keys[0])


def test_what_was_shown_in_vain_is_always_among_the_negatives_and_the_rest_stands_for_more(course: Course) -> None:
    log = course.histories.log
    rows = np.arange(2900, 2916)
    # items 0 to 4 long ago, and 5 to 9 out of the list that each choice was made from
    shown = Impressions(
        np.tile(np.repeat(log.user[rows], 5), 2),
        np.concatenate([np.tile(np.arange(first, first + 5, dtype=np.int32), 16) for first in (0, 5)]),
        np.repeat([log.ts[0] - 1, log.ts[2900] - 1], 80),
    )
    seen = Course.over(world.data(replace(log, shown=shown)), world.SMALL, CONFIG, [])
    config = replace(world.SMALL, ranker=RankerConfig(negatives=10))
    known = None, seen.neighbours(2900), None, seen.facts_before(2900)
    model = Recommender("", config, CONFIG, log.item_ids, *known)
    popularity = popularity_before(seen.histories.log, 2900, CONFIG, len(seen.items))
    made = examples_among_candidates(model, seen.histories, rows, popularity, seen.allowed, np.random.default_rng(0))
    column = names(CONFIG).index("shown")
    in_vain = made.features[:, column] > 0
    usable = sum(5 - len(np.intersect1d(past, np.arange(5))) for past in seen.histories.seen_before(rows))
    assert 0 < in_vain.sum() <= usable
    is_choice = np.isin(np.arange(len(made.at)), made.chosen)
    assert (made.rates[in_vain | is_choice] == 1.0).all()
    of_that_list = (made.rates == 1.0) & ~in_vain & ~is_choice
    assert 0 < of_that_list.sum() <= 80, "not told to have been shown, as the list came before"
    assert (made.rates[~in_vain & ~is_choice & ~of_that_list] < 0.2).all()
    near = shortlist(model.blend.score(made.choices.features), made.choices.of, len(made), config.ranker.depth)
    stood_for = np.bincount(made.of, 1.0 / made.rates)
    assert stood_for.sum() == pytest.approx(len(near), rel=0.25), "the sample stands for the whole"


def test_distances_to_holidays_count_whole_days_and_wrong_dates_are_named() -> None:
    def ms(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)

    moments = np.array([ms(each) for each in ("2023-12-25T13:00", "2023-12-28T23:59", "2024-06-01T00:00")])
    days = days_to_and_from(moments, ("01-01", "12-25", "2024-05-30"))
    assert days.tolist() == [[0.0, 0.0], [4.0, 3.0], [14.0, 2.0]]
    assert (days_to_and_from(moments, ()) == 14.0).all()
    for wrong in ("12-32", "easter", "02-29"):
        with pytest.raises(ValueError, match=f"holidays: '?{wrong}"):
            TrainingConfig(holidays=(wrong,))


# -- parts


def test_a_shortlist_holds_each_users_best_and_shares_add_up_to_one() -> None:
    of = np.array([0, 0, 0, 2, 2])
    scores = np.array([1.0, 3.0, 2.0, 5.0, 4.0], dtype=np.float32)
    assert shortlist(scores, of, 3, 2).tolist() == [1, 2, 3, 4]
    sums = np.bincount(of, np.exp(log_softmax(scores, of, 3)), minlength=3)
    np.testing.assert_allclose(sums, [1.0, 0.0, 1.0])


def test_scores_that_say_too_much_or_too_little_are_brought_to_what_comes_true() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(-2.0, 1.5, 20_000)
    came = rng.random(len(true)) < 1.0 / (1.0 + np.exp(-true))
    platt = Platt.fitted(2.0 * true + 1.0, came, np.ones(len(true)))
    assert platt.slope == pytest.approx(0.5, abs=0.03)
    assert platt.offset == pytest.approx(-0.5, abs=0.06)
    assert float(platt(2.0 * true + 1.0).mean()) == pytest.approx(float(came.mean()), abs=1e-3)
    assert Platt.fitted(-true, came, np.ones(len(true))) == Platt(), "an order turned round says nothing"
    np.testing.assert_allclose(log_odds_of(np.log([0.5, 0.1])), [0.0, np.log(1 / 9)], atol=1e-9)


def test_the_isotonic_curve_equals_scikit_learns_and_survives_the_disk() -> None:
    rng = np.random.default_rng(1)
    scores = np.round(rng.normal(-2.0, 1.5, 3000), 2)
    came = rng.random(len(scores)) < 0.6 / (1.0 + np.exp(-2.0 * scores))
    weights = rng.uniform(0.5, 3.0, len(scores))
    curve = Isotonic.fitted(scores, came, weights)
    asked = np.linspace(-8.0, 5.0, 400)
    other = IsotonicRegression(out_of_bounds="clip").fit(scores, came, sample_weight=weights).predict(asked)
    np.testing.assert_allclose(curve(asked), other, atol=1e-3)
    assert (np.diff(curve(asked)) >= 0).all() and curve(asked)[0] > 0
    np.testing.assert_array_equal(Isotonic.from_tables(curve.tables())(asked), curve(asked))
    assert Isotonic.fitted(scores, came & False, weights) == Platt(), "what never came true says nothing yet"


def test_minutes_need_to_be_known_of_some() -> None:
    scaled = np.zeros((60, 2), dtype=np.float32)
    assert Minutes.fitted(scaled, np.full(60, np.nan, np.float32)) is None
    minutes = Minutes.fitted(scaled, np.full(60, 7.0, np.float32))
    assert minutes is not None
    np.testing.assert_allclose(minutes(scaled[:2]), [7.0, 7.0], rtol=1e-4)


def test_what_is_not_known_is_marked_and_counts_as_the_mean() -> None:
    features = np.array([[1.0, np.nan], [3.0, 5.0], [5.0, 7.0]], dtype=np.float32)
    scaling = Scaling.of(features)
    assert scaling.width == 3
    scaled = scaling(features)
    assert scaled[0, 1] == 0.0
    assert scaled[:, 2].tolist() == [1.0, 0.0, 0.0]
    np.testing.assert_allclose(scaled[:, 0].mean(), 0.0, atol=1e-6)


def test_the_rankers_configuration_survives_json() -> None:
    config = replace(world.SMALL, ranker=RankerConfig(kind="deepfm", hidden=(8, 4)))
    content = asdict(config)
    content["ranker"]["hidden"] = [8, 4]
    assert TrainingConfig.from_json(content) == config


def test_the_list_tells_chances_and_beyond_the_rankers_depth_goes_on_as_the_blend_has_it(
    trained: tuple[Path, Outcome], course: Course
) -> None:
    model = Recommender.load(trained[0])
    assert model.ranker is not None
    popularity = popularity_before(course.histories.log, 2900, CONFIG, 90)
    users = course.histories.before(np.arange(2900, 2930))
    nothing = [np.zeros(0, np.int32)] * len(users)
    ranking = model.rank(users, popularity, allowed=course.allowed, seen=nothing, n=30)
    assert ((ranking.probabilities > 0) & (ranking.probabilities < 1)).all()
    assert (np.diff(ranking.probabilities, axis=1) <= 1e-6).all(), "in the order of the scores"
    assert np.isnan(ranking.minutes).all(), "this log knows of no minutes"
    model.config = replace(model.config, ranker=replace(model.config.ranker, depth=5))
    short = model.rank(users, popularity, allowed=course.allowed, seen=nothing, n=30)
    assert (np.diff(short.scores, axis=1) <= 0).all()
    model.ranker = None
    blend = model.rank(users, popularity, allowed=course.allowed, seen=nothing, n=30)
    for mine, theirs in zip(short.items, blend.items, strict=True):
        assert set(mine[:5]) == set(theirs[:5])
    assert np.isnan(blend.probabilities).all()
    assert (ranks_of(short.items, blend.items[:, 0]) < 5).all()


def test_an_item_that_came_later_is_described_too(trained: tuple[Path, Outcome], course: Course) -> None:
    model = Recommender.load(trained[0])
    model.admit([BareItem("new", categorical={"genre": ["drama"]}, duration_s=60.0)])
    assert len(model.facts) == 91
    popularity = Popularity(CONFIG, 91)
    popularity.add([90, 90, 3], [world.START] * 3, [True] * 3)
    users = course.histories.before(np.array([2900]))
    ranking = model.rank(users, popularity, allowed=np.arange(91) > 80, seen=[np.zeros(0, np.int32)], n=10)
    assert 90 in ranking.items
    assert (ranking.probabilities > 0).all()
