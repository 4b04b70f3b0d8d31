"""The wire contract's codec: what is valid comes back the same, and all else is a `BadRecord` that says where."""

from __future__ import annotations

import contextlib
import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.data.labels import Action
from streams.contract.events import (
    ACTIONS,
    NEEDED,
    BadRecord,
    Event,
    EventType,
    ItemRecord,
    UserRecord,
    decode_event,
    decode_item,
    decode_user,
    derived_event_id,
    encode,
    unknown_fields,
)

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
seconds = st.floats(0, 31_536_000)
simple = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | ids
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "event_id": ids,
    "item_id": ids,
    "target_user_id": ids,
    "watch_s": seconds,
    "duration_s": seconds,
    "value": st.floats(-1000, 1000),
    "scale": st.floats(0, 1000, exclude_min=True),
    "query": names,
    "session_id": ids,
    "rec_id": ids,
    "position": st.integers(0, 10_000),
    "context": st.dictionaries(names, st.recursive(simple, lambda inner: st.lists(inner, max_size=3), max_leaves=4)),
}


@st.composite
def events(draw: st.DrawFn, *, named: bool = True) -> Event:
    kind = draw(st.sampled_from(get_args(EventType)))
    chosen = set(NEEDED[kind]) | set(draw(st.lists(st.sampled_from(sorted(FIELDS)))))
    chosen = chosen | {"event_id"} if named else chosen - {"event_id"}
    fields = {name: draw(FIELDS[name]) for name in sorted(chosen)}
    return Event(type=kind, user_id=draw(ids), ts=draw(st.integers(0, 253_402_300_799_999)), **fields)


features = st.dictionaries(names, st.lists(ids, max_size=3), max_size=3)
numbers = st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False), max_size=3)
texts = st.dictionaries(names, st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=3)


def watch(**changes: object) -> bytes:
    event: dict[str, object] = {"type": "watch", "user_id": "u", "item_id": "i", "ts": 1, "watch_s": 1, "duration_s": 2}
    event |= changes
    return json.dumps({name: value for name, value in event.items() if value is not ...}).encode()


@given(events())
def test_a_valid_event_comes_back_the_same(event: Event) -> None:
    assert decode_event(encode(event)) == event


@given(st.builds(ItemRecord, item_id=ids, title=names, categorical=features, numeric=numbers, text=texts))
def test_a_valid_item_comes_back_the_same(item: ItemRecord) -> None:
    assert decode_item(encode(item)) == item


@given(st.builds(UserRecord, user_id=ids, categorical=features, numeric=numbers, text=texts))
def test_a_valid_user_comes_back_the_same(user: UserRecord) -> None:
    assert decode_user(encode(user)) == user


@given(events(named=False), st.randoms(use_true_random=False))
def test_copies_derive_the_same_id_whatever_the_order_of_their_fields(event: Event, random: Any) -> None:
    fields = list(msgspec.json.decode(encode(event)).items())
    random.shuffle(fields)
    shuffled = json.dumps(dict(fields), indent=random.choice([None, 2]), ensure_ascii=random.choice([True, False]))
    copy, original = decode_event(shuffled.encode()), decode_event(encode(event))
    assert copy.event_id == original.event_id
    assert copy == original


@given(events(named=False), events(named=False))
def test_different_events_derive_different_ids(one: Event, other: Event) -> None:
    same = msgspec.json.decode(encode(one)) == msgspec.json.decode(encode(other))
    assert (decode_event(encode(one)).event_id == decode_event(encode(other)).event_id) == same


@given(events(), st.dictionaries(names.map("x-".__add__), simple, max_size=3))
def test_fields_that_the_contract_does_not_know_are_kept_as_they_came(event: Event, more: dict[str, Any]) -> None:
    raw = msgspec.json.encode(msgspec.json.decode(encode(event)) | more)
    assert decode_event(raw) == event
    assert msgspec.json.decode(msgspec.json.encode(unknown_fields(raw))) == more


def test_a_field_that_the_contract_does_not_know_still_makes_another_event() -> None:
    assert decode_event(watch()).event_id != decode_event(watch(mood="good")).event_id


@pytest.mark.parametrize("kind", get_args(EventType))
def test_each_type_says_what_it_needs(kind: str) -> None:
    values: dict[str, object] = {
        "item_id": "i", "target_user_id": "u", "watch_s": 1, "duration_s": 1, "value": 4, "query": "q",
    }  # fmt: skip
    whole = {"type": kind, "user_id": "u", "ts": 1} | {name: values[name] for name in NEEDED[kind]}
    assert decode_event(json.dumps(whole).encode()).action is ACTIONS[kind]
    for name in whole:
        less = json.dumps({field: value for field, value in whole.items() if field != name}).encode()
        with pytest.raises(BadRecord) as refused:
            decode_event(less)
        assert refused.value.field == name


def test_every_action_has_its_type() -> None:
    assert set(ACTIONS.values()) == set(Action)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", "stare"), ("type", 7), ("user_id", ""), ("user_id", 7), ("user_id", "u" * 257), ("user_id", None),
        ("item_id", ""), ("ts", -1), ("ts", 1.5), ("ts", "now"), ("ts", 253_402_300_800_000), ("ts", None), ("v", 2),
        ("event_id", ""), ("watch_s", -1), ("watch_s", "long"), ("watch_s", 1e9), ("duration_s", True),
        ("value", 1001), ("scale", 0), ("query", ""), ("session_id", 7), ("rec_id", ""), ("position", -1),
        ("position", 0.5), ("context", []), ("context", {"": 1}), ("context", {"k" * 65: 1}), ("watch_s", None),
    ],
)  # fmt: skip
def test_a_broken_field_is_named(field: str, value: object) -> None:
    with pytest.raises(BadRecord) as refused:
        decode_event(watch(**{field: value}))
    assert refused.value.field == field
    assert refused.value.reason
    assert str(refused.value).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        ({}, "item_id"),
        ({"item_id": "i", "categorical": {"genre": "Drama"}}, "categorical[...]"),
        ({"item_id": "i", "categorical": {"genre": ["Drama", ""]}}, "categorical[...][1]"),
        ({"item_id": "i", "categorical": {"": ["Drama"]}}, "categorical"),
        ({"item_id": "i", "numeric": {"year": "1995"}}, "numeric[...]"),
        ({"item_id": "i", "text": {"plot": "x" * 20_001}}, "text[...]"),
        ({"item_id": "i", "available": "yes"}, "available"),
    ],
)
def test_a_broken_field_of_an_item_is_named(broken: dict[str, object], field: str) -> None:
    with pytest.raises(BadRecord) as refused:
        decode_item(json.dumps(broken).encode())
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "no value"),
        (b"", "no value"),
        (b"not json", "not JSON"),
        (b"[1]", "Expected `object`"),
        (watch() + b"x", "not JSON"),
        (watch(mood="m" * 65_536), "at most 65,536"),
        (watch()[:-1] + b',"x":"\xff"}', "not JSON"),
        (watch()[:-1] + b',"x":"\xed\xa0\x80"}', "not JSON"),
        (watch(event_id="e")[:-1] + b',"x":"\xff"}', "not JSON"),
        (watch()[:-1] + b',"x":' + b"9" * 5000 + b"}", "out of range"),
        (watch()[:-1] + b',"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "nested more than 32"),
        (watch()[:-1] + b',"context":{"x":' + b'{"a":' * 900 + b"1" + b"}" * 901 + b"}", "nested more than 32"),
    ],
)
def test_what_is_no_event_is_refused_with_a_reason(raw: bytes | None, reason: str) -> None:
    with pytest.raises(BadRecord, match=reason):
        decode_event(raw)


def test_many_brackets_are_not_deep_ones() -> None:
    context = {"shelf": [[1]] * 40, "note": '"[{' * 100}
    assert decode_event(watch(context=context)).context == context


@given(st.binary(max_size=200))
@example(b'{"type":"visit","user_id":"u","ts":1,"x":1e999}')
@example(b'{"type":"visit","user_id":"\\ud800","ts":1}')
def test_arbitrary_bytes_raise_nothing_but_bad_record(raw: bytes) -> None:
    for decode in (decode_event, decode_item, decode_user):
        with contextlib.suppress(BadRecord):
            decode(raw)


@given(events(), st.integers(0, 400), st.binary(max_size=4), st.integers(0, 4))
def test_damaged_events_raise_nothing_but_bad_record(event: Event, at: int, inserted: bytes, dropped: int) -> None:
    raw = encode(event)
    at %= len(raw)
    damaged = raw[:at] + inserted + raw[at + dropped :]
    try:
        decoded = decode_event(damaged)
    except BadRecord:
        return
    assert decoded.event_id
    assert isinstance(msgspec.json.encode(unknown_fields(damaged)).decode(), str)


def test_a_derived_id_is_the_same_for_ever() -> None:
    assert derived_event_id(b'{"b":[1,{"d":2,"c":3}],"a":"x"}') == derived_event_id(b'{ "a":"x","b":[1,{"c":3,"d":2}]}')
    assert decode_event(watch()).event_id == "3315eb4adf38080348f9a4dc03471248"


def test_a_whole_number_may_be_written_as_a_float() -> None:
    event = decode_event(b'{"type":"click","user_id":"ann","item_id":"a","ts":1718000000000.0,"position":3.0}')
    assert (event.ts, event.position) == (1_718_000_000_000, 3)
    with pytest.raises(BadRecord, match="Expected `int") as refused:
        decode_event(b'{"type":"click","user_id":"ann","item_id":"a","ts":1718000000000.5}')
    assert refused.value.field == "ts"
