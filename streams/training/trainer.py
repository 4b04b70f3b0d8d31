"""The trainer: a Faust app that keeps the sample log, and trains in a child process when enough is new.

A training is due by the number of events or by event time, whichever comes first, so that a log played back trains at
the same moments at any speed.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
from faust.types import StreamT

from models.artefact import ArtefactError, ArtefactStore
from streams.contract.events import BadRecord, Event, ModelAnnouncement, encode
from streams.contract.topics import TopicNames
from streams.ingest import checked_event
from streams.kafka.app import make_app
from streams.kafka.batching import BatchApp, RecordBatch, batches
from streams.settings.settings import Settings, TrainingSettings
from streams.state.status import TRAINER, Due, TrainerStatus
from streams.state.store import Store
from streams.training.sample_log import SampleLog
from streams.training.training_job import Answer, Job, Kind, Progress, Refusal, Result

log = logging.getLogger(__name__)

#: How many times the events of the last full training there must be for one that is due by time, and for one at once.
_GROWN = 1.5
_DOUBLED = 2.0

#: The log is written once a second: a record that waits half a second for others is not later for it.
_GATHER_MS: Final = 500
#: The status is written when it changes, and as often as this, in seconds, so that it is seen that the trainer lives.
_TELL_S: Final = 1.0

Announce = Callable[[str, bytes], Awaitable[object]]
_ANSWER = msgspec.json.Decoder(Answer)


@dataclass
class Milestones:
    """Where the last training and the last retraining stood, in events logged and event time; kept over restarts.

    `no_model` is why the last training made no model, empty when it made one.
    """

    trained_events: int = 0
    trained_ts: int = 0
    retrained_events: int = 0
    retrained_ts: int = 0
    newest_ts: int = 0
    no_model: str = ""

    def retraining_is_due(self, logged: int, training: TrainingSettings) -> bool:
        """Whether the next training is a full one, by the events logged since the last or by event time."""
        many = logged >= self.retrained_events + training.retrain_every_events
        long = self.newest_ts >= self.retrained_ts + training.retrain_every_s * 1000.0
        grown = logged / max(self.retrained_events, 1)
        # a fine-tune keeps what blend and ranker have learnt, which of a young log was little; and a log of years is
        # soon through with that time: where little came in it, a fine-tune says as much for less
        return many or grown >= _DOUBLED or (long and grown >= _GROWN)


class Trainer:
    """What the trainer's agents do with what they receive."""

    def __init__(self, settings: Settings, logs: dict[str, str], store: Store, announce: Announce) -> None:
        self._settings = settings
        self._logs = logs
        self._store = store
        self._announce = announce
        self._batches: list[Callable[[], object]] = []
        self._names = TopicNames.under(settings.topic_prefix)
        root = settings.data_dir
        self._log = SampleLog(root / "sample-log", segment_events=settings.training.segment_events)
        self._files = asyncio.Lock()  # held while segments are rewritten or read by a training
        self._artefacts = ArtefactStore(root / "artefacts")
        self._milestones_path = root / "sample-log" / "milestones.json"
        self._milestones = self._load_milestones()
        self._wake = asyncio.Event()
        self._progress = Progress("", 0.0)
        self._busy = False
        self._trainings = 0
        self._told: TrainerStatus | None = None

    # -- the sample log

    def keep(self, batch: RecordBatch, acknowledge: Callable[[], object]) -> None:
        """Append a batch of events to the sample log; acknowledged once it is durable."""
        log_id = self._logs[self._names.events]
        position = self._log.position(log_id, batch.partition)
        rows: list[tuple[Event, bytes, int]] = []
        now_ms = time.time() * 1000.0
        for record in batch:
            if record.offset >= position:
                with contextlib.suppress(BadRecord):  # ingest makes the dead letter
                    event = checked_event(record.value, self._settings, now_ms)
                    rows.append((event, record.value or b"", record.timestamp))
        self._milestones.newest_ts = max([self._milestones.newest_ts, *(event.ts for event, _, _ in rows)])
        self._log.append(log_id, batch.partition, max(batch.last_offset + 1, position), rows)
        self._batches.append(acknowledge)
        if self._is_due():
            self._wake.set()

    def flush(self) -> None:
        """Make what was appended durable, and acknowledge it."""
        if not self._batches:
            return
        self._log.flush()
        for acknowledge in self._batches:
            acknowledge()
        self._batches.clear()

    async def erase(self, batch: RecordBatch) -> None:
        """Take the users of the tombstones out of the sample log."""
        gone = [record.key.decode(errors="replace") for record in batch if record.value is None and record.key]
        if gone:
            async with self._files:
                self.flush()
                events = self._log.erase(gone)
            log.info("erased %d events of %d users from the sample log", events, len(gone))

    # -- trainings

    async def train_when_due(self) -> None:
        """Run one training after another, each when it is due; never returns."""
        while True:
            if self._is_due():
                self._busy = True
                await self.tell()
                try:
                    await self._train()
                finally:
                    self._busy = False
                    self._trainings += 1
                    await self.tell()
            else:
                self._wake.clear()
                await self._wake.wait()

    async def tell(self) -> None:
        """Write the status to Redis."""
        status = self._status()
        await self._store.put_status(TRAINER, encode(status))
        self._told = status

    async def tell_changes(self) -> None:
        """Write the status to Redis where it has changed since the last time, or that was a while ago."""
        status, told = self._status(), self._told
        if told is None or status.at - told.at >= _TELL_S or msgspec.structs.replace(told, at=status.at) != status:
            await self.tell()

    def _status(self) -> TrainerStatus:
        return TrainerStatus(
            positions=self._log.reached,
            logged=self._log.rows,
            newest_ts=self._milestones.newest_ts,
            due=self._due(),
            busy=self._busy or self._is_due(),
            stage=self._progress.stage,
            done=self._progress.done,
            trainings=self._trainings,
            version=self._artefacts.current(),
            at=time.time(),
            no_model=self._milestones.no_model,
        )

    def _due(self) -> Due:
        training = self._settings.training
        last = self._milestones
        if last.trained_events == 0:
            return Due(training.first_events, None, training.first_events)
        # a young log grows fast in what it can teach: until it is long, it is trained on at each half more
        step = min(training.every_events, max(training.first_events, last.trained_events // 2))
        return Due(
            events=last.trained_events + step,
            ts=last.trained_ts + training.every_s * 1000.0,
            least=last.trained_events + min(training.min_events, step),
        )

    def _is_due(self) -> bool:
        return self._due().is_due(self._log.rows, self._milestones.newest_ts)

    def _next_kind(self) -> Kind:
        due = self._milestones.retraining_is_due(self._log.rows, self._settings.training)
        return "retrain" if self._artefacts.current() is None or due else "fine-tune"

    async def _train(self) -> None:
        async with self._files:
            self.flush()
            kind = self._next_kind()
            milestones = replace(self._milestones, trained_events=self._log.rows, trained_ts=self._milestones.newest_ts)
            if kind == "retrain":
                milestones = replace(milestones, retrained_events=self._log.rows, retrained_ts=milestones.trained_ts)
            version = new_version()
            incumbent = self._artefacts.current()
            staged = self._artefacts.stage(version)
            job = Job(
                kind=kind,
                version=version,
                out=str(staged),
                incumbent=str(self._artefacts.path(incumbent)) if incumbent else None,
                segments=[str(path) for path in self._log.newest_segments(self._settings.training.max_events)],
                positions=self._log.reached,
            )
            log.info("%s %s begins: %d events logged, in service %s", kind, version, self._log.rows, incumbent)
            result = await self._run(job)
            self._log.merge_small()
        # a training that made no model is not tried again on the same events: the next one is due as if it had
        milestones.newest_ts = self._milestones.newest_ts
        milestones.no_model = result.why if isinstance(result, Refusal) else ""
        self._milestones = milestones
        self._save_milestones()
        if isinstance(result, Refusal):
            log.warning(
                "%s %s made no model: %s; the next training is due at %d events",
                *(job.kind, version, result.why, self._due().events),
            )
            shutil.rmtree(staged, ignore_errors=True)
        else:
            await self._publish(staged, version, result, incumbent)

    async def _run(self, job: Job) -> Result | Refusal:
        """Train in a child process; where that fails, its last words are logged, and the last line is the refusal."""
        path = self._settings.data_dir / "training-job.json"
        path.write_bytes(msgspec.json.encode(job))
        child = await asyncio.create_subprocess_exec(
            # -P: else a folder `models` or `streams` where millstream is run hides our package
            *(sys.executable, "-P", "-m", "streams.training.training_process", str(path)),
            env=self._settings.environment(),
            stdin=asyncio.subprocess.PIPE,  # its end tells the child that the trainer is gone
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdout is not None and child.stderr is not None
        last_words = asyncio.create_task(_last_lines(child.stderr))
        result: Result | Refusal | None = None
        try:
            async for line in child.stdout:
                answer = _ANSWER.decode(line)
                if isinstance(answer, Progress):
                    await self._on_progress(job, answer)
                else:
                    result = answer
            status = await child.wait()
        except asyncio.CancelledError:
            child.kill()
            await child.wait()
            raise
        if status != 0 or result is None:
            words = await last_words
            log.error("%s %s failed with status %d:\n%s", job.kind, job.version, status, words)
            *_, last = "", *words.splitlines()
            return Refusal(f"its process failed with status {status}: {last}")
        return result

    async def _on_progress(self, job: Job, progress: Progress) -> None:
        if progress.stage != self._progress.stage:
            log.info("%s %s: %s (%.0f %%)", job.kind, job.version, progress.stage, 100 * progress.done)
        self._progress = progress
        await self.tell()

    async def _publish(self, staged: Path, version: str, result: Result, incumbent: str | None) -> None:
        self._artefacts.publish(staged)
        promoted, why = result.promoted, result.why
        if promoted:
            try:
                self._artefacts.promote(version, instead_of=incumbent)
            except ArtefactError as error:  # the gate has not compared it with what serves now
                promoted, why = False, f"{error}; the gate had said: {why}"
        self._artefacts.prune(self._settings.training.keep_versions)
        log.info("%s %s %s: %s", result.kind, version, "promoted" if promoted else "not promoted", why)
        announcement = ModelAnnouncement(
            version=version,
            location=str(self._artefacts.path(version)),
            promoted=promoted,
            why=why,
            kind=result.kind,
            events=result.events,
            trained_through=result.trained_through,
            created_at=int(time.time() * 1000),
            metrics=result.metrics,
            losses=result.losses,
            checksums=self._artefacts.manifest(version).checksums,
        )
        await self._announce(version, encode(announcement))

    # -- milestones

    def _load_milestones(self) -> Milestones:
        if self._milestones_path.exists():
            return msgspec.json.decode(self._milestones_path.read_bytes(), type=Milestones)
        return Milestones()

    def _save_milestones(self) -> None:
        staged = self._milestones_path.with_suffix(".tmp")
        staged.write_bytes(msgspec.json.encode(self._milestones))
        os.replace(staged, self._milestones_path)


def new_version() -> str:
    """A version's name: the moment it was begun, so that names sort by age."""
    now = time.time()
    return time.strftime("v%Y%m%d-%H%M%S", time.gmtime(now)) + f"-{int(now * 1000) % 1000:03d}"


def make_trainer(settings: Settings, logs: dict[str, str]) -> BatchApp:
    """The trainer's Faust app; `logs` are the identities of the topics' logs."""
    names = TopicNames.under(settings.topic_prefix)
    app = make_app(settings, "trainer", gather_ms=_GATHER_MS)
    models = app.topic(names.models, key_serializer="raw", value_serializer="raw")
    store = Store(settings)

    async def announce(version: str, message: bytes) -> None:
        await (await models.send(key=version.encode(), value=message))

    trainer = Trainer(settings, logs, store, announce)

    @app.agent(app.batch_topic(names.events), name="sample-log")
    async def sample_log(stream: StreamT[RecordBatch]) -> None:
        async for batch, acknowledge in batches(stream):
            trainer.keep(batch, acknowledge)

    @app.agent(app.batch_topic(names.users), name="erasure")
    async def erasure(stream: StreamT[RecordBatch]) -> None:
        async for batch, acknowledge in batches(stream):
            await trainer.erase(batch)
            acknowledge()

    @app.timer(settings.training.flush_s)
    async def flush() -> None:
        trainer.flush()

    @app.timer(0.2)
    async def tell() -> None:
        await trainer.tell_changes()

    @app.task
    async def train() -> None:
        await trainer.train_when_due()

    return app


async def _last_lines(stream: asyncio.StreamReader) -> str:
    lines: deque[str] = deque(maxlen=30)
    async for line in stream:
        lines.append(line.decode(errors="replace").rstrip())
    return "\n".join(lines)
