"""Training and evaluation from the command line, on a small data set of films."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from models.artefact import ArtefactStore
from models.recommender import Recommender
from serving.cli import main
from serving.console import out

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
    monkeypatch.setattr("serving.plots.find_spec", lambda name: sys.modules.get(name))
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
