"""Fixtures for the models: one trained artefact of a small world, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.data.popularity import PopularityConfig
from models.training.train import Outcome, train
from tests.models import world


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The artefact of a retrain on the small world, and how it ended."""
    out = tmp_path_factory.mktemp("artefact")
    outcome = train(
        world.data(world.interactions()),
        world.SMALL,
        kind="retrain",
        incumbent=None,
        out=out,
        version="v1",
        offsets={"events:0": 3000},
        popularity=PopularityConfig(),
        progress=lambda _stage, _done: None,
    )
    return out, outcome
