"""The rolling prequential score: what was out before an event counts, and nothing that came with it or after it."""

from serving.dashboard.feed.rolling import Listed, RollingRecall, Trend, by_number


def items(*numbers: int) -> Listed:
    return Listed(at=100, model="v1", items=by_number([str(n) for n in numbers], {str(n): n for n in range(50)}))


def scored(score: RollingRecall, user: str, item: int, *, at: int = 200, seen: frozenset[int] = frozenset()) -> bool:
    found = score.take(user, item, arrived_at=at, positive=True, free=True)
    if found is not None:
        score.score(found, seen)
    return found is not None


def test_a_find_is_looked_up_in_the_list_and_the_trend_from_before_it() -> None:
    score = RollingRecall()
    score.trending(Trend(50, [[7, 8], [9]]))
    score.listed("ann", items(1, 2))
    score.listed("ann", items(3)._replace(at=201, model="v2"))  # the answer to the event itself
    score.trending(Trend(201, [[3], [3]]))
    assert scored(score, "ann", 2) and score.recall() == (1.0, 0.0)
    assert scored(score, "ann", 8) and score.recall() == (0.5, 0.5)
    assert (score.models["v1"].scored, score.models["v1"].hits) == (2, 1) and "v2" not in score.models


def test_trending_is_taken_at_its_best_half_life_and_without_what_the_user_has_seen() -> None:
    score = RollingRecall()
    score.trending(Trend(50, [list(range(20, 40)), [5, 4]]))
    score.listed("ann", items(1))
    score.listed("ben", items(1))
    assert scored(score, "ann", 30), "the eleventh of the first"
    assert score.recall() == (0.0, 0.0)
    assert scored(score, "ben", 31, seen=frozenset({20, 21, 31}))
    assert score.recall() == (0.0, 0.5), "with two of those before it seen it is among the first ten"


def test_what_proves_nothing_is_not_scored() -> None:
    score = RollingRecall()
    score.trending(Trend(50, [[1]]))
    assert not scored(score, "ann", 1), "no list has come by"
    score.listed("ben", items(1, 2))
    assert score.take("ben", 1, arrived_at=200, positive=True, free=False) is None, "taken from a list"
    assert score.take("ben", 2, arrived_at=200, positive=False, free=True) is None, "not liked"
    assert not scored(score, "ben", 2), "taken before"
    assert not scored(score, "cem", 2, at=90), "the list was not out yet"
    assert score.recall() is None and score.scored == 0


def test_only_the_newest_count() -> None:
    score = RollingRecall(window=2)
    score.trending(Trend(50, [[]]))
    for user in "abc":
        score.listed(user, items(1))
    assert scored(score, "a", 1) and scored(score, "b", 2) and scored(score, "c", 3)
    assert score.recall() == (0.0, 0.0) and score.scored == 3


def test_an_item_that_has_no_number_yet_is_none_of_those_known() -> None:
    assert by_number(["b", "new"], {"b": 4}).tolist() == [4, -1]
