"""Training: what it learns, that it repeats itself, and what the gate lets through."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from models.artefact import MANIFEST, ArtefactError, verify
from models.config import IndexConfig, TrainingConfig
from models.data.interactions import NO_ITEM, Interactions
from models.data.labels import POSITIVE, Action
from models.data.popularity import PopularityConfig
from models.ranking.blend import Blend
from models.ranking.features import names
from models.recommender import Recommender
from models.retrieval.sources import SOURCES
from models.statistics.skew import Spread
from models.training.context import Course, TrainingData
from models.training.positives import NothingToLearn
from models.training.prequential_walk import popularity_before
from models.training.replay_examples import past_examples
from models.training.train import Kind, Outcome, train
from tests.models import world


def run(
    log: Interactions,
    out: Path,
    *,
    kind: Kind = "retrain",
    incumbent: Path | None = None,
    version: str = "v2",
    config: TrainingConfig = world.SMALL,
) -> Outcome:
    out.mkdir(exist_ok=True)
    return train(
        world.data(log),
        config,
        kind=kind,
        incumbent=incumbent,
        out=out,
        version=version,
        offsets={},
        popularity=PopularityConfig(),
        progress=lambda _stage, _done: None,
    )


def test_what_users_like_is_learnt_beyond_what_is_popular(trained: tuple[Path, Outcome]) -> None:
    _, outcome = trained
    assert outcome.promoted
    assert outcome.metrics["ndcg_at_10"] > 1.3 * outcome.metrics["trending_ndcg_at_10"]
    assert "against" in outcome.why
    assert "of trending" in outcome.why


def test_the_artefact_is_whole_and_says_what_it_came_from(trained: tuple[Path, Outcome]) -> None:
    out, outcome = trained
    manifest = verify(out)
    assert manifest.version == "v1"
    assert manifest.offsets == {"events:0": 3000}
    assert manifest.events == 3000
    assert manifest.trained_through == int(world.interactions().ts[-1])
    assert manifest.metrics == outcome.metrics
    assert TrainingConfig.from_json(manifest.config) == world.SMALL
    spread = Spread.load(out)
    assert spread is not None and spread.names == names(PopularityConfig())
    of_choices = spread.counts.sum(axis=1)
    assert of_choices[0] > 50 and np.allclose(of_choices, of_choices[0]), "each choice counts as one"
    assert {name: len(losses) for name, losses in outcome.losses.items()} == {
        "sequence": world.SMALL.sequence.epochs,
        "two_tower": world.SMALL.towers.epochs,
    }
    assert all(losses[-1] < losses[0] for losses in outcome.losses.values())


def test_the_same_data_and_seed_make_the_same_artefact(trained: tuple[Path, Outcome], tmp_path: Path) -> None:
    out, _ = trained
    run(world.interactions(), tmp_path / "again", version="v1")
    again = verify(tmp_path / "again").checksums
    assert again == verify(out).checksums


def test_a_fine_tune_takes_in_new_items_and_keeps_every_row(trained: tuple[Path, Outcome], tmp_path: Path) -> None:
    out, _ = trained
    longer = world.interactions(events=4000, items=90)
    grown = replace(longer, item=np.where(np.arange(4000) >= 3000, longer.item + 6, longer.item).astype(np.int32))
    grown = replace(grown, item_ids=[f"i{n}" for n in range(96)])
    outcome = run(grown, tmp_path / "next", kind="fine-tune", incumbent=out)
    assert outcome.kind == "fine-tune"
    assert "of v1" in outcome.why
    assert {"incumbent_ndcg_at_10", "gate_events", "index_recall", "seconds"} <= set(outcome.metrics)
    before, after = Recommender.load(out), Recommender.load(tmp_path / "next")
    assert after.item_ids[: len(before.item_ids)] == before.item_ids
    assert "i95" in after.item_ids


def test_a_fine_tune_puts_a_linear_model_into_service_that_knows_the_newest(
    trained: tuple[Path, Outcome], tmp_path: Path
) -> None:
    log = world.interactions(events=2400, items=93)
    run(log, tmp_path / "next", kind="fine-tune", incumbent=trained[0])
    before, after = (Recommender.load(path).slist for path in (trained[0], tmp_path / "next"))
    assert before is not None
    assert after is not None
    anew = Course.over(world.data(log), world.SMALL, PopularityConfig(), []).slist(np.ones(len(log), bool))
    for name, table in after.tables().items():
        np.testing.assert_array_equal(table, anew.tables()[name])
    assert set(before.rows.tolist()) < set(after.rows.tolist())


def test_a_model_worse_than_the_one_in_service_is_not_promoted(trained: tuple[Path, Outcome], tmp_path: Path) -> None:
    out, _ = trained
    ignorant = replace(
        world.SMALL,
        sequence=replace(world.SMALL.sequence, epochs=0),
        towers=replace(world.SMALL.towers, epochs=0),
        neighbours=replace(world.SMALL.neighbours, liked=2.0),
        ranker=replace(world.SMALL.ranker, kind="blend"),
    )
    outcome = run(world.interactions(events=4000), tmp_path / "worse", incumbent=out, config=ignorant)
    assert not outcome.promoted
    assert ": -0." in outcome.why


def test_a_catalogue_that_is_searched_by_codes_is_trained_kept_and_asked(tmp_path: Path) -> None:
    log = world.interactions(1500, items=1200)
    small = replace(world.SMALL.sequence, epochs=1), replace(world.SMALL.towers, epochs=1)
    index = IndexConfig(exact_items=0, graph_items=0, lists_items=0, recall_floor=0.1)
    config = replace(world.SMALL, sequence=small[0], towers=small[1], index=index)
    run(log, tmp_path / "out", config=config)
    model = Recommender.load(tmp_path / "out")
    assert model.networks is not None
    assert model.networks.sequence_index.kind == model.networks.towers_index.kind == "codes"
    course = Course.over(world.data(log), config, PopularityConfig(), model.item_ids)
    popularity = popularity_before(log, 1500, PopularityConfig(), 1200)
    users, allowed = course.histories.before(np.arange(1400, 1440)), np.arange(1200) % 2 == 0
    ranking = model.rank(users, popularity, allowed=allowed, seen=[np.zeros(0, np.int32)] * 40, n=10)
    assert allowed[ranking.items].all() and (ranking.items >= 0).all()
    for bit, source in enumerate(SOURCES):
        if source.name in ("sequence", "two_tower"):
            assert (ranking.sources & (1 << bit)).any(), f"{source.name} proposes"


def test_a_fine_tune_without_a_usable_incumbent_is_a_retrain(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    outcome = run(world.interactions(events=600), tmp_path / "out", kind="fine-tune", incumbent=broken)
    assert outcome.kind == "retrain"


@pytest.mark.parametrize(
    "config",
    [
        replace(world.SMALL, towers=replace(world.SMALL.towers, reads=("device",))),
        replace(world.SMALL, sequence=replace(world.SMALL.sequence, feed=1)),
    ],
)
def test_networks_made_otherwise_are_trained_anew(
    config: TrainingConfig, trained: tuple[Path, Outcome], tmp_path: Path
) -> None:
    outcome = run(world.interactions(600), tmp_path / "other", kind="fine-tune", incumbent=trained[0], config=config)
    assert outcome.kind == "retrain"


def test_an_artefact_whose_weights_are_of_towers_that_read_otherwise_is_refused(
    trained: tuple[Path, Outcome], tmp_path: Path
) -> None:
    old = shutil.copytree(trained[0], tmp_path / "old")
    manifest = json.loads((old / MANIFEST).read_bytes())
    manifest["config"]["towers"]["reads"] = ["device"]
    (old / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match="not an artefact that this version can read"):
        Recommender.load(old)


@pytest.mark.parametrize("events", [1, 40])
def test_next_to_no_data_still_makes_an_artefact_which_serves_only_on_evidence(events: int, tmp_path: Path) -> None:
    log = world.interactions()
    outcome = run(log.rows(np.flatnonzero(log.label == POSITIVE)[:events]), tmp_path / "thin")
    assert Recommender.load(tmp_path / "thin").item_ids == [f"i{n}" for n in range(90)]
    assert outcome.metrics["gate_events"] <= events // 2
    better = outcome.metrics["ndcg_at_10"] > outcome.metrics["trending_ndcg_at_10"]
    assert outcome.promoted is better, outcome.why


def test_a_log_without_positives_is_refused_with_how_many_rows_are_none_and_why(tmp_path: Path) -> None:
    log = world.interactions(60)
    about = np.arange(60)
    unlike = replace(
        log,
        label=np.where(about < 20, -1, 0).astype(np.int8),
        action=np.where(about < 40, Action.WATCH, Action.SEARCH).astype(np.uint8),
        item=np.where(about < 40, log.item, NO_ITEM).astype(np.int32),
    )
    with pytest.raises(NothingToLearn, match="no positives: nothing to train on; 60 interactions") as refused:
        run(unlike, tmp_path / "out")
    for part in ("20 watch (disliked)", "20 watch (neither liked nor disliked)", "20 search (about no item)"):
        assert part in str(refused.value)
    assert not list((tmp_path / "out").iterdir())


def test_a_log_without_items_is_refused(tmp_path: Path) -> None:
    log = world.interactions(30)
    searches = replace(
        log,
        action=np.full(30, Action.SEARCH, np.uint8),
        item=np.full(30, NO_ITEM, np.int32),
        label=np.zeros(30, np.int8),
        item_ids=[],
    )
    with pytest.raises(NothingToLearn, match="no items yet: nothing to train on; 30 interactions: 30 search"):
        train(
            TrainingData(searches, [], {}),
            world.SMALL,
            kind="retrain",
            incumbent=None,
            out=tmp_path,
            version="v1",
            offsets={},
            popularity=PopularityConfig(),
            progress=lambda _stage, _done: None,
        )


def test_a_model_that_knows_the_whole_log_is_not_replaced_on_no_events(
    trained: tuple[Path, Outcome], tmp_path: Path
) -> None:
    outcome = run(world.interactions(2132), tmp_path / "next", incumbent=trained[0])
    assert not outcome.promoted
    assert outcome.metrics["gate_events"] == 0
    assert "0 comparable events" in outcome.why and "at least 200 are needed, so v1 stays in service" in outcome.why


def test_a_model_that_reads_users_otherwise_is_not_replaced_on_few_events(
    trained: tuple[Path, Outcome], tmp_path: Path
) -> None:
    other = replace(world.SMALL, token_buckets=256)
    outcome = run(world.interactions(300), tmp_path / "next", incumbent=trained[0], config=other)
    assert 0 < outcome.metrics["gate_events"] < 200
    assert not outcome.promoted
    assert "v1 stays in service" in outcome.why and "of trending" in outcome.why


def course_of(log: Interactions, config: TrainingConfig = world.SMALL) -> Course:
    return Course.over(world.data(log), config, PopularityConfig(), [])


@pytest.mark.parametrize(("events", "held_out"), [(10, 5), (1000, 500), (3000, 1000), (20_000, 2000), (90_000, 4000)])
def test_of_a_young_log_more_is_held_out_but_never_more_than_half(events: int, held_out: int) -> None:
    course = course_of(world.interactions(events))
    assert course.held_out_from(None) == events - held_out


def test_the_slice_reaches_back_until_it_holds_enough_to_compare_by_but_not_into_what_is_known() -> None:
    log = world.interactions(3000)
    rare = replace(log, label=np.where(np.arange(3000) % 5, 0, 1).astype(np.int8))
    course = course_of(rare)
    start = course.held_out_from(None, 200)
    assert course.held_out_from(None) == 2000
    assert 1500 <= start < 2000
    assert course.targets[start:].sum() == 200 or start == 1500
    assert course.held_out_from(None, 10_000) == 1500, "half of the log is learnt from"
    assert course.held_out_from(int(log.ts[2499]), 200) == 2800, "and most of what is new"


def test_beside_the_new_a_fine_tune_rehearses_as_much_of_the_old_by_whole_users() -> None:
    course = Course.over(world.data(world.interactions(1200)), world.SMALL, PopularityConfig(), [])
    log = course.histories.log
    after = int(log.ts[1049])
    old = np.arange(1200) < 1050
    rehearsed = []
    for seed in range(100):
        counted = course.counted(1200, after, np.random.default_rng(seed))
        assert (counted[~old] > 0).all()
        users = np.unique(log.user[old & (counted > 0)])
        assert (counted[old & np.isin(log.user, users)] > 0).all(), "all of a user's or none"
        rehearsed.append(np.count_nonzero(course.targets & old & (counted > 0)))
    new = np.count_nonzero(course.targets & ~old)
    assert np.mean(rehearsed) == pytest.approx(world.SMALL.replay_share * new, rel=0.1)
    assert (course.counted(1200, None, np.random.default_rng(0)) > 0).all(), "a retrain learns from all"


def test_past_choices_know_nothing_of_what_came_later() -> None:
    log = world.interactions()
    item = log.item.copy()
    item[1500:] = 7
    one, other = (past_examples(course_of(each), 1500).choices for each in (log, replace(log, item=item)))
    assert len(one.chosen) > 200
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.chosen, other.chosen)


def test_past_choices_are_spread_over_the_past_and_show_what_neighbours_are_worth() -> None:
    log = world.interactions()
    blend = replace(world.SMALL.blend, past_choices=200)
    choices = past_examples(course_of(log, replace(world.SMALL, blend=blend)), 3000).choices
    assert 50 < len(choices.chosen) <= 250
    fitted = Blend.prior(PopularityConfig()).fitted(choices, strength=1.0, steps=60)
    weights = dict(zip(fitted.names, fitted.weights.tolist(), strict=True))
    assert weights["neighbours"] > 0.5, "users of one taste like the same"
    assert weights["sequence"] == pytest.approx(0.3), "the networks were not asked"


def test_the_configuration_survives_json_and_refuses_what_it_does_not_know() -> None:
    config = replace(world.SMALL, seed=7)
    assert TrainingConfig.from_json(asdict(config)) == config
    with pytest.raises(ValueError, match="SequenceConfig has no field dims; known are"):
        TrainingConfig.from_json({"sequence": {"dims": 3}})
