"""The yardstick: a stock Faust agent that decodes JSON and does nothing else; prints its count and seconds as JSON.

Run as `python -m benchmarks.speed.bare_faust TOPIC COUNT` under the settings of the environment.
"""

import json
import os
import sys
import time
import uuid
from typing import Any

import faust

from streams.settings.settings import load


def main(topic: str, wanted: int) -> None:
    settings = load()
    app = faust.App(
        f"bare-{uuid.uuid4().hex[:8]}",
        broker=settings.kafka.faust_urls(),
        datadir=settings.data_dir / "bare",
        web_enabled=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
    )

    async def take(stream: Any) -> None:
        count, began, first = 0, 0.0, 0
        async for _ in stream:
            count += 1
            if not began and count == 1000:  # the first fetches are on their way before the clock starts
                began, first = time.perf_counter(), count
            if count == wanted:
                print(json.dumps({"events": count - first, "seconds": time.perf_counter() - began}), flush=True)
                os._exit(0)

    app.agent(app.topic(topic, value_serializer="json"), name="take")(take)
    faust.Worker(app, quiet=True, loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
