"""Ingest: a batch of the events topic into every user's state and the item statistics, each event exactly once."""

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka import ConsumerRecord

from models.data.interactions import NO_ITEM
from models.data.labels import POSITIVE
from models.data.tokens import query_tokens
from streams.contract.events import BadRecord, Cause, DeadLetter, Event, decode_event
from streams.kafka.batching import RecordBatch
from streams.kafka.dead_letters import dead_letter
from streams.settings.settings import Settings
from streams.state.item_catalogue import Catalogue
from streams.state.packing import ItemEvent, UserEvent
from streams.state.store import APPLIED, COPY, Follow, Search, Store, fence_field

log = logging.getLogger(__name__)

_LOGGED_PER_BATCH = 10


@dataclass
class Ingested:
    """What became of a batch.

    Attributes:
        causes: per user of the batch, the user's last event in it, impressions aside: whom a list is owed, and what it
            answers. Its time is the newest of the user's in the batch, so that who waits for a list as new as an event
            is answered.
        dead: what could not be used.
        applied, copies: events that changed the state, and exact copies of events that did before.
    """

    causes: dict[str, Cause]
    dead: list[DeadLetter]
    applied: int = 0
    copies: int = 0


class _Read(NamedTuple):
    record: ConsumerRecord
    event: Event


class Reads(NamedTuple):
    """A batch made ready: per user its events, the cause of a list, whom it follows and no more, what it searches for;
    what is of no use."""

    batch: RecordBatch
    events: dict[str, list[UserEvent]]
    causes: dict[str, Cause]
    follows: dict[str, list[Follow]]
    searches: dict[str, list[Search]]
    dead: list[DeadLetter]


def checked_event(raw: bytes | None, settings: Settings, now_ms: float) -> Event:
    """The event that bytes hold, by all the rules of ingestion that need no state.

    Raises:
        BadRecord: it breaks the contract or lies further in the future than clocks differ.
    """
    event = decode_event(raw, max_bytes=settings.ingest.max_event_bytes)
    ahead_s = (event.ts - now_ms) / 1000.0
    if ahead_s > settings.ingest.max_future_s:
        raise BadRecord(
            f"the event lies {ahead_s:,.0f} s in the future; at most {settings.ingest.max_future_s:,.0f} s are taken "
            "(ts is in milliseconds)",
            "ts",
        )
    return event


async def read_batch(batch: RecordBatch, catalogue: Catalogue, settings: Settings) -> Reads:
    """Decode a batch of the events topic, number its items and grade its events."""
    dead: list[DeadLetter] = []
    reads: list[_Read] = []
    now_ms = time.time() * 1000.0
    for record in batch:
        try:
            reads.append(_Read(record, checked_event(record.value, settings, now_ms)))
        except BadRecord as bad:
            dead.append(dead_letter(record, bad))
    await catalogue.sync()
    if settings.ingest.unknown_items == "reject":
        reads = _reject_unknown(reads, catalogue, dead)
    else:
        await catalogue.number([r.event.item_id for r in reads if r.event.item_id])
    events: dict[str, list[UserEvent]] = {}
    last: dict[str, _Read] = {}
    newest: dict[str, int] = {}
    follows: dict[str, list[Follow]] = {}
    searches: dict[str, list[Search]] = {}
    for read in reads:
        user = read.event.user_id
        if read.event.target_user_id is not None and read.event.type in ("follow", "unfollow"):
            follow = Follow(read.event.ts, read.event.target_user_id, read.event.type == "follow")
            follows.setdefault(user, []).append(follow)
        if read.event.type == "search" and (words := query_tokens(read.event.query or "")):
            searches.setdefault(user, []).extend(Search(read.event.ts, word) for word in words)
        events.setdefault(user, []).append(_user_event(read, catalogue, settings))
        if read.event.calls_for_list:
            last[user] = read
            newest[user] = max(newest.get(user, 0), read.event.ts)
    causes = {
        user: Cause(event_id=event.event_id or "", ts=newest[user], arrived_at=max(record.timestamp, 0))
        for user, (record, event) in last.items()
    }
    return Reads(batch, events, causes, follows, searches, dead)


class Lane:
    """What keeps the batches of one partition in order while several of them are on their way.

    One batch goes to the users while the one before it goes to the item statistics, so that Redis has work while this
    process decodes and packs. The locks hand over in the order of asking.
    """

    def __init__(self) -> None:
        self.users = asyncio.Lock()
        self.items = asyncio.Lock()
        self.unsettled: deque[int] = deque()


async def ingest(reads: Reads, log_id: str, store: Store, lane: Lane) -> Ingested:
    """Apply a batch to the state in Redis. A redelivered batch changes nothing, and its users are owed lists again.

    Batches of a partition share a lane and are to be started in their order.
    """
    batch = reads.batch
    fence = fence_field(log_id, batch.partition)
    done = Ingested(reads.causes, reads.dead)
    async with lane.users:
        lane.unsettled.append(batch.first_offset)
        verdicts, segments, likes = await store.apply_users(fence, reads.events, unsettled=min(lane.unsettled))
        if reads.follows:
            await store.follow(reads.follows)
        if reads.searches:
            await store.search(reads.searches)
    async with lane.items:
        tallies = [(letter.offset, "dead_letters") for letter in done.dead]
        item_events: list[ItemEvent] = []
        for user, events in reads.events.items():
            for event, verdict in zip(events, verdicts[user], strict=True):
                tallies.append((event.offset, "copies" if verdict == COPY else "applied"))
                done.applied += verdict == APPLIED
                done.copies += verdict == COPY
                if verdict != COPY and event.item != NO_ITEM:
                    positive = event.grade.label == POSITIVE
                    item_events.append(ItemEvent(event.offset, event.item, event.ts, positive, segments[user]))
        await store.apply_items(batch.partition, fence, batch.last_offset, item_events, tallies, likes)
        lane.unsettled.popleft()
    _log_dead(done.dead)
    return done


def _reject_unknown(reads: list[_Read], catalogue: Catalogue, dead: list[DeadLetter]) -> list[_Read]:
    known: list[_Read] = []
    for read in reads:
        item_id = read.event.item_id
        number = catalogue.numbers.get(item_id) if item_id else None
        if item_id is None or (number is not None and catalogue.described(number)):
            known.append(read)
        else:
            bad = BadRecord(f"the catalogue has no item {item_id!r}, and ingest.unknown_items is 'reject'", "item_id")
            dead.append(dead_letter(read.record, bad))
    return known


def _user_event(read: _Read, catalogue: Catalogue, settings: Settings) -> UserEvent:
    event = read.event
    item = catalogue.numbers[event.item_id] if event.item_id else NO_ITEM
    graded = event.grade(settings.labels)
    keys = catalogue.histogram_keys[item] if item != NO_ITEM else []
    return UserEvent(read.record.offset, event.event_id or "", event.ts, item, graded, keys, event.device)


def _log_dead(dead: list[DeadLetter]) -> None:
    for letter in dead[:_LOGGED_PER_BATCH]:
        where = f"{letter.topic}[{letter.partition}]@{letter.offset}"
        log.warning("dead letter %s: %s%s", where, f"{letter.field}: " if letter.field else "", letter.reason)
    if len(dead) > _LOGGED_PER_BATCH:
        log.warning("… and %d more dead letters in the same batch", len(dead) - _LOGGED_PER_BATCH)
