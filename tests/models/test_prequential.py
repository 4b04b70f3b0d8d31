"""The prequential walk: every wanted row is met once, before it is counted."""

from __future__ import annotations

import numpy as np

from models.popularity import PopularityConfig
from models.prequential import STRIDE, popularity_before, strides
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
