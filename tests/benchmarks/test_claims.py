"""The table of claims: a goal holds only where it is reached, and nothing is measured twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.quality import claims
from benchmarks.quality.claims import CLAIMS, Measured


def rows(name: str, report: dict[str, Any], seconds: float = 600.0) -> list[tuple[str, bool | None]]:
    [log, *_] = CLAIMS[name].logs
    return [(row.measured, row.holds) for row in CLAIMS[name].rows(Measured(report, seconds), log)]


def sequence(hit_rate: float, ndcg: float) -> dict[str, Any]:
    told = {"hit_rate_at_10": hit_rate, "ndcg_at_10": ndcg, "ndcg_at_10_interval": (ndcg - 0.01, ndcg + 0.01)}
    return {"models": {"sequence": told}}


@pytest.mark.parametrize(
    ("hit_rate", "ndcg", "holds"), [(0.3677, 0.2183, True), (0.3677, 0.2163, False), (0.3641, 0.2183, False)]
)
def test_the_highest_published_has_to_be_beaten_in_both(hit_rate: float, ndcg: float, holds: bool) -> None:
    [(measured, held)] = rows("ml-1m", sequence(hit_rate, ndcg))
    assert held is holds
    assert measured == f"{hit_rate:.4f} and {ndcg:.4f} ({ndcg - 0.01:.4f} to {ndcg + 0.01:.4f}) in 10 minutes"


@pytest.mark.parametrize(("ndcg", "minutes", "holds"), [(0.2, 29, True), (0.2, 31, False), (0.18, 29, False)])
def test_the_default_has_to_be_good_and_quick(ndcg: float, minutes: int, holds: bool) -> None:
    assert rows("quick", sequence(0.3, ndcg), 60.0 * minutes) == [
        (f"{ndcg:.4f} in {minutes} minutes of one core", holds)
    ]


def compared(ours: tuple[float, float, float], theirs: tuple[float, float, float], *others: str) -> dict[str, Any]:
    def told(recall: float, low: float, high: float) -> dict[str, Any]:
        return {
            "recall_at_10": recall,
            "recall_at_10_interval": (low, high),
            "ndcg_at_10": recall,
            "ndcg_at_10_interval": (low, high),
        }

    gain = {"recall_at_10_interval": (0.01, 0.02), "ndcg_at_10_interval": (0.01, 0.02)}
    models = {"system": told(*ours), "als": told(*theirs), **{name: told(0.0, 0.0, 0.0) for name in others}}
    return {CLAIMS["rolling"].logs[0]: {"models": models, "gains": {"als": gain}}}


@pytest.mark.parametrize(
    ("theirs", "said", "holds"),
    [
        ((0.20, 0.19, 0.21), "1.25 times als; intervals apart", True),
        ((0.20, 0.19, 0.245), "1.25 times als; intervals overlap", False),
        ((0.22, 0.21, 0.23), "1.14 times als; intervals apart", False),
    ],
)
@pytest.mark.parametrize("name", ["rolling", "prequential"])
def test_the_factor_and_the_distance_both_count(
    name: str, theirs: tuple[float, float, float], said: str, holds: bool
) -> None:
    said += "; on the same asks +0.0100 to +0.0200"
    ours = (0.25, 0.24, 0.26)
    assert rows(name, compared(ours, theirs, "rectools_sasrec")) == [(said, holds), (said, holds)]
    assert rows(name, compared(ours, theirs))[0] == (f"{said}; RecTools was left out", holds)


def test_a_fine_tune_is_held_to_quality_time_and_memory_each() -> None:
    def told(of_retrain: float, of_time: float, forgotten: float) -> list[bool | None]:
        found = {
            "of_retrain": of_retrain,
            "of_time": of_time,
            "seconds": (100 * of_time, 100.0),
            "forgotten": forgotten,
            "forgotten_interval": (forgotten - 0.01, forgotten + 0.01),
        }
        log = CLAIMS["fine-tune"].logs[0]
        return [holds for _, holds in rows("fine-tune", {"fine-tune": {log: {"system": found}}})]

    assert told(0.98, 0.1, 0.019) == [True, True, True]
    assert told(0.979, 0.1, -0.1) == [False, True, True]
    assert told(1.01, 0.11, 0.02) == [True, False, False]


def test_what_content_adds_is_told_and_has_no_goal() -> None:
    def told(recall: float) -> dict[str, Any]:
        return {"asks": 1200, "recall_at_10": recall, "recall_at_10_interval": (recall / 2, recall * 2)}

    found = {CLAIMS["new-items"].logs[0]: {"system content": told(0.04), "system ids": told(0.01)}}
    assert rows("new-items", {"new-items": found}) == [
        ("0.0400 (0.0200 to 0.0800), and 0.0100 (0.0050 to 0.0200), of 1,200", None)
    ]


def test_an_epoch_has_to_be_faster_and_no_worse() -> None:
    def told(ours: float, ndcg: float) -> dict[str, Any]:
        return {
            "ours": {"seconds_an_epoch": ours, "ndcg_at_10": ndcg},
            "rectools": {"seconds_an_epoch": 100.0, "ndcg_at_10": 0.02},
            "times_less_seconds_an_epoch": 100.0 / ours,
        }

    assert rows("epoch", told(20.0, 0.06)) == [("5.0 times: 20.0 s for 100.0, with 0.0600 for 0.0200", True)]
    assert [rows("epoch", told(*each))[0][1] for each in ((26.0, 0.06), (20.0, 0.01))] == [False, False]
    assert rows("epoch", {"ours": {"seconds_an_epoch": 20.0}}) == [("20.0 s; RecTools was left out", None)]


def test_what_is_measured_is_kept_and_the_rest_is_measured(tmp_path: Path) -> None:
    results, page = tmp_path / "results", tmp_path / "page.md"
    asked = ["--data", str(tmp_path), "--to", str(results), "--page", str(page)]
    failed = CliRunner().invoke(claims.main, [*asked, "quick"])  # there is no such data set
    assert failed.exit_code == 1 and "python -m serving.cli evaluate --dataset ml-1m" in failed.output
    assert not page.exists() and not list(results.glob("*.json"))
    kept = {"report": sequence(0.3, 0.2), "seconds": 60.0}
    (results / "quick ml-1m.json").write_text(json.dumps(kept))
    again = CliRunner().invoke(claims.main, [*asked, "quick"])
    assert again.exit_code == 0, again.output
    *head, row = page.read_text().splitlines()
    assert "\n".join(head).startswith(claims.HEAD)
    assert row.startswith("| Leave-one-out, the default configuration | ml-1m |")
    assert row.endswith("| 0.2000 in 1 minutes of one core | yes |")


def test_the_page_in_docs_has_every_claim() -> None:
    page = (claims.ROOT / "docs/claims.md").read_text()
    assert page.startswith(claims.HEAD)
    told = {tuple(line.split(" | ")[:2]) for line in page.splitlines() if line.startswith("| ")}
    assert told >= {(f"| {claim.title}", log) for claim in CLAIMS.values() for log in claim.logs}


def test_a_benchmark_is_run_and_what_it_reports_is_kept(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Film (2000),Drama\n2,Other (2000),Drama\n")
    ratings = [f"{user},{1 + user % 2},5.0,{1_000_000_000 + user}" for user in range(50)]
    (tmp_path / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *ratings]) + "\n")
    command = ["serving.cli", "evaluate", "--dataset", "ml-latest-small", "--data", str(tmp_path)]
    place = tmp_path / "found.json"
    claims.measure([*command, "--model", "trending", "--threads", "1"], place)
    found = Measured(**json.loads(place.read_bytes()))
    assert found.report["asks"] == 5 and found.seconds > 0
    assert not list(tmp_path.glob("*.report"))
