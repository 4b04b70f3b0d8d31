"""The engine: what it does with a model that it cannot read."""

import asyncio
import contextlib
import logging
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from models.artefact import ArtefactStore, read_manifest, write_manifest
from models.data.popularity import PopularityConfig
from models.training.train import train
from serving.lists.engine import Engine
from streams.state.item_catalogue import Catalogue
from streams.state.store import Store
from tests.conftest import MakeSettings
from tests.models import world


def _taught(staged: Path, version: str) -> None:
    train(
        world.data(world.interactions(600)),
        world.SMALL,
        kind="retrain",
        incumbent=None,
        out=staged,
        version=version,
        offsets={},
        popularity=PopularityConfig(),
        progress=lambda _stage, _done: None,
    )


def _as_of_before_slist(staged: Path) -> None:
    tables = load_file(staged / "tables.safetensors")
    save_file({name: each for name, each in tables.items() if "slist" not in name}, staged / "tables.safetensors")
    write_manifest(staged, read_manifest(staged))


def test_a_model_of_an_earlier_state_does_not_end_the_serving(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings()
    artefacts = ArtefactStore(settings.data_dir / "artefacts")
    for version in ("old", "new"):
        staged = artefacts.stage(version)
        _taught(staged, version)
        if version == "old":
            _as_of_before_slist(staged)
        artefacts.publish(staged)
    artefacts.promote("old")

    async def followed() -> list[str]:
        store = Store(settings)
        engine = Engine(settings, store, Catalogue(store))
        loaded = asyncio.Event()

        async def on_loaded() -> None:
            loaded.set()

        following = asyncio.create_task(engine.follow_model(on_loaded, 0.01))
        served = []
        try:
            while not caplog.records:
                await asyncio.wait({following}, timeout=0.02)
                assert not following.done()
            await engine.take_changes()
            served.append(engine.version)
            artefacts.promote("new")
            await asyncio.wait_for(loaded.wait(), 30)
            await engine.take_changes()
            return [*served, engine.version]
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
            await store.close()

    with caplog.at_level(logging.ERROR, logger="serving.lists.engine"):
        assert asyncio.run(followed()) == ["trending", "new"]
    [told] = caplog.messages
    assert "model old cannot serve" in told
    assert "slist_rows" in told
