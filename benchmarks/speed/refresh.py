"""Users per second that the refresh agent serves on one core: state read, lists made with a trained model, published.

    python -m benchmarks.speed.refresh [--data DIR of ml-1m] [--items 100000] [--users 4000] [--report FILE]

With `--data` the catalogue and the histories are those of ml-1m, otherwise they are made. The agent's own code runs in
this process, with one thread; the embedded broker and Redis have the other cores where the system can give them some.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click
from aiokafka import AIOKafkaProducer, ConsumerRecord

from benchmarks.speed.api import events, items
from benchmarks.speed.ingest import pin
from deploy.embedded import Embedded
from models.artefact import ArtefactStore
from models.networks.threads import use_threads
from models.training.train import train
from serving.lists.engine import Engine
from serving.lists.gc_tuning import collect_seldom
from serving.worker.refresh import Owed, Refresh
from streams.contract import topics
from streams.contract.events import Cause, ItemRecord, UserRecord, encode
from streams.contract.topics import TopicNames
from streams.datasets import open_dataset
from streams.datasets.dataset import Dataset, LoggedEvent
from streams.datasets.offline import training_data
from streams.ingest import Lane, ingest, read_batch
from streams.kafka.app import make_app
from streams.kafka.batching import RecordBatch
from streams.settings.settings import Settings
from streams.state.item_catalogue import Catalogue, keep_items
from streams.state.store import Store

_BATCH = 2_000
#: So many users a worker that has enough to do finds waiting.
_OWED = 500


class Made(Dataset):
    """A made catalogue, and 5,000 users' likes."""

    title, licence, citation, homepage = "made", "Apache-2.0", "", ""

    def __init__(self, n_items: int, n_events: int) -> None:
        super().__init__("made", Path())
        self._items = items(n_items)
        self._events = events(n_events, n_items)

    def items(self) -> Iterator[ItemRecord]:
        return iter(self._items)

    def users(self) -> Iterator[UserRecord]:
        return iter(())

    def events(self) -> Iterator[LoggedEvent]:
        return (LoggedEvent(event.ts, event.user_id, encode(event)) for event in self._events)


class First(Dataset):
    """The first events of a data set."""

    title, licence, citation, homepage = "", "", "", ""

    def __init__(self, dataset: Dataset, n_events: int) -> None:
        super().__init__(dataset.name, dataset.folder)
        self._dataset = dataset
        self._count = n_events

    def items(self) -> Iterator[ItemRecord]:
        return self._dataset.items()

    def users(self) -> Iterator[UserRecord]:
        return self._dataset.users()

    def events(self) -> Iterator[LoggedEvent]:
        return islice(self._dataset.events(), self._count)


def batches(topic: str, rows: Sequence[tuple[str, bytes]]) -> Iterator[RecordBatch]:
    """The rows as batches of one partition, as a worker fetches them."""
    now = int(time.time() * 1000)
    for start in range(0, len(rows), _BATCH):
        records = [
            ConsumerRecord(topic, 0, start + at, now, 1, key.encode(), value, None, len(key), len(value), ())
            for at, (key, value) in enumerate(rows[start : start + _BATCH])
        ]
        yield RecordBatch(topic, 0, records)


async def fill(settings: Settings, dataset: Dataset, store: Store, catalogue: Catalogue) -> dict[str, Cause]:
    """Put catalogue and events into the state; returns each user's last event."""
    for batch in batches("items", [(item.item_id, encode(item)) for item in dataset.items()]):
        await keep_items(batch, "log", store, settings)
    causes: dict[str, Cause] = {}
    lane = Lane()
    for batch in batches("events", [(event.user_id, event.raw) for event in dataset.events()]):
        done = await ingest(await read_batch(batch, catalogue, settings), "log", store, lane)
        causes |= done.causes
    return causes


def learn(settings: Settings, dataset: Dataset, version: str) -> None:
    """Train a model on all of it and put it into service, whether it would pass the gate or not."""
    artefacts = ArtefactStore(settings.data_dir / "artefacts")
    staged = artefacts.stage(version)
    train(
        training_data(dataset, settings.labels),
        settings.model,
        kind="retrain",
        incumbent=None,
        out=staged,
        version=version,
        offsets={},
        popularity=settings.popularity,
        progress=lambda stage, done: click.echo(f"{stage} {done:.0%}", err=True),
    )
    artefacts.publish(staged)
    artefacts.promote(version)


async def measure(settings: Settings, dataset: Dataset, n_users: int) -> dict[str, Any]:
    store = Store(settings)
    catalogue = Catalogue(store)
    topics.create(settings)
    topic = TopicNames.under(settings.topic_prefix).recommendations
    worker = make_app(settings, "worker").conf
    producer = AIOKafkaProducer(
        acks=worker.producer_acks,
        linger_ms=1000 * worker.producer_linger,
        max_batch_size=worker.producer_max_batch_size,
        **settings.kafka.aiokafka_options(),
    )
    await producer.start()

    async def publish(user_id: str, payload: bytes | None) -> Awaitable[object]:
        arrival: Awaitable[object] = await producer.send(topic, key=user_id.encode(), value=payload)
        return arrival

    engine = Engine(settings, store, catalogue)
    refresh = Refresh(settings, store, engine, publish)
    loaded = asyncio.Event()

    async def on_loaded() -> None:
        loaded.set()

    following = asyncio.create_task(engine.follow_model(on_loaded))
    try:
        causes = list((await fill(settings, dataset, store, catalogue)).items())
        await loaded.wait()
        async with asyncio.TaskGroup() as tasks:  # warms up
            await refresh.settle([Owed(lambda: None, causes=dict(causes[:256]))], tasks)
        some = [causes[at % len(causes)] for at in range(n_users)]
        before, began, cpu = refresh.lists, time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as tasks:
            for start in range(0, n_users, _OWED):
                await refresh.settle([Owed(lambda: None, causes=dict(some[start : start + _OWED]))], tasks)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        made = refresh.lists - before  # a user who is owed twice at once gets one list
    finally:
        following.cancel()
        await producer.stop()
        await store.close()
    return {
        "input": dataset.name,
        "items": len(catalogue),
        "index": engine.index_name,
        "users": made,
        "users_per_s": round(made / seconds),
        "cpu_ms_per_user": round(1000 * cpu / made, 3),
    }


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="The folder of ml-1m.")
@click.option("--items", "n_items", default=100_000, show_default=True, help="Items of the made catalogue.")
@click.option("--events", "n_events", default=100_000, show_default=True, help="Events to fill the state with.")
@click.option("--users", "n_users", default=4_000, show_default=True, help="Users to serve while timed.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here (JSON).")
def main(data: Path | None, n_items: int, n_events: int, n_users: int, report: Path | None) -> None:
    dataset: Dataset = First(open_dataset("ml-1m", data), n_events) if data else Made(n_items, n_events)
    use_threads(1)  # as a worker does
    collect_seldom()
    with tempfile.TemporaryDirectory() as folder:
        bare = Settings(data_dir=Path(folder), partitions=1, log_level="WARNING")
        learn(bare, dataset, "v1")
        cores = os.sched_getaffinity(0) if sys.platform == "linux" else set()
        if len(cores) > 1:
            pin(0, cores - {max(cores)})  # the servers inherit it
        with Embedded(Path(folder)) as servers:
            if len(cores) > 1:
                pin(0, {max(cores)})
            settings = bare.connected(broker_url=servers.broker_url, redis_url=servers.redis_url)
            result = asyncio.run(measure(settings, dataset, n_users))
    if report:
        report.write_text(json.dumps(result, indent=2) + "\n")
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
