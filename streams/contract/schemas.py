"""The documents made from the types: JSON Schema of each message, AsyncAPI of the topics, and the settings' table.

`python -m streams.contract.schemas [FOLDER]` writes them, into docs/ by default.
"""

import json
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

import msgspec
from msgspec import Struct
from pydantic import BaseModel

from streams.contract.events import (
    NEEDED,
    Cause,
    DeadLetter,
    Event,
    EventType,
    ItemRecord,
    ListItem,
    ModelAnnouncement,
    Recommendations,
    UserRecord,
    encode,
)
from streams.contract.topics import COMPACTED, KEYED_BY
from streams.settings.settings import Settings, leaves, variable

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_TS: Final = 1_718_000_000_000


class Message(NamedTuple):
    """What a topic carries.

    Attributes:
        file: the schema's file name.
        tombstone: what a record without a value means, where it may be sent.
        to_us: whether millstream reads the topic, and whether it writes to it.
    """

    file: str
    type: type[Struct]
    examples: tuple[Struct, ...]
    tombstone: str | None
    read: bool
    written: bool


_EVENT_EXAMPLES: Final = (
    Event(type="impression", user_id="u1", ts=_TS, item_id="i1", rec_id="r1", position=3),
    Event(type="click", user_id="u1", ts=_TS, item_id="i1", context={"device": "tv", "country": "KR"}),
    Event(type="watch", user_id="u1", ts=_TS, item_id="i1", watch_s=62.0, duration_s=75.5, session_id="s1"),
    Event(type="like", user_id="u1", ts=_TS, item_id="i1", event_id="e1"),
    Event(type="dislike", user_id="u1", ts=_TS, item_id="i1"),
    Event(type="rating", user_id="u1", ts=_TS, item_id="i1", value=4.0, scale=5.0),
    Event(type="save", user_id="u1", ts=_TS, item_id="i1"),
    Event(type="share", user_id="u1", ts=_TS, item_id="i1"),
    Event(type="follow", user_id="u1", ts=_TS, target_user_id="u2"),
    Event(type="unfollow", user_id="u1", ts=_TS, target_user_id="u2"),
    Event(type="hide", user_id="u1", ts=_TS, item_id="i1"),
    Event(type="search", user_id="u1", ts=_TS, query="slow trains"),
    Event(type="visit", user_id="u1", ts=_TS),
)

#: Topic, without its prefix -> what it carries.
MESSAGES: Final = {
    "events": Message("event.json", Event, _EVENT_EXAMPLES, None, True, False),
    "items": Message(
        "item.json",
        ItemRecord,
        (
            ItemRecord(
                item_id="i1",
                title="The Slow Train",
                published_at=1_717_000_000_000,
                duration_s=5400.0,
                categorical={"genre": ["Drama"], "director": ["Mia Ito"], "language": ["ko"]},
                numeric={"budget": 2.5e6},
                text={"plot": "Nobody is in a hurry."},
            ),
            ItemRecord(item_id="i2", available=False),
        ),
        "withdraws the item",
        True,
        False,
    ),
    "users": Message(
        "user.json",
        UserRecord,
        (UserRecord(user_id="u1", categorical={"country": ["KR"], "language": ["ko"]}, numeric={"age": 31}),),
        "erases the user",
        True,
        False,
    ),
    "recommendations": Message(
        "recommendations.json",
        Recommendations,
        (
            Recommendations(
                rec_id="r1",
                user_id="u1",
                seq=17,
                items=[
                    ListItem(
                        item_id="i1",
                        score=0.83,
                        sources=["sequence", "trending"],
                        reason="because you watched The Slow Train",
                    )
                ],
                model="v1718000000000",
                index="flat",
                generated_at=_TS + 40,
                cause=Cause(event_id="e1", ts=_TS, arrived_at=_TS + 12),
            ),
        ),
        "the user was erased",
        False,
        True,
    ),
    "models": Message(
        "model.json",
        ModelAnnouncement,
        (
            ModelAnnouncement(
                version="v1718000000000",
                location="artefacts/v1718000000000",
                promoted=True,
                why="ndcg@10 0.0812 against 0.0745: +0.0067 on 812 events",
                kind="fine-tune",
                events=10_000,
                trained_through=_TS,
                created_at=_TS,
                metrics={"ndcg_at_10": 0.0812},
                checksums={"weights.safetensors": "9f86d081884c7d65"},
            ),
        ),
        None,
        True,
        True,
    ),
    "dead-letters": Message(
        "dead-letter.json",
        DeadLetter,
        (
            DeadLetter(
                topic="events",
                partition=0,
                offset=41,
                reason="a watch event needs watch_s",
                field="watch_s",
                key=b"u1",
                value=b'{"type":"watch","user_id":"u1","ts":1718000000000,"item_id":"i1"}',
                headers=[("trace", b"1")],
                first_seen=_TS,
                timestamp=_TS,
            ),
        ),
        None,
        False,
        True,
    ),
}


def json_schema(message: Message) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a message, complete in itself."""
    (reference,), definitions = msgspec.json.schema_components((message.type,), ref_template="#/$defs/{name}")
    own = definitions.pop(reference["$ref"].rpartition("/")[2])
    schema: dict[str, Any] = {
        "$schema": _DIALECT,
        "$id": f"urn:millstream:{message.file.removesuffix('.json')}:1",
        **own,
    }
    if message.type is Event:
        schema["allOf"] = _needs_of_events()
    if definitions:
        schema["$defs"] = definitions
    schema["examples"] = [json.loads(encode(example)) for example in message.examples]
    return schema


def components() -> dict[str, Any]:
    """The JSON Schemas of what the HTTP API takes, by name, for OpenAPI's components."""
    _, definitions = msgspec.json.schema_components(
        (Event, ItemRecord, UserRecord), ref_template="#/components/schemas/{name}"
    )
    definitions["Event"]["allOf"] = _needs_of_events()
    for record in ("ItemRecord", "UserRecord"):
        del definitions[record]["required"]  # the id, which the path gives
    return definitions


def _needs_of_events() -> list[dict[str, Any]]:
    return [_needs(name) for name in get_args(EventType) if NEEDED[name]]


def _needs(event_type: str) -> dict[str, Any]:
    """What holds beyond the fields' types: an event of this type has these fields, and none of them null."""
    needed = NEEDED[event_type]
    return {
        "if": {"properties": {"type": {"const": event_type}}, "required": ["type"]},
        "then": {"required": list(needed), "properties": {name: {"not": {"type": "null"}} for name in needed}},
    }


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of the topics."""
    operations = {}
    for topic, message in MESSAGES.items():
        reference = {"channel": {"$ref": f"#/channels/{topic}"}}
        if message.read:
            operations[f"read-{topic}"] = {"action": "receive", **reference}
        if message.written:
            operations[f"write-{topic}"] = {"action": "send", **reference}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "millstream",
            "version": "1",
            "description": (
                "The topics of millstream, a streaming recommender. It reads what users did, items and users, and "
                "writes each user's refreshed list. Delivery is at least once; an event's effect is exactly once. "
                "A record that breaks its schema goes to dead-letters; unknown fields are kept. Times are "
                "milliseconds since 1970-01-01 UTC."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic: _channel(topic, message) for topic, message in MESSAGES.items()},
        "operations": operations,
        "components": {
            "parameters": {
                "prefix": {"default": "", "description": "the setting MILLSTREAM_TOPIC_PREFIX, empty by default"}
            },
        },
    }


def _channel(topic: str, message: Message) -> dict[str, Any]:
    key = {"type": "string", "description": KEYED_BY[topic]}
    kafka_key = {"kafka": {"key": key, "bindingVersion": "0.5.0"}}
    own: dict[str, Any] = {
        "name": message.type.__name__,
        "summary": (message.type.__doc__ or "").strip(),
        "payload": {
            "schemaFormat": "application/schema+json;version=2020-12",
            "schema": {"$ref": f"./schemas/{message.file}"},
        },
        "examples": [{"payload": json.loads(encode(example))} for example in message.examples],
        "bindings": kafka_key,
    }
    messages = {message.type.__name__: own}
    if message.tombstone:
        messages["Tombstone"] = {
            "name": "Tombstone",
            "summary": f"A record without a value: {message.tombstone}.",
            "payload": {"type": "null"},
            "bindings": kafka_key,
        }
    policy = "compact" if topic in COMPACTED else "delete"
    return {
        "address": "{prefix}" + topic,
        "description": f"Keyed by {KEYED_BY[topic]}; {'compacted' if policy == 'compact' else 'kept by time'}.",
        "parameters": {"prefix": {"$ref": "#/components/parameters/prefix"}},
        "messages": messages,
        "bindings": {
            "kafka": {"topicConfiguration": {"cleanup.policy": [policy]}, "bindingVersion": "0.5.0"},
        },
    }


_SETTINGS_INTRO: Final = """\
# Settings

Made from the types by `make schemas`. `millstream config` prints what is in force and where each value came from.

A setting comes from the command line, else from its environment variable, else from `.env`, else from
`millstream.toml` in the working folder (or the file that `MILLSTREAM_CONFIG` names), else it is the default. In TOML
the sections are tables: `MILLSTREAM_INGEST__SEEN_MAX=100` is `seen_max = 100` under `[ingest]`. A list is JSON in a
variable: `MILLSTREAM_INGEST__SEGMENTS='["country"]'`. Passwords, in URLs too, are never printed.
"""


def settings_page() -> str:
    """Every setting with its variable, default and meaning, as Markdown."""
    lines = [_SETTINGS_INTRO.rstrip()]
    section = None
    for name, info in Settings.model_fields.items():
        value = info.get_default(call_default_factory=True)
        nested = isinstance(value, BaseModel) or is_dataclass(value)
        heading = name if nested else "general"
        if heading != section:
            about = (type(value).__doc__ or "").strip().partition("\n")[0] if nested else "Servers, topics and files."
            lines += [
                "",
                f"## {heading}",
                "",
                about,
                "",
                "| variable | default | what it does |",
                "| --- | --- | --- |",
            ]
            section = heading
        lines += [
            f"| `{variable(path)}` | {_default(default)} | {meaning or info.description or ''} |".replace("  |", " |")
            for path, default, meaning in leaves(value, name)
        ]
    return "\n".join(lines) + "\n"


def _default(value: object) -> str:
    if isinstance(value, tuple | bool):
        return f"`{json.dumps(value)}`"
    return f"`{value}`" if str(value) else "empty"


def documents() -> dict[str, str]:
    """File, relative to docs/ -> its content."""
    made = {f"schemas/{message.file}": json_schema(message) for message in MESSAGES.values()}
    made["asyncapi.json"] = asyncapi()
    texts = {file: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for file, content in made.items()}
    return texts | {"settings.md": settings_page()}


def write(folder: Path) -> None:
    """Write every document under the folder."""
    for file, content in documents().items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
