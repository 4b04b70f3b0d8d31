"""Training and evaluation from the command line, on a small data set of films."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from models.artefact import MANIFEST, ArtefactStore, Manifest, write_manifest
from models.recommender import Recommender
from serving.cli.console import out
from serving.cli.main import main
from streams.contract.events import BadRecord
from streams.datasets.refusals import Refusals

CONFIG = {
    "sequence": {"dim": 8, "blocks": 1, "heads": 1, "length": 10, "epochs": 1},
    "towers": {"dim": 8, "hidden": 8, "epochs": 1},
    "ranker": {"kind": "linear", "epochs": 1},
    "token_buckets": 256,
}


@pytest.fixture
def films(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    genres = ("Drama", "Comedy")
    movies = [f"{n},Film {n} (2000),{genres[n % 2]}" for n in range(40)]
    ratings = [
        f"{user},{film},{4.5 if film % 2 == user % 2 else 1.0},{1_000_000_000 + 3600 * place}"
        for place, (user, film) in enumerate(zip(rng.integers(0, 20, 600), rng.integers(0, 40, 600), strict=True))
    ]
    (tmp_path / "movies.csv").write_text("\n".join(["movieId,title,genres", *movies]) + "\n")
    (tmp_path / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *ratings]) + "\n")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def run(*arguments: str | Path) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(out, "width", 200)
        return CliRunner().invoke(main, [str(each) for each in arguments])


def test_models_are_compared_and_the_report_is_written(films: Path) -> None:
    report = films / "report.json"
    asked = ("--dataset", "ml-latest-small", "--data", films, "--threads", "1", "--report", report)
    result = run(
        *("evaluate", *asked, "--protocol", "temporal", "--plots", films / "plots" / "page.png"),
        *("--model", "trending", "--model", "content"),
    )
    assert result.exit_code == 0, result.output
    assert "trending" in result.stdout and "content" in result.stdout
    written = json.loads(report.read_bytes())
    assert written["protocol"] == "temporal"
    assert list(written["models"]) == ["trending", "content"]
    page = (films / "plots" / "page.png").read_bytes()
    assert page.startswith(b"\x89PNG") and len(page) > 20_000


def test_what_was_kept_is_asked_again_and_told_and_what_cannot_be_read_is_named(films: Path) -> None:
    keep = films / "kept"
    asked = ("evaluate", "--dataset", "ml-latest-small", "--data", films, "--threads", "1", "--keep", keep)
    first = run(*asked, "--model", "als")
    assert first.exit_code == 0, first.output
    assert "not fitted anew" not in first.stdout
    again = run(*asked, "--protocol", "temporal", "--model", "als", "--model", "content")
    assert again.exit_code == 0, again.output
    assert f"found in {keep}, not fitted anew: als\n" in again.stdout
    for table in keep.rglob("als/*"):
        table.write_bytes(b"nothing of the kind")
    damaged = run(*asked, "--model", "als")
    assert damaged.exit_code == 1 and "als cannot be read" in damaged.output and "delete it" in damaged.output


def test_plots_without_what_draws_them_are_refused_before_the_work(
    films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("serving.cli.plots.find_spec", lambda name: sys.modules.get(name))
    result = run("evaluate", "--dataset", "ml-latest-small", "--data", films, "--plots", films / "page.png")
    assert result.exit_code == 1 and "pip install 'millstream[plots]'" in result.output
    assert "reading" not in result.output


def test_a_model_or_a_setting_that_does_not_exist_is_told_with_those_that_do(films: Path) -> None:
    asked = ("evaluate", "--dataset", "ml-latest-small", "--data", films)
    result = run(*asked, "--model", "svd")
    assert result.exit_code == 2 and "svd: there are system, blend" in result.output
    result = run(*asked, "--protocol", "rolling", "--trainings", "2")
    assert result.exit_code == 2 and "only prequential takes several, not rolling" in result.output
    (films / "wrong.json").write_text('{"ranker": {"kind": "magic"}}')
    result = run(*asked, "--config", films / "wrong.json")
    assert result.exit_code == 1 and "RANKER__KIND" in result.output and "deepfm" in result.output


def test_a_trained_model_is_put_in_service_or_its_folder_says_why_not(films: Path) -> None:
    to = films / "artefacts"
    asked = ("--dataset", "ml-latest-small", "--data", films, "--threads", "1", "--config", films / "config.json")
    result = run("train", *asked, "--to", to)
    assert result.exit_code == 0, result.output
    store = ArtefactStore(to)
    [version] = store.versions()
    assert "ndcg@10" in result.stdout
    assert (store.current() == version) == ("is in service" in result.stdout)
    assert Recommender.load(store.path(version)).config.ranker.kind == "linear"


def like(number: int, **given: object) -> dict[str, object]:
    user, item = f"u{number % 7}", f"i{number % 31}"
    return {"type": "like", "user_id": user, "item_id": item, "ts": 1_700_000_000_000 + 1000 * number} | given


def unusable(number: int) -> dict[str, object]:
    """An event that one of two rules refuses."""
    return like(number, item_id=None) if number % 3 else like(number, ts="yesterday")


def wire_log(folder: Path, rows: list[dict[str, object]]) -> tuple[str | Path, ...]:
    folder.mkdir()
    (folder / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return ("--dataset", "jsonl", "--data", folder, "--threads", "1", "--config", folder / "config.json")


NO_ROW = [unusable(number) for number in range(60)]
SEARCHES: list[dict[str, object]] = [
    {"type": "search", "user_id": "u", "query": "x", "ts": 1000 * number} for number in range(60)
]
FOLLOWS: list[dict[str, object]] = [
    {"type": "follow", "user_id": "u", "target_user_id": "v", "ts": 1000 * number} for number in range(60)
]


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        (NO_ROW, ["60 of 60 rows refused", "40: item_id: a like event needs item_id", "20: ts: "]),
        (SEARCHES, ["no items yet: nothing to train on", "60 search (about no item)"]),
        (FOLLOWS, ["no items yet: nothing to train on", "60 follow (about no item)"]),
        (
            [like(number, type="dislike") for number in range(60)],
            ["no positives: nothing to train on", "60 dislike (disliked)"],
        ),
        ([], ["the log has no rows"]),
    ],
)
def test_a_log_that_teaches_nothing_ends_with_status_1_and_its_reasons_and_what_serves_stays(
    rows: list[dict[str, object]], reasons: list[str], tmp_path: Path
) -> None:
    asked = wire_log(tmp_path / "log", rows)
    store = ArtefactStore(tmp_path / "artefacts")
    staged = store.stage("good")
    write_manifest(staged, Manifest("good", "retrain", 1, {}, 1, 1, {}, {}))
    store.publish(staged)
    store.promote("good")
    before = sorted(store.root.iterdir())
    for result in (run("train", *asked, "--to", store.root), run("evaluate", *asked)):
        assert result.exit_code == 1, result.output
        for reason in reasons:
            assert reason in result.output
        assert not isinstance(result.exception, IndexError)
    assert store.current() == "good" and sorted(store.root.iterdir()) == before


def test_how_many_rows_were_refused_is_told_with_the_reasons(tmp_path: Path) -> None:
    mixed = [unusable(number) if number % 2 else like(number) for number in range(240)]
    asked = wire_log(tmp_path / "log", mixed)
    for result in (run("train", *asked, "--to", tmp_path / "to"), run("evaluate", *asked, "--model", "trending")):
        assert result.exit_code == 0, result.output
        assert "120 of 240 rows refused:\n  80: item_id: a like event needs item_id\n  40: ts: " in result.stderr


def test_reasons_out_of_a_hostile_log_stay_bounded() -> None:
    refusals = Refusals()
    for number in range(1000):
        refusals.add(BadRecord(f"Invalid enum value '{number}{'x' * 60_000}'", "type"))
    assert refusals.rows == 1000
    text = refusals.among(1000)
    assert len(text) < 2000 and "for other reasons" in text
    assert len(refusals.reasons) <= 101


def test_a_model_in_service_is_not_replaced_by_one_of_the_same_log(films: Path) -> None:
    to = films / "artefacts"
    store = ArtefactStore(to)
    asked = ("--dataset", "ml-latest-small", "--data", films, "--threads", "1", "--config", films / "config.json")
    run("train", *asked, "--to", to)
    [first] = store.versions()
    shutil.copytree(store.path(first), to / "first")
    (to / "first" / MANIFEST).write_text((to / "first" / MANIFEST).read_text().replace(first, "first"))
    store.promote("first")
    result = run("train", *asked, "--to", to)
    assert result.exit_code == 0, result.output
    assert "0 comparable events" in result.stdout and "first stays in service" in result.stdout
    assert store.current() == "first"
