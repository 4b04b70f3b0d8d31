"""The wire contract: every message on a topic as a typed struct, decoded and validated field by field.

Event time is `ts`, milliseconds since 1970 UTC. Unknown fields are not errors: `unknown_fields` hands them out,
and the sample log keeps them.
"""

import contextlib
import hashlib
import re
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from models.data.interactions import device_code
from models.data.labels import Action, Grade, LabelRules, grade

EventType = Literal[
    "impression",
    "click",
    "watch",
    "like",
    "dislike",
    "rating",
    "save",
    "share",
    "follow",
    "unfollow",
    "hide",
    "search",
    "visit",
]

MAX_ID: Final = 256

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID, description="an opaque name, unique in its kind")]
Millis = Annotated[int, Meta(ge=0, le=253_402_300_799_999, description="milliseconds since 1970-01-01 UTC")]
Seconds = Annotated[float, Meta(ge=0, le=31_536_000, description="seconds")]
Feature = Annotated[str, Meta(min_length=1, max_length=64)]
FeatureValue = Annotated[str, Meta(min_length=1, max_length=256)]
Categorical = dict[Feature, Annotated[list[FeatureValue], Meta(max_length=64)]]
Numeric = dict[Feature, float]
Text = dict[Feature, Annotated[str, Meta(max_length=20_000)]]


class Event(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a user did. `visit` means that the user opened the application and has done nothing yet."""

    type: EventType
    user_id: Id
    ts: Millis
    v: Literal[1] = 1
    event_id: Id | None = None
    item_id: Id | None = None
    target_user_id: Id | None = None
    watch_s: Seconds | None = None
    duration_s: Seconds | None = None
    value: Annotated[float, Meta(ge=-1000, le=1000)] | None = None
    scale: Annotated[float, Meta(gt=0, le=1000, description="the top of the scale that `value` is on")] | None = None
    query: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    session_id: Id | None = None
    rec_id: Id | None = None
    position: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    context: dict[Feature, Any] | None = None

    @property
    def action(self) -> Action:
        """The event's kind as the models see it."""
        return ACTIONS[self.type]

    @property
    def device(self) -> int:
        """The device that the context names, as the models tell them apart."""
        return device_code(self.context.get("device")) if self.context else 0

    @property
    def calls_for_list(self) -> bool:
        """Whether a new list answers the event. An impression only says what was shown, often a whole list of them."""
        return self.type != "impression"

    def grade(self, rules: LabelRules) -> Grade:
        """What the event says of its user's liking."""
        return grade(
            self.action,
            rules,
            watch_s=self.watch_s,
            duration_s=self.duration_s,
            value=self.value,
            scale=self.scale,
        )


#: An unfollow is to the models what a follow is: about no item.
ACTIONS: Final[dict[str, Action]] = {
    name: Action.FOLLOW if name == "unfollow" else Action[name.upper()] for name in get_args(EventType)
}

#: The fields that each type of event needs beside `type`, `user_id` and `ts`.
NEEDED: Final[dict[str, tuple[str, ...]]] = {
    name: ("item_id",) for name in get_args(EventType) if name not in ("follow", "unfollow", "search", "visit")
} | {
    "watch": ("item_id", "watch_s", "duration_s"),
    "rating": ("item_id", "value"),
    "follow": ("target_user_id",),
    "unfollow": ("target_user_id",),
    "search": ("query",),
    "visit": (),
}


class ItemRecord(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One item of the catalogue, with open-ended typed features."""

    item_id: Id
    v: Literal[1] = 1
    title: Annotated[str, Meta(max_length=1000)] = ""
    available: bool = True
    published_at: Annotated[int, Meta(ge=-62_135_596_800_000, le=253_402_300_799_999)] | None = None
    duration_s: Seconds | None = None
    categorical: Categorical = {}
    numeric: Numeric = {}
    text: Text = {}


class UserRecord(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One user's profile, with open-ended typed features."""

    user_id: Id
    v: Literal[1] = 1
    categorical: Categorical = {}
    numeric: Numeric = {}
    text: Text = {}


class ListItem(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """One place of a list: `sources` names the candidate sources that proposed the item.

    `propensity` is there where the item was drawn for its place: how probable that was. `team` is there in an
    interleaved list: the number of the experiment's arm, 0 or 1, whose pipeline picked the item.
    """

    item_id: str
    score: float
    sources: list[str]
    reason: str
    propensity: Annotated[float, Meta(gt=0, le=1)] | None = None
    probability: Annotated[float, Meta(ge=0, le=1)] | None = None
    minutes: Annotated[float, Meta(ge=0)] | None = None
    team: Annotated[int, Meta(ge=0, le=1)] | None = None


class Cause(Struct, frozen=True, kw_only=True):
    """The last event that a list answers; in ms, `ts` is the newest of all, `arrived_at` its own arrival in Kafka."""

    event_id: str
    ts: Millis
    arrived_at: Millis


class Recommendations(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A user's published top-N. `seq` grows by one with each list of the user."""

    rec_id: str
    user_id: str
    seq: int
    items: list[ListItem]
    model: str
    index: str
    generated_at: Millis
    v: Literal[1] = 1
    variant: str = "control"
    cause: Cause | None = None


class ModelAnnouncement(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One training's outcome: the artefact, its measured quality, and whether it went into service and why.

    `losses` are those of each network's epochs, by its name.
    """

    version: str
    location: str
    promoted: bool
    why: str
    kind: Literal["retrain", "fine-tune"]
    events: int
    trained_through: Millis
    created_at: Millis
    metrics: dict[str, float]
    checksums: dict[str, str]
    v: Literal[1] = 1
    losses: dict[str, list[float]] = {}


#: A part of a record that its dead letter may keep in part only.
Part = Literal["value", "key", "headers"]


class DeadLetter(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A record that could not be used: its bytes (base64 in JSON), headers and position, and the reason.

    `size` (bytes) and `sha256` are those of the whole value; a value is kept up to its first 64 KiB. `cut` names what
    was kept in part: value, key, headers.

    `first_offset` is there for a whole batch that was damaged: the letter's offset is then that of the batch's last
    record, and value, size and hash are those of the batch.
    """

    topic: str
    partition: int
    offset: int
    reason: str
    value: bytes | None
    first_seen: Millis
    v: Literal[1] = 1
    field: str = ""
    key: bytes | None = None
    headers: list[tuple[str, bytes | None]] = []
    timestamp: int | UnsetType = UNSET
    size: int = 0
    sha256: str = ""
    cut: list[Part] = []
    first_offset: int | UnsetType = UNSET


class BadRecord(Exception):
    """A record that breaks the contract: `reason` says what is wrong and what would be right, `field` says where."""

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.reason = reason
        self.field = field


T = TypeVar("T")

_event_decoder = msgspec.json.Decoder(Event)
_item_decoder = msgspec.json.Decoder(ItemRecord)
_user_decoder = msgspec.json.Decoder(UserRecord)
_object_decoder = msgspec.json.Decoder(dict[str, Any])
_raw_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_canonical_encoder = msgspec.json.Encoder(order="sorted")
_encoder = msgspec.json.Encoder()

#: Deeper nesting is refused: what decodes it and what handles it later recurse, each with its own limit.
_MAX_DEPTH: Final = 32
_STRING_OR_BRACKET: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{\]}]', re.DOTALL)
_KNOWN_FIELDS: Final = frozenset(Event.__struct_fields__)


def encode(message: Struct) -> bytes:
    """The message as JSON."""
    return _encoder.encode(message)


def decode_event(raw: bytes | None, *, max_bytes: int = 65_536) -> Event:
    """Decode and validate an event; its `event_id` is derived from the content when the producer gave none.

    Raises:
        BadRecord: the bytes are not an event by the contract.
    """
    event = _decode(_event_decoder, raw, max_bytes)
    for name in NEEDED[event.type]:
        if getattr(event, name) is None:
            raise BadRecord(f"a {event.type} event needs {name}", name)
    if event.event_id is None:
        return msgspec.structs.replace(event, event_id=derived_event_id(raw or b""))
    return event


def derived_event_id(raw: bytes) -> str:
    """An id out of the content, the order of its fields aside: an exact copy of an event gets the same id.

    Raises:
        BadRecord: a field that the contract does not know holds a number too large to be one.
    """
    canonical = _canonical_encoder.encode(_decode(_object_decoder, raw, len(raw)))
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()


def unknown_fields(raw: bytes) -> dict[str, msgspec.Raw]:
    """The fields of an event that the contract does not know, each as the JSON it came in."""
    return {name: value for name, value in _raw_fields_decoder.decode(raw).items() if name not in _KNOWN_FIELDS}


def decode_item(raw: bytes, *, max_bytes: int = 262_144) -> ItemRecord:
    """Decode and validate an item record.

    Raises:
        BadRecord: the bytes are not an item record by the contract.
    """
    return _decode(_item_decoder, raw, max_bytes)


def decode_user(raw: bytes, *, max_bytes: int = 262_144) -> UserRecord:
    """Decode and validate a user record.

    Raises:
        BadRecord: the bytes are not a user record by the contract.
    """
    return _decode(_user_decoder, raw, max_bytes)


def _decode(decoder: msgspec.json.Decoder[T], raw: bytes | None, max_bytes: int) -> T:
    if not raw:
        raise BadRecord("the record has no value; a JSON object is needed")
    if len(raw) > max_bytes:
        raise BadRecord(f"the record has {len(raw):,} bytes; at most {max_bytes:,} are taken")
    if raw.count(b"[") + raw.count(b"{") > _MAX_DEPTH and _depth(raw) > _MAX_DEPTH:
        raise BadRecord(f"nested more than {_MAX_DEPTH} deep")
    try:
        if not raw.isascii():
            raw.decode()  # the decoder passes over what it does not keep, bytes that are not UTF-8 included
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        if "got `float`" in str(
            error
        ):  # to JSON Schema 1.0 is a whole number, and some encoders write whole numbers so
            with contextlib.suppress(msgspec.ValidationError):
                return msgspec.convert(_whole(msgspec.json.decode(raw)), decoder.type)
        message, _, place = str(error).partition(" - at `")
        raise BadRecord(message, _field(message, place)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRecord(f"not JSON: {error}") from None


def _whole(value: Any) -> Any:
    """The value, each float in it that is a whole number as an integer."""
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _depth(raw: bytes) -> int:
    """How deep the brackets of a JSON text are nested, those inside strings aside."""
    depth = deepest = 0
    for token in _STRING_OR_BRACKET.findall(raw):
        depth += 1 if token in b"[{" else -1 if token in b"]}" else 0
        deepest = max(deepest, depth)
    return deepest


def _field(message: str, place: str) -> str:
    """The field that a validation error is about: "$.a", "key` in `$.a" for a key of a, or a field that is missing."""
    path = place.rpartition("$")[2].strip("`")
    path = path.removeprefix(".") if path.startswith(".") else ""
    if not path and message.startswith("Object missing required field"):
        return message.split("`")[1]
    return path
