"""Waiting for what another process or thread does."""

import time
from collections.abc import Callable

import psutil


def wait_until(condition: Callable[[], object], what: str, *, within_s: float = 60.0) -> None:
    """Wait until the condition holds; a test that waits in vain fails with `what` it waited for."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.02)


def ended(pid: int) -> bool:
    """Whether the process has ended; nobody may have asked for its exit code yet."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
