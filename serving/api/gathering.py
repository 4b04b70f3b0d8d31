"""Requests gathered: those that come while others are being answered are answered together in the next batch.

What is asked for one user alone costs several times what it does in a batch, so under load this is what lets the API
keep up: with lists made now, and with what is read of Redis, which would also open a connection for each.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Gathering(Generic[Answer]):
    """Asks for many users at once.

    Args:
        ask: what is asked of each user's answer, as a size, to the answers in the same order.
        most: the most users of one batch.
    """

    def __init__(self, ask: Callable[[Mapping[str, int]], Awaitable[Sequence[Answer]]], *, most: int) -> None:
        self._ask = ask
        self._most = most
        self._waiting: dict[str, tuple[int, asyncio.Future[Answer]]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def of(self, user: str, size: int = 0) -> Answer:
        """The user's answer, asked for after this call; of what is asked meanwhile the greatest size counts.

        Raises:
            Exception: what the asking raised.
        """
        asked, future = self._waiting.get(user) or (0, asyncio.get_running_loop().create_future())
        self._waiting[user] = max(asked, size), future
        if self._asking is None:
            self._asking = asyncio.create_task(self._answer())
        return await asyncio.shield(future)  # a request that is given up takes no other's answer with it

    async def _answer(self) -> None:
        try:
            while self._waiting:
                batch = {user: self._waiting.pop(user) for user in list(self._waiting)[: self._most]}
                try:
                    answers = await self._ask({user: size for user, (size, _) in batch.items()})
                except Exception as error:
                    for _, future in batch.values():
                        future.set_exception(error)
                else:
                    for (_, future), answer in zip(batch.values(), answers, strict=True):
                        future.set_result(answer)
        finally:
            self._asking = None
