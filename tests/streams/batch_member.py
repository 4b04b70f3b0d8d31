"""A member of a consumer group for the transport's tests: notes each batch it gets, and acknowledges as it is told.

`main` runs in a process of its own. The policy is `all`, `slow` (all, 20 ms a batch, half a second for a record alone),
`hold:N` (never acknowledge the N-th batch of each partition, counted from 0), or `never` (acknowledge none,
20 ms each).
"""

import asyncio
import json
import os
from collections import Counter
from pathlib import Path

from faust.types import StreamT

from streams.contract.topics import TopicNames
from streams.kafka.app import make_app, run
from streams.kafka.batching import RecordBatch, batches
from streams.settings.settings import Settings


def main(settings: Settings, notes: Path, policy: str, log: Path) -> None:
    with log.open("ab") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    app = make_app(settings, "member")
    held = int(policy.removeprefix("hold:")) if policy.startswith("hold:") else None
    count: Counter[int] = Counter()

    async def take(stream: StreamT[RecordBatch]) -> None:
        with notes.open("a", buffering=1) as file:
            async for batch, acknowledge in batches(stream):
                offsets = [record.offset for record in batch]
                file.write(json.dumps({"partition": batch.partition, "offsets": offsets}) + "\n")
                if policy in ("slow", "never"):
                    await asyncio.sleep(0.02 if len(offsets) > 1 or policy == "never" else 0.5)
                if count[batch.partition] != held and policy != "never":
                    acknowledge()
                count[batch.partition] += 1

    app.agent(app.batch_topic(TopicNames.under(settings.topic_prefix).events), name="take")(take)
    run(app)


def notes(path: Path) -> list[tuple[int, list[int]]]:
    """What a member noted by now, as (partition, offsets) of each batch."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    # a member that was killed may leave half a line
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [(note["partition"], note["offsets"]) for note in found]
