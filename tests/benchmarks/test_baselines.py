"""The stack against others: what an outsider is told, that its lists are filled up, and what the table says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.quality import baselines
from benchmarks.rectools.sasrec import Fit, Fitted, Likes
from models.data.popularity import PopularityConfig
from models.evaluation.evaluate import DEPTH, evaluate
from models.evaluation.splits import Protocol, folds
from models.training.context import Course
from tests.models import world


@pytest.mark.parametrize("protocol", ["rolling", "prequential"])
def test_an_outsider_is_told_what_lies_before_and_is_filled_up_with_what_is_trending(
    protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = world.interactions(1000)
    liked = np.flatnonzero(log.label == 1)
    new = liked[np.sort(np.unique(log.user[liked] * 100 + log.item[liked], return_index=True)[1])]
    given: list[int] = []

    def knows_nobody(_python: Path, learnt: Likes, histories: Likes, asks: int, fit: Fit) -> Fitted:
        given.append(len(learnt.users))
        # an item disliked first is not to be foretold later
        assert set(zip(*learnt, strict=True)) <= set(zip(log.user[new], log.item[new], strict=True))
        assert histories.users.max() < asks and np.bincount(histories.users).max() <= baselines.LENGTH
        assert fit.k >= DEPTH + max(np.bincount(log.user)) // 2
        return Fitted(np.full((asks, fit.k), -1), 1.0, 1.0, 7)

    monkeypatch.setattr(baselines, "fitted", knows_nobody)
    outsider = baselines.Sasrec(Path("python"))
    report = evaluate(
        world.data(log),
        world.SMALL,
        popularity=PopularityConfig(),
        protocol=protocol,
        models=("trending",),
        others={baselines.SASREC: outsider},
        progress=lambda _stage, _done: None,
    )
    assert len(outsider.fits) == (3 if protocol == "rolling" else 1) and given == sorted(set(given))
    table = report["models"]
    assert table[baselines.SASREC]["recall_at_10"] == table["trending"]["recall_at_10"] > 0


def test_several_trainings_of_what_takes_but_one_are_refused_before_the_work(tmp_path: Path) -> None:
    asked = ["--data", str(tmp_path), "--protocol", "rolling", "--trainings", "2"]
    result = CliRunner().invoke(baselines.main, asked)
    assert result.exit_code == 2 and "only prequential takes several, not rolling" in result.output


def test_who_asks_is_known_by_what_was_liked_until_then() -> None:
    log = world.interactions(1000)
    course = Course.over(world.data(log), world.SMALL, PopularityConfig(), [])
    log = course.histories.log
    for protocol in ("rolling", "prequential"):
        fold = folds(protocol, log, course.targets, 0.1)[-1]
        known = baselines.histories(course, fold)
        for number, ask in enumerate(fold.asks):
            before = np.arange(len(log)) < (ask if protocol == "prequential" else fold.start)
            liked = log.item[before & course.targets & (log.user == log.user[ask])]
            assert known.items[known.users == number].tolist() == liked[-baselines.LENGTH :].tolist()


def test_an_outsiders_list_leaves_out_what_was_seen_and_goes_before_what_is_trending() -> None:
    lists = baselines.Lists(np.array([[5, 6, 7], [8, -1, -1]]))
    assert lists.top(3, 2, {5}) == [6, 7]
    assert lists.top(4, 2, set()) == [8]


def told(value: float, low: float, high: float) -> dict[str, Any]:
    return {
        "recall_at_10": value,
        "recall_at_10_interval": (low, high),
        "ndcg_at_10": value / 2,
        "ndcg_at_10_interval": (low / 2, high / 2),
    }


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ((0.3, 0.25, 0.35), "1.50 times als; intervals apart"),
        ((0.21, 0.18, 0.24), "1.05 times als; intervals overlap"),
        ((0.15, 0.12, 0.19), "0.75 times als, **short by 25.0%**; intervals overlap"),
        ((0.1, 0.08, 0.12), "0.50 times als, **short by 50.0%**; intervals apart"),
    ],
)
def test_the_table_says_where_the_system_is_short_of_the_best(ours: tuple[float, float, float], said: str) -> None:
    models = {"system": told(*ours), "trending": told(0.1, 0.05, 0.15), "als": told(0.2, 0.17, 0.23)}
    gain = {"recall_at_10_interval": (-0.01, 0.02), "ndcg_at_10_interval": (-0.01, 0.02)}
    gains = {"als": gain, "trending": {}}
    report = {"models": models, "gains": gains, "asks": 1200, "trending_half_life_s": [1.0, 1.0, 1.0], "fits": []}
    same = "on the same asks -0.0100 to +0.0200"
    *_, last, _, caption = baselines.markdown("a log", report).splitlines()
    assert last == f"| **system / best of the others** | {said}; {same} | {said}; {same} |"
    assert caption == "1,200 asks at 3 splits; RecTools' SASRec was left out."
