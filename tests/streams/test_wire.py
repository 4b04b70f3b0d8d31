"""The system from outside: what is measured of the lists that come by."""

import asyncio
from dataclasses import replace

from streams.contract.events import Cause, Recommendations, encode
from streams.replay.probe import Wire
from tests.conftest import MakeSettings
from tests.streams.records import record


def test_a_renewed_list_says_nothing_of_how_fresh_lists_are(make_settings: MakeSettings) -> None:
    async def measured() -> list[float]:
        wire = Wire(make_settings())
        now = wire.started_ms

        def comes(seq: int, cause: str, arrived_at: int, at: int) -> None:
            made = Recommendations(
                rec_id=f"r{seq}", user_id="ann", seq=seq, items=[], model="v1", index="flat", generated_at=at,
                cause=Cause(event_id=cause, ts=arrived_at, arrived_at=arrived_at),
            )  # fmt: skip
            wire._on_list(replace(record(seq, encode(made)), timestamp=at))

        try:
            comes(1, "long ago", now - 3_600_000, now + 10)
            comes(2, "e2", now + 20, now + 25)
            comes(3, "e2", now + 20, now + 9_000)
            comes(4, "e4", now + 9_100, now + 9_107)
        finally:
            await asyncio.gather(wire.producer.stop(), wire._consumer.stop(), wire.store.close())
        return wire.freshness_ms

    assert asyncio.run(measured()) == [5, 7]
