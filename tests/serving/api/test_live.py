"""What the API runs beside its requests."""

import asyncio
import contextlib

from serving.api.live import ended


async def test_a_task_that_takes_a_cancellation_for_a_time_limit_is_ended_all_the_same() -> None:
    async def deaf() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await ended([task])
    assert task.cancelled()
