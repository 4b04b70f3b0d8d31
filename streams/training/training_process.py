"""One training, in a process of its own: reads the sample log, the catalogue and the profiles, writes an artefact.

The trainer runs it as `python -P -m streams.training.training_process JOB.json`. It answers on standard output, one
JSON object a line: a `Progress` as often as there is news, and at last a `Result`, or a `Refusal` when there is nothing
to learn from.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from models.data.interactions import Interactions
from models.data.tokens import profile_tokens
from models.networks.threads import use_threads
from models.training.context import TrainingData
from models.training.positives import NothingToLearn
from models.training.train import train
from streams.settings.settings import Settings, load
from streams.state.item_catalogue import Catalogue, decode_profile
from streams.state.store import Store
from streams.training.sample_log import read_interactions
from streams.training.training_job import Answer, Job, Progress, Refusal, Result


def run(job: Job, settings: Settings) -> Result:
    """Do the job, telling progress on standard output.

    Raises:
        NothingToLearn: no event is a positive.
    """
    use_threads(settings.training.training_threads)
    _say(Progress("reading the sample log", 0.0))
    files = [Path(name) for name in job.segments]
    interactions = read_interactions(files, settings.labels, most=settings.training.max_events)
    outcome = train(
        asyncio.run(_training_data(interactions, settings)),
        # serving reads the histograms of the state: training must count them alike
        replace(settings.model, histogram_half_life_s=settings.ingest.histogram_half_life_s),
        kind=job.kind,
        incumbent=Path(job.incumbent) if job.incumbent else None,
        out=Path(job.out),
        version=job.version,
        offsets=job.positions,
        popularity=settings.popularity,
        progress=lambda stage, done: _say(Progress(stage, done)),
        gate_min_events=settings.training.gate_min_events,
    )
    return Result(
        kind=outcome.kind,
        metrics=outcome.metrics,
        promoted=outcome.promoted,
        why=outcome.why,
        events=len(interactions),
        trained_through=int(interactions.ts[-1]) if len(interactions) else 0,
        losses=outcome.losses,
    )


async def _training_data(interactions: Interactions, settings: Settings) -> TrainingData:
    store = Store(settings)
    try:
        catalogue = Catalogue(store)
        await catalogue.sync()
        return TrainingData(interactions, catalogue.items, await _profiles(interactions.user_ids, store))
    finally:
        await store.close()


async def _profiles(user_ids: Sequence[str], store: Store) -> dict[str, list[str]]:
    profiles = {}
    for start in range(0, len(user_ids), 1000):
        some = user_ids[start : start + 1000]
        for user_id, raw in zip(some, await store.get_profiles(some), strict=True):
            profile = decode_profile(raw or b"")
            if profile is not None:
                profiles[user_id] = profile_tokens(profile.categorical, profile.numeric)
    return profiles


def _say(answer: Answer) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


def _die_with_the_trainer() -> None:
    os.read(0, 1)  # unbuffered: a buffered reader's lock would trouble the interpreter's end
    os._exit(1)


if __name__ == "__main__":
    os.nice(10)  # lists are waited for, a training is not
    threading.Thread(target=_die_with_the_trainer, daemon=True).start()
    try:
        _say(run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job), load()))
    except NothingToLearn as nothing:
        _say(Refusal(str(nothing)))
