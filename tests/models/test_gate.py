"""The gate: a deficit is turned down, and the reason tells how much of it chance explains."""

from __future__ import annotations

import numpy as np
import pytest

from models.gate import scores, verdict


def test_a_clear_deficit_is_turned_down_and_a_gain_is_not() -> None:
    found, missed = np.zeros(100, np.intp), np.where(np.arange(100) < 60, 0, -1)
    promoted, why = verdict(missed, found, "v7")
    assert not promoted
    assert "0.6000 against 1.0000 of v7: -0.4000" in why
    assert "on 100 events" in why
    assert verdict(found, missed, "v7")[0]


@pytest.mark.parametrize(("lost", "promoted"), [(49, True), (50, True), (51, False)])
def test_the_one_that_is_behind_is_turned_down(lost: int, promoted: bool) -> None:
    # of 100 events on which the two differ, `lost` go to the other
    mine = np.where(np.arange(100) < lost, -1, 0)
    said, why = verdict(mine, -1 - mine, "v7")
    assert said is promoted
    assert "(give or take 0.1" in why


@pytest.mark.parametrize(("lost", "promoted"), [(50, True), (54, True), (56, False), (60, False)])
def test_a_successor_may_be_behind_by_what_chance_explains(lost: int, promoted: bool) -> None:
    # the difference is 1 or -1 on each of 100 events: its standard error is a tenth, and five lost more make that
    mine = np.where(np.arange(100) < lost, -1, 0)
    assert verdict(mine, -1 - mine, "v7", doubt=1.0)[0] is promoted
    assert verdict(mine, -1 - mine, "v7", doubt=0.0)[0] is (lost <= 50)


def test_without_events_nothing_speaks_against_the_candidate() -> None:
    none = np.zeros(0, np.intp)
    assert verdict(none, none, "trending")[0]
    assert scores({"": none}) == {"ndcg_at_10": 0.0, "recall_at_10": 0.0}


def test_each_rival_is_scored_under_its_prefix() -> None:
    metrics = scores({"": np.array([0, -1]), "incumbent_": np.array([0, 2])})
    assert metrics["recall_at_10"] == 0.5
    assert metrics["incumbent_recall_at_10"] == 1.0
    assert metrics["incumbent_ndcg_at_10"] == pytest.approx(0.75)
