"""Makes the shadows' lists: a bounded number a second, each beside a list that was just published."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from models.artefact import ArtefactError, ArtefactStore
from serving.experiments.shadows import Shadow
from serving.lists.engine import DEFAULT, Engine
from streams.settings.settings import Settings
from streams.state.item_catalogue import Catalogue
from streams.state.store import Store

log = logging.getLogger(__name__)

NEWEST: Final = "newest"
_ROUND_S: Final = 1.0
_LOOK_S: Final = 2.0


class Shadowing:
    """The engines of the shadows: that in service, or one of its own where a shadow names another model."""

    def __init__(
        self, settings: Settings, store: Store, serving: Engine, shadows: Sequence[Shadow], clock: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._store = store
        self._serving = serving
        self._shadows = shadows
        self._clock = clock
        self._artefacts = ArtefactStore(settings.data_dir / "artefacts")

    async def follow(self) -> None:
        """Keep at it; never returns.

        Raises:
            RedisError, OSError, TimeoutError: Redis is away.
        """
        async with asyncio.TaskGroup() as group:
            for shadow in self._shadows:
                engine = self._serving
                if shadow.settings.model:
                    engine = Engine(self._settings, self._store, Catalogue(self._store))
                    group.create_task(self._follow_model(engine, shadow.settings.model))
                group.create_task(self._rank(shadow, engine))

    async def _follow_model(self, engine: Engine, wanted: str) -> None:
        while True:
            try:
                await engine.follow_model(_nothing, _LOOK_S, version_of=lambda store: _version(store, wanted))
            except ArtefactError as error:  # it was deleted while it was read; the next one may be there already
                log.warning("the shadow's model cannot be read: %s", error)
                await asyncio.sleep(_LOOK_S)

    async def _rank(self, shadow: Shadow, engine: Engine) -> None:
        most = max(int(self._settings.experiments.shadow_lists_per_s / len(self._shadows) * _ROUND_S), 1)
        while True:
            await asyncio.sleep(_ROUND_S)
            if engine is not self._serving:
                await engine.take_changes()
                if _version(self._artefacts, shadow.settings.model) != engine.version:
                    continue  # it is not loaded yet
            served = shadow.due(most)
            if not served or (engine.version == self._serving.version and shadow.settings.pipeline is None):
                continue
            users = [each.user_id for each in served]
            states = await engine.read(users, publish=False)
            read_at = self._clock()
            own = await engine.make(dict.fromkeys(users), states, pipeline=shadow.settings.pipeline or DEFAULT)
            shadow.take_lists(served, own, read_at)


def _version(store: ArtefactStore, wanted: str) -> str | None:
    """The version that a shadow's setting names; None while it is not there."""
    there = store.versions()
    if wanted == NEWEST:
        return there[-1] if there else None
    return wanted if wanted in there else None


async def _nothing() -> None:
    """A model that was loaded is swapped in by the next round."""
