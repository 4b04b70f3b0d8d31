"""Evaluation offline: what is asked, that no answer knows what came later, and that every model answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from models.config import Reading, TrainingConfig
from models.data.interactions import Interactions
from models.data.popularity import PopularityConfig
from models.data.tokens import BareItem
from models.evaluation.baselines import Asks, Contender, Floats, Items
from models.evaluation.cache import KINDS, Fits
from models.evaluation.classics import DecayedTrending
from models.evaluation.evaluate import MODELS, Maker, answers, evaluate
from models.evaluation.splits import PROTOCOLS, Fold, folds
from models.evaluation.standalone_sequence import quick
from models.evaluation.streaming_baselines import ItemItemFirst, Trending
from models.training.context import Course
from models.training.positives import NothingToLearn
from models.training.prequential_walk import STRIDE
from tests.models import world


def test_every_model_answers_the_same_asks_and_the_system_beats_the_classics() -> None:
    stages: list[float] = []
    report = evaluate(
        world.data(world.interactions(1500)),
        world.SMALL,
        popularity=PopularityConfig(),
        models=MODELS,
        progress=lambda _stage, done: stages.append(done),
    )
    assert report["asks"] > 20
    table = report["models"]
    assert list(table) == list(MODELS)
    system = table["system"]
    assert system["ndcg_at_10"] > 1.2 * table["trending"]["ndcg_at_10"] > 0
    assert min(each["ndcg_at_10"] for name, each in table.items() if name != "trending") > 0.05
    low, high = system["recall_at_10_interval"]
    assert low <= system["recall_at_10"] <= high
    assert system["map_at_10"] <= system["ndcg_at_10"] <= system["recall_at_10"] == system["hit_rate_at_10"]
    assert 0.5 < system["grouped_auc"] <= 1.0
    assert system["log_loss"] < system["log_loss_of_the_mean"], "the probabilities tell items apart"
    assert system["calibration_error"] < 0.02
    assert 0 < system["coverage"] <= 1 and system["novelty_bits"] > 0 and 0 <= system["diversity"] < 1
    assert system["segments"]["warm_users"]["asks"] > 20
    assert list(report["gains"]) == list(MODELS)[1:]
    gain = report["gains"]["trending"]
    low, high = gain["ndcg_at_10_interval"]
    assert 0 < low < gain["ndcg_at_10"] < high
    assert gain["ndcg_at_10"] == pytest.approx(system["ndcg_at_10"] - table["trending"]["ndcg_at_10"])
    assert stages == sorted(stages)
    assert stages[-1] == 1.0


def test_with_fewer_items_left_than_a_list_has_places_the_auc_is_within_0_and_1() -> None:
    data = world.data(world.interactions(400, items=12))
    withdrawn = [BareItem(item.item_id, available=number >= 4) for number, item in enumerate(data.items)]
    report = evaluate(
        replace(data, items=withdrawn),
        world.SMALL,
        popularity=PopularityConfig(),
        protocol="loo",
        models=("trending", "item_item", "content"),
        progress=lambda _stage, _done: None,
    )
    for metrics in report["models"].values():
        assert 0.0 <= metrics["auc"] <= 1.0
        assert 0.0 <= metrics["grouped_auc"] <= 1.0


def test_a_log_without_positives_is_refused_with_what_its_rows_are() -> None:
    log = world.interactions(50)
    with pytest.raises(NothingToLearn, match=r"no positives: .* 50 watch \(neither liked nor disliked\)"):
        evaluate(
            world.data(replace(log, label=np.zeros(50, np.int8))),
            world.SMALL,
            popularity=PopularityConfig(),
            progress=lambda _stage, _done: None,
        )


@pytest.mark.parametrize("protocol", ["temporal", "rolling", "loo"])
def test_every_protocol_can_be_asked(protocol: str) -> None:
    report = evaluate(
        world.data(world.interactions(1500)),
        world.SMALL,
        popularity=PopularityConfig(),
        protocol=protocol,  # type: ignore[arg-type]
        models=("trending", "item_item", "user_user", "slist"),
        progress=lambda _stage, _done: None,
    )
    assert report["asks"] > 20
    table = report["models"]
    assert min(table[name]["ndcg_at_10"] for name in ("user_user", "slist")) > table["trending"]["ndcg_at_10"] > 0


def test_left_out_one_by_one_the_sequence_model_is_taught_and_asked_alone() -> None:
    reads: tuple[Reading, ...] = ("content", "actions", "times", "moment")
    sequence = replace(world.SMALL.sequence, reads=reads, batch_tokens=256, epochs=10)
    report = evaluate(
        world.data(world.interactions(1500)),
        replace(world.SMALL, sequence=sequence),
        popularity=PopularityConfig(),
        protocol="loo",
        models=("sequence", "trending"),
        progress=lambda _stage, _done: None,
    )
    assert report["asks"] == 60, "every user's last interaction, liked or not"
    table = report["models"]
    assert table["sequence"]["ndcg_at_10"] > 1.3 * table["trending"]["ndcg_at_10"] > 0


def test_the_examples_are_what_the_docs_call_them() -> None:
    examples = Path(__file__).parents[2] / "docs/examples"
    best, untold, pooled = (
        TrainingConfig.from_json(json.loads((examples / f"{name}.json").read_bytes()))
        for name in ("ml-1m", "ml-1m-untold", "ml-1m-pooled")
    )
    shipped = quick(TrainingConfig())
    assert best == replace(shipped, sequence=replace(shipped.sequence, dropout=0.3, epochs=24))
    assert untold.sequence.reads == ("times",)
    assert not untold.slist.beside, "where it reads how long ago things were, it is told the moment"
    assert (pooled.sequence.layers, pooled.sequence.blocks, pooled.sequence.loss) == ("pooled", 1, "softmax")
    assert not pooled.sequence.reads


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_asked_for_is_new_comes_later_and_was_not_trained_on(protocol: str) -> None:
    log = world.interactions(1000)
    course = Course.over(world.data(log), world.SMALL, PopularityConfig(), [])
    asked = folds(protocol, course.histories.log, course.targets, 0.1)  # type: ignore[arg-type]
    assert len(asked) == (3 if protocol == "rolling" else 1)
    for fold in asked:
        assert len(fold.asks) == len(fold.relevant) > 0
        assert (np.diff(fold.asks) > 0).all()
        assert course.targets[fold.asks].all()
        assert not fold.training[fold.asks].any()
        for row, relevant in zip(fold.asks, fold.relevant, strict=True):
            own = np.flatnonzero((log.user == log.user[row]) & np.isin(log.item, relevant) & course.targets)
            assert not fold.training[own].any()
            assert len(set(relevant.tolist())) == len(relevant)


def test_trained_several_times_the_same_is_asked_of_models_that_know_all_before_each_part() -> None:
    log = world.interactions(1000)
    course = Course.over(world.data(log), world.SMALL, PopularityConfig(), [])
    [whole] = folds("prequential", course.histories.log, course.targets, 0.3)
    parts = folds("prequential", course.histories.log, course.targets, 0.3, trainings=3)
    np.testing.assert_array_equal(np.concatenate([part.asks for part in parts]), whole.asks)
    assert [(part.start, part.stop) for part in parts] == [(700, 800), (800, 900), (900, 1000)]
    for part in parts:
        assert np.flatnonzero(part.training).tolist() == list(range(part.start))
    once, thrice = (
        evaluate(
            world.data(log),
            world.SMALL,
            popularity=PopularityConfig(),
            models=("item_item", "user_user"),
            share=0.3,
            trainings=trainings,
            progress=lambda _stage, _done: None,
        )
        for trainings in (1, 3)
    )
    assert thrice["asks"] == once["asks"] and thrice["trainings"] == 3
    assert len(thrice["models"]["user_user"]["over_time"]) == len(once["models"]["user_user"]["over_time"])
    stale, fresh = (each["models"]["user_user"]["recall_at_10"] for each in (once, thrice))
    assert fresh > stale, "what it learns from is newer"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_order_in_which_items_are_described_changes_no_metric(protocol: str) -> None:
    data = world.data(world.interactions(1000))
    found = [
        evaluate(
            each,
            world.SMALL,
            popularity=PopularityConfig(),
            protocol=protocol,  # type: ignore[arg-type]
            models=("item_item", "user_user"),
            progress=lambda _stage, _done: None,
        )["models"]
        for each in (data, replace(data, items=data.items[::-1]))
    ]
    for name, metrics in found[0].items():
        assert found[1][name]["recall_at_10"] == pytest.approx(metrics["recall_at_10"], abs=0.05), name


def listened_to(maker: Maker, protocol: str, log: Interactions) -> dict[str, Any]:
    """The report of an evaluation in which a contender listens."""
    return evaluate(
        world.data(log),
        world.SMALL,
        popularity=PopularityConfig(),
        protocol=protocol,  # type: ignore[arg-type]
        models=("trending",),
        others={"listening": maker},
        progress=lambda _stage, _done: None,
    )


@pytest.mark.parametrize("protocol", ["temporal", "rolling"])
def test_who_asks_at_a_split_is_known_as_of_the_split(protocol: str) -> None:
    asked: list[tuple[Fold, Asks]] = []

    def maker(course: Course, fold: Fold, _half_life_s: float) -> Contender:
        class Listening(Trending):
            def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
                asked.append((fold, asks))
                return super().lists(asks, n)

        return Listening(DecayedTrending(86_400.0)).caught_up(course.histories.log, fold)

    log = world.interactions(1000)
    report = listened_to(maker, protocol, log)
    assert list(report["models"]) == ["trending", "listening"]
    assert sum(len(asks.codes) for _, asks in asked) == report["asks"] > 0
    for fold, asks in asked:
        for user, seen in zip(asks.codes, asks.seen, strict=True):
            before = log.item[: fold.start][log.user[: fold.start] == user]
            np.testing.assert_array_equal(seen, before)
        assert (asks.users.ts < log.ts[fold.start]).all()


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("protocol", ["prequential", "loo"])
def test_what_learns_event_by_event_has_met_every_event_before_each_ask_and_no_other(
    protocol: str, exact: bool
) -> None:
    behind: list[int] = []

    def maker(course: Course, fold: Fold, _half_life_s: float) -> Contender:
        class Listening(ItemItemFirst):
            event_by_event = exact
            met: ClassVar[list[int]] = []

            def follow(self, log: Interactions, rows: npt.NDArray[np.int64]) -> None:
                self.met.extend(rows.tolist())
                super().follow(log, rows)

            def lists(self, asks: Asks, n: int) -> tuple[Items, Floats | None]:
                for code in asks.codes.tolist():
                    row = next(remaining)
                    assert log.user[row] == code
                    known = fold.between(0, row).tolist()
                    assert self.met == known[: len(self.met)]
                    behind.append(len(known) - len(self.met))
                assert exact or len(asks.codes) <= STRIDE
                return super().lists(asks, n)

        log, remaining = course.histories.log, iter(fold.asks.tolist())
        return Listening(DecayedTrending(86_400.0)).caught_up(log, fold)

    report = listened_to(maker, protocol, world.interactions(1000))
    assert len(behind) == report["asks"] > 0
    assert max(behind) == 0 if exact else 0 < max(behind) < STRIDE


def test_a_model_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(ValueError, match="no model svd; there are system, blend"):
        evaluate(
            world.data(world.interactions(200)),
            world.SMALL,
            popularity=PopularityConfig(),
            models=["svd"],
            progress=lambda _stage, _done: None,
        )


def test_what_came_later_changes_no_list(tmp_path: Path) -> None:
    log = world.interactions(1200)
    other = replace(log, item=np.where(np.arange(1200) >= 1111, 7, log.item).astype(np.int32))
    lists = []
    for each in (log, other):
        data = world.data(each)
        course = Course.over(data, world.SMALL, PopularityConfig(), [])
        [fold] = folds("prequential", course.histories.log, course.targets, 0.1)
        fold = replace(fold, asks=np.arange(1080, 1111), relevant=[log.item[:1]] * 31)
        fits = Fits(data, course, fold, tmp_path, alone=False)
        asked = [fits.contender(name, lambda _stage, _done: None) for name in KINDS]
        assert not fits.found, "another log is another folder"
        lists.append([answers(each, "", course, fold, PopularityConfig()).lists for each in asked])
    for name, one, two in zip(KINDS, *lists, strict=True):
        assert (one >= 0).any(axis=1).all()
        np.testing.assert_array_equal(one, two, err_msg=name)
