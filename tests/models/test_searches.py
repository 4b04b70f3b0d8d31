"""Searches: the words searched for last, as of any moment, bounded and fading."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.data.searches import LastSearched, Searches, faded
from models.data.tokens import BareItem, findable_tokens, hash_tokens, item_tokens, query_tokens

SIZE, BUCKETS, DAY_S = 4, 1 << 20, 86_400.0
WORDS = ("slow", "trains", "quiet", "river", "한국어", "golden")
searches = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 12), st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)),
    max_size=25,
)


@given(st.text(max_size=1000))
def test_a_query_becomes_a_few_short_words_whatever_is_typed(query: str) -> None:
    tokens = query_tokens(query)
    assert len(tokens) == len(set(tokens)) <= 16
    words = [token.removeprefix("word=") for token in tokens]
    assert all(3 <= len(word) <= 64 and word == word.lower() for word in words)
    assert query_tokens(" ".join(words)) == tokens


def test_an_item_is_found_by_the_words_of_its_title_and_of_its_values() -> None:
    film = BareItem("f1", title="The Long Goodbye", categorical={"genre": ["Crime"], "director": ["Robert Altman"]})
    assert findable_tokens(film) == [f"word={word}" for word in ("the", "long", "goodbye", "crime", "robert", "altman")]
    assert set(query_tokens("long GOODBYE, altman")) <= set(findable_tokens(film))
    assert set(query_tokens("long goodbye")) <= set(item_tokens(film)), "as the networks know items"


@given(searches, st.lists(st.tuples(st.integers(0, 3), st.integers(0, 14)), min_size=1, max_size=8))
def test_the_words_before_a_moment_are_the_last_ones_newest_first(
    drawn: list[tuple[int, int, str]], asked: list[tuple[int, int]]
) -> None:
    users, moments = (np.array(column, np.int64) for column in zip(*asked, strict=True))
    tokens, weights = LastSearched(Searches.of(drawn), SIZE, DAY_S, BUCKETS).before(users, moments)
    for place, (user, moment) in enumerate(asked):
        last: dict[str, int] = {}
        for who, ts, query in drawn:
            if who == user and ts < moment:
                for word in query_tokens(query):
                    last[word] = max(ts, last.get(word, 0))
        newest = sorted(last, key=lambda word: (last[word], word), reverse=True)[:SIZE]
        assert tokens[place].tolist() == [*hash_tokens(newest, BUCKETS).tolist(), *[0] * (SIZE - len(newest))]
        assert ((weights[place] > 0) == (tokens[place] > 0)).all() and weights[place].sum() <= 1.0 + 1e-6


def test_fresh_words_are_averaged_and_old_ones_fade_away() -> None:
    day = 86_400_000
    now, known = np.full(3, 100 * day), np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0]], bool)
    since = np.array([[100, 100, 0], [98, 0, 0], [101, 80, 0]]) * day
    weights = faded(known, since, now, DAY_S)
    np.testing.assert_allclose(weights, [[0.5, 0.5, 0.0], [0.25, 0.0, 0.0], [1.0, 0.0, 0.0]], atol=1e-5)
