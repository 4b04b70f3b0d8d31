"""The commands on experiments."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from serving.cli.main import main

ARMS = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5, "pipeline": "fresh"}]
RUNNING = json.dumps({"running": [{"name": "mix", "arms": ARMS, "users": {"ann": "b"}}]})


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["experiments", *arguments], env={"MILLSTREAM_EXPERIMENTS": RUNNING})


def test_a_plan_tells_the_users_needed() -> None:
    told = run("plan", "--mean", "0.5", "--effect", "0.1")
    assert told.exit_code == 0 and told.output.startswith("3,140 users in both arms find +10.0%")
    assert "needed" in run("plan", "--mean", "30", "--effect", "0.1").output
    assert "no number" in run("plan", "--mean", "30", "--effect", "0", "--deviation", "1").output


def test_assignments_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = run("assign", "ann", "ben")
    assert told.exit_code == 0 and told.output.splitlines()[1].split() == ["ann", "mix:b", "fresh"]


def test_a_log_is_judged(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"reward": n % 2, "logged": 0.5, "new": n % 2}) + "\n" for n in range(1_000)))
    told = run("off-policy", str(log)).output.split("\n")
    assert told[0].startswith("logged  0.5 over 1,000 rows, worth 500")
    assert told[1].split()[:2] == ["IPS", "1"] and told[2].split()[:2] == ["SNIPS", "1"]
    log.write_text('{"reward": 1}\n')
    refused = run("off-policy", str(log))
    assert refused.exit_code == 1 and "log.jsonl:1: a line needs" in refused.output
    log.write_text('{"reward": 1, "logged": 0, "new": 1}\n')
    assert "above 0" in run("off-policy", str(log)).output


def test_results_of_an_api_that_is_away_are_an_error() -> None:
    told = run("results", "--api", "http://127.0.0.1:9")
    assert told.exit_code == 1 and "refused" in told.output
    told = run("off-policy", "--api", "http://127.0.0.1:9")
    assert told.exit_code == 1 and "refused" in told.output
