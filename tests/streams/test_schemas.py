"""The published contract: what docs/ holds is what the types say, and the schema judges events as the decoder does."""

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from streams.contract.events import NEEDED, BadRecord, Event, EventType, decode_event, encode
from streams.contract.schemas import MESSAGES, documents, json_schema
from streams.contract.topics import KEYED_BY

DOCS = Path(__file__).parents[2] / "docs"
EVENT_SCHEMA = Draft202012Validator(json_schema(MESSAGES["events"]))


def accepted_by_the_decoder(event: dict[str, Any]) -> bool:
    try:
        decode_event(json.dumps(event).encode())
    except BadRecord:
        return False
    return True


@pytest.mark.parametrize("file", documents())
def test_the_committed_document_is_what_the_types_say(file: str) -> None:
    assert (DOCS / file).read_text() == documents()[file], "run `make schemas`"


def test_no_other_schema_is_committed() -> None:
    assert {f"schemas/{path.name}" for path in (DOCS / "schemas").iterdir()} == {*documents()} - {
        "asyncapi.json",
        "settings.md",
    }


def test_every_topic_is_described() -> None:
    assert list(MESSAGES) == list(KEYED_BY)


@pytest.mark.parametrize("topic", MESSAGES)
def test_the_examples_hold_by_their_schema_and_come_back_the_same(topic: str) -> None:
    message = MESSAGES[topic]
    schema = json_schema(message)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for example, published in zip(message.examples, schema["examples"], strict=True):
        validator.validate(published)
        assert msgspec.json.decode(encode(example), type=message.type) == example


@pytest.mark.parametrize("event_type", get_args(EventType))
def test_an_event_without_what_its_type_needs_breaks_the_schema_and_the_decoder(event_type: str) -> None:
    (example,) = (
        json.loads(encode(each))
        for each in MESSAGES["events"].examples
        if isinstance(each, Event) and each.type == event_type
    )
    assert EVENT_SCHEMA.is_valid(example)
    assert accepted_by_the_decoder(example)
    for field in ("type", "user_id", "ts", *NEEDED[event_type]):
        absent = {name: value for name, value in example.items() if name != field}
        for event in (absent, example | {field: None}):
            assert not EVENT_SCHEMA.is_valid(event)
            assert not accepted_by_the_decoder(event)


ids = st.none() | st.text(max_size=3) | st.integers() | st.just("x" * 257)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-2000, 2000) | st.text(max_size=1)
maybe_events = st.fixed_dictionaries(
    {
        "type": st.sampled_from([*get_args(EventType), "sneeze"]),
        "user_id": ids,
        "ts": st.integers(-5, 253_402_300_800_005) | st.booleans() | st.text(max_size=1),
    },
    optional={
        "v": st.sampled_from([1, 2, "1"]),
        "event_id": ids,
        "item_id": ids,
        "target_user_id": ids,
        "watch_s": numbers,
        "duration_s": numbers,
        "value": numbers,
        "scale": numbers,
        "query": st.none() | st.text(max_size=2),
        "position": st.none() | st.integers(-3, 10_003),
        "context": st.none() | st.dictionaries(st.text(max_size=2), st.integers()) | st.integers(),
        "unknown": st.integers(),
    },
)


@given(maybe_events)
def test_schema_and_decoder_judge_alike(event: dict[str, Any]) -> None:
    assert EVENT_SCHEMA.is_valid(event) == accepted_by_the_decoder(event)


def test_asyncapi_refers_only_to_what_exists() -> None:
    document = json.loads((DOCS / "asyncapi.json").read_text())

    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [each for value in node.values() for each in references(value)]
        return [each for value in node for each in references(value)] if isinstance(node, list) else []

    for reference in references(document):
        file, _, pointer = reference.partition("#")
        if file:
            assert (DOCS / file).is_file(), reference
        target = document
        for step in filter(None, pointer.split("/")):
            target = target[step]


def test_asyncapi_tells_keys_compaction_prefix_and_tombstones() -> None:
    channels = json.loads((DOCS / "asyncapi.json").read_text())["channels"]
    compacted = {
        topic
        for topic, channel in channels.items()
        if channel["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"] == ["compact"]
    }
    assert compacted == {"items", "users", "recommendations", "models"}
    assert {topic for topic, channel in channels.items() if "Tombstone" in channel["messages"]} >= {"items", "users"}
    for topic, channel in channels.items():
        assert channel["address"] == "{prefix}" + topic
        for message in channel["messages"].values():
            assert message["bindings"]["kafka"]["key"]["description"] == KEYED_BY[topic]
