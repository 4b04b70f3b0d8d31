"""Spreads of features: what was learnt from is told apart from what is read, and survives the disk."""

from pathlib import Path

import numpy as np
import pytest

from models.statistics.skew import Spread

NAMES = ("age", "kind", "seldom")


def drawn(rows: int, seed: int, *, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = np.stack([rng.normal(shift, 1.0, rows), rng.integers(0, 3, rows), rng.normal(0, 1, rows)], axis=1)
    values[rng.random(rows) < 0.9, 2] = np.nan
    return values.astype(np.float32)


def learnt(rows: int = 2_000) -> Spread:
    return Spread.of(NAMES, drawn(rows, 1), np.ones(rows))


def test_the_same_is_steady_and_what_moved_is_named() -> None:
    spread, ones = learnt(), np.ones(1_000)
    same = spread.stability(spread.count(drawn(1_000, 2), ones))
    moved = spread.stability(spread.count(drawn(1_000, 3, shift=1.0), ones))
    assert list(same) == list(NAMES) and max(same.values()) < 0.05
    assert moved["age"] > 0.25 and max(moved["kind"], moved["seldom"]) < 0.05


def test_what_becomes_unknown_is_a_change() -> None:
    spread, values = learnt(), drawn(1_000, 2)
    values[:, 0] = np.nan
    assert spread.stability(spread.count(values, np.ones(1_000)))["age"] > 1.0


def test_weights_count_as_so_many_rows() -> None:
    values = drawn(300, 4)
    times = np.random.default_rng(5).integers(1, 4, 300).astype(float)
    weighed, repeated = (
        Spread.of(NAMES, values, times),
        Spread.of(NAMES, np.repeat(values, times.astype(int), 0), np.ones(int(times.sum()))),
    )
    np.testing.assert_allclose(weighed.edges, repeated.edges)
    np.testing.assert_allclose(weighed.counts, repeated.counts)


def test_it_comes_back_from_the_disk_and_an_older_artefact_has_none(tmp_path: Path) -> None:
    assert Spread.load(tmp_path) is None
    spread = Spread.of(("known", "never"), np.array([[1.0, np.nan], [2.0, np.nan]]), np.ones(2))
    spread.save(tmp_path)
    again = Spread.load(tmp_path)
    assert again is not None and again.names == spread.names
    np.testing.assert_array_equal(again.edges, spread.edges)
    np.testing.assert_array_equal(again.counts, spread.counts)


def test_nothing_learnt_from_says_nothing() -> None:
    spread = Spread.of(NAMES, np.zeros((0, 3)), np.zeros(0))
    assert spread.stability(spread.count(drawn(10, 1), np.ones(10))) == pytest.approx(dict.fromkeys(NAMES, 0.0))
