"""The doctor: checks broker, Redis, topics, artefacts and roles, and says of each fault what to do about it."""

import asyncio
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, NamedTuple

from kafka.errors import KafkaError
from redis.exceptions import RedisError

from models.artefact import ArtefactError, ArtefactStore, verify
from streams.contract import topics
from streams.kafka import codecs
from streams.settings.settings import Settings, SettingsError
from streams.state.status import SILENT_S, WORKER, TrainerStatus, WorkerStatus, live_workers, trainer_status
from streams.state.store import StateAway, Store

_PACKAGES = ("millstream", "faust-streaming", "aiokafka", "torch", "faiss-cpu")


class Finding(NamedTuple):
    """One check: what was looked at, how it stands, and what to do when it does not stand well."""

    subject: str
    verdict: Literal["ok", "warning", "fault"]
    text: str
    remedy: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Check one thing after another."""
    try:
        settings.kafka, settings.redis  # noqa: B018
    except SettingsError as error:
        yield Finding("servers", "fault", str(error), "start `millstream up`, or set the URL of a server")
        return
    yield from _broker(settings)
    yield from asyncio.run(_state(settings))
    yield from _artefacts(settings)
    lacking = codecs.missing()
    if lacking:
        remedy = "install the packages at the versions of requirements.txt"
        yield Finding("codecs", "fault", f"batches cannot be read in {', '.join(lacking)}", remedy)
    else:
        yield Finding("codecs", "ok", "gzip, snappy, lz4 and zstd batches can be read")
    yield Finding("versions", "ok", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # millstream itself, run out of its sources
        return "not installed"


def _broker(settings: Settings) -> Iterator[Finding]:
    where = settings.kafka.display
    try:
        admin = topics.connect(settings, patience_s=3.0)
    except topics.BrokerAway as error:
        yield Finding("broker", "fault", str(error), "start it, or set MILLSTREAM_BROKER_URL")
        return
    try:
        yield Finding("broker", "ok", f"answers at {where}")
        wanted = topics.TopicNames.under(settings.topic_prefix).all()
        missing = sorted(set(wanted.values()) - set(admin.list_topics()))
        if missing:
            yield Finding("topics", "fault", f"missing: {', '.join(missing)}", "run `millstream topics create`")
            return
        described = {t["name"]: len(t["partitions"]) for t in admin.describe_topics(list(wanted.values()))}
        events = described[wanted["events"]]
        if events != settings.partitions:
            yield Finding(
                "topics",
                "fault",
                f"{wanted['events']} has {events} partitions, the setting says {settings.partitions}",
                f"set MILLSTREAM_PARTITIONS={events}: item statistics are kept per partition",
            )
        else:
            yield Finding("topics", "ok", f"{len(described)} topics, events in {events} partitions")
    except (KafkaError, OSError) as error:
        yield Finding("topics", "fault", f"cannot be listed: {error}", "check the user's rights on the broker")
    finally:
        admin.close()


async def _state(settings: Settings) -> list[Finding]:
    store = Store(settings)
    try:
        await store.wait(patience_s=3.0)
        findings = [Finding("redis", "ok", f"answers at {settings.redis.display}")]
        findings += _memory_policy(await store.memory_policy())
        items = await store.count_described()
        totals = await store.totals()
        findings.append(
            Finding(
                "state",
                "ok",
                f"{items:,} items described, {totals.get('applied', 0):,} events applied, "
                f"{totals.get('copies', 0):,} copies, {totals.get('dead_letters', 0):,} dead letters",
            )
        )
        return [*findings, *_roles(await live_workers(store), await trainer_status(store))]
    except (StateAway, RedisError, OSError) as error:
        return [Finding("redis", "fault", str(error), "start it, or set MILLSTREAM_REDIS_URL")]
    finally:
        await store.close()


def _memory_policy(policy: str) -> list[Finding]:
    if policy in ("noeviction", ""):
        return []
    return [Finding("redis", "fault", f"maxmemory-policy is {policy}: it may throw state away", "set it to noeviction")]


def _roles(alive: list[WorkerStatus], trainer: TrainerStatus | None) -> Iterator[Finding]:
    if not alive:
        yield Finding("workers", "fault", "none runs", "start `millstream worker` (or `millstream up`)")
    for worker in alive:
        name = worker.name.removeprefix(WORKER)
        text = f"{name} serves model {worker.model}, {worker.partitions} partitions, lag {worker.lag:,}"
        if worker.lag > 100_000:
            yield Finding("worker", "warning", text, "it falls behind: start more workers (up to one a partition)")
        else:
            yield Finding("worker", "ok", text)
    if trainer is None or time.time() - trainer.at > SILENT_S:
        yield Finding("trainer", "fault", "none runs", "start `millstream trainer` (or `millstream up`)")
    else:
        doing = (
            f"training: {trainer.stage} {trainer.done:.0%}"
            if trainer.busy
            else f"next training at {trainer.due.events:,}"
        )
        text = f"{trainer.logged:,} events logged, {doing}"
        if trainer.no_model:
            text = f"{text}; the last training made no model: {trainer.no_model}"
            yield Finding("trainer", "warning", text, "the next training tries again; the trainer's log says more")
        else:
            yield Finding("trainer", "ok", text)


def _artefacts(settings: Settings) -> Iterator[Finding]:
    store = ArtefactStore(settings.data_dir / "artefacts")
    current = store.current()
    if current is None:
        yield Finding(
            "artefacts",
            "warning",
            "no model in service: lists are what trends and goes together; "
            f"the first is trained at {settings.training.first_events:,} events, and serves if it is no worse",
        )
        return
    try:
        verify(store.path(current))
        yield Finding("artefacts", "ok", f"{len(store.versions())} versions, in service {current}, checksums right")
    except ArtefactError as error:
        yield Finding(
            "artefacts", "fault", str(error), "remove the folder and its pointer; the trainer makes the next version"
        )
