"""Requests gathered: those that come while lists are being made have theirs made together in the next batch.

A list made by itself costs several times what it does in a batch, so under load this is what lets the API keep up.
"""

import asyncio
from typing import Final

from serving.engine import Engine
from streams.events import Recommendations

#: The most users of one batch.
_MOST: Final = 64


class Gathering:
    """Has an engine make lists that are not published, for many requests at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[str, tuple[int, asyncio.Future[Recommendations]]] = {}
        self._making: asyncio.Task[None] | None = None

    async def list(self, user: str, size: int) -> Recommendations:
        """A list of at least `size` places, where there are so many items, of the user's state as it is now.

        Raises:
            RedisError, OSError: the state cannot be read.
        """
        asked, future = self._waiting.get(user) or (0, asyncio.get_running_loop().create_future())
        self._waiting[user] = max(asked, size), future
        if self._making is None:
            self._making = asyncio.create_task(self._make())
        return await asyncio.shield(future)  # a request that is given up takes no other's answer with it

    async def _make(self) -> None:
        try:
            while self._waiting:
                users = list(self._waiting)[:_MOST]
                batch = {user: self._waiting.pop(user) for user in users}
                size = max(asked for asked, _ in batch.values())
                try:
                    made = await self._engine.lists(dict.fromkeys(users), size=size, publish=False)
                except Exception as error:
                    for _, future in batch.values():
                        future.set_exception(error)
                else:
                    for (_, future), each in zip(batch.values(), made, strict=True):
                        future.set_result(each)
        finally:
            self._making = None
