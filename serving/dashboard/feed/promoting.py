"""Putting a version into service by hand, and saying so where trainings are announced."""

import asyncio

from models.artefact import ArtefactStore, verify
from serving.api.live import Live, now_ms
from serving.api.writes import send
from streams.contract.events import ModelAnnouncement, encode


async def put_into_service(live: Live, version: str, *, instead_of: str | None, why: str) -> None:
    """Move the pointer to a version whose files are whole, and announce it on the models topic.

    Every engine follows the pointer; the trainer's next fine-tune goes on from this version, and a training that is
    under way does not replace it.

    Raises:
        ArtefactError: the version is not there or damaged, or another than `instead_of` is in service.
        Problem: it is in service, but Kafka is away and it could not be announced.
    """
    store = ArtefactStore(live.settings.data_dir / "artefacts")
    manifest = await asyncio.to_thread(verify, store.path(version))
    await asyncio.to_thread(store.promote, version, instead_of=instead_of)
    announcement = ModelAnnouncement(
        version=version,
        location=str(store.path(version)),
        promoted=True,
        why=f"by hand in place of {instead_of}: {why}",
        kind="retrain" if manifest.kind == "retrain" else "fine-tune",
        events=manifest.events,
        trained_through=manifest.trained_through,
        created_at=now_ms(),
        metrics=dict(manifest.metrics),
        checksums=manifest.checksums,
    )
    await send(live, live.names.models, [(version, encode(announcement))])
