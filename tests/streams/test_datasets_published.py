"""The readers on the published sets themselves, where they lie on this machine."""

from __future__ import annotations

import os
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from streams.contract.events import decode_event, decode_item, decode_user, derived_event_id, encode
from streams.datasets import Dataset, open_dataset

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("MILLSTREAM_DATASETS") or ROOT.parent / "shared" / "data")


def published(name: str) -> Dataset:
    if not (FOLDER / name).is_dir():
        pytest.skip(f"{FOLDER / name} is absent; MILLSTREAM_DATASETS names the folder that holds the published sets")
    return open_dataset(name, FOLDER / name)


def test_kuairand_shows_its_exact_copies_as_the_same_events() -> None:
    rows, ids, last = 0, set(), 0
    for event in published("kuairand-pure").events():
        rows += 1
        ids.add(derived_event_id(event.raw))
        assert event.ts >= last
        last = event.ts
    assert (rows, rows - len(ids)) == (171_671, 4_390)


@pytest.mark.parametrize(
    ("name", "items", "users", "events"),
    [
        ("kuairand-pure", 7_583, 27_285, None),
        ("ml-latest-small", 9_742, 0, 100_836),
        ("movietweetings-100k", 10_506, 0, 100_000),
        ("ml-1m", 3_883, 6_040, None),
    ],
)
def test_a_published_set_is_read_whole_and_by_the_contract(
    name: str, items: int, users: int, events: int | None
) -> None:
    data = published(name)
    assert sum(decode_item(encode(item)).item_id != "" for item in data.items()) == items
    assert sum(decode_user(encode(user)).user_id != "" for user in data.users()) == users
    if events is not None:
        types = Counter(decode_event(event.raw).type for event in data.events())
        assert types == {"rating": events}


def test_ml_1m_comes_in_the_order_of_time() -> None:
    times = [event.ts for event in islice(published("ml-1m").events(), 20_000)]
    assert times == sorted(times)
    assert len(times) == 20_000
