"""Fits of an evaluation: kept, found again only where nothing they depend on has changed, and asked as they were."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artefact import ArtefactError
from models.config import ClassicsConfig, TrainingConfig
from models.data.popularity import PopularityConfig
from models.evaluation.baselines import Known
from models.evaluation.cache import KINDS, OF_HALF_LIFE, Fits
from models.evaluation.evaluate import answers, evaluate
from models.evaluation.splits import Protocol, folds
from models.evaluation.standalone_sequence import Alone, alike
from models.training.context import Course, TrainingData
from tests.models import world

DATA = world.data(world.interactions(1000))
SEQUENCE = replace(world.SMALL.sequence, epochs=1)
SMALL = replace(world.SMALL, sequence=SEQUENCE, towers=replace(world.SMALL.towers, epochs=1))


def known(data: TrainingData, config: TrainingConfig = SMALL, protocol: Protocol = "prequential") -> Known:
    course = Course.over(data, config, PopularityConfig(), [])
    [fold] = folds(protocol, course.histories.log, course.targets, 0.1)
    return Known(data, course, fold, 86_400.0)


@pytest.mark.parametrize("kind", [*KINDS.values(), Alone])
def test_what_is_loaded_answers_and_goes_on_as_what_was_saved(kind: Any, tmp_path: Path) -> None:
    told = known(DATA)
    if kind is Alone:
        slist = replace(SMALL.slist, damping=1.0, beside=0.5)
        told = known(replace(DATA, interactions=alike(DATA.interactions)), replace(SMALL, slist=slist), "loo")
    made = kind.fitted(told)
    made.save(tmp_path)
    loaded = kind.load(tmp_path, told.course)
    first, again = (answers(each, "", told.course, told.fold, PopularityConfig()) for each in (made, loaded))
    assert (first.lists >= 0).any()
    np.testing.assert_array_equal(first.lists, again.lists)
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    made.save(tmp_path)  # after it has followed what was asked for
    later = kind.load(tmp_path, told.course)
    assert later.tables().keys() == made.tables().keys()
    for name, table in made.tables().items():
        np.testing.assert_array_equal(later.tables()[name], table, err_msg=name)


def test_a_later_evaluation_asks_what_an_earlier_one_has_fitted(tmp_path: Path) -> None:
    def asked(protocol: Protocol, models: Sequence[str], keep: Path | None) -> tuple[dict[str, Any], set[str]]:
        stages: list[tuple[float, str]] = []
        report = evaluate(
            DATA,
            SMALL,
            popularity=PopularityConfig(),
            protocol=protocol,
            models=models,
            keep=keep,
            progress=lambda stage, done: stages.append((done, stage)),
        )
        assert [done for done, _ in stages] == sorted(done for done, _ in stages)
        return report, {stage for _, stage in stages}

    first, stages = asked("prequential", ("system", "trending", "als"), tmp_path)
    assert not first["found"] and {"learning the blend", "fitting als", "asking system"} <= stages
    again, stages = asked("prequential", ("system", "trending", "als"), tmp_path)
    assert again["found"] == ["als", "half_life", "stack", "trending"]
    assert stages == {"asking system", "asking trending", "asking als", "done"}
    assert again | {"found": []} == first
    assert not asked("prequential", ("als",), None)[0]["found"]
    other, stages = asked("temporal", ("two_tower", "als", "sgd"), tmp_path)
    assert other["found"] == ["als", "stack"], "the past is the same"
    assert other["models"]["als"] == asked("temporal", ("als",), None)[0]["models"]["als"]
    assert not asked("rolling", ("als",), tmp_path)[0]["found"], "two of its pasts are not"


def test_another_log_catalogue_configuration_or_code_is_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DATA.interactions
    other = replace(log, label=np.where(np.arange(len(log)) == 3, -log.label, log.label).astype(np.int8))
    others = [
        replace(DATA, interactions=other),
        replace(DATA, interactions=replace(log, user_ids=[*log.user_ids[:-1], "somebody"])),
        replace(DATA, items=[*DATA.items[:-1], replace(DATA.items[-1], title="Renamed")]),  # type: ignore[type-var]
        replace(DATA, profiles={"u1": ("country=NL",)}),
    ]
    told = [known(DATA), *map(known, others)]
    told += [known(DATA, replace(SMALL, classics=ClassicsConfig(factors=3))), known(DATA, protocol="loo")]
    folders = [Fits(each.data, each.course, each.fold, tmp_path, alone=False).folder for each in told]
    assert folders[0] == Fits(DATA, known(DATA).course, known(DATA).fold, tmp_path, alone=False).folder
    monkeypatch.setattr("models.evaluation.cache._code", lambda: "another")
    folders.append(Fits(DATA, told[0].course, told[0].fold, tmp_path, alone=False).folder)
    assert len(set(folders)) == len(folders)


def test_a_fit_that_was_cut_off_is_not_found_and_one_that_is_damaged_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = known(DATA)

    def fits() -> Fits:
        return Fits(told.data, told.course, told.fold, tmp_path, alone=False)

    def quiet(_stage: str, _done: float) -> None:
        pass

    def cut_off(_self: object, folder: Path) -> None:
        (folder / "tables.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(KINDS["als"], "save", cut_off)
        with pytest.raises(KeyboardInterrupt):
            fits().contender("als", quiet)
    assert not list(fits().folder.iterdir())
    fits().contender("als", quiet)
    table = fits().folder / "als" / "tables.safetensors"
    table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(ArtefactError, match=r"als cannot be read: .*; delete it to have it fitted anew"):
        fits().contender("als", quiet)
    shutil.rmtree(table.parent)
    fits().contender("als", quiet)


def test_what_another_evaluation_has_fitted_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = known(DATA)
    fits = Fits(told.data, told.course, told.fold, tmp_path, alone=False)
    place, fitted = fits.folder / "user_user", KINDS["user_user"].fitted

    def overtaken(told: Known) -> Any:
        place.mkdir()
        fitted(told).save(place)
        return fitted(told)

    monkeypatch.setattr(KINDS["user_user"], "fitted", overtaken)
    fits.contender("user_user", lambda _stage, _done: None)
    assert list(fits.folder.iterdir()) == [place]


def test_only_what_reads_the_half_life_of_trending_has_it_looked_for(tmp_path: Path) -> None:
    for name in KINDS:
        told = known(DATA)
        fits = Fits(told.data, told.course, told.fold, tmp_path / name, alone=False)
        fits.contender(name, lambda _stage, _done: None)
        assert (fits.folder / "half_life").exists() == (name in OF_HALF_LIFE)
