"""Features: open-ended content as hashed tokens."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.data.tokens import BareItem, TokenTable, hash_tokens, histogram_keys, item_tokens, profile_tokens

FILM = BareItem(
    "f1",
    title="The Long Goodbye",
    published_at=110_592_000_000,
    duration_s=6720.0,
    categorical={"genre": ["Crime", "Drama", "Crime"], "language": ["en"]},
    numeric={"year": 1973.0, "broken": float("nan")},
    text={"plot": "A private eye helps a friend"},
)


def test_a_film_is_told_by_values_numbers_time_and_words() -> None:
    tokens = item_tokens(FILM)
    assert tokens[:3] == ["genre=Crime", "genre=Drama", "language=en"]
    assert {"year~2.0e+03", "published=1973-07", "word=goodbye", "word=private"} <= set(tokens)
    assert not any("broken" in token for token in tokens)
    assert len(tokens) == len(set(tokens))


def test_only_categorical_values_count_in_histograms() -> None:
    assert histogram_keys(FILM) == ["genre=Crime", "genre=Drama", "language=en"]


def test_a_profile_is_told_alike() -> None:
    assert profile_tokens({"country": ["KR"]}, {"age": 31.0}) == ["country=KR", "age~3.1e+01"]


def test_a_publication_before_1970_has_a_month_too() -> None:
    assert "published=1927-01" in item_tokens(BareItem("metropolis", published_at=-1_356_998_400_000))


@given(st.lists(st.text(), max_size=20), st.integers(2, 1000))
def test_a_token_never_takes_the_bucket_of_padding(tokens: list[str], buckets: int) -> None:
    hashed = hash_tokens(tokens, buckets)
    assert ((hashed > 0) & (hashed < buckets)).all()
    assert hash_tokens(tokens, buckets).tolist() == hashed.tolist()


@given(st.lists(st.lists(st.text(min_size=1), max_size=4), min_size=1, max_size=8), st.data())
def test_a_table_gives_any_rows_in_any_order(values: list[list[str]], data: st.DataObject) -> None:
    items = [BareItem(str(n), categorical={"a": some}) for n, some in enumerate(values)]
    table = TokenTable.of(items, 97)
    rows = np.array(data.draw(st.lists(st.integers(0, len(items) - 1), max_size=10)), dtype=np.int64)
    taken = table.take(rows)
    assert len(taken) == len(rows)
    for place, row in enumerate(rows):
        expected = hash_tokens(item_tokens(items[row]), 97)
        assert taken.tokens[taken.starts[place] : taken.starts[place + 1]].tolist() == expected.tolist()
