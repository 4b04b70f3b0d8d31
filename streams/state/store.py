"""State in Redis: users, item statistics and the catalogue, each write with its fence in one script call.

One user's keys share a hash tag, as do one partition's and the catalogue's, so that Redis Cluster keeps them together.
A fence is the last offset applied of one partition of one log: a record at or below it changes nothing.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError, RedisError

from models.data.labels import POSITIVE
from streams.settings.settings import Settings
from streams.state.likes import Like, pack_likes
from streams.state.packing import RECORD, ItemEvent, UserEvent, newest_ts, pack, pack_item_events, pack_user_events
from streams.state.user_states import UserState, user_states

log = logging.getLogger(__name__)

#: A script has Redis for itself; and what fits the processor's cache takes less time in sum.
_USERS_PER_CALL: Final = 256
#: Among so many of a user's newest events the one is looked for that a list has to answer.
_NEWEST: Final = 64
_SCRIPTS: Final = Path(__file__).parent / "lua"

#: Of so many newest events of each of those followed, what was liked counts.
_FRIENDS_EVENTS: Final = 20

_OF_PARTITION: Final = ("statistics", "changes", "meta", "likes")
_FENCE: Final = "fence:"
#: What else a partition's `meta` holds.
_NO_TOTALS: Final = (b"version", b"likes", b"likes_bytes")

#: Verdicts of `apply_users` on an event.
APPLIED, REDELIVERED, COPY = "a", "r", "d"


class Follow(NamedTuple):
    """At an event time in ms a user begins, or ceases, to follow another."""

    ts: int
    user_id: str
    begins: bool


class Search(NamedTuple):
    """At an event time in ms a user searches for a word, see `models.data.tokens.query_tokens`."""

    ts: int
    word: str


class StateAway(Exception):
    """Redis could not be reached in time."""


class Store:
    """Every read and write of Redis, over one server or a cluster."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._prefix = settings.topic_prefix
        self._target = settings.redis
        options: dict[str, Any] = {"socket_connect_timeout": 5.0, "socket_timeout": 30.0}
        self.cluster = self._target.cluster
        url = self._target.url.get_secret_value()
        self.client: Any = RedisCluster.from_url(url, **options) if self.cluster else Redis.from_url(url, **options)
        # a cluster's client keeps a few connections a node: more calls than that at once would only queue
        self._gate = asyncio.Semaphore(32)
        self._sources = {path.stem: path.read_text() for path in _SCRIPTS.glob("*.lua")}
        self._shas = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in self._sources.items()
        }

    async def close(self) -> None:
        await self.client.aclose()

    async def wait(self, *, patience_s: float = 60.0) -> None:
        """Wait with back-off until Redis answers.

        Raises:
            StateAway: it did not within `patience_s` seconds.
        """
        deadline = time.monotonic() + patience_s
        delay = 0.25
        while True:
            try:
                await self.ping()
                return
            except (RedisError, OSError) as error:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise StateAway(
                        f"no Redis answers at {self._target.display}: {error}. "
                        "Is it running, and is MILLSTREAM_REDIS_URL right?"
                    ) from None
                log.warning("Redis %s is away (%s); trying again in %.1f s", self._target.display, error, delay)
                await asyncio.sleep(min(delay, left))
                delay = min(delay * 2, 5.0)

    async def ping(self) -> None:
        """Ask Redis for a sign of life.

        Raises:
            RedisError, OSError: it gives none.
        """
        await self.client.ping()

    # -- keys

    def user_keys(self, user_id: str, *parts: str) -> list[str]:
        # braces would end the hash tag early, and an empty tag is no tag
        stem = f"{self._prefix}user:{{{quote(user_id, safe='')}}}:"
        return [stem + part for part in parts]

    def partition_keys(self, partition: int, *parts: str) -> list[str]:
        return [f"{self._prefix}partition:{{{self._prefix}p{partition}}}:{part}" for part in parts]

    def catalogue_key(self, part: str) -> str:
        return f"{{{self._prefix}catalogue}}:{part}"

    def status_key(self, part: str) -> str:
        return f"{{{self._prefix}status}}:{part}"

    # -- users

    async def apply_users(
        self, fence: str, events: dict[str, list[UserEvent]], *, unsettled: int
    ) -> tuple[dict[str, str], dict[str, list[str]], list[Like]]:
        """Apply events, of one batch or of several that follow on each other, to their users' state.

        Args:
            unsettled: the first offset of the partition whose item statistics are not known to be applied: below it
                no redelivery asks for a verdict again.

        Returns:
            Per user a string of verdicts (`APPLIED`, `REDELIVERED`, `COPY`), one character an event, and the segments;
            and what was liked.
        """
        ingest = self._settings.ingest
        half_life_ms = ingest.histogram_half_life_s * 1000.0
        limits = [
            ingest.sequence_length,
            ingest.seen_max,
            ingest.recent_event_ids,
            ingest.histogram_max,
            half_life_ms,
            self._settings.model.neighbours.window,
        ]
        calls = []
        for users in self._per_call(events):
            names, numbers, records = pack_user_events([events[user] for user in users], half_life_ms)
            keys = [key for user in users for key in self.user_keys(user, "state", "recent")]
            calls.append((keys, [pack([fence, unsettled, limits, names, numbers]), records]))
        verdicts: dict[str, str] = {}
        segments: dict[str, list[str]] = {}
        likes: list[Like] = []
        answers = await self._run("apply_users", calls)
        for users, (flat, packed_segments, liked) in zip(self._per_call(events), answers, strict=True):
            text = flat.decode()
            at = 0
            for user, joined in zip(users, packed_segments, strict=True):
                verdicts[user] = text[at : at + len(events[user])]
                at += len(events[user])
                segments[user] = joined.decode().split("\x1f") if joined else []
            if liked:
                every = [event for user in users for event in events[user]]
                likes += [
                    Like(every[place].offset, every[place].item, before)
                    for place, before in zip(liked[::2], liked[1::2], strict=True)
                ]
        return verdicts, segments, likes

    async def read_users(
        self, users: Sequence[str], *, histogram: int, length: int, publish: bool = True, friends: int = 0
    ) -> list[UserState]:
        """The state of users, each with the number of its next list; unless it is to `publish`, of its last one.

        Args:
            histogram, length: the entries and actions wanted.
            friends: of so many of those followed last, what they liked is read too.
        """
        parts = ("state", "recent", "profile", "follows", "searched")
        groups = self._per_call(users)
        calls = [
            ([key for user in group for key in self.user_keys(user, *parts)], [int(publish), friends])
            for group in groups
        ]
        rows = [row for answer in await self._run("read_users", calls) for row in answer]
        states = user_states(users, rows, length, histogram)
        followed = sorted({friend.decode() for row in rows for friend in row[-1]})
        if not followed:
            return states
        liked = dict(zip(followed, await self._liked_last(followed), strict=True))
        return [
            replace(state, friends=np.concatenate([liked[friend.decode()] for friend in row[-1]][::-1]))
            if row[-1]
            else state
            for state, row in zip(states, rows, strict=True)
        ]

    async def _liked_last(self, users: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        pipeline = self.client.pipeline(transaction=False)
        for user in users:
            pipeline.getrange(*self.user_keys(user, "recent"), -RECORD.itemsize * _FRIENDS_EVENTS, -1)
        records = [np.frombuffer(raw, RECORD) for raw in await pipeline.execute()]
        return [each["item"][each["is_action"] & (each["label"] == POSITIVE)] for each in records]

    async def follow(self, users: dict[str, list[Follow]]) -> None:
        """Keep whom users follow."""
        most = self._settings.ingest.follows_max
        calls = [
            (
                self.user_keys(user, "state", "follows"),
                [most, *(part for each in followed for part in (each.ts, each.user_id, int(each.begins)))],
            )
            for user, followed in users.items()
        ]
        await self._run("follow", calls)

    async def search(self, users: dict[str, list[Search]]) -> None:
        """Keep what users search for."""
        most = self._settings.ingest.searched_max
        calls = [
            (self.user_keys(user, "state", "searched"), [most, *(part for each in searches for part in each)])
            for user, searches in users.items()
        ]
        await self._run("search", calls)

    async def put_user(self, fence: str, offset: int, user_id: str, profile: bytes, segments: Sequence[str]) -> bool:
        """Keep a user's profile, or erase the user when `profile` is empty; False when it was applied before."""
        keys = self.user_keys(user_id, "state", "recent", "profile", "list", "follows", "searched")
        [answer] = await self._run("put_user", [(keys, [fence, offset, profile, "\x1f".join(segments)])])
        return bool(answer)

    async def get_profiles(self, users: Sequence[str]) -> list[bytes | None]:
        """The profiles of users, as JSON."""
        pipeline = self.client.pipeline(transaction=False)
        for user in users:
            pipeline.get(*self.user_keys(user, "profile"))
        return list(await pipeline.execute())

    async def put_lists(self, lists: Iterable[tuple[str, bytes]]) -> None:
        """Keep the last published list of each user."""
        if not self.cluster:  # one command, as each costs the client several times what it costs the server
            await self.client.mset(
                {key: payload for user_id, payload in lists for key in self.user_keys(user_id, "list")}
            )
            return
        pipeline = self.client.pipeline(transaction=False)
        for user_id, payload in lists:
            pipeline.set(*self.user_keys(user_id, "list"), payload)
        await pipeline.execute()

    async def replace_lists(self, lists: Mapping[str, tuple[int, bytes]]) -> set[str]:
        """Replace users' last lists, each (number, JSON); returns the users whose number was not taken meanwhile."""
        calls = []
        for users in self._per_call(lists):
            keys = [key for user in users for key in self.user_keys(user, "state", "list")]
            calls.append((keys, [part for user in users for part in lists[user]]))
        flags = [flag for answer in await self._run("replace_lists", calls) for flag in answer]
        return {user for user, flag in zip(lists, flags, strict=True) if flag}

    async def get_lists_and_newest(self, users: Iterable[str]) -> list[tuple[bytes | None, int | None]]:
        """The last published list of users, as JSON, and the event time of the event applied last that calls for one.

        None where no such event is among the newest.
        """
        pipeline = self.client.pipeline(transaction=False)
        for user in users:
            published, recent = self.user_keys(user, "list", "recent")
            pipeline.get(published)
            pipeline.getrange(recent, -_NEWEST * RECORD.itemsize, -1)
        answers = await pipeline.execute()
        return [(published, newest_ts(raw)) for published, raw in zip(answers[::2], answers[1::2], strict=True)]

    async def get_list(self, user_id: str) -> bytes | None:
        """The last published list of a user, as JSON."""
        [key] = self.user_keys(user_id, "list")
        found: bytes | None = await self.client.get(key)
        return found

    # -- item statistics, by partition of the events topic

    async def apply_items(
        self,
        partition: int,
        fence: str,
        last_offset: int,
        events: Sequence[ItemEvent],
        tallies: Sequence[tuple[int, str]],
        likes: Sequence[Like] = (),
    ) -> None:
        """Count events into a partition's statistics; a tally is an offset and the name of a total to add one to."""
        config = self._settings.popularity
        scales = [[1000.0 * seconds for seconds in some] for some in (config.half_lives_s, config.windows_s)]
        keys = self.partition_keys(partition, *_OF_PARTITION)
        offsets = [event.offset for event in events] + [offset for offset, _ in tallies]
        before: int | None = min(offsets, default=last_offset) - 1
        while before is not None and before < last_offset:
            fields, records = pack_item_events((event for event in events if event.offset > before), config)
            totals = Counter(name for offset, name in tallies if offset > before)
            flat = [part for total in totals.items() for part in total]
            liked = pack_likes(fence.removeprefix(_FENCE), [like for like in likes if like.offset > before])
            kept = self._settings.ingest.likes_bytes
            arguments = [fence, last_offset, before, pack(scales), pack(fields), records, liked, kept, *flat]
            # a part of a batch delivered again may be counted already: then what comes after it is
            [before] = await self._run("apply_items", [(keys, arguments)])

    async def read_items(
        self, partition: int, known: int, batches: int = 0
    ) -> tuple[int, dict[str, tuple[list[int], bytes]], int, list[bytes]]:
        """What changed in a partition's statistics after version `known`, and what was liked after so many batches.

        Returns:
            The version read up to, per segment ("" for all users) the item numbers and their records, packed; how many
            batches of likes there were, and those not known that are still kept, packed.
        """
        keys = self.partition_keys(partition, *_OF_PARTITION)
        likes: list[bytes] = []
        changed: dict[str, tuple[list[int], list[bytes]]] = {}
        newest = -1
        while known != newest:
            [(known, newest, batches, liked, *rest)] = await self._run("read_items", [(keys, [known, 20_000, batches])])
            likes += liked
            rows: Iterable[tuple[bytes, bytes]]
            if rest:
                rows = list(zip(rest[0][::2], rest[0][1::2], strict=True))
            else:  # too far behind: all there is, which is at least as new
                known = newest
                rows = [row async for row in self.client.hscan_iter(keys[0], count=5000)]
            for name, record in rows:
                segment, _, item = name.decode().rpartition("\x1f")
                numbers, records = changed.setdefault(segment, ([], []))
                numbers.append(int(item))
                records.append(record)
        packed = {segment: (numbers, b"".join(records)) for segment, (numbers, records) in changed.items()}
        return known, packed, batches, likes

    async def totals(self) -> dict[str, int]:
        """Totals over all partitions: `applied`, `copies`, `dead_letters`, …"""
        totals: dict[str, int] = {}
        for partition in range(self._settings.partitions):
            [meta] = self.partition_keys(partition, "meta")
            for name, value in (await self.client.hgetall(meta)).items():
                if not name.startswith(_FENCE.encode()) and name not in _NO_TOTALS:
                    totals[name.decode()] = totals.get(name.decode(), 0) + int(value)
        return totals

    # -- catalogue

    async def number_items(self, ids: Sequence[str]) -> list[int]:
        """The items' numbers; an id not seen before gets the next free one."""
        keys = [self.catalogue_key("numbers"), self.catalogue_key("ids")]
        [numbers] = await self._run("number_items", [(keys, list(ids))])
        return list(numbers)

    async def put_items(self, fence: str, records: Sequence[tuple[int, int, bytes]]) -> int:
        """Keep item records, each (offset, number, JSON); returns how many were new."""
        keys = [self.catalogue_key(part) for part in ("records", "changes", "meta")]
        flat = [value for record in records for value in record]
        [applied] = await self._run("put_items", [(keys, [fence, *flat])])
        return int(applied)

    async def item_ids(self, start: int) -> list[str]:
        """The ids of the items numbered from `start` on."""
        return [raw.decode() for raw in await self.client.lrange(self.catalogue_key("ids"), start, -1)]

    async def catalogue_changes(self, start: int, known: int) -> tuple[list[str], int, list[tuple[int, bytes]]]:
        """What is new in the catalogue: asked for before and after every batch, so in one call while there is nothing.

        Returns:
            The ids of the items numbered from `start` on; the version read up to, and the records that changed after
            version `known`, each (number, JSON).
        """
        pipeline = self.client.pipeline(transaction=False)
        pipeline.lrange(self.catalogue_key("ids"), start, -1)
        pipeline.zrangebyscore(self.catalogue_key("changes"), f"({known}", "+inf", withscores=True)
        ids, rows = await pipeline.execute()
        version, records = known, []
        if rows:
            numbers = [row[0] for row in rows]
            version = int(rows[-1][1])
            records = await self.client.hmget(self.catalogue_key("records"), numbers)
            records = [(int(n), r) for n, r in zip(numbers, records, strict=True) if r]
        return [raw.decode() for raw in ids], version, records

    async def count_described(self) -> int:
        """How many items a record describes."""
        return int(await self.client.hlen(self.catalogue_key("records")))

    async def memory_policy(self) -> str:
        """What the server does when its memory is full; empty when it does not say."""
        with contextlib.suppress(RedisError):
            answer = await self.client.config_get("maxmemory-policy")
            return str(answer.get("maxmemory-policy", ""))
        return ""

    # -- status of the roles

    async def put_status(self, role: str, payload: bytes) -> None:
        await self.client.hset(self.status_key("roles"), role, payload)

    async def statuses(self) -> dict[str, bytes]:
        return {k.decode(): v for k, v in (await self.client.hgetall(self.status_key("roles"))).items()}

    async def drop_status(self, role: str) -> None:
        await self.client.hdel(self.status_key("roles"), role)

    # -- scripts

    def _per_call(self, users: Iterable[str]) -> list[list[str]]:
        """The users of each script call: so few that others get their turn, and one where a call has one slot only."""
        some, size = list(users), 1 if self.cluster else _USERS_PER_CALL
        return [some[at : at + size] for at in range(0, len(some), size)]

    async def _run(self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        # all at once: Redis is not to wait between two of them until this process gets round to it
        return list(await asyncio.gather(*(self._evaluate(name, *call) for call in calls)))

    async def _evaluate(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        async with self._gate:
            try:
                return await self.client.evalsha(self._shas[name], len(keys), *keys, *arguments)
            except NoScriptError:  # a server that is new, or was restarted
                return await self.client.eval(self._sources[name], len(keys), *keys, *arguments)


def fence_field(log: str, partition: int) -> str:
    """The name of the fence of one partition of one log."""
    return f"{_FENCE}{log}:{partition}"
