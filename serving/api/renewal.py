"""Renewal: a published list that is out of date is made again when it is read, once, and published.

An idle user causes no event, so the refresh agent makes no list for that user. Without renewal the user would keep the
list of a model that left service long ago.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from serving.api.gathering import Gathering
from serving.lists.engine import Engine
from streams.contract.events import Recommendations, encode
from streams.contract.topics import TopicNames
from streams.settings.settings import Settings
from streams.state.store import Store

log = logging.getLogger(__name__)

#: While this many renewed lists wait for Kafka, further ones are computed and not published: they would fill the
#: memory, and a crash would lose them for readers of the topic.
_UNSENT_MAX: Final = 1_000
_RETRY_S: Final = 1.0


class Renewed(NamedTuple):
    """A user's list; `published` when it is the stored one, which is on its topic or on its way there."""

    made: Recommendations
    published: bool


class Renewal:
    """Makes lists that are out of date again, those of concurrent requests together."""

    def __init__(
        self, settings: Settings, store: Store, engine: Engine, producer: AIOKafkaProducer, *, most: int
    ) -> None:
        """Prepare a renewal; the caller also runs `send`, which puts the lists on the topic.

        Args:
            most: the most lists that are made at once.
        """
        self._topic = TopicNames.under(settings.topic_prefix).recommendations
        self._patience_s = settings.api.kafka_patience_s
        self._store = store
        self._engine = engine
        self._producer = producer
        self._gathered = Gathering(self._renew, most=most)
        self._unsent: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._sending = 0

    async def of(self, user: str) -> Renewed:
        """The user's list by the model in service, without withdrawn items.

        Raises:
            RedisError, OSError, TimeoutError: Redis is away.
        """
        return await self._gathered.of(user)

    async def _renew(self, users: Mapping[str, int]) -> list[Renewed]:
        # read again: an earlier batch, another API process or a worker may have replaced the list since the request
        rows = await self._store.get_lists_and_newest(users)
        stored = {user: answering(*row) for user, row in zip(users, rows, strict=True)}
        lists = {
            user: Renewed(known, published=True)
            for user, known in stored.items()
            if known is not None and known.items and not self._engine.outdated(known)
        }
        missing = [user for user in users if user not in lists]
        if missing:
            room = self._unsent.qsize() + self._sending < _UNSENT_MAX
            outdated = {
                user: known
                for user in missing
                if room and (known := stored[user]) is not None and self._engine.outdated(known)
            }
            for made in await self._make(missing, outdated):
                lists[made.made.user_id] = made
        return [lists[user] for user in users]

    async def _make(self, users: list[str], outdated: Mapping[str, Recommendations]) -> list[Renewed]:
        """Make the users' lists, and publish those that replace an outdated one."""
        states = await self._engine.read(users, publish=False)
        numbered = [replace(each, list_number=each.list_number + (each.user_id in outdated)) for each in states]
        lists = await self._engine.make(dict.fromkeys(users), numbered)
        # the user has done nothing since, so the new list answers the same event
        new = {
            made.user_id: msgspec.structs.replace(made, cause=outdated[made.user_id].cause)
            for made in lists
            if made.user_id in outdated and not self._engine.outdated(made)
        }
        payloads = {user: encode(made) for user, made in new.items()}
        replaced = await self._store.replace_lists({user: (new[user].seq, raw) for user, raw in payloads.items()})
        for user in replaced:
            self._unsent.put_nowait((user, payloads[user]))
        return [
            Renewed(new[made.user_id], published=True)
            if made.user_id in replaced
            # it has taken no number, so it keeps that of the list before it
            else Renewed(msgspec.structs.replace(made, seq=made.seq - (made.user_id in outdated)), published=False)
            for made in lists
        ]

    # -- to Kafka, behind the requests: one that cannot reach Kafka is answered all the same

    async def send(self) -> None:
        """Send the renewed lists to their topic; never returns."""
        while True:
            waiting = [await self._unsent.get()]
            while not self._unsent.empty():
                waiting.append(self._unsent.get_nowait())
            taken = self._sending = len(waiting)
            while waiting := await self._send(waiting):
                self._sending = len(waiting)
                await asyncio.sleep(_RETRY_S)
            self._sending = 0
            for _ in range(taken):
                self._unsent.task_done()

    async def _send(self, lists: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Send lists; returns those to be sent again."""
        sent = await asyncio.gather(
            *(self._producer.send_and_wait(self._topic, raw, key=user.encode()) for user, raw in lists),
            return_exceptions=True,
        )
        again = []
        for (user, raw), outcome in zip(lists, sent, strict=True):
            if isinstance(outcome, KafkaTimeoutError | OSError) or getattr(outcome, "retriable", False):
                again.append((user, raw))
            elif isinstance(outcome, KafkaError):
                log.error("Kafka refuses the renewed list of user %r on %s: %s", user, self._topic, outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
        if again:
            log.warning("Kafka is away: %d renewed lists are stored and not on %s yet", len(again), self._topic)
        return again

    async def flush(self) -> None:
        """Wait until Kafka has the renewed lists, as long as the API waits for Kafka."""
        try:
            await asyncio.wait_for(self._unsent.join(), self._patience_s)
        except TimeoutError:
            unsent = self._unsent.qsize() + self._sending
            log.error("Kafka is away: %d renewed lists are stored and were not sent to %s", unsent, self._topic)


def answering(raw: bytes | None, newest_ts: int | None) -> Recommendations | None:
    """The stored list, if it answers the user's newest event; of what is stored, see `Store.get_lists_and_newest`."""
    if raw is None:
        return None
    stored = msgspec.json.decode(raw, type=Recommendations)
    answered = stored.cause.ts if stored.cause else 0
    return stored if newest_ts is None or newest_ts <= answered else None
