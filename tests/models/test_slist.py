"""SLIST: a ridge regression of what is chosen on what was done before it, and what is told of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import SlistConfig
from models.data.popularity import PopularityConfig
from models.retrieval.slist import Slist
from models.training.context import Course
from tests.models import world

CONFIG = SlistConfig(least=1, recent=4, damping=2.0, size=90)
LOG = world.interactions(400)
COURSE = Course.over(world.data(LOG), world.SMALL, PopularityConfig(), [])
ALL = np.ones(len(LOG), dtype=bool)


def _dense(model: Slist, part: int) -> np.ndarray:
    """Its weights as a table over all items."""
    table = np.zeros((len(LOG.item_ids), len(LOG.item_ids)))
    np.put_along_axis(table[model.rows], model.items[part].astype(np.int64), 0.0, axis=1)
    for place, row in enumerate(model.rows):
        table[row, model.items[part, place]] = model.weights[part, place]
    return table


def _contexts(rows: np.ndarray, config: SlistConfig) -> list[np.ndarray]:
    """What each row has before it, written down plainly: for each part (rows, items)."""
    parts = [np.zeros((len(rows), len(LOG.item_ids))) for _ in range(config.parts)]
    for at, row in enumerate(rows.tolist()):
        own = np.flatnonzero(LOG.user[:row] == LOG.user[row])[::-1]
        for back, earlier in enumerate(own[: config.recent].tolist(), start=1):
            parts[0][at, LOG.item[earlier]] += back**-config.fading
            if config.sitting_s:
                since = (LOG.ts[row] - LOG.ts[earlier]) / 1000.0
                parts[1][at, LOG.item[earlier]] += back**-config.fading * np.exp(-since / config.sitting_s)
    return parts


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([0.0, 3600.0, 86400.0]), st.integers(1, 6), st.floats(0.0, 2.0), st.floats(1.0, 50.0))
def test_it_is_the_ridge_regression_of_choices_on_what_came_before(
    sitting_s: float, recent: int, fading: float, damping: float
) -> None:
    config = replace(CONFIG, sitting_s=sitting_s, recent=recent, fading=fading, damping=damping)
    model = Slist.fitted(COURSE.histories, COURSE.targets, ALL, config)
    rows = np.flatnonzero(COURSE.targets)
    before = np.concatenate(_contexts(rows, config), axis=1)
    then = np.eye(len(LOG.item_ids))[LOG.item[rows]]
    expected = np.linalg.solve(before.T @ before + damping * np.eye(before.shape[1]), before.T @ then)
    found = np.concatenate([_dense(model, part) for part in range(config.parts)])
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("sitting_s", [0.0, 7200.0])
def test_chances_are_told_of_users_as_they_were_learnt_from_the_log(sitting_s: float) -> None:
    config = replace(CONFIG, sitting_s=sitting_s)
    model = Slist.fitted(COURSE.histories, COURSE.targets, ALL, config)
    rows = np.arange(300, 400)
    expected = sum(part @ _dense(model, at) for at, part in enumerate(_contexts(rows, config)))
    near = model.near(COURSE.histories.before(rows), len(LOG.item_ids))
    users, items, chances = near.pairs()
    table = np.zeros(expected.shape)
    table[users, items] = chances
    np.testing.assert_allclose(table, expected, atol=1e-4)
    logs = model.logarithms(COURSE.histories.before(rows), len(LOG.item_ids))
    np.testing.assert_allclose(logs, np.log(np.maximum(expected, 0.0) + 0.001), atol=0.02)
    every = np.divmod(np.arange(table.size), table.shape[1])
    shares = np.bincount(LOG.item[COURSE.targets], minlength=table.shape[1]) / COURSE.targets.sum()
    lifts = model.lifts(near, *every).reshape(table.shape)
    np.testing.assert_allclose(lifts, logs - np.log(shares + 0.001), atol=1e-4)


def test_nothing_is_learnt_of_what_is_not_to_be_known() -> None:
    known = np.arange(len(LOG)) < 250
    part = world.first(LOG, 250)
    alone = Course.over(world.data(part), world.SMALL, PopularityConfig(), [f"i{n}" for n in range(90)])
    expected = Slist.fitted(alone.histories, alone.targets, np.ones(250, bool), CONFIG)
    found = Slist.fitted(COURSE.histories, COURSE.targets, known, CONFIG)
    for name, table in found.tables().items():
        np.testing.assert_allclose(table, expected.tables()[name], atol=1e-5)


def test_the_items_dealt_with_most_are_known_and_the_largest_weights_kept() -> None:
    whole = Slist.fitted(COURSE.histories, COURSE.targets, ALL, CONFIG)
    few = Slist.fitted(COURSE.histories, COURSE.targets, ALL, replace(CONFIG, items=10))
    counts = np.bincount(LOG.item, minlength=90)
    assert len(few.rows) == 10
    assert counts[few.rows].min() >= np.delete(counts, few.rows).max()
    cut = Slist.fitted(COURSE.histories, COURSE.targets, ALL, replace(CONFIG, size=5))
    assert cut.items.shape == (1, len(cut.rows), 5)
    for row, kept in zip(_dense(whole, 0)[whole.rows], cut.weights[0], strict=True):
        np.testing.assert_allclose(np.sort(np.abs(kept)), np.sort(np.abs(row))[-5:], atol=1e-5)


def test_of_an_empty_log_it_says_nothing() -> None:
    nothing = Slist.fitted(COURSE.histories, COURSE.targets, ~ALL, CONFIG)
    users = COURSE.histories.before(np.arange(350, 360))
    near = nothing.near(users, 90)
    assert [len(column) for column in near.pairs()] == [0, 0, 0]
    assert (nothing.lifts(near, np.zeros(3, np.int64), np.array([0, 5, 89])) == 0).all()


def test_none_are_known_where_none_are_to_be() -> None:
    assert not len(Slist.fitted(COURSE.histories, COURSE.targets, ALL, replace(CONFIG, items=0)).rows)


@pytest.mark.parametrize(
    ("wrong", "why"), [({"damping": 0.5}, "damping"), ({"recent": 0}, "recent"), ({"size": 0}, "size")]
)
def test_what_cannot_be_learnt_by_is_refused(wrong: dict[str, float], why: str) -> None:
    with pytest.raises(ValueError, match=f"slist: .*{why}.* must be 1 or more, not"):
        SlistConfig(**wrong)  # type: ignore[arg-type]


def test_tables_keep_all_of_it() -> None:
    model = Slist.fitted(COURSE.histories, COURSE.targets, ALL, replace(CONFIG, sitting_s=600.0))
    again = Slist.from_tables(model.tables(), model.config)
    users = COURSE.histories.before(np.arange(200, 230))
    # items that came later are told nothing of
    for one, other in zip(model.near(users, 120).pairs(), again.near(users, 120).pairs(), strict=True):
        np.testing.assert_array_equal(one, other)
