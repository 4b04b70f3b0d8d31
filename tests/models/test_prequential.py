"""The prequential walk: every wanted row is met once, before it is counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.data.interactions import Impressions
from models.data.popularity import PopularityConfig
from models.training.prequential_walk import STRIDE, popularity_before, strides
from tests.models import world


def test_a_walk_meets_every_wanted_row_once_before_it_is_counted() -> None:
    log = world.interactions(500)
    popularity = popularity_before(log, 100, PopularityConfig(), 90)
    met = []
    for rows in strides(log, log.label == 1, 100, 500, popularity):
        assert popularity.records[:, 0].max() < log.ts[rows[0]]
        met += rows.tolist()
    assert met == (100 + np.flatnonzero(log.label[100:] == 1)).tolist()
    np.testing.assert_allclose(
        popularity.shares(), popularity_before(log, 500, PopularityConfig(), 90).shares(), atol=1e-6
    )


def test_a_thinned_walk_meets_whole_strides_and_counts_all_rows() -> None:
    log = world.interactions(500)
    popularity = popularity_before(log, 100, PopularityConfig(), 90)
    met: list[int] = []
    for rows in strides(log, np.ones(500, dtype=bool), 100, 500, popularity, every=3):
        assert popularity.records[:, 0].max() == log.ts[rows[0] - 1]
        met += rows.tolist()
    assert met == [row for row in range(100, 500) if (row - 100) // STRIDE % 3 == 0]
    np.testing.assert_array_equal(popularity.shares(), popularity_before(log, 500, PopularityConfig(), 90).shares())


def test_what_is_shown_counts_as_an_event_before_what_comes_after_it() -> None:
    log = world.interactions(300)
    config = PopularityConfig(windows_s=(10**9,))
    shown = Impressions(np.zeros(40, np.int32), np.full(40, 5, np.int32), log.ts[100] + 30_000 * np.arange(40))
    told = replace(log, shown=shown)
    events = len(config.half_lives_s) + 2

    def counted(row: int) -> float:
        mine, others = (popularity_before(each, row, config, 90).records[5, events] for each in (told, log))
        return float(mine - others)

    assert [counted(row) for row in (0, 100, 101, 110, 300)] == [0.0, 0.0, 2.0, 20.0, 40.0]
    walked = popularity_before(told, 0, config, 90)
    for _ in strides(told, told.label == 1, 0, 300, walked):
        pass
    np.testing.assert_allclose(walked.records, popularity_before(told, 300, config, 90).records)
    np.testing.assert_array_equal(walked.shares(), popularity_before(log, 300, config, 90).shares())
