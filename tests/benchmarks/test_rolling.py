"""The stack against others: what an outsider is told, that its lists are filled up, and what the table says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks import rolling
from benchmarks.sasrec import Fit, Fitted
from models.evaluation import DEPTH, evaluate
from models.popularity import PopularityConfig
from tests.models import world


def test_an_outsider_learns_what_lies_before_each_split_and_is_filled_up_with_what_is_trending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = world.interactions(1000)
    given: list[int] = []

    def knows_nobody(
        _python: Path,
        users: npt.NDArray[np.int32],
        items: npt.NDArray[np.int32],
        asked: npt.NDArray[np.int32],
        fit: Fit,
    ) -> Fitted:
        given.append(len(users))
        liked = np.flatnonzero(log.label == 1)
        new = liked[np.sort(np.unique(log.user[liked] * 100 + log.item[liked], return_index=True)[1])]
        # an item disliked first is not to be foretold later
        assert set(zip(users, items, strict=True)) <= set(zip(log.user[new], log.item[new], strict=True))
        assert fit.k >= DEPTH + max(np.bincount(log.user)) // 2
        return Fitted(np.full((len(asked), fit.k), -1), 1.0, 1.0, 7)

    monkeypatch.setattr(rolling, "fitted", knows_nobody)
    outsider = rolling.Sasrec(Path("python"))
    report = evaluate(
        world.data(log),
        world.SMALL,
        popularity=PopularityConfig(),
        protocol="rolling",
        models=("trending",),
        others={rolling.SASREC: outsider},
        progress=lambda _stage, _done: None,
    )
    assert len(outsider.fits) == 3 and given == sorted(set(given))
    table = report["models"]
    assert table[rolling.SASREC]["recall_at_10"] == table["trending"]["recall_at_10"] > 0


def test_an_outsiders_list_leaves_out_what_was_seen_and_goes_before_what_is_trending() -> None:
    lists = rolling.Lists({3: [5, 6, 7]})
    assert lists.top(3, 2, {5}) == [6, 7]
    assert lists.top(4, 2, set()) == []


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
    report = {"models": models, "asks": 1200, "trending_half_life_s": [1.0, 1.0, 1.0], "fits": []}
    *_, last, _, caption = rolling.markdown("a log", report).splitlines()
    assert last == f"| **system / best of the others** | {said} | {said} |"
    assert caption == "1,200 asks at 3 splits; RecTools' SASRec was left out."
