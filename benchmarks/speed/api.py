"""How long `GET recommendations` takes under a steady load, with broker, Redis, worker and trainer on the same machine.

    python -m benchmarks.speed.api [--items 100000] [--rate 200] [--seconds 20] [--report FILE]

Requests leave at their appointed times, whether or not those before them are answered, and each is timed from its
appointed time: a stall is counted for all whom it held up. Exit status 1 when a request failed.
"""

import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click
import numpy as np
from aiokafka import AIOKafkaProducer

from models.artefact import ArtefactStore
from serving.cli.up import System, roles
from streams.contract.events import Event, ItemRecord, encode
from streams.contract.topics import TopicNames
from streams.settings.settings import ApiSettings, Settings, TrainingSettings
from streams.state.status import live_workers, trainer_status
from streams.state.store import Store

USERS = 5_000
GENRES = [f"genre {number}" for number in range(24)]


def items(count: int) -> list[ItemRecord]:
    draw = random.Random(3)
    return [
        ItemRecord(item_id=f"i{n}", title=f"Item {n}", categorical={"genre": draw.sample(GENRES, 2)})
        for n in range(count)
    ]


def events(count: int, n_items: int) -> list[Event]:
    draw = random.Random(5)
    now = int(time.time() * 1000)
    return [
        Event(
            type="like",
            user_id=f"u{draw.randrange(USERS)}",
            item_id=f"i{int(n_items * draw.random() ** 3)}",
            ts=now - 1000 * (count - n),
        )
        for n in range(count)
    ]


async def fill(settings: Settings, n_items: int, n_events: int, tell: Callable[[str], None]) -> str:
    """Send catalogue and events; returns the trained model in service once all is applied.

    The made users have no tastes, so the gate refuses it; it serves all the same, or lists would be of no networks.
    """
    names = TopicNames.under(settings.topic_prefix)
    producer = AIOKafkaProducer(linger_ms=20, max_batch_size=2**18, **settings.kafka.aiokafka_options())
    store = Store(settings)
    await producer.start()
    try:
        for item in items(n_items):
            await producer.send(names.items, key=item.item_id.encode(), value=encode(item))
        await producer.flush()
        while await store.count_described() < n_items:
            await asyncio.sleep(0.5)
        tell(f"{n_items:,} items are known")
        for event in events(n_events, n_items):
            await producer.send(names.events, key=event.user_id.encode(), value=encode(event))
        await producer.flush()
        while (await store.totals()).get("applied", 0) < n_events:
            await asyncio.sleep(0.5)
        tell(f"{n_events:,} events are applied")
        while True:
            workers, trainer = await live_workers(store), await trainer_status(store)
            if trainer and trainer.trainings and not trainer.busy and not any(worker.lag for worker in workers):
                break
            await asyncio.sleep(0.5)
        artefacts = ArtefactStore(settings.data_dir / "artefacts")
        trained = artefacts.versions()[-1]
        artefacts.promote(trained)
        while any(worker.model != trained for worker in await live_workers(store)):
            await asyncio.sleep(0.5)
        return trained
    finally:
        await producer.stop()
        await store.close()


class Connections:
    """Kept-alive HTTP connections, taken in turn."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        while self._free and self._free[-1][0].at_eof():  # the server closed it, as nothing was asked for a while
            self._free.pop()[1].close()
        streams = self._free.pop() if self._free else await asyncio.open_connection(*self._address)
        yield streams
        self._free.append(streams)

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        async with self.one() as (reader, writer):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].split()[0])
            return int(head.split()[1]), await reader.readexactly(length)


async def load(settings: Settings, rate: float, seconds: float, query: dict[str, str]) -> dict[str, Any]:
    """Ask for lists at that rate; returns the times, and how many lists each model made."""
    connections = Connections(settings.api.host, settings.api.port)
    draw = random.Random(7)
    times: dict[str, list[float]] = {}  # by where the list came from
    models: Counter[str] = Counter()
    failed: list[str] = []
    loop = asyncio.get_running_loop()

    async def ask(due: float) -> None:
        path = f"/v1/users/u{draw.randrange(USERS)}/recommendations"
        try:
            status, body = await connections.get(f"{path}?{urlencode(query)}" if query else path)
            took = 1000.0 * (loop.time() - due)
            if status == 200:
                made = json.loads(body)
                times.setdefault(made["origin"], []).append(took)
                models[made["model"]] += 1
            else:
                failed.append(f"{status}: {body[:200].decode(errors='replace')}")
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            failed.append(repr(error))

    began = loop.time() + 0.1
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(due - loop.time(), 0.0))
            group.create_task(ask(due))
    every = [took for some in times.values() for took in some]
    return {
        "requests": len(every) + len(failed),
        "ms": {"all": _spread(every)} | {origin: _spread(some) for origin, some in sorted(times.items())},
        "models": models,
        "requests_per_s": round(len(every) / (loop.time() - began), 1),
        "errors": len(failed),
        "first_error": failed[0] if failed else None,
    }


def _spread(times: list[float]) -> dict[str, float]:
    """How many there are, and how long they took, in ms."""
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).round(2).tolist() if times else (0.0, 0.0, 0.0)
    return {"requests": len(times), "p50": p50, "p95": p95, "p99": p99, "most": round(max(times, default=0.0), 2)}


async def measure(settings: Settings, rate: float, seconds: float, model: str, n_items: int) -> dict[str, Any]:
    await load(settings, rate, 10.0, {})  # warms up, and lets the API take the model in
    as_they_come = await load(settings, rate, seconds, {})
    # an excluded item makes each list be computed
    computed = await load(settings, rate, seconds, {"exclude": "i0"})
    return {"items": n_items, "model": model, "rate": rate, "as_they_come": as_they_come, "all_computed": computed}


@click.command()
@click.option("--items", "n_items", default=100_000, show_default=True, help="Items of the catalogue.")
@click.option("--events", "n_events", default=20_000, show_default=True, help="Events to fill the state with.")
@click.option("--rate", default=200.0, show_default=True, help="Requests a second.")
@click.option("--seconds", default=20.0, show_default=True, help="Length of each of the two loads.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here (JSON).")
def main(n_items: int, n_events: int, rate: float, seconds: float, report: Path | None) -> None:
    def tell(text: str) -> None:
        click.echo(text, err=True)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = Settings(
            data_dir=Path(folder),
            partitions=1,
            log_level="WARNING",
            api=ApiSettings(port=18_080),
            training=TrainingSettings(first_events=n_events),
        )
        with System(settings, processes=roles(1, api=True)) as system:
            model = asyncio.run(fill(system.settings, n_items, n_events, tell))
            tell(f"model {model} serves; asking")
            result = asyncio.run(measure(system.settings, rate, seconds, model, n_items))
    if report:
        report.write_text(json.dumps(result, indent=2) + "\n")
    click.echo(json.dumps(result, indent=2))
    sys.exit(1 if result["as_they_come"]["errors"] or result["all_computed"]["errors"] else 0)


if __name__ == "__main__":
    main()
