"""`millstream replay` on a log of one's own: the command starts a system, plays, scores, and accounts for each line."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streams.settings.settings import Settings, TrainingSettings
from tests.end_to_end.conftest import TINY

ROOT = Path(__file__).parents[2]
BEGIN = 1_700_000_000_000
BROKEN = [
    b"not JSON",
    b"[]",
    b'{"type":"click","user_id":"u1"}',
    b'{"type":"kick","user_id":"u1","item_id":"i1","ts":1700000900000000}',
]
METRICS = {"recall_at_10", "ndcg_at_10", "mrr"}


class Log(NamedTuple):
    """A folder in the wire contract, and what is in it."""

    folder: Path
    lines: int
    copies: int


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """400 watches by users of two tastes, some copies, impressions, and lines that are no events."""
    folder = tmp_path_factory.mktemp("jsonl")
    draw = random.Random(5)
    lines: list[bytes] = []
    for at in range(400):
        user, item = draw.randrange(60), draw.randrange(30)
        item = 2 * item + user % 2 if draw.random() < 0.8 else draw.randrange(60)
        event = {
            "type": "watch",
            "user_id": f"u{user}",
            "item_id": f"i{item}",
            "ts": BEGIN + at * 10_000,
            "watch_s": 95 if item % 2 == user % 2 else 4,
            "duration_s": 100,
        }
        lines.append(json.dumps(event).encode())
    copies = [lines[at] for at in (7, 7, 200, 350, 399)]
    for copy in copies:
        lines.insert(lines.index(copy) + 1, copy)
    for at in (100, 320):  # a copy may come after its user's next event as well, while neither is answered yet
        user = json.loads(lines[at])["user_id"]
        following = next(n for n in range(at + 1, len(lines)) if json.loads(lines[n])["user_id"] == user)
        lines[at + 1 : following + 1] = [lines[following], lines[at], *lines[at + 1 : following]]
        copies.append(lines[at])
    for user in range(5):  # no list answers what only says that something was shown
        shown = {"type": "impression", "user_id": f"u{user}", "item_id": "i1", "ts": BEGIN + 10_000_000}
        lines.append(json.dumps(shown).encode())
    for at, broken in enumerate(BROKEN):
        lines.insert(90 * (at + 1), broken)
    (folder / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    items = [{"item_id": f"i{n}", "categorical": {"genre": ["odd" if n % 2 else "even"]}} for n in range(60)]
    users = [{"user_id": f"u{n}", "categorical": {"country": ["KR" if n % 3 else "DE"]}} for n in range(60)]
    for name, records in (("items", items), ("users", users)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    return Log(folder, len(lines), len(copies))


def replay(log: Log, data_dir: Path, *options: str, trained_after: int = 250) -> dict[str, Any]:
    """Run the command on a system of its own; returns its report."""
    report = data_dir / "report.json"
    settings = Settings(
        data_dir=data_dir,
        partitions=2,
        model=replace(TINY, sequence=replace(TINY.sequence, epochs=1)),
        training=TrainingSettings(first_events=trained_after, every_events=5000, threads=1, flush_s=0.2),
    )
    done = play(log, settings, "--report", str(report), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "events_lost" in done.stdout and "item_item" in done.stdout
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def play(log: Log, settings: Settings, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command on a system of its own."""
    arguments = ["replay", "--dataset", "jsonl", "--data", str(log.folder), *options]
    return subprocess.run(
        [sys.executable, "-m", "serving.cli", *arguments],
        cwd=ROOT,
        env=settings.environment(),
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )


def test_every_line_is_accounted_for_and_scored_in_step(log: Log, tmp_path: Path) -> None:
    report = replay(log, tmp_path)
    assert report["events_read"] == log.lines
    assert report["events_duplicate"] == log.copies
    assert report["dead_letters"] == len(BROKEN) == sum(report["dead_letter_reasons"].values())
    assert report["events_applied"] == log.lines - log.copies - len(BROKEN)
    assert report["events_lost"] == 0 and report["in_step"] is True
    assert report["lists_published"] >= 60, "each user has one, and one may answer several events"
    versions = report["model_versions"]
    assert versions and versions[0]["kind"] == "retrain" and versions[0]["promoted"]
    assert all(version["why"] and version["metrics"] for version in versions)
    assert set(report["freshness_ms"]) == {"p50", "p95", "p99"} and report["events_per_s"] > 0
    for scores in (report, report["trending"], report["item_item"]):
        assert set(scores) >= METRICS and all(0 <= scores[metric] <= 1 for metric in METRICS)
    assert report["recall_at_10"] > 0


def test_a_replay_flat_out_loses_nothing_either(log: Log, tmp_path: Path) -> None:
    limit = 400
    report = replay(log, tmp_path, "--no-wait", "--limit", str(limit), trained_after=limit + 1)
    assert report["events_read"] == limit and report["events_lost"] == 0 and report["in_step"] is False
    accounted = report["events_applied"] + report["events_duplicate"] + report["dead_letters"]
    assert accounted == limit and report["dead_letters"] == 3 and report["lists_published"] > 0


def test_a_log_without_a_usable_row_ends_with_status_1_and_its_reasons(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    rows = [{"type": "like", "user_id": f"u{n}", "ts": BEGIN + n} for n in range(60)]
    (folder / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = Settings(data_dir=tmp_path, partitions=2, model=TINY, training=TrainingSettings(threads=1))
    done = play(Log(folder, 60, 0), settings)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "60 of 60 rows refused:\n  60: item_id: a like event needs item_id" in done.stderr
    assert "millstream dead-letters list" in done.stderr and "no row of the log could be used" in done.stderr
