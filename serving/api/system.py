"""The system's state for Prometheus: what the roles tell in Redis, and the model in service, read at each scrape."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from models.artefact import ArtefactError, ArtefactStore, Manifest
from streams.state.status import SILENT_S, TrainerStatus, WorkerStatus, live_workers, trainer_status
from streams.state.store import Store

_QUANTILES: Final = ("0.5", "0.95", "0.99")
#: What each worker counts, by the name of its field.
_COUNTED: Final = {
    "applied": "Events that changed the state.",
    "copies": "Events that were copies and changed nothing.",
    "dead_letters": "Records that could not be used.",
    "dead_letters_unwritten": "Dead letters that the broker did not take; the log has their reasons.",
    "lists": "Lists published.",
}


class System(Collector):
    """What was read last; `read` reads anew, with one call to Redis for each kind of role."""

    def __init__(self, artefacts: Path) -> None:
        self._artefacts = ArtefactStore(artefacts)
        self._workers: list[WorkerStatus] = []
        self._trainer: TrainerStatus | None = None
        self._manifest: Manifest | None = None
        self._redis = False

    async def read(self, store: Store) -> None:
        """Read what the roles tell.

        Raises:
            RedisError, OSError, TimeoutError: Redis is away; then what it would have told is left out.
        """
        self._redis, self._workers, self._trainer = False, [], None
        self._read_manifest()
        self._workers = await live_workers(store)
        self._trainer = await trainer_status(store)
        self._redis = True

    def _read_manifest(self) -> None:
        version = self._artefacts.current()
        if version is None or (self._manifest is not None and self._manifest.version == version):
            return
        try:
            self._manifest = self._artefacts.manifest(version)
        except ArtefactError:  # it has just been replaced; the next scrape finds the one after it
            self._manifest = None

    def collect(self) -> Iterator[Metric]:
        """The metrics; the families are there even when nothing is to be told."""
        yield GaugeMetricFamily("millstream_redis_up", "1 while Redis answers.", float(self._redis))
        yield from self._of_workers()
        yield from self._of_trainer()
        yield from self._of_model()

    def _of_workers(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("millstream_workers", "Workers that live.", float(len(self._workers)))
        for name, meaning in _COUNTED.items():
            family = CounterMetricFamily(f"millstream_worker_{name}", meaning, labels=("worker",))
            for worker in self._workers:
                family.add_metric((worker.name,), getattr(worker, name))
            yield family
        lag = GaugeMetricFamily("millstream_worker_lag", "Events not acknowledged yet.", labels=("worker",))
        partitions = GaugeMetricFamily("millstream_worker_partitions", "Partitions of events held.", labels=("worker",))
        model = GaugeMetricFamily("millstream_worker_model", "1 for the model served.", labels=("worker", "version"))
        freshness = GaugeMetricFamily(
            "millstream_freshness_seconds",
            "Quantiles of the time from an event's arrival in Kafka to its list's, over the newest lists.",
            labels=("worker", "quantile"),
        )
        for worker in self._workers:
            lag.add_metric((worker.name,), worker.lag)
            partitions.add_metric((worker.name,), worker.partitions)
            model.add_metric((worker.name, worker.model), 1)
            for quantile, delay_ms in zip(_QUANTILES, worker.freshness_ms, strict=False):
                freshness.add_metric((worker.name, quantile), delay_ms / 1000.0)
        yield from (lag, partitions, model, freshness)

    def _of_trainer(self) -> Iterator[Metric]:
        told = self._trainer
        up = told is not None and time.time() - told.at < SILENT_S
        yield GaugeMetricFamily("millstream_trainer_up", "1 while the trainer tells of itself.", float(up))
        logged = GaugeMetricFamily("millstream_trainer_logged_events", "Events in the sample log.")
        due = GaugeMetricFamily("millstream_trainer_due_events", "Events in the sample log at which to train next.")
        busy = GaugeMetricFamily("millstream_trainer_busy", "1 while a training runs.")
        progress = GaugeMetricFamily("millstream_trainer_progress", "Share of the running training that is done.")
        trainings = CounterMetricFamily("millstream_trainer_trainings", "Trainings that ended.")
        if told is not None and up:
            logged.add_metric((), told.logged)
            due.add_metric((), told.due.events)
            busy.add_metric((), told.busy)
            progress.add_metric((), told.done if told.busy else 0.0)
            trainings.add_metric((), told.trainings)
        yield from (logged, due, busy, progress, trainings)

    def _of_model(self) -> Iterator[Metric]:
        created = GaugeMetricFamily("millstream_model_created_timestamp_seconds", "When the model in service was made.")
        through = GaugeMetricFamily(
            "millstream_model_trained_through_timestamp_seconds", "Event time of the newest event it was trained on."
        )
        behind = GaugeMetricFamily(
            "millstream_model_behind_seconds", "Event time from there to the newest event in the sample log."
        )
        events = GaugeMetricFamily("millstream_model_events", "Events it was trained on.")
        scores = GaugeMetricFamily(
            "millstream_model_score", "What its training measured, as recall_at_10 or index_recall.", labels=("score",)
        )
        manifest = self._manifest
        if manifest is not None:
            created.add_metric((), manifest.created_at / 1000.0)
            through.add_metric((), manifest.trained_through / 1000.0)
            events.add_metric((), manifest.events)
            for name, value in manifest.metrics.items():
                scores.add_metric((name,), value)
            if self._trainer is not None:
                newest = max(self._trainer.newest_ts, manifest.trained_through)
                behind.add_metric((), (newest - manifest.trained_through) / 1000.0)
        yield from (created, through, behind, events, scores)
