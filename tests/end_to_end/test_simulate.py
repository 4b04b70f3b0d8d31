"""`millstream simulate` on a running system: people live on its lists, all is accounted for, and SIGTERM ends it."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

from streams.state.store import Store
from tests.end_to_end.conftest import Process, system_settings
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


def test_people_live_on_the_lists_and_every_event_is_accounted_for(servers: tuple[str, str], tmp_path: Path) -> None:
    settings = system_settings(servers, tmp_path)
    worker = Process(settings, "worker", tmp_path / "worker.log")
    report = tmp_path / "report.json"
    command = ["simulate", "--profile", "adversarial", "--users", "80", "--items", "150", "--report", str(report)]
    playing = subprocess.Popen(
        [sys.executable, "-u", "-m", "serving.cli", *command, "--seconds", "60", "--speed", "2000"],
        cwd=ROOT,
        env=settings.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert playing.stdout is not None
        said = []
        for line in playing.stdout:
            said.append(line)
            if "engagement" in line and "regret 0.000" not in line:
                break
        playing.send_signal(signal.SIGTERM)
        rest, _ = playing.communicate(timeout=30)
        assert playing.returncode == 0, [*said, rest]
        assert "regret" in rest
        told = json.loads(report.read_text())
        assert told["lists"] > 0 and told["truth"]["relevance"] > 0 and told["days"] > 0
        assert told["world"]["bots"] == 30

        async def totals() -> dict[str, int]:
            store = Store(settings)
            try:
                return await store.totals()
            finally:
                await store.close()

        wait_until(lambda: asyncio.run(totals()).get("applied", 0) >= told["events"], "all events are applied")
        assert asyncio.run(totals()) == {"applied": told["events"]}
    finally:
        playing.kill()
        worker.stop()
