"""Refresh: the users whose state changed get new lists, many at once, each user once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from serving.lists.engine import Engine
from streams.contract.events import Cause, Recommendations, encode
from streams.settings.settings import Settings
from streams.state.store import Store

#: That a list came out empty is for want of likes as long as fewer items than this have any.
_FEW_LIKED: Final = 1_000
#: So many users whose list came out empty are kept in mind, the newest.
_MOST_EMPTY: Final = 1_000

#: Sends one list (or, with None, its withdrawal) to the recommendations topic; the inner awaitable is its arrival.
Publish = Callable[[str, bytes | None], Awaitable[Awaitable[object]]]


@dataclass
class Owed:
    """What one batch leaves to be done before it is acknowledged.

    Attributes:
        causes: the users who are owed a list, with the event it answers, if an event is behind it.
        erased: the users whose list is withdrawn.
        pending: messages on their way that must have arrived.
    """

    acknowledge: Callable[[], object]
    causes: Mapping[str, Cause | None] = field(default_factory=dict)
    erased: Iterable[str] = ()
    pending: Iterable[Awaitable[object]] = ()


class Refresh:
    """Has lists made and publishes them.

    Attributes:
        lists: how many were published.
        delays_ms: of the newest lists, the time from their event's arrival in Kafka to their own.
    """

    def __init__(self, settings: Settings, store: Store, engine: Engine, publish: Publish) -> None:
        self._size = settings.lists.refresh_batch
        self._store = store
        self._engine = engine
        self._publish = publish
        self._sending: asyncio.Task[None] | None = None
        self._empty: dict[str, int] = {}  # whose list came out empty, and how many items had been liked by then
        self.lists = 0
        self.delays_ms: list[float] = []

    async def settle(self, owed: list[Owed], tasks: asyncio.TaskGroup) -> None:
        """Have lists made for what several batches owe: each user one list, for the newest cause.

        With them go lists for those whose list came out empty, once others have liked something more.

        The model, the catalogue and the trends are brought up to date before each micro-batch, so a new model is
        swapped in between two of them. While one is made, the lists of the last are sent and the states of the next are
        read. So the last may still be on their way when this returns: one of the `tasks` sends them and acknowledges.
        """
        causes: dict[str, Cause | None] = {}
        for batch in owed:
            for user, cause in batch.causes.items():
                causes[user] = _newer(causes.get(user), cause)
            for user in batch.erased:
                self._empty.pop(user, None)
        await self._engine.take_changes()
        causes = dict.fromkeys(self._fillable(), None) | causes
        users = list(causes)
        parts = [users[start : start + self._size] for start in range(0, len(users), self._size)]
        reading = tasks.create_task(self._engine.read(parts[0], publish=True)) if parts else None
        for at, part in enumerate(parts):
            assert reading is not None
            states = await reading
            if at + 1 < len(parts):
                reading = tasks.create_task(self._engine.read(parts[at + 1], publish=True))
            if at:
                await self._engine.take_changes()
            made = await self._engine.make({user: causes[user] for user in part}, states)
            self._keep_empty(made)
            if self._sending is not None:
                await self._sending
            self._sending = tasks.create_task(self._send(made))
        self._sending = tasks.create_task(self._acknowledge(owed, self._sending))

    def _fillable(self) -> list[str]:
        """Those whose list came out empty before the last item that somebody liked."""
        if not self._empty:
            return []
        liked = len(self._engine.popular(_FEW_LIKED))
        return [user for user, then in self._empty.items() if then < liked]

    def _keep_empty(self, lists: Sequence[Recommendations]) -> None:
        for made in lists:
            self._empty.pop(made.user_id, None)
        empty = [made.user_id for made in lists if not made.items]
        if empty and (liked := len(self._engine.popular(_FEW_LIKED))) < _FEW_LIKED:
            self._empty |= dict.fromkeys(empty, liked)
            for user in list(self._empty)[:-_MOST_EMPTY]:
                del self._empty[user]

    async def _send(self, lists: Sequence[Recommendations]) -> None:
        payloads = [(made.user_id, encode(made)) for made in lists]
        arrivals = [await self._publish(user, payload) for user, payload in payloads]
        await asyncio.gather(self._store.put_lists(payloads), *arrivals)
        self._count(made.cause for made in lists)

    async def _acknowledge(self, owed: list[Owed], sending: asyncio.Task[None] | None) -> None:
        """Send what else the batches owe when their lists are out, and tell that they are done with."""
        if sending is not None:
            await sending
        arrivals = [await self._publish(user, None) for batch in owed for user in batch.erased]
        await asyncio.gather(*arrivals, *(arrival for batch in owed for arrival in batch.pending))
        for batch in owed:
            batch.acknowledge()

    def _count(self, causes: Iterable[Cause | None]) -> None:
        now_ms = time.time() * 1000.0
        answered = [cause for cause in causes if cause is not None]
        self.lists += len(answered)
        self.delays_ms = (self.delays_ms + [now_ms - cause.arrived_at for cause in answered])[-2000:]


def _newer(one: Cause | None, other: Cause | None) -> Cause | None:
    """The later of two causes, with the newest time of both."""
    if one is None or other is None:
        return one or other
    return replace(other, ts=max(one.ts, other.ts))
