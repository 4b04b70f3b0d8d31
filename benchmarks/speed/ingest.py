"""Events per second of ingestion alone, against a stock Faust agent that only decodes, in the same run.

    python -m benchmarks.speed.ingest [--data DIR of ml-1m] [--report FILE]

One `millstream worker --no-refresh` has a core to itself where the system can give it one; the embedded broker and
Redis have the others. The catalogue is taken in first; then every event is put on its topic, and the worker is started
and timed from the first batch applied to the last. Exit status 1 when an event is missing.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import psutil
from aiokafka import AIOKafkaProducer

from deploy.embedded import Embedded
from streams.contract import topics
from streams.contract.events import Event, ItemRecord, UserRecord, encode
from streams.contract.topics import TopicNames
from streams.datasets import open_dataset
from streams.settings.settings import Settings
from streams.state.store import Store

GENRES = [f"genre {number}" for number in range(18)]
COUNTRIES = ["KR", "DE", "BR", "US", "IN"]
BEGIN_MS = 1_700_000_000_000


class Made:
    """Made input in the shape of ml-1m: 6,000 users and 3,700 films, the popular ones watched far more often."""

    name = "made"

    def __init__(self, count: int) -> None:
        self._count = count
        self._draw = random.Random(11)

    def items(self) -> Iterator[ItemRecord]:
        for number in range(3_700):
            features = {"genre": self._draw.sample(GENRES, 2), "director": [f"director {number % 900}"]}
            yield ItemRecord(item_id=f"film-{number}", title=f"Film {number}", categorical=features)

    def users(self) -> Iterator[UserRecord]:
        for number in range(6_000):
            yield UserRecord(user_id=f"user-{number}", categorical={"country": [self._draw.choice(COUNTRIES)]})

    def events(self) -> Iterator[tuple[str, bytes]]:
        draw = self._draw
        for number in range(self._count):
            user = f"user-{draw.randrange(6_000)}"
            event = Event(
                type="watch",
                user_id=user,
                item_id=f"film-{int(3_700 * draw.random() ** 3)}",
                ts=BEGIN_MS + 2_000 * number,
                watch_s=round(60 * draw.random(), 1),
                duration_s=60.0,
            )
            yield user, encode(event)


class Published:
    """A published log."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._dataset = open_dataset(name, folder)
        self.items = self._dataset.items
        self.users = self._dataset.users

    def events(self) -> Iterator[tuple[str, bytes]]:
        for event in self._dataset.events():
            yield event.user_id, event.raw


def pin(process: int, cores: set[int]) -> bool:
    """Keep a process on these cores; False where the system has no such thing."""
    if sys.platform != "linux":
        return False
    os.sched_setaffinity(process, cores)
    return True


class Worker:
    """A worker that only ingests, on a core of its own."""

    def __init__(self, settings: Settings, core: set[int]) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "serving.cli", "worker", "--no-refresh"], env=settings.environment()
        )
        pin(self._child.pid, core)
        self._process = psutil.Process(self._child.pid)

    def resident_mb(self) -> float:
        return float(self._process.memory_info().rss) / 2**20

    @property
    def pid(self) -> int:
        return self._child.pid

    def stop(self) -> None:
        self._child.terminate()
        self._child.wait(30)


def cpu_s(pid: int) -> float:
    """The CPU time that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def send(settings: Settings, topic: str, records: Iterator[tuple[str, bytes]]) -> int:
    producer = AIOKafkaProducer(linger_ms=20, max_batch_size=2**18, **settings.kafka.aiokafka_options())
    await producer.start()
    count = 0
    last: asyncio.Future[Any] | None = None
    for key, value in records:
        last = await producer.send(topic, key=key.encode(), value=value)
        count += 1
    if last is not None:
        await last
    await producer.stop()
    return count


async def measure(
    settings: Settings, source: Made | Published, core: set[int], servers: dict[str, int]
) -> dict[str, Any]:
    names = TopicNames.under(settings.topic_prefix)
    topics.create(settings)
    store = Store(settings)
    worker = Worker(settings, core)
    try:
        n_items = await send(settings, names.items, ((item.item_id, encode(item)) for item in source.items()))
        n_users = await send(settings, names.users, ((user.user_id, encode(user)) for user in source.users()))
        while await store.count_described() < n_items:
            await asyncio.sleep(0.2)
        for user in list(source.users())[-1:]:
            while not (await store.get_profiles([user.user_id]))[0]:
                await asyncio.sleep(0.2)
    finally:
        worker.stop()
    sent = await send(settings, names.events, source.events())
    worker = Worker(settings, core)
    first = done = 0
    began = resident = 0.0
    processes = {"worker": worker.pid} | servers
    cpu: dict[str, float] = {}
    moved = time.perf_counter()
    try:
        while done < sent and time.perf_counter() - moved < 30:
            await asyncio.sleep(0.1)
            now = sum((await store.totals()).values())
            if now > done:
                done, moved = now, time.perf_counter()
                if not first:
                    first, began = done, moved
                    cpu = {name: cpu_s(pid) for name, pid in processes.items()}
                resident = max(resident, worker.resident_mb())
        cpu = {name: cpu_s(pid) - cpu[name] for name, pid in processes.items()}
    finally:
        worker.stop()
        await store.close()
    seconds = moved - began
    return {
        "input": source.name,
        "items": n_items,
        "users": n_users,
        "events_sent": sent,
        "events_ingested": done,
        "seconds": round(seconds, 2),
        "events_per_s": round((done - first) / seconds),
        "worker_cpu_share": round(cpu["worker"] / seconds, 2),
        "worker_resident_mb": round(resident),
    } | {f"{name}_cpu_us_per_event": round(1e6 * used / (done - first), 1) for name, used in cpu.items()}


def measure_bare(settings: Settings, count: int, core: set[int]) -> float:
    """Events per second of the stock agent."""
    topic = TopicNames.under(settings.topic_prefix).events
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.speed.bare_faust", topic, str(count)],
        env=settings.environment(),
        stdout=subprocess.PIPE,
    )
    pin(child.pid, core)
    try:
        said, _ = child.communicate(timeout=300)
    finally:
        child.kill()
    answer = json.loads(said[said.rindex(b"{") :])  # Faust writes to the terminal before it
    return float(answer["events"] / answer["seconds"])


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="The folder of ml-1m.")
@click.option("--events", default=200_000, show_default=True, help="Events of the made input (without --data).")
@click.option("--bare-events", default=50_000, show_default=True, help="Events that the stock agent is timed on.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here (JSON).")
def main(data: Path | None, events: int, bare_events: int, report: Path | None) -> None:
    cores = os.sched_getaffinity(0) if sys.platform == "linux" else set()
    core, others = {max(cores)} if cores else set(), cores - {max(cores)} if cores else set()
    pinned = len(cores) > 1 and pin(0, others)
    source = Published("ml-1m", data) if data else Made(events)
    with tempfile.TemporaryDirectory() as folder, (embedded := Embedded(Path(folder))) as servers:
        settings = Settings(data_dir=Path(folder), log_level="WARNING").connected(
            broker_url=servers.broker_url, redis_url=servers.redis_url
        )
        result = asyncio.run(measure(settings, source, core, embedded.pids))
        result["bare_faust_events_per_s"] = round(measure_bare(settings, min(bare_events, result["events_sent"]), core))
    result["ratio"] = round(result["events_per_s"] / result["bare_faust_events_per_s"], 2)
    result["one_core"] = pinned
    for name, value in result.items():
        click.echo(f"{name:26} {value:>12,}" if isinstance(value, int | float) else f"{name:26} {value:>12}")
    if report is not None:
        report.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(0 if result["events_ingested"] == result["events_sent"] else 1)


if __name__ == "__main__":
    main()
