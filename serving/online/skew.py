"""Training-serving skew: what the ranker reads when it makes lists now, held against what it learnt from."""

import asyncio
import logging
from typing import Final

import numpy as np

from models.artefact import ArtefactStore
from models.ranking.features import MOMENTS
from models.statistics.skew import Spread
from serving.lists.engine import Engine
from streams.settings.settings import Settings

log = logging.getLogger(__name__)

#: Fewer lists say nothing: chance alone would move the index.
LISTS_LEAST: Final = 100
#: A list counts a third after so many more.
_LISTS_KEPT: Final = 500
#: What the moment of the making decides: the clock, and that lists are made right after an event, where a training
#: looks at the moment before the next one. It differs by design.
_OF_THE_MOMENT: Final = frozenset({*MOMENTS, "idle"})


class Skew:
    """Looks at one list every so often, as the ranker does, for the user whose list was published last.

    Attributes:
        version: the model whose features are counted; empty before the first.
        lists: how many were looked at since that model went into service.
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._every_s = settings.online.skew_every_s
        self._artefacts = ArtefactStore(settings.data_dir / "artefacts")
        self._engine = engine
        self._next: str | None = None
        self._learnt: Spread | None = None
        self._counts = np.zeros((0, 0))
        self.version = ""
        self.lists = 0

    def offer(self, user: str) -> None:
        """Tell of a user whose list was just published."""
        self._next = user

    async def follow(self) -> None:
        """Look at what is offered; never returns.

        Raises:
            RedisError, OSError, TimeoutError: Redis is away.
        """
        while True:
            user, self._next = self._next, None
            if user is not None:
                await self.look(user)
            await asyncio.sleep(self._every_s)

    async def look(self, user: str) -> None:
        """Count what the ranker reads of a user's candidates now."""
        version, features = await self._engine.described(user)
        if version != self.version:
            self.version, self.lists = version, 0
            self._learnt = await asyncio.to_thread(Spread.load, self._artefacts.root / version)
        if self._learnt is None or not len(features):
            return
        counted = self._learnt.count(features, np.full(len(features), 1.0 / len(features)))
        self._counts = counted + (self._counts * (1.0 - 1.0 / _LISTS_KEPT) if self.lists else 0.0)
        self.lists += 1

    def stability(self) -> dict[str, float]:
        """The stability index of each feature, once enough lists were looked at; without what the moment decides."""
        if self._learnt is None or self.lists < LISTS_LEAST:
            return {}
        indexes = self._learnt.stability(self._counts)
        return {name: index for name, index in indexes.items() if name not in _OF_THE_MOMENT}
