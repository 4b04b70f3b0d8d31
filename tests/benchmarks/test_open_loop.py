"""The open-loop benchmark on a real system, short and slow: every event is answered, every role is measured."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from benchmarks.speed.open_loop import NO_TRAINING, measure, tables
from benchmarks.speed.people import People, made_items
from benchmarks.speed.system import ROLES, System


def test_every_event_is_answered_and_every_role_is_measured(tmp_path: Path) -> None:
    environment = NO_TRAINING | {"MILLSTREAM_DATA_DIR": str(tmp_path / "data"), "MILLSTREAM_LOG_LEVEL": "WARNING"}
    with System(Path(sys.executable).with_name("millstream"), tmp_path, environment) as system:
        people = People(made_items(), seed=1)
        [row] = asyncio.run(measure(system, "", "trending", people, rates=[20.0], seconds=2.0))
    assert row["events"] == 40
    assert row["unanswered"] == 0
    assert row["models"] == ["trending"]
    assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p95"] <= row["latency_ms"]["p99"]
    assert set(row["cpu_ms_per_event"]) == set(row["memory_mb"]) == set(ROLES)
    assert all(row["memory_mb"][role] > 0 for role in ROLES)
    assert tables([row]).startswith("| events/s | events | unanswered | p50 | p95 | p99 | CPU per event | worker |")


def test_people_do_the_same_for_the_same_seed() -> None:
    first, second, other = (People(made_items(), seed) for seed in (1, 1, 2))
    drawn = [[people.event(ts=number) for number in range(50)] for people in (first, second, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [event["ts"] for event in drawn[0]] == sorted({event["ts"] for event in drawn[0]})
