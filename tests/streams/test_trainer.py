"""The trainer: when a training is due, what it tells, and that a training that fails or is orphaned does no harm."""

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from kafka import KafkaProducer

from models.artefact import ArtefactStore, Manifest, write_manifest
from models.config import SequenceConfig, TowersConfig, TrainingConfig
from streams.contract import topics
from streams.contract.events import encode
from streams.contract.topics import TopicNames
from streams.settings.settings import Settings, TrainingSettings
from streams.state.status import Due, TrainerStatus, live_workers, trainer_status
from streams.state.store import Store
from streams.training.trainer import Milestones, Trainer, new_version
from streams.training.training_job import Job, Result
from tests.conftest import MakeSettings
from tests.streams.records import batch, record
from tests.waiting import ended, wait_until

ROOT = Path(__file__).parents[2]
DAY = 86_400_000
NOW = int(time.time() * 1000)
TRAINING = TrainingSettings(
    first_events=10, every_events=20, min_events=5, every_s=86_400.0, threads=1, flush_s=0.1, keep_versions=2
)


def click(user: str, ts: int, item: str = "a", **given: str) -> bytes:
    return json.dumps({"type": "click", "user_id": user, "item_id": item, "ts": ts} | given).encode()


class Bench(NamedTuple):
    """A trainer without its agents, and what it acknowledged and announced."""

    trainer: Trainer
    store: Store
    settings: Settings
    acknowledged: list[int]
    announced: list[str]

    def keep(self, start: int, count: int, ts: int, **given: str) -> None:
        """Hand over records from offset `start` on, their event times in seconds from `ts` on."""
        topic = TopicNames.under(self.settings.topic_prefix).events
        records = [record(start + n, click("ann", ts + 1000 * n, **given), topic=topic) for n in range(count)]
        self.trainer.keep(batch(records), lambda: self.acknowledged.append(start + count))

    async def status(self) -> TrainerStatus:
        await self.trainer.tell()
        status = await trainer_status(self.store)
        assert status is not None
        return status


def on_bench(settings: Settings, work: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        announced: list[str] = []

        async def announce(version: str, _: bytes) -> None:
            announced.append(version)

        store = Store(settings)
        logs = {TopicNames.under(settings.topic_prefix).events: "log"}
        try:
            await work(Bench(Trainer(settings, logs, store, announce), store, settings, [], announced))
        finally:
            await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("logged", "newest_ts", "wanted"),
    [(99, 10, False), (100, 10, True), (50, 1000, True), (49, 1000, False), (50, 999, False)],
)
def test_a_training_is_due_by_events_or_by_event_time_with_enough_events(
    logged: int, newest_ts: int, wanted: bool
) -> None:
    assert Due(events=100, ts=1000.0, least=50).is_due(logged, newest_ts) is wanted


@pytest.mark.parametrize(
    ("retrained", "logged", "newest_ts", "wanted"),
    [
        (200, 299, 8 * DAY, False),
        (200, 300, 8 * DAY, True),
        (200, 300, 8 * DAY - 1, False),
        (200, 399, 0, False),
        (200, 400, 0, True),
        (5000, 5999, 0, False),
        (5000, 6000, 0, True),
    ],
)
def test_a_full_training_is_due_by_events_when_the_log_has_doubled_or_by_event_time_if_it_has_grown(
    retrained: int, logged: int, newest_ts: int, wanted: bool
) -> None:
    last = Milestones(retrained_events=retrained, retrained_ts=DAY, newest_ts=newest_ts)
    training = TrainingSettings(retrain_every_events=1000, retrain_every_s=7 * 86_400.0)
    assert last.retraining_is_due(logged, training) is wanted


def test_the_first_training_waits_for_events_alone() -> None:
    assert not Due(events=100, ts=None, least=100).is_due(99, 10**15)


def test_the_status_comes_back_as_it_was_told(make_settings: MakeSettings) -> None:
    told = TrainerStatus({"log:0": 7}, 7, NOW, Due(10, 5.5, 3), True, "sequence", 0.25, 2, "v1", 1.5)

    async def work(bench: Bench) -> None:
        await bench.store.put_status("trainer", encode(told))
        assert await trainer_status(bench.store) == told
        assert await live_workers(bench.store) == []

    on_bench(make_settings(), work)


def test_batches_are_acknowledged_once_they_are_durable(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        bench.keep(0, 3, NOW)
        bench.keep(3, 2, NOW + 5000)
        assert bench.acknowledged == []
        bench.trainer.flush()
        assert bench.acknowledged == [3, 5]
        bench.keep(0, 6, NOW)  # delivered again, and one more
        bench.trainer.flush()
        status = await bench.status()
        assert (status.logged, status.positions, status.newest_ts) == (6, {"log:0": 6}, NOW + 6000)
        assert not status.busy and status.due == Due(10, None, 10)

    on_bench(make_settings(training=TRAINING), work)


def test_events_that_cannot_be_used_are_passed_over(make_settings: MakeSettings) -> None:
    async def work(bench: Bench) -> None:
        topic = TopicNames.under(bench.settings.topic_prefix).events
        raws = [b"broken", click("ann", NOW), click("ann", NOW + 3 * DAY), None]
        bench.trainer.keep(batch([record(at, raw, topic=topic) for at, raw in enumerate(raws)]), lambda: None)
        status = await bench.status()
        assert (status.logged, status.positions, status.newest_ts) == (1, {"log:0": 4}, NOW)

    on_bench(make_settings(training=TRAINING), work)


def test_a_training_that_fails_is_told_and_not_tried_again_on_the_same_events(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(bench: Bench) -> None:
        bench.keep(0, 10, NOW - DAY)
        bench.trainer.flush()
        for path in (bench.settings.data_dir / "sample-log").glob("segment-*"):
            path.write_bytes(b"not parquet")
        assert (await bench.status()).busy
        training = asyncio.create_task(bench.trainer.train_when_due())
        while (status := await bench.status()).trainings == 0:
            await asyncio.sleep(0.05)
        assert not status.busy and status.version is None and not bench.announced
        assert status.due == Due(20, NOW - DAY + 9000 + 86_400_000.0, 15)
        assert "failed with status 1" in status.no_model and "Parquet" in status.no_model
        [told] = [each for each in caplog.records if each.levelno == logging.ERROR]
        assert "failed with status 1" in told.getMessage() and "Parquet" in told.getMessage()
        bench.keep(10, 4, NOW + 10_000)
        assert not (await bench.status()).busy, "by event time, but too few events"
        bench.keep(14, 1, NOW + 14_000)
        assert (await bench.status()).busy
        training.cancel()
        again = Trainer(bench.settings, {}, bench.store, None)  # type: ignore[arg-type]
        await again.tell()
        found = await trainer_status(bench.store)
        assert found is not None and found.due == status.due, "it outlives a restart"
        assert found.no_model == status.no_model
        assert not list((bench.settings.data_dir / "artefacts").glob("v*"))

    on_bench(make_settings(training=TRAINING), work)


def test_a_log_without_positives_is_told_with_its_reasons_and_trained_on_again_once_there_is_more(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    tiny = TrainingConfig(
        sequence=SequenceConfig(dim=8, blocks=1, heads=1, length=10, epochs=1), towers=TowersConfig(dim=8, epochs=1)
    )
    settings = make_settings(model=tiny, training=TRAINING)
    artefacts = ArtefactStore(settings.data_dir / "artefacts")

    async def until(bench: Bench, trainings: int) -> TrainerStatus:
        while (status := await bench.status()).trainings < trainings:
            await asyncio.sleep(0.05)
        return status

    async def work(bench: Bench) -> None:
        bench.keep(0, 10, NOW - DAY, item="b", type="dislike")
        training = asyncio.create_task(bench.trainer.train_when_due())
        status = await until(bench, 1)
        assert status.no_model.startswith("no positives: nothing to train on; 10 interactions: 10 dislike (disliked)")
        assert (status.version, status.busy, status.due.events) == (None, False, 20)
        assert not artefacts.versions() and not list(artefacts.root.glob(".staged*")) and not bench.announced
        [told] = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
        assert "10 dislike (disliked)" in told and "due at 20 events" in told
        bench.keep(10, 10, NOW - DAY + 10_000)
        status = await until(bench, 2)
        training.cancel()
        assert status.no_model == "" and len(bench.announced) == 1

    on_bench(settings, work)


def test_a_candidate_does_not_replace_what_was_put_into_service_by_hand_while_it_was_trained(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(training=TRAINING)
    artefacts = ArtefactStore(settings.data_dir / "artefacts")
    for number, version in enumerate(("v1", "v2")):
        publish(artefacts, artefacts.stage(version), version, created_at=number)
        artefacts.promote(version)

    async def train(_: Trainer, job: Job) -> Result:
        write(Path(job.out), job.version, created_at=NOW)
        artefacts.promote("v1")  # somebody rolls back meanwhile
        return Result(kind="fine-tune", promoted=True, why="it is better", metrics={}, events=1, trained_through=NOW)

    monkeypatch.setattr(Trainer, "_run", train)

    async def work(bench: Bench) -> None:
        bench.keep(0, 10, NOW - DAY)
        training = asyncio.create_task(bench.trainer.train_when_due())
        while not bench.announced:
            await asyncio.sleep(0.02)
        training.cancel()

    on_bench(settings, work)
    assert artefacts.current() == "v1" and len(artefacts.versions()) == 3


def write(folder: Path, version: str, created_at: int) -> None:
    manifest = Manifest(
        version=version, kind="retrain", created_at=created_at, config={}, events=1, trained_through=1,
        offsets={}, metrics={},
    )  # fmt: skip
    write_manifest(folder, manifest)


def publish(artefacts: ArtefactStore, staged: Path, version: str, created_at: int) -> None:
    write(staged, version, created_at)
    artefacts.publish(staged)


def test_a_killed_trainer_takes_its_training_with_it(make_settings: MakeSettings, tmp_path: Path) -> None:
    endless = TrainingConfig(
        sequence=SequenceConfig(dim=16, blocks=1, heads=1, length=20, epochs=100_000), time_budget_s=600.0
    )
    settings = make_settings(model=endless, training=TRAINING.model_copy(update={"first_events": 1500}))
    topics.create(settings)
    producer = KafkaProducer(**settings.kafka.kafka_python_options())
    for at in range(1500):
        raw = click(f"u{at % 50}", NOW - 2_000_000 + 1000 * at, f"i{at * 7 % 40}")
        producer.send(TopicNames.under(settings.topic_prefix).events, key=b"u%d" % (at % 50), value=raw)
    producer.flush()
    producer.close()
    with (tmp_path / "trainer.log").open("wb") as log:
        trainer = subprocess.Popen(
            [sys.executable, "-m", "serving.cli", "trainer"],
            cwd=ROOT,
            env=settings.environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        # past its imports and its reading: from here on it would go on for minutes
        teaches = "teaching the sequence model"
        wait_until(lambda: teaches in (tmp_path / "trainer.log").read_text(), "a training is at work", within_s=90)
        [training] = children(trainer.pid)
    finally:
        trainer.kill()
        trainer.wait(10)
    wait_until(lambda: ended(training), "the training ends with its trainer")
    assert not list((settings.data_dir / "artefacts").rglob("manifest.json")), "it ended by itself"


def children(pid: int) -> list[int]:
    """The training processes of a trainer."""
    return [
        child.pid
        for child in psutil.Process(pid).children()
        if any("training_process" in part for part in child.cmdline())
    ]


def test_versions_sort_by_age() -> None:
    first = new_version()
    time.sleep(0.002)
    assert new_version() > first
