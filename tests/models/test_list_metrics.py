"""The metrics of lists against scikit-learn's, and against their definitions where it has none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, log_loss, ndcg_score, roc_auc_score

from models.metrics import list_metrics as metrics

CATALOGUE = 30


@st.composite
def rankings(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Whole catalogues in an order, (B, CATALOGUE), and how many are relevant: at least one, not all."""
    seed, lists = draw(st.integers(0, 10_000)), draw(st.integers(1, 6))
    rng = np.random.default_rng(seed)
    relevant = rng.integers(1, CATALOGUE - 1, lists)
    hits = np.zeros((lists, CATALOGUE), dtype=bool)
    for row, count in zip(hits, relevant, strict=True):
        row[rng.choice(CATALOGUE, count, replace=False)] = True
    return hits, relevant


SCORES = -np.arange(CATALOGUE, dtype=np.float64)


@settings(max_examples=30, deadline=None)
@given(rankings(), st.integers(1, CATALOGUE))
def test_of_whole_rankings_they_equal_scikit_learns(made: tuple[np.ndarray, np.ndarray], k: int) -> None:
    hits, relevant = made
    scores = np.tile(SCORES, (len(hits), 1))
    assert metrics.ndcg(hits, relevant, k).mean() == pytest.approx(ndcg_score(hits, scores, k=k))
    found = metrics.average_precision(hits, relevant, CATALOGUE)
    np.testing.assert_allclose(found, [average_precision_score(row, SCORES) for row in hits])
    found = metrics.auc(hits, relevant, np.full(len(hits), CATALOGUE), np.ones_like(hits))
    np.testing.assert_allclose(found, [roc_auc_score(row, SCORES) for row in hits])


@settings(max_examples=30, deadline=None)
@given(rankings(), st.integers(1, CATALOGUE), st.integers(0, CATALOGUE))
def test_what_a_list_leaves_out_counts_as_a_tie_behind_it(
    made: tuple[np.ndarray, np.ndarray], k: int, listed: int
) -> None:
    hits, relevant = made
    cut = np.where(np.arange(CATALOGUE) < listed, SCORES, -1000.0)
    found = metrics.auc(hits[:, :listed], relevant, np.full(len(hits), CATALOGUE), np.ones((len(hits), listed), bool))
    np.testing.assert_allclose(found, [roc_auc_score(row, cut) for row in hits])
    precision, recall = metrics.precision(hits, k), metrics.recall(hits, relevant, k)
    for place, row in enumerate(hits):
        inside = int(row[:k].sum())
        assert precision[place] == inside / k
        assert recall[place] == inside / relevant[place]
        assert metrics.hit_rate(hits, k)[place] == (inside > 0)
        harmonic = 2 * precision[place] * recall[place] / (precision[place] + recall[place]) if inside else 0.0
        assert metrics.f1(hits, relevant, k)[place] == pytest.approx(harmonic)
        assert metrics.reciprocal_rank(hits)[place] == 1.0 / (row.tolist().index(True) + 1)


@settings(max_examples=30, deadline=None)
@given(rankings(), st.integers(1, 100))
def test_places_without_an_item_change_no_auc(made: tuple[np.ndarray, np.ndarray], padding: int) -> None:
    hits, relevant = made
    padded = np.pad(hits, ((0, 0), (0, padding)))
    listed = np.pad(np.ones_like(hits), ((0, 0), (0, padding)))
    found = metrics.auc(padded, relevant, np.full(len(hits), CATALOGUE), listed)
    np.testing.assert_allclose(found, [roc_auc_score(row, SCORES) for row in hits])


def test_the_auc_lies_within_0_and_1_though_relevant_items_are_withdrawn() -> None:
    hits = np.array([[False, False, True, False]])
    listed = np.array([[True, True, True, False]])
    # three items are left, all are listed, and two more that are relevant cannot be
    assert metrics.auc(hits, np.array([3]), np.array([3]), listed) == pytest.approx([0.0])
    assert metrics.auc(np.zeros((1, 4), bool), np.array([2]), np.array([0]), np.zeros((1, 4), bool)) == [0.5]


def test_the_loss_equals_scikit_learns_and_calibration_is_told_from_its_lack() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000) ** 3
    came = rng.random(len(p)) < p
    assert metrics.log_loss(p, came) == pytest.approx(log_loss(came, p))
    assert metrics.calibration_error(p, came) < 0.01
    assert metrics.calibration_error(np.sqrt(p), came) == pytest.approx(float((np.sqrt(p) - p).mean()), abs=0.01)


def test_grouped_auc_counts_users_by_what_is_relevant() -> None:
    values, relevant, users = np.array([1.0, 0.5, 0.0]), np.array([1, 1, 2]), np.array([7, 7, 3])
    assert metrics.grouped_auc(values, relevant, users) == pytest.approx((0.75 * 2 + 0.0 * 2) / 4)


def test_lists_are_told_apart_by_coverage_novelty_and_diversity() -> None:
    lists = np.array([[0, 1, -1], [1, 2, -1]])
    assert metrics.coverage(lists, 6) == 0.5
    assert metrics.novelty(lists, np.array([0.5, 0.25, 0.125, 0.125])) == pytest.approx((1 + 2 + 2 + 3) / 4)
    keys = np.array([[1, 2], [1, 2], [2, 3]])
    assert metrics.diversity(lists, keys) == pytest.approx(((1 - 1.0) + (1 - 1 / 3)) / 2)
    assert math.isclose(metrics.diversity(np.array([[0]]), keys), 0.0)
