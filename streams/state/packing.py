"""What the scripts of `streams/lua` are handed: events as flat numbers and bytes, as objects are what costs there."""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from models.data.histograms import histogram_weight
from models.data.interactions import NO_ITEM
from models.data.labels import CONSUMING, Action, Grade
from models.data.popularity import Popularity, PopularityConfig

#: What is kept of one event: its id's digest, item number, action, label, whether it is an action on the item (an
#: impression or what else it may be is not, and is kept for as long as its id), device, strength, event time in ms.
RECORD: Final = np.dtype(
    [
        ("id", "<u8"),
        ("item", "<u4"),
        ("action", "u1"),
        ("label", "i1"),
        ("is_action", "?"),
        ("device", "u1"),
        ("strength", "<f4"),
        ("ts", "<i8"),
    ]
)
_RECORD_STRUCT: Final = struct.Struct("<8sIBb?Bfq")
_ACTION_AT, _TS_AT = struct.calcsize("<8sI"), struct.calcsize("<8sIBb?Bf")
_TS: Final = struct.Struct("<q")

#: Marks the fields of a user's state that are entries of the histogram.
HISTOGRAM: Final = ":"


class UserEvent(NamedTuple):
    """One event as the user's state takes it; `item` is the item's number or `NO_ITEM`, `device` a `device_code`."""

    offset: int
    event_id: str
    ts: int
    item: int
    grade: Grade
    histogram_keys: Sequence[str]
    device: int = 0


class ItemEvent(NamedTuple):
    """One event as the item statistics take it."""

    offset: int
    item: int
    ts: int
    positive: bool
    segments: Sequence[str]


def pack(payload: object) -> bytes:
    """The payload as msgpack."""
    return msgspec.msgpack.encode(payload)


def pack_user_events(users: Iterable[Sequence[UserEvent]], half_life_ms: float) -> tuple[list[str], list[Any], bytes]:
    """The events of each user as `apply_users.lua` takes them: names, numbers, and the records in one string."""
    names: dict[str, int] = {}
    numbers: list[Any] = []
    records: list[bytes] = []
    for events in users:
        newest = max([event.ts for event in events])
        own: dict[str, int] = {}
        flat: list[Any] = []
        for offset, event_id, ts, item, grade, keys, device in events:
            action, strength, label, _ = grade
            is_action = item != NO_ITEM and action in CONSUMING
            on_item = is_action or (item != NO_ITEM and action == Action.IMPRESSION)
            weight = histogram_weight(action, strength, label) if is_action else 0.0
            if weight > 0 and keys:
                flat += offset, weight * 2.0 ** ((ts - newest) / half_life_ms), len(keys)
                flat += [own.setdefault(key, len(own) + 1) for key in keys]
            else:
                flat += offset, 0, 0
            digest = hashlib.blake2b(event_id.encode(), digest_size=8).digest()
            about = digest, item if on_item else 0, action, label, is_action, device, strength, ts
            records.append(_RECORD_STRUCT.pack(*about))
        numbers += newest, len(own), len(events)
        numbers += [names.setdefault(HISTOGRAM + key, len(names) + 1) for key in own]
        numbers += flat
    return list(names), numbers, b"".join(records)


def pack_item_events(events: Iterable[ItemEvent], config: PopularityConfig) -> tuple[list[str], bytes]:
    """The events counted: the fields of the statistics to add to, and the records to add."""
    fields: dict[str, int] = {}
    rows: list[int] = []
    ts: list[int] = []
    positive: list[bool] = []
    for event in events:
        for segment in ("", *event.segments):
            rows.append(fields.setdefault(f"{segment}\x1f{event.item}", len(fields)))
            ts.append(event.ts)
            positive.append(event.positive)
    counted = Popularity(config, len(fields))
    counted.add(rows, ts, positive)
    return list(fields), counted.records.astype("<f8").tobytes()


def newest_ts(records: bytes) -> int | None:
    """The event time of the last event of packed records that calls for a list; each request looks for it."""
    for at in range(len(records) - RECORD.itemsize, -1, -RECORD.itemsize):
        if records[at + _ACTION_AT] != Action.IMPRESSION:
            ts: int = _TS.unpack_from(records, at + _TS_AT)[0]
            return ts
    return None
