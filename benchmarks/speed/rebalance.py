"""Two workers on one topic: does a rebalance lose or double an event, or end a worker?

    python -m benchmarks.speed.rebalance fresh --runs 20 [--broker kafka://HOST:PORT]
    python -m benchmarks.speed.rebalance backlog --runs 5 [--broker kafka://HOST:PORT]

`fresh` starts two workers together on a topic that nobody has read, while events arrive at a fixed rate. `backlog` puts
events on a topic first, times one worker alone on them, and then one that a second joins in the middle. Every run has
topics and keys of its own. Broker and Redis are embedded ones unless named.

What should be in Redis is a plain fold of the topic read back, without the code under test: each user's event ids. An
event below the committed offsets that its user's state lacks is lost. One that the state holds twice, or that was
counted twice, is doubled. A group that stops committing is a hang. Exit status 1 when there is any of these.
"""

import hashlib
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from redis import Redis

from benchmarks.tables import table
from deploy.embedded import Embedded
from streams.contract import topics
from streams.contract.topics import TopicNames
from streams.settings.settings import Settings

N_USERS = 2_000  # so that no user has more events than the state remembers ids
N_ITEMS = 500
PARTITIONS = 4
#: A group hangs when it commits nothing for this long while events wait. Its first commit may take longer: a worker
#: loads its libraries first, which is slow where other work keeps the cores busy.
HANG_S, START_S = 45.0, 180.0
#: Of a record in a user's `recent`, the first bytes are the digest of the event's id (docs/architecture.md).
RECORD_BYTES, DIGEST_BYTES = 28, 8


@dataclass(frozen=True)
class Outcome:
    """What became of the events of one run.

    Attributes:
        seconds: from the first worker's start until everything was committed.
        exits: workers that ended by themselves.
    """

    events: int
    lost: int
    doubled: int
    exits: int
    hung: bool
    seconds: float

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.exits or self.hung)


class Run:
    """Workers on topics of their own, seen from outside."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings.model_copy(
            update={"topic_prefix": f"rebalance-{uuid.uuid4().hex[:8]}.", "partitions": PARTITIONS, "data_dir": folder}
        )
        self._folder = folder
        topics.create(self._settings)
        self._topic = TopicNames.under(self._settings.topic_prefix).events
        self._partitions = [TopicPartition(self._topic, number) for number in range(PARTITIONS)]
        self._group = f"{self._settings.topic_prefix}millstream-worker"
        options = self._settings.kafka.kafka_python_options()
        self._producer = KafkaProducer(acks="all", linger_ms=5, **options)
        self._reader = KafkaConsumer(group_id=self._group, **self._settings.kafka.consumer_options())
        self._draw = random.Random(7)
        self._workers: list[subprocess.Popen[bytes]] = []
        self._sent = 0
        self._began = 0.0

    def send(self, count: int, *, rate: float | None = None) -> None:
        """Produce events, `rate` a second whatever the workers do, or as fast as the broker takes them."""
        began = time.monotonic()
        for number in range(count):
            if rate is not None and (ahead_s := began + number / rate - time.monotonic()) > 0:
                time.sleep(ahead_s)
            user = f"user-{self._draw.randrange(N_USERS)}"
            event = {
                "event_id": f"event-{self._sent}",
                "type": self._draw.choice(["click", "like", "save", "impression"]),
                "user_id": user,
                "item_id": f"item-{self._draw.randrange(N_ITEMS)}",
                "ts": int(time.time() * 1000),
            }
            self._producer.send(self._topic, key=user.encode(), value=json.dumps(event).encode())
            self._sent += 1
        self._producer.flush()

    def start_worker(self) -> None:
        self._began = self._began or time.monotonic()
        log = (self._folder / f"worker-{len(self._workers)}.log").open("ab")
        command = [sys.executable, "-P", "-m", "serving.cli", "worker"]
        self._workers.append(
            subprocess.Popen(command, env=self._settings.environment(), stdout=log, stderr=subprocess.STDOUT)
        )

    def wait_until_committed(self, is_far_enough: Callable[[int, int], bool]) -> bool:
        """Wait for the sum of the committed offsets, given with the count of sent events; False after a hang."""
        newest, moved = 0, time.monotonic()
        while not is_far_enough(committed := sum(self._committed().values()), self._sent):
            if committed > newest:
                newest, moved = committed, time.monotonic()
            if time.monotonic() - moved > (HANG_S if newest else START_S):
                return False
            time.sleep(0.1)
        return True

    def finish(self) -> Outcome:
        """Wait until everything is committed, stop the workers, and compare the state with the topic."""
        done = self.wait_until_committed(lambda committed, sent: committed >= sent)
        seconds = time.monotonic() - self._began
        exits = sum(worker.poll() is not None for worker in self._workers)
        committed = self._committed()
        self.close()
        lost, doubled = self._compare(committed)
        return Outcome(self._sent, lost, doubled, exits, not done, seconds)

    def close(self) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.wait(60)
        self._producer.close()

    def _committed(self) -> dict[int, int]:
        return {p.partition: self._reader.committed(p) or 0 for p in self._partitions}

    def _compare(self, committed: dict[int, int]) -> tuple[int, int]:
        """How many events the state has lost and doubled."""
        due: dict[str, list[bytes]] = {}
        on_topic = 0
        self._reader.assign(self._partitions)
        self._reader.seek_to_beginning(*self._partitions)
        ends = self._reader.end_offsets(self._partitions)
        while any(self._reader.position(partition) < end for partition, end in ends.items()):
            for partition, records in self._reader.poll(timeout_ms=1000, max_records=20_000).items():
                on_topic += len(records)
                for record in records:
                    if record.offset < committed[partition.partition]:
                        event = json.loads(record.value)
                        digest = hashlib.blake2b(event["event_id"].encode(), digest_size=DIGEST_BYTES).digest()
                        due.setdefault(event["user_id"], []).append(digest)
        self._reader.close()
        redis = Redis.from_url(self._settings.redis.url.get_secret_value())
        prefix = self._settings.topic_prefix
        lost = doubled = 0
        for user, digests in due.items():
            recent = redis.get(f"{prefix}user:{{{user}}}:recent") or b""
            assert isinstance(recent, bytes)
            kept = Counter(recent[at : at + DIGEST_BYTES] for at in range(0, len(recent), RECORD_BYTES))
            lost += sum(kept[digest] == 0 for digest in digests)
            doubled += sum(count - 1 for count in kept.values())
        metas = (redis.hgetall(f"{prefix}partition:{{{prefix}p{number}}}:meta") for number in range(PARTITIONS))
        counted = sum(int(meta.get(b"applied", 0)) for meta in metas if isinstance(meta, dict))
        redis.close()
        return lost, max(doubled, counted - on_topic)


def fresh(run: Run, *, rate: float, seconds: float) -> Outcome:
    """Two workers start together on a topic that nobody has read, while events arrive."""
    try:
        run.start_worker()
        run.start_worker()
        run.send(int(rate * seconds), rate=rate)
        return run.finish()
    finally:
        run.close()


def backlog(run: Run, *, events: int, joined: bool) -> Outcome:
    """One worker works off a backlog; where `joined` says so, a second one joins it in the middle."""
    try:
        run.send(events)
        run.start_worker()
        if joined:
            run.wait_until_committed(lambda committed, sent: committed > sent // 10)
            run.start_worker()
        return run.finish()
    finally:
        run.close()


def _play(broker: str | None, scenes: list[tuple[str, Callable[[Run], Outcome]]]) -> list[tuple[str, Outcome]]:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the workers end too
    outcomes = []
    with tempfile.TemporaryDirectory() as name, Embedded(Path(name), broker=broker is None) as servers:
        for number, (title, scene) in enumerate(scenes):
            folder = Path(name) / f"run-{number}"
            folder.mkdir()
            settings = Settings(log_level="INFO").connected(
                broker_url=broker or servers.broker_url, redis_url=servers.redis_url
            )
            outcome = scene(Run(settings, folder))
            click.echo(f"{title} {number}: {outcome}", err=True)
            if not outcome.is_clean:
                for log in sorted(folder.glob("*.log")):
                    click.echo(f"{log.name}:\n{log.read_text()[-6000:]}", err=True)
            outcomes.append((title, outcome))
    return outcomes


def _report(outcomes: list[tuple[str, Outcome]]) -> None:
    rows = []
    for title in dict.fromkeys(title for title, _ in outcomes):
        runs = [outcome for name, outcome in outcomes if name == title]
        rows.append(
            [
                title,
                str(len(runs)),
                f"{sum(run.events for run in runs):,}",
                str(sum(run.lost for run in runs)),
                str(sum(run.doubled for run in runs)),
                str(sum(run.exits for run in runs)),
                str(sum(run.hung for run in runs)),
                f"{statistics.median(run.seconds for run in runs):.1f}",
            ]
        )
    click.echo(table(["scene", "runs", "events", "lost", "doubled", "worker exits", "hangs", "seconds (median)"], rows))
    sys.exit(0 if all(outcome.is_clean for _, outcome in outcomes) else 1)


_BROKER = click.option("--broker", help="kafka://HOST:PORT; an embedded one without.")


@click.group(help=__doc__)
def main() -> None:
    """Measure what rebalances cost."""


@main.command("fresh")
@_BROKER
@click.option("--runs", default=20, show_default=True)
@click.option("--rate", default=1_000.0, show_default=True, help="Events a second.")
@click.option("--seconds", default=20.0, show_default=True)
def fresh_command(broker: str | None, runs: int, rate: float, seconds: float) -> None:
    """Two workers start together on a fresh topic while events arrive."""
    _report(_play(broker, [("two workers, fresh topic", lambda run: fresh(run, rate=rate, seconds=seconds))] * runs))


@main.command("backlog")
@_BROKER
@click.option("--runs", default=5, show_default=True)
@click.option("--events", default=100_000, show_default=True)
def backlog_command(broker: str | None, runs: int, events: int) -> None:
    """A second worker joins one that works off a backlog; the times are those of one alone and of both."""
    scenes: list[tuple[str, Callable[[Run], Outcome]]] = [
        ("one worker alone", lambda run: backlog(run, events=events, joined=False)),
        ("a second one joins", lambda run: backlog(run, events=events, joined=True)),
    ]
    _report(_play(broker, scenes * runs))


if __name__ == "__main__":
    main()
