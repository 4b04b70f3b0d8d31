"""From an event to the list that answers it, at fixed rates: latency, CPU and memory of each role.

    python -m benchmarks.speed.open_loop [--rate 20,100,500] [--seconds 30] [--checkout DIR] [--broker URL] [--data DIR]

Events leave at their appointed times, whatever the system does with those before them, and each is timed from its
appointed time to the arrival of the first list that answers it or a later event of its user. So a stall counts for all
events that it holds up. Events without an answer are a column of the table, and exit status 1.

The benchmark uses the command line, the topics and the HTTP API of the system alone. So it measures an older commit
unchanged: `--checkout DIR` runs the system of another checkout, out of that checkout's .venv.
"""

import asyncio
import contextlib
import json
import math
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from kafka.admin import KafkaAdminClient

from benchmarks.speed.people import People, made_items
from benchmarks.speed.system import ROLES, NotRunning, System
from benchmarks.tables import table
from streams.contract.events import ItemRecord, encode
from streams.datasets import open_dataset
from streams.settings.endpoints import KafkaTarget

#: Enough that the gate finds the made users' tastes.
HISTORY: Final = 20_000
#: Seconds of load before each measured time, so that caches are filled and connections are open.
WARM_UP_S: Final = 5.0
#: An event that no list answers within this many seconds of the last event counts as unanswered.
ANSWER_S: Final = 30.0
TRAINING_S: Final = 1_200.0
#: The settings of a system that trains no more, by their variables.
NO_TRAINING: Final = {
    "MILLSTREAM_TRAINING__FIRST_EVENTS": "1000000000",
    "MILLSTREAM_TRAINING__EVERY_EVENTS": "1000000000",
    "MILLSTREAM_TRAINING__EVERY_S": "1e12",
}


class _Cause(msgspec.Struct):
    event_id: str


class _Answer(msgspec.Struct):
    """What tells of a list which events it answers."""

    user_id: str
    model: str
    cause: _Cause | None = None


_ANSWER: Final = msgspec.json.Decoder(_Answer)


class Client:
    """Sends events and times their answers.

    Attributes:
        lists: the newest list of each user, as it came.
        models: the models that made the lists.
        announced: by version of each model trained, whether it went into service.
        latency_ms: of the answered events of the last load, from their appointed times.
    """

    def __init__(self, system: System, target: KafkaTarget, prefix: str) -> None:
        self._system = system
        self._prefix = prefix
        options = target.aiokafka_options()
        self._producer = AIOKafkaProducer(acks="all", **options)
        self._consumer = AIOKafkaConsumer(
            f"{prefix}recommendations", f"{prefix}models", auto_offset_reset="earliest", **options
        )
        self.lists: dict[str, bytes] = {}
        self.models: set[str] = set()
        self.announced: dict[str, bool] = {}
        self.latency_ms: list[float] = []
        self._waiting: dict[str, dict[str, float]] = {}  # by user, the events in their order, with their times

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Client"]:
        await self._producer.start()
        await self._consumer.start()
        self._listening = asyncio.create_task(self._listen())
        try:
            yield self
        finally:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            await self._consumer.stop()
            await self._producer.stop()

    async def _listen(self) -> None:
        while True:
            for partition, records in (await self._consumer.getmany(timeout_ms=1_000)).items():
                now = time.perf_counter()
                for record in records:
                    if partition.topic.endswith("models"):
                        made = json.loads(record.value)
                        self.announced[made["version"]] = made["promoted"]
                    elif record.value is not None:
                        self._take(record, now)

    def _take(self, record: ConsumerRecord, now: float) -> None:
        answer = _ANSWER.decode(record.value)
        self.lists[answer.user_id] = record.value
        self.models.add(answer.model)
        waiting = self._waiting.get(answer.user_id, {})
        if answer.cause is None or answer.cause.event_id not in waiting:
            return
        for event_id in list(waiting):  # a list answers all that its user did before
            self.latency_ms.append(1000.0 * (now - waiting.pop(event_id)))
            if event_id == answer.cause.event_id:
                return

    def check(self) -> None:
        """Raise what ended the listening, if something has: no answer comes any more."""
        self._system.check()
        if self._listening.done():
            self._listening.result()

    @property
    def unanswered(self) -> int:
        """Events of the last load without an answer."""
        return sum(map(len, self._waiting.values()))

    async def send(self, topic: str, key: str, value: bytes) -> "asyncio.Future[Any]":
        sent: asyncio.Future[Any] = await self._producer.send(self._prefix + topic, key=key.encode(), value=value)
        return sent

    async def load(self, people: People, rate: float, seconds: float) -> None:
        """Send events at that rate (1/s) for `seconds`, and wait for their answers."""
        self.latency_ms, self._waiting = [], {}
        sent = []
        began = time.perf_counter() + 0.1
        for number in range(round(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(due - time.perf_counter(), 0.0))
            event = people.event(lists=self.lists)
            self._waiting.setdefault(event["user_id"], {})[event["event_id"]] = due
            sent.append(await self.send("events", event["user_id"], json.dumps(event).encode()))
        await asyncio.gather(*sent)
        deadline = time.monotonic() + ANSWER_S
        while self.unanswered and time.monotonic() < deadline:
            self.check()
            await asyncio.sleep(0.02)


async def train(system: System, prefix: str, items: Sequence[ItemRecord], people: People) -> str:
    """Fill catalogue and histories; returns the version that was trained on them and put into service."""
    target = await system.broker()
    async with Client(system, target, prefix).open() as client:
        for item in items:
            await client.send("items", item.item_id, encode(item))
        await system.until("the catalogue is known", lambda: _known(system, items[-64:]))
        begins = int(time.time() * 1000) - 1000 * HISTORY
        for number in range(HISTORY):
            event = people.event(ts=begins + 1000 * number)
            await client.send("events", event["user_id"], json.dumps(event).encode())

        async def trained() -> bool:
            client.check()
            return bool(client.announced)

        await system.until("a model is trained", trained, TRAINING_S)
        [(version, promoted)] = client.announced.items()
        if not promoted:
            raise NotRunning(f"the gate refused the trained model {version}; see `millstream up` for its reason")
        return version


async def _known(system: System, items: Iterable[ItemRecord]) -> bool:
    for item in items:
        if await system.get(f"/v1/items/{item.item_id}/related") != 200:
            return False
    return True


async def measure(
    system: System, prefix: str, version: str, people: People, rates: Sequence[float], seconds: float
) -> list[dict[str, Any]]:
    """One row of figures for each rate, all with that model in service."""
    results = []
    async with Client(system, await system.broker(), prefix).open() as client:

        async def serves() -> bool:
            await client.load(people, 2.0, 1.0)
            return version in client.models

        await system.until(f"lists are made by {version}", serves)
        for rate in rates:
            await client.load(people, rate, WARM_UP_S)
            await system.quiet()
            client.models.clear()
            before, began = system.cpu_s(), time.perf_counter()
            await client.load(people, rate, seconds)
            used, took = system.cpu_s() - before, time.perf_counter() - began
            events = round(rate * seconds)
            answered = client.latency_ms or [math.nan]
            p50, p95, p99 = np.percentile(answered, [50, 95, 99]).round(1).tolist()
            results.append(
                {
                    "rate": rate,
                    "events": events,
                    "unanswered": client.unanswered,
                    "seconds": round(took, 2),
                    "models": sorted(client.models),
                    "latency_ms": {"p50": p50, "p95": p95, "p99": p99},
                    "cpu_ms_per_event": {role: round(1000.0 * used[role] / events, 3) for role in ROLES},
                    "memory_mb": {role: round(mb) for role, mb in system.memory_mb().items()},
                }
            )
    return results


def tables(results: Sequence[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    latency = (
        (
            f"{row['rate']:g}",
            f"{row['events']:,}",
            f"{row['unanswered']:,}",
            *(f"{row['latency_ms'][name]:,.0f} ms" for name in ("p50", "p95", "p99")),
            f"{sum(row['cpu_ms_per_event'].values()):.2f} ms",
            *(f"{row['cpu_ms_per_event'][role]:.2f}" for role in ROLES),
        )
        for row in results
    )
    memory = ((f"{row['rate']:g}", *(f"{row['memory_mb'][role]:,}" for role in ROLES)) for row in results)
    head = ("events/s", "events", "unanswered", "p50", "p95", "p99", "CPU per event", *ROLES)
    return f"{table(head, latency)}\n\nMemory, MB:\n\n{table(('events/s', *ROLES), memory)}"


@contextlib.contextmanager
def _run(checkout: Path | None, folder: Path, environment: dict[str, str]) -> Iterator[System]:
    command = checkout.absolute() / ".venv/bin/millstream" if checkout else Path(sys.executable).with_name("millstream")
    if not command.is_file():
        raise click.ClickException(f"{command} is not there: run `make .venv/.installed` in its checkout first")
    with System(command, folder, environment) as system:
        yield system


def _rates(_context: click.Context, _parameter: click.Parameter, given: str) -> list[float]:
    try:
        rates = [float(part) for part in given.split(",")]
    except ValueError:
        rates = []
    if not rates or not all(0 < rate <= 10_000 for rate in rates):
        raise click.BadParameter(f"{given!r}: give events a second, separated by commas, as in 20,100,500")
    return rates


@click.command()
@click.option("--rate", "rates", default="20,100,500", show_default=True, callback=_rates, help="Events a second.")
@click.option(
    "--seconds", default=30.0, show_default=True, type=click.FloatRange(1), help="Measured time of each rate."
)
@click.option("--checkout", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Measure its system.")
@click.option("--broker", help="A broker (kafka://…) in place of the embedded one; the run's topics are deleted after.")
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Take ml-1m's items there.")
@click.option("--seed", default=11, show_default=True, help="What the made users are drawn by.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here (JSON).")
def main(
    rates: list[float],
    seconds: float,
    checkout: Path | None,
    broker: str | None,
    data: Path | None,
    seed: int,
    report: Path | None,
) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the system that was started ends too
    items = list(open_dataset("ml-1m", data).items()) if data else made_items()
    people = People(items, seed)
    prefix = f"open-loop-{uuid.uuid4().hex[:8]}." if broker else ""
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder = Path(name)
            environment = {
                "MILLSTREAM_DATA_DIR": str(folder / "data"),
                "MILLSTREAM_TOPIC_PREFIX": prefix,
                "MILLSTREAM_LOG_LEVEL": "WARNING",
            } | ({"MILLSTREAM_BROKER_URL": broker} if broker else {})
            click.echo("training a model on made histories", err=True)
            first = {"MILLSTREAM_TRAINING__FIRST_EVENTS": str(HISTORY)}
            with _run(checkout, folder, environment | first) as system:
                version = asyncio.run(train(system, prefix, items, people))
            click.echo(f"model {version} serves; measuring", err=True)
            with _run(checkout, folder, environment | NO_TRAINING) as system:
                results = asyncio.run(measure(system, prefix, version, people, rates, seconds))
    except NotRunning as error:
        raise click.ClickException(str(error)) from None
    finally:
        if broker:
            _delete_topics(broker, prefix)
    if report:
        report.write_text(json.dumps(results, indent=2) + "\n")
    click.echo(tables(results))
    sys.exit(1 if any(row["unanswered"] for row in results) else 0)


def _delete_topics(broker: str, prefix: str) -> None:
    admin = KafkaAdminClient(**KafkaTarget.parse(broker).kafka_python_options())
    admin.delete_topics([topic for topic in admin.list_topics() if topic.startswith(prefix)])
    admin.close()


if __name__ == "__main__":
    main()
