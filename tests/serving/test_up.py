"""`millstream up`: a system starts as a whole, is kept up, and leaves nothing running. Stand-ins play the roles."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from deploy.embedded import AlreadyRunning, find
from serving.cli import up
from serving.cli.up import Role, System, roles, scratch_settings
from streams.settings.settings import Settings
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

#: Notes its start, ends on SIGTERM as a role does, and notes that too.
STAND_IN = """
import os, signal, sys, time
name, notes = sys.argv[1:]
def note(what):
    with open(notes, "a") as file: file.write(f"{what} {name}\\n")
def end(*_):
    note("end"); sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("start")
while True: time.sleep(0.05)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


def stand_in(kind: str, name: str, notes: Path) -> Role:
    return Role(kind, name, [sys.executable, "-c", STAND_IN, name, str(notes)])


def lines(notes: Path) -> list[str]:
    return notes.read_text().splitlines() if notes.exists() else []


def nothing_left(data_dir: Path) -> bool:
    return not [
        p for p in psutil.process_iter(["cmdline"]) if str(data_dir.parent) in " ".join(p.info["cmdline"] or [])
    ]


def test_the_roles_get_the_settings_with_the_servers_urls(settings: Settings, tmp_path: Path) -> None:
    code = (
        "import sys, time; from streams.settings.settings import load; s = load();"
        "open(sys.argv[1], 'w').write(f'{s.broker_url} {s.redis_url} {s.data_dir}\\n'); time.sleep(60)"
    )
    seen = tmp_path / "seen"
    role = Role(
        "worker",
        "worker-1",
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}", str(seen)],
    )
    with System(settings, processes=[role]) as system:
        assert find(settings.data_dir) is not None
        wait_until(lambda: lines(seen), "the role's start")
        assert lines(seen)[0].split() == [
            system.settings.kafka.display,
            system.settings.redis.display,
            str(settings.data_dir),
        ]
    assert find(settings.data_dir) is None
    assert nothing_left(settings.data_dir)


def test_a_system_of_its_own_runs_workers_and_a_trainer() -> None:
    assert [role.name for role in roles(2)] == ["worker-1", "worker-2", "trainer"]
    assert roles(1)[0].argv == [sys.executable, "-P", "-m", "serving.cli", "worker"]


def test_workers_stop_before_the_trainer(settings: Settings, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    processes = [stand_in("worker", "w1", notes), stand_in("worker", "w2", notes), stand_in("trainer", "t", notes)]
    with System(settings, processes=processes):
        wait_until(lambda: len(lines(notes)) == 3, "the roles' start")
    assert set(lines(notes)[3:5]) == {"end w1", "end w2"}
    assert lines(notes)[5:] == ["end t"]


def test_a_role_that_crashes_is_started_again_and_its_last_words_are_told(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(up, "_DELAY_MAX_S", 0.1)
    monkeypatch.setattr(up._Running, "delay_s", 0.1)
    notes = tmp_path / "notes"
    code = "import sys; open(sys.argv[1], 'a').write('start\\n'); sys.exit('the fuse blew')"
    role = Role("worker", "worker-1", [sys.executable, "-c", code, str(notes)])
    with caplog.at_level(logging.ERROR, "serving.cli.up"), System(settings, processes=[role]):
        wait_until(lambda: len(lines(notes)) >= 3, "two more starts")
    assert "worker-1 ended with exit code 1; its last lines:\nthe fuse blew\nstarting worker-1 again" in caplog.text


def test_the_delay_before_a_start_doubles_and_is_forgotten_after_a_steady_run(tmp_path: Path) -> None:
    running = up._Running(stand_in("worker", "w", tmp_path / "notes"))
    assert [running.next_delay_s() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    with System(
        Settings(data_dir=tmp_path, broker_url="kafka://h:1", redis_url="redis://h:1"), processes=[running.role]
    ) as it:
        wait_until(lambda: it._running, "the role's start")
        running.child = it._running["w"].child
        assert running.child is not None
        running.child.started_at = time.time() - 3600
        assert running.next_delay_s() == 1


def test_a_server_that_dies_ends_the_system_with_its_reason(settings: Settings, tmp_path: Path) -> None:
    with System(settings, processes=[stand_in("worker", "w", tmp_path / "notes")]) as system:
        run = json.loads((settings.data_dir / "run" / "embedded.json").read_text())
        for pid in run["processes"]:
            os.kill(int(pid), signal.SIGKILL)
        assert system.over.wait(30)
    assert system.fault is not None
    assert "was ended by SIGKILL" in system.fault
    assert nothing_left(settings.data_dir)


def test_a_program_that_is_not_there_is_a_fault(settings: Settings) -> None:
    with System(settings, processes=[Role("worker", "w", ["/no/such"])]) as system:
        assert system.over.wait(30)
    assert system.fault == "the roles cannot be run: w: /no/such is not there or cannot be executed"


def test_a_second_system_on_the_data_folder_is_refused_and_the_first_goes_on(settings: Settings) -> None:
    with System(settings, processes=[]):
        with pytest.raises(AlreadyRunning), System(settings, processes=[]):
            pass
        assert find(settings.data_dir) is not None


@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_ends_in_order_with_exit_code_0(tmp_path: Path, interrupt: signal.Signals) -> None:
    notes = tmp_path / "notes"
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from streams.state.status import WorkerStatus
from serving.cli.up import Role, run_up
from streams.settings.settings import Settings
argv = [sys.executable, "-c", {STAND_IN!r}]
processes = [Role(kind, kind, [*argv, kind, {str(notes)!r}]) for kind in ("worker", "trainer")]
sys.exit(run_up(Settings(data_dir=Path({str(tmp_path / "data")!r})), processes=processes))
"""
    command = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with command:
        wait_until(lambda: len(lines(notes)) == 2, "the roles' start")
        command.send_signal(interrupt)
        said, _ = command.communicate(timeout=60)
    assert command.returncode == 0
    assert lines(notes)[2:] == ["end worker", "end trainer"]
    assert [line.split()[0] for line in said.splitlines()[:4]] == ["broker", "redis", "data", "logs"]
    assert nothing_left(tmp_path / "data")


def test_a_second_interrupt_waits_for_nothing(settings: Settings, tmp_path: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(15, signal.SIG_IGN);"
        "open(sys.argv[1], 'w').write('up\\n'); time.sleep(60)"
    )
    system = System(settings, processes=[Role("worker", "w", [sys.executable, "-c", code, str(tmp_path / "notes")])])
    system.start()
    wait_until(lambda: lines(tmp_path / "notes"), "the role's start")
    stopping = threading.Thread(target=system.stop)
    stopping.start()
    system.hurry()
    stopping.join(timeout=9)  # the wait for the worker would take longer
    assert not stopping.is_alive()


def test_a_scratch_data_folder_is_gone_afterwards(settings: Settings) -> None:
    with scratch_settings(settings) as scratch:
        (scratch.data_dir / "file").write_text("x")
    assert not scratch.data_dir.exists()
