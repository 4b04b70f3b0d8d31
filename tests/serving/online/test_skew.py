"""Skew: what the ranker reads now against what the model in service learnt from."""

import asyncio
from pathlib import Path

import numpy as np

from models.ranking.features import MOMENTS
from models.statistics.skew import Spread
from serving.online.skew import Skew
from streams.settings.settings import Settings

NAMES = ("age", MOMENTS[0])


class Reads:
    """Stands for the engine: features of a candidate list, by a model."""

    def __init__(self) -> None:
        self.version, self.shift = "v1", 0.0
        self._draw = np.random.default_rng(1)

    async def described(self, _user: str) -> tuple[str, np.ndarray]:
        return self.version, self._draw.normal(self.shift, 1.0, (40, 2)).astype(np.float32)


def learnt(settings: Settings, version: str, shift: float = 0.0) -> None:
    folder = settings.data_dir / "artefacts" / version
    folder.mkdir(parents=True)
    values = np.random.default_rng(2).normal(shift, 1.0, (4_000, 2))
    Spread.of(NAMES, values, np.full(4_000, 0.1)).save(folder)


def test_what_changed_since_the_training_is_told_for_each_model_anew(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    learnt(settings, "v1")
    learnt(settings, "v2", shift=2.0)
    engine = Reads()
    skew = Skew(settings, engine)  # type: ignore[arg-type]

    async def look(times: int) -> None:
        for _ in range(times):
            await skew.look("ann")

    asyncio.run(look(99))
    assert skew.stability() == {}, "too few lists"
    asyncio.run(look(1))
    assert list(skew.stability()) == ["age"], "what the clock moves is left out"
    assert skew.stability()["age"] < 0.05
    engine.shift = 2.0
    asyncio.run(look(400))
    assert skew.stability()["age"] > 0.25
    engine.version = "v2"
    asyncio.run(look(100))
    assert (skew.version, skew.lists) == ("v2", 100) and skew.stability()["age"] < 0.05
    engine.version = "trending"  # it learnt from nothing
    asyncio.run(look(100))
    assert skew.stability() == {}
