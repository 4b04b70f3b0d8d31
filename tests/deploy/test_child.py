"""A supervised child process: how it ends, what it leaves, and what is known of it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deploy import leash
from deploy.child import Child
from tests.waiting import ended, wait_until

ROOT = Path(__file__).parents[2]


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_its_output_is_logged_and_its_exit_told(tmp_path: Path) -> None:
    exited = threading.Event()
    echoed: list[str] = []
    child = Child(
        "worker",
        python("import sys; print('one'); print('\\x1b[?25h\\x1b[31mtwo', file=sys.stderr); sys.exit(3)"),
        log_file=tmp_path / "logs" / "worker.log",
        echo=echoed.append,
        on_exit=lambda _: exited.set(),
    )
    assert exited.wait(20)
    assert child.exit_code == 3
    assert sorted(echoed) == ["one", "two"]
    assert len((tmp_path / "logs" / "worker.log").read_text().splitlines()) == 2
    assert child.describe_exit().startswith("worker ended with exit code 3; its last lines:\n")


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="worker: /no/such is not there"):
        Child("worker", ["/no/such"], log_file=tmp_path / "log")


def test_stopping_it_is_no_unexpected_exit(tmp_path: Path) -> None:
    exited = threading.Event()
    child = Child(
        "sleeper", python("import time; time.sleep(60)"), log_file=tmp_path / "log", on_exit=lambda _: exited.set()
    )
    assert child.running
    assert child.stop() == -signal.SIGTERM
    assert not child.running
    assert child.describe_exit() == "sleeper was ended by SIGTERM and wrote nothing"
    assert not exited.wait(0.1)


def test_one_that_will_not_end_is_killed_with_its_own_children(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True); time.sleep(60)"
    )
    child = Child("stubborn", python(code), log_file=tmp_path / "log")
    wait_until(lambda: bool(child.last_lines()), "the child's line")
    grandchild = int(child.last_lines())
    assert child.stop(grace_s=0.1) == -signal.SIGKILL
    wait_until(lambda: ended(grandchild), "the grandchild's end")


def test_an_interrupt_of_the_terminal_does_not_reach_it(tmp_path: Path) -> None:
    child = Child("sleeper", python("import time; time.sleep(60)"), log_file=tmp_path / "log")
    try:
        assert os.getpgid(child.pid) == child.pid != os.getpgrp()
    finally:
        child.kill()


def test_the_log_stays_bounded(tmp_path: Path) -> None:
    log_file = tmp_path / "log"
    child = Child("writer", python("for i in range(5000): print('x' * 99)"), log_file=log_file, log_max_bytes=50_000)
    wait_until(lambda: not child.running, "the writer's end")
    child.kill()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    assert all(path.stat().st_size <= 51_000 for path in tmp_path.iterdir())


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from deploy.child import Child;"
        "child = Child('c', [sys.executable, '-c', 'import time; time.sleep(60)'], log_file=Path('log'));"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        python(code), cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not ended(pid)
        parent.kill()
        parent.wait()
        wait_until(lambda: ended(pid), "the child's end")


def test_where_the_kernel_does_not_end_it_a_watching_process_does() -> None:
    # the way of systems other than Linux, tried on this one: a parent, its leashed child, and the watch
    parent = subprocess.Popen(python("import time; time.sleep(60)"))
    read_end, write_end = os.pipe()
    leashed = os.fork()
    if leashed == 0:
        leash.watch(parent.pid)
        os.write(write_end, b"x")
        time.sleep(60)
        os._exit(1)
    assert os.read(read_end, 1) == b"x"
    os.close(read_end)
    os.close(write_end)
    assert os.waitpid(leashed, os.WNOHANG) == (0, 0)
    parent.kill()
    parent.wait()
    _, status = os.waitpid(leashed, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
