"""The catalogue and the profiles: records from the compacted topics into Redis, and each process's view of them."""

import logging
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from models.data.tokens import histogram_keys
from streams.contract.events import (
    MAX_ID,
    BadRecord,
    DeadLetter,
    ItemRecord,
    UserRecord,
    decode_item,
    decode_user,
    encode,
)
from streams.kafka.batching import RecordBatch
from streams.kafka.dead_letters import dead_letter
from streams.settings.settings import Settings
from streams.state.store import Store, fence_field

log = logging.getLogger(__name__)


class Catalogue:
    """What one process knows of all items, by item number; `sync` brings it up to date.

    An item that events named and no record described is known by its id alone, and available.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._version = 0
        self.ids: list[str] = []
        self.items: list[ItemRecord] = []
        self.histogram_keys: list[list[str]] = []
        self.numbers: dict[str, int] = {}
        self._described: list[bool] = []
        self._changed: set[int] = set()
        self._available: npt.NDArray[np.bool_] = np.ones(0, bool)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def available(self) -> npt.NDArray[np.bool_]:
        """(items,) whether each item may be recommended."""
        return self._available[: len(self.ids)]

    def described(self, number: int) -> bool:
        """Whether a record of the catalogue describes the item."""
        return self._described[number]

    async def sync(self) -> None:
        """Take in what changed in Redis since the last call."""
        start = len(self.ids)
        ids, version, records = await self._store.catalogue_changes(start, self._version)
        self._add(start, ids)
        if version < self._version:
            return  # another task has read later and is done already
        self._version = version
        for number, raw in records:
            if number >= len(self.ids):  # numbered after the ids were read
                await self._catch_up()
            self._set(number, msgspec.json.decode(raw, type=ItemRecord))

    def drain_changed(self) -> list[int]:
        """The numbers of items that are new or changed since the last call, which one consumer makes."""
        changed = sorted(self._changed)
        self._changed.clear()
        return changed

    async def number(self, ids: Sequence[str]) -> None:
        """See to it that every id has a number."""
        new = [item_id for item_id in dict.fromkeys(ids) if item_id not in self.numbers]
        if new:
            await self._store.number_items(new)
            await self._catch_up()

    async def _catch_up(self) -> None:
        start = len(self.ids)
        self._add(start, await self._store.item_ids(start))

    def _add(self, start: int, ids: Sequence[str]) -> None:
        for item_id in ids[len(self.ids) - start :]:  # another task may have added some meanwhile
            self.numbers[item_id] = len(self.ids)
            self._changed.add(len(self.ids))
            self.ids.append(item_id)
            self.items.append(ItemRecord(item_id=item_id))
            self.histogram_keys.append([])
            self._described.append(False)
        if len(self.ids) > len(self._available):
            room = np.ones(max(len(self.ids), 2 * len(self._available)), bool)
            room[: len(self._available)] = self._available
            self._available = room

    def _set(self, number: int, item: ItemRecord) -> None:
        self.items[number] = item
        self.histogram_keys[number] = histogram_keys(item)
        self._described[number] = True
        self._available[number] = item.available
        self._changed.add(number)


async def keep_items(batch: RecordBatch, log_id: str, store: Store, settings: Settings) -> list[DeadLetter]:
    """Keep a batch of the items topic; a tombstone withdraws its item. Returns what could not be used."""
    dead: list[DeadLetter] = []
    kept: list[tuple[int, str, bytes]] = []
    for record in batch:
        try:
            name = _key(record.key, "item_id")
            if record.value is None:
                item = ItemRecord(item_id=name, available=False)
            else:
                item = decode_item(record.value, max_bytes=settings.ingest.max_record_bytes)
                if item.item_id != name:
                    raise BadRecord(
                        f"the record says {item.item_id!r} and its key {name!r}; they must agree", "item_id"
                    )
            kept.append((record.offset, item.item_id, encode(item)))
        except BadRecord as bad:
            dead.append(dead_letter(record, bad))
    if kept:
        numbers = await store.number_items([item_id for _, item_id, _ in kept])
        rows = [(offset, number, raw) for (offset, _, raw), number in zip(kept, numbers, strict=True)]
        await store.put_items(fence_field(log_id, batch.partition), rows)
    return dead


async def keep_users(
    batch: RecordBatch, log_id: str, store: Store, settings: Settings
) -> tuple[list[str], list[str], list[DeadLetter]]:
    """Keep a batch of the users topic; a tombstone erases its user.

    Returns:
        The users whose profile was kept, the users erased, and what could not be used.
    """
    changed: list[str] = []
    erased: list[str] = []
    dead: list[DeadLetter] = []
    fence = fence_field(log_id, batch.partition)
    for record in batch:
        try:
            name = _key(record.key, "user_id")
            if record.value is None:
                await store.put_user(fence, record.offset, name, b"", [])
                erased.append(name)
                continue
            user = decode_user(record.value, max_bytes=settings.ingest.max_record_bytes)
            if user.user_id != name:
                raise BadRecord(f"the record says {user.user_id!r} and its key {name!r}; they must agree", "user_id")
            await store.put_user(fence, record.offset, user.user_id, encode(user), segments_of(user, settings))
            changed.append(user.user_id)
        except BadRecord as bad:
            dead.append(dead_letter(record, bad))
    return changed, erased, dead


def segments_of(user: UserRecord, settings: Settings) -> list[str]:
    """The segments whose trends the user counts towards, as `feature=value`."""
    return [
        f"{feature}={value}" for feature in settings.ingest.segments for value in user.categorical.get(feature, [])[:1]
    ]


def decode_profile(raw: bytes) -> UserRecord | None:
    """A profile as kept in Redis, or None for an empty one."""
    return msgspec.json.decode(raw, type=UserRecord) if raw else None


def _key(raw: bytes | None, field: str) -> str:
    if not raw:
        raise BadRecord(f"the record has no key; its {field} is needed as the key", field)
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise BadRecord("the record's key is not UTF-8", field) from None
    if len(name) > MAX_ID:  # a tombstone has no value whose contract would refuse it
        raise BadRecord(f"the record's key has {len(name):,} characters; at most {MAX_ID} are taken", field)
    return name
