"""What the API runs beside its requests."""

import asyncio
import contextlib

from aiokafka import ConsumerRecord

from serving.api.live import Live, ended
from streams.contract import topics
from streams.contract.events import Recommendations, encode
from tests.conftest import MakeSettings


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


async def test_a_record_that_is_no_list_does_not_end_the_stream_of_lists(make_settings: MakeSettings) -> None:
    settings = make_settings()
    await asyncio.to_thread(topics.create, settings)
    made = Recommendations(
        rec_id="1", user_id="ann", seq=1, items=[], model="v1", index="flat", generated_at=1_750_000_000_000
    )
    live = Live(settings)
    heard: list[ConsumerRecord] = []
    live.hear = heard.extend

    async def first_list() -> Recommendations | None:
        return await anext(aiter(live.lists("ann")))

    async with live.open(), asyncio.timeout(60):
        first = asyncio.create_task(first_list())
        while not first.done():  # what is sent before the reading begins does not come by
            for value in (b"no list", encode(made)):
                await live.producer.send_and_wait(live.names.recommendations, key=b"ann", value=value)
            await asyncio.wait({first}, timeout=0.2)
        assert first.result() == made
    assert {record.value for record in heard} == {b"no list", encode(made)}
