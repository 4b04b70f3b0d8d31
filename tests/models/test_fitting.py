"""What the training loops are fed: how little of it is padding."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from models.config import TrainingConfig
from models.features import TokenTable
from models.fitting import Lesson, _Windows
from models.popularity import PopularityConfig
from models.prequential import targets_of
from models.prior import TrendTable
from models.users import Histories
from tests.models import world

WIDTH = 101


@pytest.mark.parametrize(("tokens", "bound"), [(4096, 0.09), (1024, 0.03), (256, 0.01)])
def test_windows_of_nearly_equal_length_leave_little_padding(tokens: int, bound: float) -> None:
    """Most of the users did little and a few did a lot; the more batches there are, the more alike are a batch's."""
    rng, users = np.random.default_rng(0), 4000
    often = 1.0 / np.arange(1, users + 1)
    log = replace(world.interactions(120_000), user=rng.choice(users, 120_000, p=often / often.sum()).astype(np.int32))
    log = replace(log, user_ids=[f"u{n}" for n in range(users)])
    histories = Histories(log, [[]] * 90, {}, TrainingConfig())
    lesson = Lesson(
        histories,
        TokenTable.of([], 2),
        TrendTable.over(log.rows(slice(0, 0)), PopularityConfig(), 90),
        np.ones(len(log), np.float32),
        targets_of(histories),
        1,
        time.monotonic(),
        rng,
        lambda _done: None,
    )
    order, starts = histories.consumed()
    batches = list(_Windows(order, starts, lesson, tokens, WIDTH)())
    met = np.concatenate([window[inside] for window, inside, _ in batches])
    assert len(np.unique(met)) == len(met), "nothing is learnt from twice"
    assert np.isin(np.flatnonzero(lesson.weights[order] > 0), met).all(), "and nothing is left out"
    places = sum(inside.size for _, inside, _ in batches)
    assert all(inside.size <= max(tokens, WIDTH) for _, inside, _ in batches)
    assert 1.0 - len(met) / places < bound
