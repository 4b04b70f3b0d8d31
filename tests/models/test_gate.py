"""The gate: a deficit is rejected, the reason names how much chance explains, and few events replace nothing."""

from __future__ import annotations

import numpy as np
import pytest

from models.training.gate import scores, verdict

NONE = np.zeros(0, np.intp)


def test_a_clear_deficit_is_rejected_and_a_gain_is_not() -> None:
    found, missed = np.zeros(1000, np.intp), np.where(np.arange(1000) < 600, 0, -1)
    promoted, why = verdict(missed, found, "v7", in_service="v7")
    assert not promoted
    assert "0.6000 against 1.0000 of v7: -0.4000" in why
    assert "on 1,000 events" in why
    assert verdict(found, missed, "v7", in_service="v7")[0]


@pytest.mark.parametrize(("lost", "promoted"), [(49, True), (50, True), (51, False)])
def test_a_first_model_that_is_behind_is_rejected(lost: int, promoted: bool) -> None:
    # of 100 events on which the two differ, `lost` go to the other
    mine = np.where(np.arange(100) < lost, -1, 0)
    decided, why = verdict(mine, -1 - mine, "trending", in_service=None, min_events=100)
    assert decided is promoted
    assert "(± 0.1" in why


@pytest.mark.parametrize(("lost", "promoted"), [(50, True), (54, True), (56, False), (60, False)])
def test_a_successor_may_be_behind_by_what_chance_explains(lost: int, promoted: bool) -> None:
    # the difference is 1 or -1 on each of 100 events: its standard error is a tenth, and five lost more make that
    mine = np.where(np.arange(100) < lost, -1, 0)
    assert verdict(mine, -1 - mine, "v7", in_service="v7", min_events=100)[0] is promoted


@pytest.mark.parametrize(("events", "promoted"), [(0, False), (199, False), (200, True)])
def test_with_fewer_than_200_comparable_events_what_serves_stays(events: int, promoted: bool) -> None:
    better, worse = np.zeros(events, np.intp), np.full(events, -1)
    decided, why = verdict(better, worse, "v7", in_service="v7")
    assert decided is promoted
    if not promoted:
        assert f"{events} comparable events" in why
        assert "at least 200 are needed, so v7 stays in service" in why


def test_what_serves_stays_though_it_reads_users_otherwise_and_only_trending_can_be_compared() -> None:
    better, worse = np.zeros(50, np.intp), np.full(50, -1)
    decided, why = verdict(better, worse, "trending", in_service="v7")
    assert not decided
    assert "v7 stays in service" in why and "of trending" in why


@pytest.mark.parametrize(("better", "promoted"), [(1, True), (0, False), (-1, False)])
def test_a_first_model_gets_in_on_few_events_if_it_is_better_than_trending(better: int, promoted: bool) -> None:
    mine, theirs = np.full(20, -1), np.full(20, -1)
    (mine if better > 0 else theirs)[: abs(better)] = 0
    decided, why = verdict(mine, theirs, "trending", in_service=None)
    assert decided is promoted
    assert "on fewer than 200 the first model has to be better" in why


def test_without_comparable_events_there_is_no_evidence_for_a_first_model() -> None:
    decided, why = verdict(NONE, NONE, "trending", in_service=None)
    assert not decided
    assert "0 comparable events" in why
    assert scores({"": NONE}) == {"ndcg_at_10": 0.0, "recall_at_10": 0.0}


def test_each_rival_is_scored_under_its_prefix() -> None:
    metrics = scores({"": np.array([0, -1]), "incumbent_": np.array([0, 2])})
    assert metrics["recall_at_10"] == 0.5
    assert metrics["incumbent_recall_at_10"] == 1.0
    assert metrics["incumbent_ndcg_at_10"] == pytest.approx(0.75)
